"""What sparklines are drawn from: one sample of the whole fleet a second, the last minute."""

from __future__ import annotations

from array import array
from collections import deque
from operator import itemgetter
from typing import TYPE_CHECKING

from fleetmon_tui.state.store import ASSIGNED, IN_FLIGHT, QUEUED, UTILIZATION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetmon_tui.state.store import Row

LENGTH = 60
"""Samples kept."""

TOP = 100
"""Sample of a fully used agent."""

_use = itemgetter(UTILIZATION)


class History:
    """Samples by place, a column for all agents a second: twelve bytes an agent and sample.

    Columns hold what rows say as it is; it is looked at when it is shown, for few agents.
    """

    def __init__(self, length: int = LENGTH) -> None:
        """Begin without samples."""
        self._use: deque[array[float]] = deque(maxlen=length)
        # one more: what ended within a second is the difference of two
        self._ended: deque[array[int]] = deque(maxlen=length + 1)

    def sample(self, rows: Sequence[Row | None], *, same: bool = False) -> None:
        """Take one sample.

        Args:
            rows: by place.
            same: no row changed since the last sample, so nothing is looked at again.
        """
        if same and self._use:
            self._use.append(self._use[-1])
            self._ended.append(self._ended[-1])
            return
        try:  # ten thousand of them once a second
            use = array("f", map(_use, rows))  # type: ignore[arg-type]
            ended = array("Q", [r[ASSIGNED] - r[QUEUED] - r[IN_FLIGHT] for r in rows])  # type: ignore[index]
        except (TypeError, OverflowError):  # somebody went away, or counts what cannot be
            use = array("f", [row[UTILIZATION] if row else 0.0 for row in rows])
            ended = array("Q", [_ended(row) if row else 0 for row in rows])
        self._use.append(use)
        self._ended.append(ended)

    def clear(self) -> None:
        """Forget everything, as after a jump in time."""
        self._use.clear()
        self._ended.clear()

    def use(self, place: int, last: int = LENGTH) -> list[int]:
        """Return the last samples of an agent's utilization, 0 to :data:`TOP`, oldest first."""
        columns = self._use
        return [
            int(columns[at][place] * TOP + 1e-4)  # a float of four bytes may lie just below
            for at in range(-min(last, len(columns)), 0)
            if place < len(columns[at])
        ]

    def ended(self, place: int) -> list[int]:
        """Return the tasks that an agent ended in each second, oldest first."""
        told = [column[place] if place < len(column) else None for column in self._ended]
        # a newcomer's past is not this second's work, nor does a place's next owner undo any
        found = [
            0 if before is None or now is None or before > now else now - before
            for before, now in zip([None, *told], told, strict=False)
        ]
        known = next((at for at, now in enumerate(told) if now is not None), len(told))
        return found[max(known, len(found) - (self._use.maxlen or LENGTH)) :]


def _ended(row: Row) -> int:
    return max(0, int(row[ASSIGNED] - row[QUEUED] - row[IN_FLIGHT]))
