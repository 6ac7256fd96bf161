"""Fleets for the dashboard to look at: ``python -m benchmarks.dashboard_fleet KIND AGENTS``.

``real`` is a supervisor with agents at work and its control plane; ``blocker`` the same, and one
agent blocks the loop after a while. ``wire HZ PATH`` is no fleet at all but its stream, encoded
beforehand, in which every row changes at that rate: what the dashboard costs, and nothing else.
``rest 0 PATH`` likewise, of a fleet in which nothing runs.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import TYPE_CHECKING, Any

from fleetmon.control.encoding import tick_of
from fleetmon.control.protocol import TICKS
from fleetmon.rows import COLUMNS, AgentRow

if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK = 500
_BLOCK_AFTER = 6.0  # seconds

_LIVES = ("running", "running", "running", "running", "backing_off", "paused")


def name(at: int) -> str:
    """Return the id of an agent."""
    return f"agent-{at:05}"


def row(at: int, turn: int) -> AgentRow:
    """Return a row that differs from turn to turn in what usually moves."""
    return AgentRow(
        agent_id=name(at), number=at, tier=at % 8 + 1, field="benchmarks", mode="owned",
        executor="inline", lifecycle=_LIVES[at % len(_LIVES)], desired="run", health=0,
        conditions=(), generation=1, accepting=True, capacity=4, in_flight=1 + turn % 2,
        queue_limit=1000, queued=(at + turn) % 50, utilization=round((at + turn) % 100 / 100, 4),
        task="code_review", task_id=turn + 1, task_since=float(turn), task_note="",
        assigned=200 + turn * 5, succeeded=100 + turn * 5, failed=at % 3, cancelled=0, timed_out=0,
        dead_lettered=0, redelivered=0, failures=at % 3, p50=0.05, p95=0.25 + turn % 7 / 100,
        restarts=at % 4, recoveries=0, recoveries_failed=0, streak=0, retry_at=None, zombies=0,
        lapse=None,
    )  # fmt: skip


def frames(agents: int, turn: int, *, seq: int, ticks: bool = False) -> Iterator[dict[str, Any]]:
    """Yield the frames in which every row is new, or told as ticks."""
    for first in range(0, agents, CHUNK):
        last = min(agents, first + CHUNK)
        rows = [row(at, turn) for at in range(first, last)]
        frame = {"type": "rows", "seq": seq + last, "more": last < agents, "removed": [],
                 "rows": [] if ticks else list(map(list, rows))}  # fmt: skip
        yield frame | {"ticks": list(map(tick_of, rows))} if ticks else frame


def hello(clock: float) -> dict[str, Any]:
    """Return the first frame."""
    return {
        "type": "hello", "protocol": 1, "schema": 1, "name": "wire", "epoch": "e", "version": "0",
        "pid": 1, "capabilities": [], "columns": list(COLUMNS), "resumed": False,
        "ticks": list(TICKS), "clock": round(clock, 3), "at": time.time(), "rate": 1.0,
    }  # fmt: skip


FACTS = {
    "type": "fleet", "seq": 1, "phase": "running", "health": 0, "blocked": None, "loop_lag": 0.001,
    "recovering": 0, "shared_cause_open": False, "dead_letters": 0, "zombies": 0, "drops": {},
    "warnings": [], "summaries": [],
}  # fmt: skip


def beat(clock: float) -> dict[str, Any]:
    """Return a heartbeat."""
    return {"type": "heartbeat", "seq": 1, "event_seq": 0, "clock": round(clock, 3),
            "at": time.time()}  # fmt: skip


def encoded(frame: dict[str, Any]) -> bytes:
    """Return a frame as a chunk of an HTTP answer."""
    line = json.dumps(frame, separators=(",", ":")).encode() + b"\n"
    return b"%x\r\n%b\r\n" % (len(line), line)


def resting(agents: int) -> dict[str, Any]:
    """Return the frame of a fleet in which nothing runs."""
    rows = [
        list(row(at, 0)._replace(in_flight=0, queued=0, utilization=0.0, task="", task_id=0,
                                 lifecycle="running", retry_at=None))
        for at in range(agents)
    ]  # fmt: skip
    return {"type": "rows", "seq": agents, "more": False, "removed": [], "rows": rows}


async def _wire(agents: int, rate: float, path: str, *, rests: bool) -> None:
    first = encoded(resting(agents)) if rests else b"".join(
        map(encoded, frames(agents, 0, seq=0))
    )  # fmt: skip
    # only what moves has changed, so this is what a fleet would send
    turns = [
        b"".join(map(encoded, frames(agents, turn, seq=turn * agents, ticks=True)))
        for turn in range(4)
    ]
    began = time.monotonic()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        writer.write(encoded(hello(time.monotonic() - began)) + encoded(FACTS))
        turn = 0
        try:
            while True:
                if turn == 0 or rate:
                    writer.write(turns[turn % len(turns)] if turn else first)
                turn += 1
                writer.write(encoded(beat(time.monotonic() - began)))
                await writer.drain()
                await asyncio.sleep(1.0 / (rate or 1.0))
        except OSError:
            writer.close()

    server = await asyncio.start_unix_server(serve, path)
    print("ready", flush=True)
    async with server:
        await server.serve_forever()


async def _real(agents: int, *, blocks: bool) -> None:
    from fleetmon import Supervisor, SupervisorSettings
    from fleetmon.settings import Control

    settings = SupervisorSettings(name="benchmark", control=Control(enabled=True))
    async with Supervisor(settings) as fleet:
        handles = [fleet.attach(name(at)) for at in range(agents)]
        print("ready", flush=True)
        began = time.monotonic()
        at = 0
        while True:
            for _ in range(20):
                at = (at + 1) % agents
                with handles[at].task("work"):
                    await asyncio.sleep(0)
            await asyncio.sleep(0.1)
            if blocks and time.monotonic() - began > _BLOCK_AFTER:
                with handles[0].task("grind"):
                    print(f"blocking {time.time()}", flush=True)
                    time.sleep(10)  # noqa: ASYNC251 - blocking the loop is the point
                blocks = False


def main() -> None:
    """Serve until killed."""
    kind, agents, *rest = sys.argv[1:]
    if kind in {"wire", "rest"}:
        asyncio.run(_wire(int(agents), float(rest[0]), rest[1], rests=kind == "rest"))
    else:
        asyncio.run(_real(int(agents), blocks=kind == "blocker"))


if __name__ == "__main__":
    main()
