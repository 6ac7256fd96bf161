"""Whether an agent's tasks fail too often, told from cumulative counts: success costs nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from fleetmon.spec import HealthPolicy

_GRAINS = 15  # the last mark moves until it is this part of the window from the one before it
_ROUNDING = 1e-9


class _Mark(NamedTuple):
    at: float
    ended: int
    failed: int


class FailureRate:
    """Share of failed tasks among those that ended within the sliding window.

    Keeps at most 32 marks ``(time, ended, failed)``. Between two marks failures count as of the
    later one and successes as evenly spread; so failures are dated to within a fifteenth of the
    window (exactly while there is at most one in each), and successes as well as the caller calls
    :meth:`note`. What ended before the first note is taken for recent success, the failures among
    it for old: the benefit of the doubt, for one window. :meth:`reset` replaces it by knowledge.
    """

    __slots__ = ("_least", "_marks", "_rate", "_window")

    def __init__(self, policy: HealthPolicy) -> None:
        """Start without knowledge."""
        self._rate = policy.failure_rate
        self._least = policy.min_tasks
        self._window = policy.window
        self._marks: list[_Mark] = []  # oldest first; only the first may be outside the window

    def note(self, now: float, ended: int, failed: int) -> bool:
        """Take the totals after a failure (or at any other time) and return :meth:`failing`.

        Args:
            now: the supervisor's clock.
            ended: tasks that ended since the agent was added, all outcomes.
            failed: how many of them failed.
        """
        marks = self._marks
        if not marks:
            old = failed - 1 if failed else 0
            marks.append(_Mark(now - self._window, old, old))
        last = marks[-1]
        changed = ended != last.ended or failed != last.failed
        grain = self._window / _GRAINS
        # one that brings nothing new only dates what follows: never move a failure for its sake
        if changed or now - last.at >= grain:
            mark = _Mark(now, ended, failed)
            if changed and len(marks) > 1 and now - marks[-2].at < grain:
                marks[-1] = mark
            else:
                marks.append(mark)
                horizon = now - self._window
                keep = 0
                while keep + 1 < len(marks) and marks[keep + 1].at <= horizon:
                    keep += 1
                if keep:
                    del marks[:keep]
        return self.failing(now, ended, failed)

    def failing(self, now: float, ended: int, failed: int) -> bool:
        """Return whether enough tasks ended within the window and too many of them failed.

        ``failed / ended >= failure_rate`` and ``ended >= min_tasks``, both within the last
        ``window`` seconds. Changes nothing; arguments as for :meth:`note`.
        """
        marks = self._marks
        if not marks:
            return False
        horizon = now - self._window
        left = marks[0]
        right = None
        for mark in marks:
            if mark.at > horizon:
                right = mark
                break
            left = mark
        failures = failed - left.failed
        if failures <= 0:
            return False
        if right is None:
            right = _Mark(now, ended, failed)
        before = float(left.ended)
        if horizon > left.at:
            successes = right.ended - left.ended - (right.failed - left.failed)
            before += successes * (horizon - left.at) / (right.at - left.at)
        recent = ended - before
        return recent >= self._least - _ROUNDING and failures >= self._rate * recent - _ROUNDING

    def reset(self, now: float, ended: int, failed: int) -> None:
        """Forget the past: only what ends after these totals counts."""
        self._marks = [_Mark(now, ended, failed)]
