"""The trace of an agent's busy time, from which utilization over a window is read.

Only ends of tasks are told, with their starts; what still runs is added by whoever reads. So the
beginning of a task writes nothing here, and most ends nothing either.
"""

from __future__ import annotations

from bisect import bisect_right

_CHECKPOINTS = 60  # resolution of the window: its sixtieth part


class Trail:
    """Busy seconds of ended tasks by points in time, at least a sixtieth of the window apart.

    Exact while an agent has at most one start or end in each sixtieth, within a sixtieth otherwise.

    Attributes:
        since: time of the latest point. A task that began before it has to be told of.
        until: a task that ends from here on has to be told of.
    """

    __slots__ = ("_grain", "_marks", "_noting", "_window", "since", "until")

    def __init__(self, now: float, window: float) -> None:
        """Begin without any activity; ``window`` in seconds."""
        self._window = window
        self._grain = window / _CHECKPOINTS
        self._marks: list[tuple[float, float]] = []  # (time, busy seconds by then), oldest first
        self._noting = False
        self.since = now - window
        self.until = self.since + self._grain

    def __bool__(self) -> bool:
        """Whether there is anything from which utilization may fall by time alone."""
        return bool(self._marks)

    def note(self, started: float, ended: float, before: float) -> None:
        """Take a task that ended; ``before``: busy seconds of all that had ended before it.

        One that a finalizer ends in the middle of this is not noted: utilization is off by that
        task for at most a window.
        """
        if self._noting:
            return
        self._noting = True
        try:
            self._note(started, ended, before)
        finally:
            self._noting = False

    def _note(self, started: float, ended: float, before: float) -> None:
        marks = self._marks
        at = len(marks)
        while at and marks[at - 1][0] > started:
            at -= 1
        if at == len(marks):
            by_start = before
        elif at:
            by_start = _between(marks[at - 1], marks[at], started)
        else:
            by_start = marks[0][1]
        for i in range(at, len(marks)):  # it was busy before those points already
            time, busy = marks[i]
            marks[i] = (time, busy + min(time, ended) - started)
        grain = self._grain
        if (not at or started - marks[at - 1][0] >= grain) and (
            at == len(marks) or marks[at][0] - started >= grain
        ):
            marks.insert(at, (started, by_start))
        if ended - marks[-1][0] >= grain:
            marks.append((ended, before + ended - started))
        if len(marks) > _CHECKPOINTS + 2:
            horizon = ended - self._window
            keep = 0
            while keep + 1 < len(marks) and marks[keep + 1][0] <= horizon:
                keep += 1
            marks = self._marks = marks[keep:]  # a new one: somebody may be reading the old
        self.since = marks[-1][0]
        self.until = self.since + grain

    def by(self, when: float, total: float) -> float:
        """Return busy seconds by ``when``; ``total``: those of all tasks that have ended."""
        marks = self._marks
        if not marks or when >= self.until:
            return total
        if when <= marks[0][0]:
            return marks[0][1]
        at = bisect_right(marks, (when, float("inf")))
        right = marks[at] if at < len(marks) else (self.until, total)
        return _between(marks[at - 1], right, when)

    def clear(self) -> None:
        """Forget everything, once it has left the window: an idle agent costs nothing to read."""
        self._marks = []


def _between(left: tuple[float, float], right: tuple[float, float], when: float) -> float:
    share = (when - left[0]) / (right[0] - left[0])
    return left[1] + share * (right[1] - left[1])
