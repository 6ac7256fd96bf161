"""When most of the fleet falls for one reason: restarts wait for one probe, then ramp up."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Literal

from fleetmon.policy.breaker import Breaker

if TYPE_CHECKING:
    from fleetmon.settings import SharedCause

SharedState = Literal["closed", "open", "half_open", "ramping"]

_CAUSES = 64  # causes counted at a time; the least recently seen goes first
_ROUNDING = 1e-9  # 0.1 * 30 is 3.0000000000000004 and must not ask for a fourth agent


class SharedCauseControl:
    """The fleet's breaker for failures with one cause. Every call is O(1) amortised.

    *closed*: distinct agents that lapse are counted by cause; enough of one cause within the
    window opens it. *open*: who is down with that cause waits for the cooldown. *half_open*: the
    first of them that asks is THE probe; the others wait for its fate. A failed probe opens again
    with twice the cooldown; a probe that is gone gives its place back. *ramping*: the probe was
    verified; recoveries at a time are 1, 2, 4, ... doubled with each one verified, back to 1 after
    a failed one; a lapse with the same cause opens again, and counts as a failed probe. It closes
    when the ramp reaches the fleet's limit, or nobody is down with that cause any more.

    Agents that are down with another cause are not held: their restarts are their own affair, and
    their success would prove nothing. An agent never reported by :meth:`lapsed` is held.

    Each agent that was admitted ends in exactly one of :meth:`verified`, :meth:`failed` (or
    :meth:`lapsed`, or both in either order) and :meth:`gone`; whoever was told to wait for ever
    asks again after any of these.

    Attributes:
        state: ``closed``, ``open``, ``half_open`` or ``ramping``.
        cause: the shared cause; empty while closed.
        probe: the agent whose fate decides; empty when none is out.
    """

    __slots__ = (
        "_breaker",
        "_down",
        "_limit",
        "_moved",
        "_out",
        "_pending",
        "_ramp",
        "_seen",
        "_settings",
        "cause",
        "probe",
        "state",
    )

    def __init__(self, settings: SharedCause) -> None:
        """Start closed; with ``settings.enabled`` false it never opens."""
        self._settings = settings
        self._breaker = Breaker(settings.cooldown, settings.cooldown_cap)
        # cause -> agent -> time of its latest lapse; both oldest first
        self._seen: OrderedDict[str, OrderedDict[str, float]] = OrderedDict()
        self._down: dict[str, str] = {}  # agent -> cause, from its lapse until verified or gone
        self._pending = 0  # how many of them are down with the shared cause
        self._out: set[str] = set()  # admitted while ramping, fate not known
        self._ramp = 1
        self._limit = 0  # as concurrency() was told last; 0: not yet
        self._moved = 0.0  # when ramping last saw anything
        self.state: SharedState = "closed"
        self.cause = ""
        self.probe = ""

    def lapsed(self, agent_id: str, cause: str, now: float, fleet_size: int) -> bool:
        """Count a lapse; ``True`` when this one opens the breaker (again).

        Args:
            agent_id: who lapsed.
            cause: fingerprint, see :attr:`fleetmon.policy.classify.Verdict.cause`.
            now: the supervisor's clock.
            fleet_size: agents in the fleet, those that are down included.
        """
        if not self._settings.enabled:
            return False
        cause = cause or "unknown"
        self._forget_quiet_ramp(now)
        held = self.state != "closed"
        if not held:
            self._down[agent_id] = cause
        else:
            before = self._down.get(agent_id)
            if before != self.cause:  # one held stays held, whatever it stumbles over next
                self._down[agent_id] = cause
                self._pending += cause == self.cause
            self._out.discard(agent_id)
            if agent_id == self.probe:
                self._open(now)
                return False
            if cause == self.cause:
                reopens = self.state == "ramping"
                if reopens:
                    self._open(now)
                return reopens
        count = self._count(agent_id, cause, now)
        settings = self._settings
        share = settings.fraction * fleet_size - _ROUNDING
        if held or count < settings.min_agents or count < share:
            return False
        self.cause = cause
        self._pending = sum(1 for other in self._down.values() if other == cause)
        del self._seen[cause]
        self._open(now)
        return True

    def admit(self, agent_id: str, now: float) -> float:
        """Return 0.0 when the agent may start now, else the seconds to wait before asking again.

        ``math.inf``: until the probe's fate is known. Asking again after 0.0 is harmless.
        """
        if self.state == "closed":
            return 0.0
        self._forget_quiet_ramp(now)
        cause = self.cause  # empty once closed
        if not cause or agent_id == self.probe or self._down.get(agent_id, cause) != cause:
            return 0.0
        if self.state == "ramping":
            self._out.add(agent_id)
            self._moved = now
            return 0.0
        if self._breaker.allow(now):
            self.state = "half_open"
            self.probe = agent_id
            return 0.0
        return self._breaker.wait(now)

    def verified(self, agent_id: str, now: float) -> bool:
        """Take a verified recovery; ``True`` when it closed the breaker or started the ramp."""
        cause = self.cause
        held = self._leave(agent_id)
        if self.state == "closed":
            return False
        if self.state == "half_open" and agent_id == self.probe:
            self.probe = ""
            self.state = "ramping"
            self._ramp = 1
            self._moved = now
            self._settle(now)
            return True
        if self.state == "ramping" and held:
            self._ramp *= 2
            self._moved = now
        self._settle(now)
        return self.cause != cause

    def failed(self, agent_id: str, now: float) -> None:
        """Take a failed recovery: of the probe, it opens again; in the ramp, back to one."""
        self._out.discard(agent_id)
        if self.state == "half_open":
            if agent_id == self.probe:
                self._open(now)
        elif self.state == "ramping" and self._down.get(agent_id, self.cause) == self.cause:
            self._ramp = 1
            self._moved = now

    def gone(self, agent_id: str, now: float) -> None:
        """Forget an agent that was stopped, removed or quarantined; its place is free again."""
        self._leave(agent_id)
        if self.probe and agent_id == self.probe:
            self.probe = ""
            self._breaker.abandon(now)
        if self.state != "closed":
            self._settle(now)

    def concurrency(self, limit: int) -> int:
        """Return how many recoveries may be in progress at a time, given the fleet's own limit."""
        self._limit = limit
        if self.state == "closed":
            return limit
        return min(limit, self._ramp) if self.state == "ramping" else min(limit, 1)

    def _count(self, agent_id: str, cause: str, now: float) -> int:
        # distinct agents that lapsed with this cause within the window, this one included
        window = self._settings.window
        seen = self._seen
        agents = seen.get(cause)
        if agents is None:
            agents = seen[cause] = OrderedDict()
        else:
            seen.move_to_end(cause)
        agents[agent_id] = now
        agents.move_to_end(agent_id)
        while now - agents[next(iter(agents))] >= window:
            agents.popitem(last=False)
        while True:  # causes that nobody met within the window, or too many of them
            oldest = seen[next(iter(seen))]
            if now - oldest[next(reversed(oldest))] < window and len(seen) <= _CAUSES:
                return len(agents)
            seen.popitem(last=False)

    def _open(self, now: float) -> None:
        if self.state == "closed":
            self._breaker.trip(now)
        else:
            self._breaker.fail(now)  # half-open since the probe went out: the cooldown grows
        self.state = "open"
        self.probe = ""
        self._out.clear()

    def _close(self, now: float) -> None:
        self._breaker.state = "half_open"  # it may still be open when everybody is gone
        self._breaker.succeed(now)
        self.state = "closed"
        self.cause = ""
        self.probe = ""
        self._pending = 0
        self._out.clear()

    def _leave(self, agent_id: str) -> bool:
        # off the books of those that are down; True when it was, or may have been, held
        self._out.discard(agent_id)
        cause = self._down.pop(agent_id, None)
        if cause is None:
            return True
        if cause != self.cause or self.state == "closed":
            return False
        self._pending -= 1
        return True

    def _settle(self, now: float) -> None:
        ramped = self.state == "ramping" and 0 < self._limit <= self._ramp
        if ramped or (self._pending == 0 and not self.probe):
            self._close(now)

    def _forget_quiet_ramp(self, now: float) -> None:
        # An agent stopped without gone() would keep the ramp up for ever, and a single lapse days
        # later would open the breaker: a ramp with nobody under way ends after a quiet window.
        if self.state == "ramping" and not self._out and now - self._moved >= self._settings.window:
            self._close(now)
