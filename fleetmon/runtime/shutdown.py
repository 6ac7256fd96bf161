"""The way out: refuse, drain, stop in reverse order of dependency, abandon what will not end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fleetmon.events import EventKind
from fleetmon.policy.transitions import Actual, Command, Desired
from fleetmon.results import LeftBehind, ShutdownReport
from fleetmon.runtime.core import OBSERVED
from fleetmon.runtime.incarnation import Incarnation

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleetmon.runtime.core import AgentCore
    from fleetmon.runtime.fleet import Fleet

_REAPED = 1.0  # seconds at most for processes that were killed to be gone


async def drain(fleet: Fleet, seconds: float) -> None:
    """Refuse new work and let what was accepted finish, for at most ``seconds``."""
    fleet.refuse()
    if fleet.phase == "running":
        fleet.phase = "draining"
        fleet.bus.publish(EventKind.FLEET_DRAINING)
    deadline = fleet.now() + seconds
    while any(_busy(core) for core in _live(fleet)):
        left = deadline - fleet.now()
        if left <= 0 or fleet.hurried:
            return
        await asyncio.sleep(min(left, 0.02))


def _busy(core: AgentCore) -> bool:
    if core.mode == OBSERVED:
        return False  # the host's own work ends when the host likes
    return bool(core.numbers.queued or core.work.running or core.inflight) and (
        core.machine.actual in (Actual.RUNNING, Actual.RECOVERING, Actual.STARTING)
    )


def _live(fleet: Fleet) -> list[AgentCore]:
    return [c for c in fleet.cores.values() if c.machine.actual is not Actual.STOPPED]


async def stop(fleet: Fleet, seconds: float) -> int:
    """End every incarnation, dependents first; returns the number of tasks cancelled."""
    fleet.refuse()
    fleet.phase = "stopping"
    cancelled = 0
    deadline = fleet.now() + seconds
    live = {core.agent_id: core for core in _live(fleet)}
    for layer in _layers(live):
        for core in layer:
            cancelled += core.numbers.queued + core.work.running
            core.machine.command(Command.STOP)
            core.machine.desired = Desired.STOPPED
        await _until_down(fleet, layer, deadline)
    for core in live.values():
        incarnation = core.machine.incarnation
        if isinstance(incarnation, Incarnation):
            incarnation.give_up()
    await _until_reaped(fleet)
    return cancelled


async def _until_reaped(fleet: Fleet) -> None:
    # Dead for certain, but listed by the system until the loop, which may end now, has looked.
    deadline = fleet.now() + _REAPED
    while any(zombie.executor.kind == "process" for zombie in fleet.zombies):
        if fleet.now() >= deadline:
            return
        await asyncio.sleep(0.005)


def _layers(live: dict[str, AgentCore]) -> Iterable[list[AgentCore]]:
    # agents on which no living agent depends go first; without dependencies that is all at once
    left = dict(live)
    while left:
        needed = {d for core in left.values() for d in core.spec.depends_on}
        layer = [core for agent_id, core in left.items() if agent_id not in needed]
        layer = layer or list(left.values())
        for core in layer:
            del left[core.agent_id]
        yield layer


async def _until_down(fleet: Fleet, layer: list[AgentCore], deadline: float) -> None:
    while any(core.machine.actual is not Actual.STOPPED for core in layer):
        left = deadline - fleet.now()
        if left <= 0:
            return
        waits = [
            core.machine.change() for core in layer if core.machine.actual is not Actual.STOPPED
        ]
        await asyncio.wait(waits, timeout=left, return_when=asyncio.FIRST_COMPLETED)


def report(fleet: Fleet, began: float, cancelled: int) -> ShutdownReport:
    """Say how it went, and name what had to be left behind."""
    left = [
        LeftBehind(
            "incarnation",
            zombie.agent_id,
            f"generation {zombie.generation} would not end"
            + (f", with {zombie.busy} task(s)" if zombie.busy else ""),
        )
        for zombie in fleet.zombies
    ]
    if fleet.leaked_threads:
        left.append(LeftBehind("thread", "", f"{fleet.leaked_threads} thread(s) run on"))
    left += [
        LeftBehind("task", core.agent_id, f"{len(core.inflight)} task(s) of the host's own run on")
        for core in fleet.cores.values()
        if core.mode == OBSERVED and core.inflight
    ]
    return ShutdownReport(fleet.now() - began, cancelled, tuple(left))
