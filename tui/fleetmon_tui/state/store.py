"""The rows of a fleet as they came, each at a place of its own, and what changed since last asked.

Rows stay the lists that the parser made: nothing is decoded before it is shown or sorted by.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from fleetmon.rows import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Row = Sequence[Any]
"""Values in the order of :data:`fleetmon.rows.COLUMNS`; more may follow them."""

(
    ID, NUMBER, TIER, FIELD, MODE, EXECUTOR, LIFECYCLE, DESIRED, HEALTH, CONDITIONS, GENERATION,
    ACCEPTING, CAPACITY, IN_FLIGHT, QUEUE_LIMIT, QUEUED, UTILIZATION, TASK, TASK_ID, TASK_SINCE,
    TASK_NOTE, ASSIGNED, SUCCEEDED, FAILED, CANCELLED, TIMED_OUT, DEAD_LETTERED, REDELIVERED,
    FAILURES, P50, P95, RESTARTS, RECOVERIES, RECOVERIES_FAILED, STREAK, RETRY_AT, ZOMBIES, LAPSE,
) = range(38)  # fmt: skip
"""Where a value stands in a row; a look-up by name would cost more than it tells."""

# What stands in for columns that an older fleet does not tell.
_MISSING: dict[str, Any] = dict.fromkeys(COLUMNS, 0) | {
    "number": None, "tier": None, "field": "", "mode": "owned", "executor": "", "lifecycle": "",
    "desired": "", "conditions": (), "accepting": True, "capacity": 1, "utilization": 0.0,
    "task": "", "task_since": 0.0, "task_note": "", "p50": None, "p95": None, "retry_at": None,
    "lapse": None,
}  # fmt: skip


_id = itemgetter(ID)


class Store:
    """Rows by place. A place belongs to one agent for as long as the agent is there.

    Attributes:
        rows: by place; ``None`` where an agent went away.
        places: place by agent id.
        changed: places whose row changed since :meth:`settled`.
        members: counts up whenever an agent came or went.
        loading: whether a whole fleet is under way and not complete.
    """

    def __init__(self) -> None:
        """Begin empty."""
        self.rows: list[Row | None] = []
        self.places: dict[str, int] = {}
        self.changed: set[int] = set()
        self.members = 0
        self.loading = True
        self._free: list[int] = []
        self._old: set[str] = set()
        self._order: list[int] | None = None
        self._absent = list(_MISSING.values())

    def begin(self, columns: Sequence[str] | None, *, resumed: bool) -> None:
        """Prepare for rows after a hello.

        Args:
            columns: names in the order in which values will come.
            resumed: only changes follow; otherwise the whole fleet does, and who is not in it is
                gone once it is complete.
        """
        self._order = _order(columns) if columns is not None else None
        if not resumed:
            self._old = set(self.places)
            self.loading = True

    def apply(self, rows: Sequence[Row], removed: Iterable[str] = (), *, more: bool) -> None:
        """Take rows.

        Args:
            rows: new ones and changed ones.
            removed: ids of agents that are gone.
            more: the whole fleet is not complete with them.
        """
        if self._order is not None:
            rows = [
                [told[at] if at >= 0 else absent
                 for at, absent in zip(self._order, self._absent, strict=True)]
                for told in rows
            ]  # fmt: skip
        kept = self.rows
        found: list[Any] = list(map(self.places.get, map(_id, rows)))
        if None in found:
            found = [self._place(row[0]) for row in rows]
        for place, row in zip(found, rows, strict=True):
            kept[place] = row
        self.changed.update(found)
        for agent_id in removed:
            self._remove(agent_id)
        if self._old:
            self._old.difference_update([row[0] for row in rows])
        if self.loading and not more:
            self.loading = False
            for agent_id in self._old:
                self._remove(agent_id)
            self._old = set()

    def replace(self, rows: Iterable[Row]) -> None:
        """Make these rows the whole fleet; rows that stay equal do not count as changed."""
        rows = list(rows)
        gone = self.places.keys() - {row[0] for row in rows}
        self.apply([row for row in rows if row != self.get(row[0])], gone, more=False)

    def get(self, agent_id: str) -> Row | None:
        """Return an agent's row, or nothing."""
        place = self.places.get(agent_id)
        return None if place is None else self.rows[place]

    def settled(self) -> set[int]:
        """Return what changed since the last call."""
        changed, self.changed = self.changed, set()
        return changed

    def __len__(self) -> int:
        """Return how many agents there are."""
        return len(self.places)

    def _place(self, agent_id: str) -> int:
        place = self.places.get(agent_id)
        if place is not None:
            return place
        self.members += 1
        if self._free:
            place = self._free.pop()
        else:
            place = len(self.rows)
            self.rows.append(None)
        self.places[agent_id] = place
        return place

    def _remove(self, agent_id: str) -> None:
        place = self.places.pop(agent_id, None)
        if place is not None:
            self.members += 1
            self.rows[place] = None
            self._free.append(place)
            self.changed.add(place)


def _order(columns: Sequence[str]) -> list[int] | None:
    # A newer fleet adds columns at the end, which changes nothing; an older one lacks some.
    if tuple(columns[: len(COLUMNS)]) == COLUMNS:
        return None
    at: Mapping[str, int] = {name: index for index, name in enumerate(columns)}
    return [at.get(name, -1) for name in COLUMNS]
