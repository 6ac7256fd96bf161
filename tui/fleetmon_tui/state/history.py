"""What sparklines are drawn from: one sample of the whole fleet a second, the last minute."""

from __future__ import annotations

from array import array
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleetmon_tui.state.store import Store

LENGTH = 60
"""Samples kept."""

_LATELY = 5  # samples over which the fleet's rate is told

TOP = 100
"""Sample of a fully used agent."""


class History:
    """Samples by place, a column for all agents a second: twelve bytes an agent and sample.

    Columns hold what the rows said as it is; it is looked at when it is shown, for few agents.
    """

    def __init__(self, length: int = LENGTH) -> None:
        """Begin without samples."""
        self._length = length
        self._use: deque[array[float]] = deque(maxlen=length)
        # one more: what ended within a second is the difference of two
        self._ended: deque[array[float]] = deque(maxlen=length + 1)
        self._totals: deque[tuple[float, float]] = deque(maxlen=_LATELY + 1)
        self._members = -1

    def sample(self, store: Store, at: float, *, same: bool = False) -> None:
        """Take one sample.

        Args:
            store: the rows.
            at: when they were so, seconds.
            same: no row has changed since the last one.
        """
        if same and self._use:
            self._use.append(self._use[-1])
            self._ended.append(self._ended[-1])
        else:
            store.gather()
            for place in store.taken:  # who had it before is nobody's past
                if self._ended and place < len(self._ended[-1]):
                    self._ended[-1][place] = -1.0
            store.taken.clear()
            self._use.append(array("f", store.use))
            self._ended.append(array("d", store.ended))
        if self._members != store.members:  # who came brings along what he did before
            self._members = store.members
            self._totals.clear()
        nobody = len(store.ended) - len(store)  # each counts as minus one
        self._totals.append((at, sum(store.ended) + nobody))

    def rate(self) -> float | None:
        """Return how many tasks of the fleet lately ended in a second; ``None``: not known."""
        if len(self._totals) < 2:  # noqa: PLR2004 - a difference takes two
            return None
        (since, before), (until, now) = self._totals[0], self._totals[-1]
        return max(0.0, now - before) / (until - since) if until > since else None

    def clear(self) -> None:
        """Forget everything, as after a jump in time."""
        self._use.clear()
        self._ended.clear()
        self._totals.clear()

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
        told = [column[place] if place < len(column) else -1.0 for column in self._ended]
        # a newcomer's past is not this second's work, nor does a new life undo any
        found = [
            int(now - before) if 0 <= before <= now else 0
            for before, now in zip([-1.0, *told], told, strict=False)
        ]
        known = next((at for at, now in enumerate(told) if now >= 0), len(told))
        return found[max(known, len(found) - self._length) :]
