"""Rows 5 and 6: from a crash to the replacement running, for one agent and for storms.

Run as ``python -m benchmarks.recovery``. Through the public ``Supervisor``: bodies say that they
get on, which verifies them, and raise. No backoff and limits that are never hit, as OTP has them
on its side, where crash reports are switched off too. Wall time on both sides, one after the other.
"""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks import erlang
from benchmarks.table import Goal, Row
from fleetmon import AgentSpec, Backoff, Supervisor, SupervisorSettings
from fleetmon.settings import Restarts, SharedCause
from fleetmon.spec import Intensity

if TYPE_CHECKING:
    from benchmarks.erlang import Peer

CYCLES = 100  # of one round, as on OTP's side

SETTINGS = SupervisorSettings(
    restarts=Restarts(max_concurrent=1_000_000, spread=0.0),
    shared_cause=SharedCause(enabled=False),
    defaults=AgentSpec(
        backoff=Backoff(floor=0.0, base=0.0, cap=0.0),
        intensity=Intensity(max_restarts=1_000_000_000),
    ),
)


class Crash(Exception):  # noqa: N818 - it is none of ours
    """What the bodies raise."""


async def crash(*, cycles: int = CYCLES, rounds: int = 100) -> list[float]:
    """Return the seconds of one cycle, from crash to a verified replacement, of each round.

    Raises:
        RuntimeError: not every cycle was a verified recovery.
    """
    stamps: list[float] = []
    left = cycles * rounds
    done = asyncio.Event()

    class Crashing:
        async def serve(self, agent: Any) -> None:
            nonlocal left
            agent.heartbeat()
            if left % cycles == 0:
                stamps.append(time.perf_counter())
            if not left:
                done.set()
                await asyncio.Event().wait()
            left -= 1
            raise Crash

    async with Supervisor(SETTINGS) as fleet:
        agent = await fleet.add("CIPHER", Crashing)
        await done.wait()
        verified, failed = agent.snapshot().numbers.recoveries
    if (verified, failed) != (cycles * rounds, 0):
        raise RuntimeError(f"{verified} recoveries were verified, {failed} failed")
    return [(b - a) / cycles for a, b in pairwise(stamps)]


async def storm(agents: int, *, rounds: int = 3) -> list[float]:
    """Return the seconds from the crash of all agents to all of them running, of each round.

    Raises:
        RuntimeError: not every agent came back verified, once.
    """
    running = 0
    strike, back = asyncio.Event(), asyncio.Event()

    class Struck:
        async def serve(self, agent: Any) -> None:
            nonlocal running
            agent.heartbeat()
            running += 1
            if running == agents:
                back.set()
            await strike.wait()
            raise Crash

    seconds = []
    async with Supervisor(SETTINGS) as fleet:
        for number in range(agents):
            await fleet.add(f"agent-{number:05d}", Struck)
        await back.wait()
        for _ in range(rounds):
            now, strike, back, running = strike, asyncio.Event(), asyncio.Event(), 0
            began = time.perf_counter()
            now.set()
            await back.wait()
            seconds.append(time.perf_counter() - began)
        for agent in fleet.snapshot().agents:
            if (agent.actual, agent.numbers.recoveries) != ("running", (rounds, 0)):
                raise RuntimeError(f"{agent.agent_id} is not back: {agent}")
    return seconds


def rows_of_crash(*, quick: bool) -> list[Row]:
    """Measure row 5: OTP before and after ours."""
    peer = erlang.crash(rounds=50)
    ours = median(asyncio.run(crash(rounds=20 if quick else 100)))
    after = erlang.crash(rounds=50)
    what = "crash to replacement running and verified"
    return [_row("5", what, ours, (peer, after), (Goal("<=", 5), Goal("<=", 2)))]


def rows_of_storm(*, quick: bool) -> list[Row]:
    """Measure row 6 for 1,000 and 10,000 agents."""
    few = median(asyncio.run(storm(1_000, rounds=3 if quick else 9)))
    rows = [
        _row(
            "6a",
            "storm of 1,000 crashes to all running",
            few,
            (erlang.storm(1_000, rounds=7),),
            (Goal("<=", 0.7), Goal("<=", 0.3)),
        )
    ]
    goal, stretch = Goal("<=", 0.2), Goal("<=", 0.08)
    what = "storm of 10,000 crashes to all running"
    if quick:
        reason = "left out by --quick, since OTP takes half a minute"
        return [*rows, Row("6b", what, goal=goal, stretch=stretch, reason=reason)]
    many = median(asyncio.run(storm(10_000, rounds=3)))
    return [*rows, _row("6b", what, many, (erlang.storm(10_000, rounds=3),), (goal, stretch))]


def _row(
    key: str, what: str, ours: float, peers: tuple[Peer, ...], goals: tuple[Goal, Goal]
) -> Row:
    goal, stretch = goals
    seconds = [peer.seconds for peer in peers if peer.seconds is not None]
    if len(seconds) < len(peers):
        reason = next(peer.reason for peer in peers if peer.seconds is None)
        return Row(key, what, _time(ours), goal=goal, stretch=stretch, reason=reason)
    theirs = sum(seconds) / len(seconds)
    said = f"OTP {peers[0].release} {_time(theirs)}"
    return Row(key, what, _time(ours), said, ours / theirs, goal, stretch)


def _time(seconds: float) -> str:
    return f"{seconds * 1e6:.1f} µs" if seconds < 1e-3 else f"{seconds * 1e3:,.0f} ms"


def main() -> None:
    """Print rows 5 and 6."""
    from benchmarks.table import render_text

    print(render_text([*rows_of_crash(quick=False), *rows_of_storm(quick=False)]), end="")


if __name__ == "__main__":
    main()
