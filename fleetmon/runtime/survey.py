"""Looks at a fleet again and again from another thread, and tells what may have changed.

A look at an agent to which nothing happened costs a tuple and a comparison, not a picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fleetmon.tables import values_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from fleetmon.events import EventKind
    from fleetmon.rows import AgentRow
    from fleetmon.runtime.core import AgentCore
    from fleetmon.runtime.fleet import Fleet
    from fleetmon.runtime.task import Task
    from fleetmon.snapshot import Warnings


class Survey:
    """A :class:`fleetmon.hooks.FleetView`.

    Attributes:
        name: of the fleet.
        epoch: of this life.
        now: the supervisor's clock.
        wall: seconds since the epoch.
        warnings: what an operator should know.
    """

    def __init__(self, fleet: Fleet, warnings: Callable[[], Warnings]) -> None:
        """Look at ``fleet``; ``warnings`` says what an operator should know."""
        self._fleet = fleet
        self.warnings = warnings
        self._seen: dict[str, tuple[Any, ...]] = {}
        self.name = fleet.name
        self.epoch = fleet.epoch
        self.now = fleet.now
        self.wall = fleet.wall

    @property
    def seq(self) -> int:
        """Number of the newest event."""
        return self._fleet.bus.count

    def running(self) -> list[Task]:
        """Return the tasks that have begun and not ended."""
        return [
            task
            for core in values_of(self._fleet.cores)
            if core.inflight
            for task in values_of(core.inflight)
        ]

    def look(self, *, whole: bool) -> Iterator[AgentRow]:
        """Yield the rows of agents that may have changed since the last look, or of all."""
        fleet = self._fleet
        for core in values_of(fleet.cores):
            if core.removed:
                continue
            key = _key(core, fleet.now())
            if not whole and not core.numbers.moving and self._seen.get(core.agent_id) == key:
                continue
            self._seen[core.agent_id] = key
            yield core.row(fleet.now())

    def gone(self) -> tuple[str, ...]:
        """Return the agents that have gone since they were asked for last."""
        cores = self._fleet.cores
        gone = tuple(a for a in self._seen if (core := cores.get(a)) is None or core.removed)
        for agent_id in gone:
            del self._seen[agent_id]
        return gone

    def facts(self) -> dict[str, Any]:
        """Return what there is to say about the whole fleet."""
        fleet = self._fleet
        reading = fleet.fleet()
        here = [c for c in values_of(fleet.cores) if not c.removed and c.mode != "declared"]
        return {
            "phase": fleet.phase,
            "health": max((c.numbers.health for c in here), default=0),
            "loop_lag": round(reading.loop_lag_seconds, 3),
            "recovering": reading.recovering,
            "shared_cause_open": reading.shared_cause_open,
            "dead_letters": reading.dead_letters,
            "zombies": reading.zombies,
            "drops": dict(reading.event_drops),
        }

    def restarts(self) -> Mapping[str, tuple[int, tuple[float, ...]]]:
        """Return streak and times of lapses of agents that have any."""
        now = self._fleet.now()
        found = {}
        for core in values_of(self._fleet.cores):
            streak, lapses = core.machine.restarts(now)
            if streak or lapses:
                found[core.agent_id] = (streak, lapses)
        return found

    def publish(self, kind: EventKind, agent_id: str, data: Mapping[str, Any]) -> None:
        """Publish an event."""
        self._fleet.bus.publish(kind, agent_id, data=data)


def _key(core: AgentCore, now: float) -> tuple[Any, ...]:
    # what a row shows beside that: what passes with time, what the fleet decides, what a task says
    return (
        core.revision(),
        core.machine.current_streak(now),
        core.fleet.accepting,
        tuple(task.note for task in values_of(core.inflight)),
    )
