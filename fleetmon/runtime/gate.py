"""Who may recover now: so many at a time, spread out, and one alone after a shared cause."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import TYPE_CHECKING

from fleetmon.events import EventKind
from fleetmon.policy.shared_cause import SharedCauseControl

if TYPE_CHECKING:
    import asyncio

    from fleetmon.runtime.core import AgentCore
    from fleetmon.runtime.fleet import Fleet

# Members by name: on Python 3.11 looking one up on its class costs a call.
_E_SHARED_CAUSE_CLOSED = EventKind.SHARED_CAUSE_CLOSED
_E_SHARED_CAUSE_OPENED = EventKind.SHARED_CAUSE_OPENED
_E_SHARED_CAUSE_PROBE = EventKind.SHARED_CAUSE_PROBE
_E_SHARED_CAUSE_RAMPING = EventKind.SHARED_CAUSE_RAMPING


class RecoveryGate:
    """Lets recoveries through in the order in which they came due.

    Attributes:
        active: agents whose recovery is in progress: admitted, and neither verified nor failed.
    """

    def __init__(self, fleet: Fleet) -> None:
        """Start with nobody waiting."""
        self.control = SharedCauseControl(fleet.settings.shared_cause)
        self._shared = fleet.settings.shared_cause.enabled
        self.active: set[AgentCore] = set()
        self._fleet = fleet
        # not a dict: taking from the front of one gets slower with every taking
        self._waiting: OrderedDict[AgentCore, None] = OrderedDict()
        self._last = -math.inf
        self._due = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._pumping = False

    def lapsed(self, core: AgentCore, cause: str) -> None:
        """Take note of a lapse; many with one cause close the gate but for one probe."""
        fleet = self._fleet
        if self._shared and self.control.lapsed(core.agent_id, cause, fleet.now(), fleet.live):
            fleet.bus.publish(
                _E_SHARED_CAUSE_OPENED,
                data={"cause": cause, "agents": fleet.live},
            )

    def request(self, core: AgentCore) -> None:
        """This agent's recovery is due."""
        self._waiting[core] = None
        # while a shared cause holds thousands back, a newcomer is only asked about itself
        self._pump((core,) if self.control.state != "closed" else None)

    def withdraw(self, core: AgentCore) -> None:
        """This agent does not want to recover just now."""
        self._waiting.pop(core, None)

    def gone(self, core: AgentCore) -> None:
        """A recovery in progress was given up, by command: its place is free again."""
        self._waiting.pop(core, None)
        self.active.discard(core)
        if self._shared:
            self.control.gone(core.agent_id, self._fleet.now())
        if self._waiting:
            self._pump()

    def concluded(self, core: AgentCore, *, verified: bool) -> None:
        """An attempt has ended."""
        self.active.discard(core)
        if self._shared:
            self._tell(core, verified=verified)
        if self._waiting:
            self._pump()

    def _tell(self, core: AgentCore, *, verified: bool) -> None:
        now = self._fleet.now()
        if verified:
            if self.control.verified(core.agent_id, now):
                closed = self.control.state == "closed"
                self._fleet.bus.publish(
                    _E_SHARED_CAUSE_CLOSED if closed else _E_SHARED_CAUSE_RAMPING,
                    core.agent_id,
                    data={"cause": self.control.cause},
                )
        else:
            self.control.failed(core.agent_id, now)

    def _pump(self, only: tuple[AgentCore, ...] | None = None) -> None:
        if self._pumping:
            return
        self._pumping = True
        try:
            self._let_through(only)
        finally:
            self._pumping = False

    def _let_through(  # noqa: C901 - one loop, one rule after the other
        self, only: tuple[AgentCore, ...] | None
    ) -> None:
        fleet = self._fleet
        restarts = fleet.settings.restarts
        control = self.control
        least = math.inf
        passed: set[AgentCore] | None = None  # held by the shared cause; others may overtake them
        while self._waiting:
            limit = restarts.max_concurrent
            if len(self.active) >= (control.concurrency(limit) if self._shared else limit):
                return
            now = fleet.now()
            rest = self._last + restarts.spread - now
            if rest > 0:
                self._again(min(rest, least))
                return
            if passed is None and only is None:
                core: AgentCore | None = next(iter(self._waiting))
            else:
                held = passed or ()
                core = next((c for c in only or self._waiting if c not in held), None)
            if core is None or core not in self._waiting:
                break
            if control.state != "closed":
                wait = control.admit(core.agent_id, now)
                if wait > 0:
                    least = min(least, wait)
                    passed = passed or set()
                    passed.add(core)
                    continue
                if control.probe == core.agent_id:
                    fleet.bus.publish(_E_SHARED_CAUSE_PROBE, core.agent_id)
            del self._waiting[core]
            self.active.add(core)
            if core.machine.admitted():
                self._last = now
            else:
                self.active.discard(core)
                control.gone(core.agent_id, now)
        if least < math.inf:
            self._again(least)

    def _again(self, delay: float) -> None:
        due = self._fleet.now() + delay
        if self._timer is not None and not self._timer.cancelled() and self._due <= due < math.inf:
            return  # it comes sooner anyway
        self._due = due
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if delay < math.inf:
            self._timer = self._fleet.call_later(delay, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._pump()

    def close(self) -> None:
        """Let nobody through any more."""
        self._waiting.clear()
        self._again(math.inf)
