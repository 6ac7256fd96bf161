"""A sliding allowance, for what must not multiply itself: redeliveries, webhooks."""

from __future__ import annotations

from collections import deque

_EXACT = 1024  # up to this limit each spending is kept by itself


class Budget:
    """At most ``limit`` spendings within any ``period`` seconds.

    Exact up to a limit of 1024. Beyond it, spendings closer together than ``period / 1024`` are
    kept as one, dated by the latest: memory stays bounded, a unit may come back that much later,
    and no window ever sees more than the limit.
    """

    __slots__ = ("_entries", "_grain", "_used", "limit", "period")

    def __init__(self, limit: int, period: float) -> None:
        """Allow ``limit`` (0: nothing) within ``period`` seconds."""
        self.limit = limit
        self.period = period
        self._grain = period / _EXACT if limit > _EXACT else 0.0
        self._entries: deque[list[float]] = deque()  # [first, last, count], oldest first
        self._used = 0

    def spend(self, now: float) -> bool:
        """Take one unit; ``False``, and nothing taken, when none is left."""
        entries = self._entries
        if entries and now - entries[0][1] >= self.period:
            self._expire(now)
        if self._used >= self.limit:
            return False
        self._used += 1
        if entries and now - entries[-1][0] < self._grain:
            entry = entries[-1]
            entry[1] = now
            entry[2] += 1
        else:
            entries.append([now, now, 1])
        return True

    def left(self, now: float) -> int:
        """Return the units that :meth:`spend` would still give at ``now``."""
        self._expire(now)
        return self.limit - self._used

    def _expire(self, now: float) -> None:
        entries = self._entries
        while entries and now - entries[0][1] >= self.period:
            self._used -= int(entries.popleft()[2])
