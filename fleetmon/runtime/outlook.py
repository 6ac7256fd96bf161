"""Brings facts and events before the lints: what :meth:`Supervisor.warnings` asks."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from fleetmon.policy.lints import AgentFacts, Lookout, Picture
from fleetmon.tables import values_of

if TYPE_CHECKING:
    from fleetmon.runtime.core import AgentCore
    from fleetmon.runtime.fleet import Fleet
    from fleetmon.snapshot import Warnings


class Outlook:
    """Looks at a fleet from any thread; nothing is done until somebody asks."""

    def __init__(self, fleet: Fleet) -> None:
        """Remember nothing yet; the first look reads what events are kept."""
        self._fleet = fleet
        self._lookout = Lookout()
        self._seq = 0
        self._lock = threading.Lock()

    def look(self) -> Warnings:
        """Return what is the matter now."""
        fleet = self._fleet
        with self._lock:
            events = fleet.bus.recent(self._seq)
            if events:
                self._seq = events[-1].seq
            now = fleet.now()
            reading = fleet.fleet()
            size = 0
            facts = []
            # asked each second about ten thousand agents, most of which there is nothing to say of
            for core in values_of(fleet.cores):
                if core.removed:
                    continue
                size += 1
                numbers = core.numbers
                if (
                    core.conditions
                    or core.last_lapse is not None
                    or len(numbers.types) > numbers.type_limit
                ):
                    facts.append(_facts(core, now))
            picture = Picture(
                now,
                facts,
                size,
                reading.shared_cause_open,
                reading.event_drops,
            )
            return self._lookout.look(picture, events)


def _overflowed(core: AgentCore) -> bool:
    types = core.numbers.types
    return len(types) > core.numbers.type_limit and "other" in types


def _facts(core: AgentCore, now: float) -> AgentFacts:
    return AgentFacts(
        core.agent_id,
        core.numbers.lifecycle,
        core.conditions,
        core.machine.lapses(now),
        core.spec.intensity.max_restarts,
        core.spec.intensity.period,
        core.numbers.type_limit,
        _overflowed(core),
    )
