"""The rows of a fleet as they came, each at a place of its own, and what changed since last asked.

Rows stay the lists that the parser made; ticks are written into them when they are looked at.
"""

from __future__ import annotations

from array import array
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


# What ticks tell, as this version's fleets have it.
_USUAL = list(enumerate(
    (IN_FLIGHT, QUEUED, UTILIZATION, TASK, TASK_ID, TASK_SINCE, ASSIGNED, SUCCEEDED, P50, P95), 1
))  # fmt: skip

_id = itemgetter(ID)

DECLARED, NOBODY = 3, 4
"""In :attr:`Store.health`: an agent that was only declared, and a place without one."""


class Store:
    """Rows by place. A place belongs to one agent for as long as the agent is there.

    Attributes:
        rows: by place; ``None`` where an agent went away. What ticks tell is behind: look at
            :meth:`at`, :meth:`get` or :meth:`current` for it.
        places: place by agent id.
        changed: places whose row changed since :meth:`settled`.
        members: counts up whenever an agent came or went.
        use: utilization by place, 0.0 where nobody is; as of :meth:`gather`.
        ended: tasks that came to an end, by place, -1.0 where nobody is; likewise.
        health: of agents by place, :data:`DECLARED` or :data:`NOBODY`.
        taken: places that went from one agent to another since the last sample.
        loading: whether a whole fleet is under way and not complete.
    """

    def __init__(self) -> None:
        """Begin empty."""
        self.rows: list[Row | None] = []
        self.places: dict[str, int] = {}
        self.changed: set[int] = set()
        self.members = 0
        self.use = array("f")
        self.ended = array("d")
        self.health = bytearray()
        self.loading = True
        self.taken: set[int] = set()
        self._waiting: list[Sequence[Any] | None] = []  # ticks, until somebody looks
        self._told: set[int] = set()  # places of ticks since they were gathered
        self._free: list[int] = []
        self._old: set[str] = set()
        self._order: list[int] | None = None
        self._ticks: list[tuple[int, int]] = []
        self._absent = list(_MISSING.values())

    def begin(self, columns: Sequence[str], ticks: Sequence[str] = (), *, resumed: bool) -> None:
        """Prepare for rows after a hello.

        Args:
            columns: names in the order in which values will come.
            ticks: names of what a tick tells after the agent's id.
            resumed: only changes follow; otherwise the whole fleet does, and who is not in it is
                gone once it is complete.
        """
        self._order = _order(columns)
        self._ticks = [(at, COLUMNS.index(x)) for at, x in enumerate(ticks, 1) if x in COLUMNS]
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
        use, finished, health, waiting = self.use, self.ended, self.health, self._waiting
        for place, row in zip(found, rows, strict=True):
            kept[place] = row
            waiting[place] = None
            # kept beside the rows, where all of them are at hand without a look at each row
            use[place] = row[UTILIZATION]
            finished[place] = row[ASSIGNED] - row[QUEUED] - row[IN_FLIGHT]
            health[place] = DECLARED if row[MODE] == "declared" else row[HEALTH]
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

    def tick(self, ticks: Sequence[Sequence[Any]]) -> None:
        """Take what moves all the time, of agents in whose rows nothing else has changed."""
        found: list[Any] = list(map(self.places.get, map(_id, ticks)))
        if None in found:  # an agent whose row never came is none of ours
            ticks = [told for told in ticks if told[0] in self.places]
            found = [self.places[told[0]] for told in ticks]
        waiting = self._waiting
        if self._ticks != _USUAL:
            for place, told in zip(found, ticks, strict=True):
                row: Any = self.rows[place]
                for at, column in self._ticks:
                    row[column] = told[at]
                self.use[place] = row[UTILIZATION]
                self.ended[place] = row[ASSIGNED] - row[QUEUED] - row[IN_FLIGHT]
        else:  # ten thousand of them once a second, of which few are ever looked at
            for place, told in zip(found, ticks, strict=True):
                waiting[place] = told
            self._told.update(found)
        self.changed.update(found)

    def gather(self) -> None:
        """Bring :attr:`use` and :attr:`ended` up to the latest ticks."""
        waiting, use, finished = self._waiting, self.use, self.ended
        for place in self._told:
            told = waiting[place]
            if told is not None:
                use[place] = told[3]
                finished[place] = told[7] - told[2] - told[1]
        self._told.clear()

    def at(self, place: int) -> Row | None:
        """Return the row at a place, as of the latest tick."""
        told = self._waiting[place]
        if told is not None:
            self._waiting[place] = None
            row: Any = self.rows[place]
            (
                _, row[IN_FLIGHT], row[QUEUED], row[UTILIZATION], row[TASK], row[TASK_ID],
                row[TASK_SINCE], row[ASSIGNED], row[SUCCEEDED], row[P50], row[P95],
            ) = told  # fmt: skip
            self.use[place] = told[3]
            self.ended[place] = told[7] - told[2] - told[1]
        return self.rows[place]

    def current(self) -> list[Row | None]:
        """Return all rows by place, as of the latest ticks."""
        for place, told in enumerate(self._waiting):
            if told is not None:
                self.at(place)
        return self.rows

    def tasks(self, places: Iterable[int]) -> list[str]:
        """Return the tasks at places where somebody is, as of the latest ticks."""
        rows: Any = self.rows
        waiting = self._waiting
        return [rows[p][TASK] if (told := waiting[p]) is None else told[4] for p in places]

    def replace(self, rows: Iterable[Row]) -> None:
        """Make these rows the whole fleet; rows that stay equal do not count as changed."""
        rows = list(rows)
        gone = self.places.keys() - {row[0] for row in rows}
        self.apply([row for row in rows if row != self.get(row[0])], gone, more=False)

    def get(self, agent_id: str) -> Row | None:
        """Return an agent's row, or nothing."""
        place = self.places.get(agent_id)
        return None if place is None else self.at(place)

    def counts(self) -> tuple[int, int, int]:
        """Return how many agents are healthy, degraded and failed; declared ones do not count."""
        return self.health.count(0), self.health.count(1), self.health.count(2)

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
            self.taken.add(place)
        else:
            place = len(self.rows)
            self.rows.append(None)
            self._waiting.append(None)
            self.use.append(0.0)
            self.ended.append(-1.0)
            self.health.append(NOBODY)
        self.places[agent_id] = place
        return place

    def _remove(self, agent_id: str) -> None:
        place = self.places.pop(agent_id, None)
        if place is not None:
            self.members += 1
            self.rows[place] = self._waiting[place] = None
            self.use[place], self.ended[place], self.health[place] = 0.0, -1.0, NOBODY
            self._free.append(place)
            self.changed.add(place)


def _order(columns: Sequence[str]) -> list[int] | None:
    # A newer fleet adds columns at the end, which changes nothing; an older one lacks some.
    if tuple(columns[: len(COLUMNS)]) == COLUMNS:
        return None
    at: Mapping[str, int] = {name: index for index, name in enumerate(columns)}
    return [at.get(name, -1) for name in COLUMNS]
