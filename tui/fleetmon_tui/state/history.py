"""What sparklines are drawn from: one sample of the whole fleet a second, the last minute."""

from __future__ import annotations

from array import array
from collections import deque
from typing import TYPE_CHECKING

from fleetmon_tui.state.store import ASSIGNED, IN_FLIGHT, QUEUED, UTILIZATION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetmon_tui.state.store import Row

LENGTH = 60
"""Samples kept."""

TOP = 100
"""Sample of a fully used agent."""

_MOST = 65535


class History:
    """Samples by place, a column for all agents a second: two bytes an agent and sample."""

    def __init__(self, length: int = LENGTH) -> None:
        """Begin without samples."""
        self._use: deque[array[int]] = deque(maxlen=length)
        self._ended: deque[array[int]] = deque(maxlen=length)
        self._before: list[int] = []

    def sample(self, rows: Sequence[Row | None], *, same: bool = False) -> None:
        """Take one sample.

        Args:
            rows: by place.
            same: no row changed since the last sample, so nothing is looked at again.
        """
        if same and self._use:
            self._use.append(self._use[-1])
            self._ended.append(array("H", bytes(2 * len(self._use[-1]))))
            return
        self._use.append(array("H", [int(row[UTILIZATION] * TOP) if row else 0 for row in rows]))
        ended = [row[ASSIGNED] - row[QUEUED] - row[IN_FLIGHT] if row else 0 for row in rows]
        before = self._before
        if len(before) < len(ended):  # a newcomer's past is not this second's work
            before = before + ended[len(before) :]
        self._ended.append(
            array(
                "H", [0 if b > a else min(_MOST, a - b) for a, b in zip(ended, before, strict=True)]
            )
        )
        self._before = ended

    def clear(self) -> None:
        """Forget everything, as after a jump in time."""
        self._use.clear()
        self._ended.clear()
        self._before = []

    def use(self, place: int) -> list[int]:
        """Return an agent's utilization, 0 to :data:`TOP`, oldest first."""
        return [column[place] for column in self._use if place < len(column)]

    def ended(self, place: int) -> list[int]:
        """Return the tasks that an agent ended in each second, oldest first."""
        return [column[place] for column in self._ended if place < len(column)]
