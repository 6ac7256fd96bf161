"""A circuit breaker that admits exactly one probe at a time.

States as in Nygard, "Release It!": closed (all pass), open (none until the cooldown is over),
half-open (one probe decides). Unlike many, a cancelled call is no failure: whoever cannot report
success or failure calls :meth:`Breaker.abandon` and the next one may probe.
"""

from __future__ import annotations

import math
from typing import Literal

BreakerState = Literal["closed", "open", "half_open"]


class Breaker:
    """Closed, open and half-open, with a cooldown that grows from failed probe to failed probe.

    A caller that was let through reports exactly once: :meth:`succeed`, :meth:`fail` or
    :meth:`abandon`. Reports that arrive while the breaker is open come from calls let through
    before it opened; they change nothing.

    Attributes:
        state: ``closed``, ``open`` or ``half_open``.
        probing: a probe is out and its fate not known.
        until: when the cooldown of an open breaker ends.
    """

    __slots__ = (
        "_cap",
        "_cooldown",
        "_factor",
        "_failures",
        "_next",
        "_threshold",
        "probing",
        "state",
        "until",
    )

    def __init__(
        self, cooldown: float, cap: float, *, threshold: int = 1, factor: float = 2.0
    ) -> None:
        """Start closed.

        Args:
            cooldown: seconds that the first opening lasts.
            cap: seconds that no opening exceeds.
            threshold: this many failures in a row open it.
            factor: growth of the cooldown with each failed probe.
        """
        self._cooldown = min(cooldown, cap)
        self._cap = cap
        self._threshold = threshold
        self._factor = factor
        self._next = self._cooldown
        self._failures = 0
        self.state: BreakerState = "closed"
        self.probing = False
        self.until = -math.inf

    def allow(self, now: float) -> bool:
        """Return whether a call may go; ``True`` while not closed makes it the one probe."""
        if self.state == "closed":
            return True
        if self.state == "open":
            if now < self.until:
                return False
            self.state = "half_open"
        elif self.probing:
            return False
        self.probing = True
        return True

    def wait(self, now: float) -> float:
        """Return seconds until :meth:`allow` may say yes; ``inf`` until a probe's fate is known."""
        if self.state == "open":
            return max(0.0, self.until - now)
        return math.inf if self.probing else 0.0

    def succeed(self, now: float) -> None:  # noqa: ARG002 - one signature for all reports
        """Report success: closes a half-open breaker, ends a run of failures of a closed one."""
        if self.state == "open":
            return
        self.state = "closed"
        self.probing = False
        self._failures = 0
        self._next = self._cooldown

    def fail(self, now: float) -> None:
        """Report failure: a failed probe opens again for longer; a long enough run opens."""
        if self.state == "half_open":
            self._next = min(self._cap, self._next * self._factor)
            self.trip(now)
        elif self.state == "closed":
            self._failures += 1
            if self._failures >= self._threshold:
                self.trip(now)

    def abandon(self, now: float) -> None:  # noqa: ARG002 - one signature for all reports
        """Report neither (cancelled, removed): the probe's place is free again, at once."""
        self.probing = False

    def trip(self, now: float) -> None:
        """Open now, for the cooldown reached so far."""
        self.state = "open"
        self.probing = False
        self._failures = 0
        self.until = now + self._next
