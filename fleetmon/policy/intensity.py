"""OTP's restart intensity: so many lapses within so many seconds, and no more."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class RestartWindow:
    """Counts lapses within a sliding window.

    As ``MaxR``/``MaxT`` of OTP's supervisor, except that a lapse exactly ``period`` old no longer
    counts. Memory is bounded by ``limit + 1`` times, taken only as lapses happen.
    """

    __slots__ = ("_times", "limit", "period")

    def __init__(self, limit: int, period: float) -> None:
        """Allow ``limit`` lapses within any ``period`` seconds."""
        self.limit = limit
        self.period = period
        self._times: deque[float] = deque(maxlen=limit + 1)  # oldest first

    def add(self, now: float) -> bool:
        """Count a lapse at ``now``; ``True`` when that is one too many (exhausted)."""
        times = self._times
        times.append(now)
        period = self.period
        while now - times[0] >= period:
            times.popleft()
        return len(times) > self.limit

    def count(self, now: float) -> int:
        """Return the lapses within the window, at most ``limit + 1``: older ones are forgotten."""
        times = self._times
        while times and now - times[0] >= self.period:
            times.popleft()
        return len(times)

    def peek(self, now: float) -> int:
        """Return what :meth:`count` does and change nothing, from any thread."""
        return sum(now - at < self.period for at in tuple(self._times))

    def times(self, now: float) -> tuple[float, ...]:
        """Return when the lapses within the window happened, oldest first."""
        return tuple(x for x in tuple(self._times) if now - x < self.period)

    def restore(self, times: Iterable[float]) -> None:
        """Count lapses of an earlier life, oldest first; older ones than the limit go first."""
        self._times.extend(times)

    def clear(self) -> None:
        """Forget every lapse (an operator's reset)."""
        self._times.clear()
