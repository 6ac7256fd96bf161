"""Which agents are listed, and in what order: filter, sort, groups."""

from __future__ import annotations

import re
from itertools import compress
from typing import TYPE_CHECKING, Any, NamedTuple

from fleetmon_tui.state import words
from fleetmon_tui.state.columns import BY_NAME, COLUMNS, lifecycle
from fleetmon_tui.state.store import (
    CONDITIONS,
    FIELD,
    HEALTH,
    ID,
    LIFECYCLE,
    MODE,
    NUMBER,
    TIER,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fleetmon_tui.state.store import Row, Store

LARGE = 2000
"""Agents from which the order is renewed at most once a second."""


class Filter:
    """What was typed after ``/``: a regular expression, ``!`` in front of it for its inverse.

    Attributes:
        text: as typed.
        wrong: why it is no regular expression; it is then taken literally.
    """

    def __init__(self, text: str = "") -> None:
        """Compile it; nothing typed admits everything."""
        self.text = text
        self.wrong = ""
        self._inverse = text.startswith("!")
        pattern = text[1:] if self._inverse else text
        self._search: Callable[[str], Any] | None = None
        if pattern:
            try:
                self._search = re.compile(pattern, re.IGNORECASE).search
            except re.error as error:
                self.wrong = f"{error.msg}; taken literally"
                self._search = re.compile(re.escape(pattern), re.IGNORECASE).search

    def __bool__(self) -> bool:
        """Return whether it leaves anything out."""
        return self._search is not None

    def each(self, texts: Iterable[str]) -> list[bool]:
        """Return of each text whether it passes."""
        search, inverse = self._search, self._inverse
        if search is None:
            return [True for _ in texts]
        return [bool(search(text)) != inverse for text in texts]

    def admits(self, text: str) -> bool:
        """Return whether text passes."""
        return self._search is None or bool(self._search(text)) != self._inverse


class _Texts:
    """Texts of agents in which filters look, as far as they still hold: typing goes through all."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Row, str, str]] = {}

    def of(self, places: Iterable[int], store: Store) -> list[str]:
        """Return the texts of the agents at some places."""
        known, rows, found = self._known, store.rows, []
        for place, task in zip(places, store.tasks(places), strict=True):
            row: Any = rows[place]
            kept = known.get(place)
            # of what is searched, a row that stays the same object can change in its task alone
            if kept is None or kept[0] is not row or kept[1] != task:
                kept = known[place] = (row, task, searched(row, task))
            found.append(kept[2])
        return found

    def forget(self) -> None:
        """Let go of all."""
        self._known.clear()


def searched(row: Row, task: str) -> str:
    """Return the text of an agent in which a filter looks."""
    conditions = words.conditions(row[CONDITIONS]) if row[CONDITIONS] else ""
    health = words.HEALTH[row[HEALTH]] if row[MODE] != "declared" else ""
    tier = "" if row[TIER] is None else f"tier{row[TIER]}"
    return (
        f"{row[ID]} {row[LIFECYCLE].replace('_', ' ')} {health} {task} {conditions} "
        f"{tier} {row[FIELD]} {row[MODE]}"
    )


class Group(NamedTuple):
    """Agents of one tier."""

    key: str
    places: tuple[int, ...]


class Listing:
    """The lines of the fleet view: places of agents, and groups as numbers below zero.

    Attributes:
        lines: what stands on each line; line ``n`` below zero is group ``-n - 1``.
        groups: in order.
        admitted: agents that pass the filter, folded ones included, in order.
        filter: see :class:`Filter`.
        sort: name of the column that orders them; empty for the order of the roster.
        reverse: the other way round.
        grouped: by tier.
        folded: keys of groups that show their heading only.
    """

    def __init__(self) -> None:
        """Begin with everything, in the order of the roster."""
        self.lines: list[int] = []
        self.groups: list[Group] = []
        self.admitted: list[int] = []
        self.filter = Filter()
        self.sort = ""
        self.reverse = False
        self.grouped = False
        self.folded: set[str] = set()
        self._base: list[int] = []
        self._members = -1
        self._dirty = True
        self._built = -1e9
        self._texts = _Texts()

    def touch(self) -> None:
        """Have the order renewed at the next look, whatever has changed."""
        self._dirty = True

    def renew(self, store: Store, now: float, *, changed: bool) -> bool:
        """Bring the lines up to date.

        Args:
            store: the rows.
            now: monotonic seconds.
            changed: whether any row changed since the last call.

        Returns:
            Whether the lines may be others than before.
        """
        if not self._dirty and self._members == store.members:
            column = BY_NAME.get(self.sort)
            if not changed or not (self.filter or (column is not None and column.moves)):
                return False
            if len(store) >= LARGE and now - self._built < 1.0:
                return False
        self._dirty = False
        self._built = now
        moving = BY_NAME.get(self.sort)
        rows = store.current() if moving is not None and moving.moves else store.rows
        if self._members != store.members:
            self._members = store.members
            self._base = sorted(store.places.values(), key=lambda p: _roster(rows[p]))
            self._texts.forget()  # places may be others' now
        admitted = self._base
        if self.filter:
            texts = self._texts.of(admitted, store)
            admitted = list(compress(admitted, self.filter.each(texts)))
        self.admitted = self._sorted(admitted, rows)
        self._lay_out(rows)
        return True

    def _sorted(self, places: list[int], rows: list[Row | None]) -> list[int]:
        column = BY_NAME.get(self.sort)
        if column is None:
            return places[::-1] if self.reverse else places
        key = column.key
        keyed = [(key(rows[p]), p) for p in places]  # type: ignore[arg-type]
        told = [pair for pair in keyed if pair[0] is not None]
        told.sort(key=lambda pair: pair[0], reverse=column.down != self.reverse)
        return [p for _, p in told] + [p for value, p in keyed if value is None]

    def _lay_out(self, rows: list[Row | None]) -> None:
        if not self.grouped:
            self.groups = []
            self.lines = self.admitted
            return
        tiers: dict[Any, list[int]] = {}
        for place in self.admitted:
            tiers.setdefault(rows[place][TIER], []).append(place)  # type: ignore[index]
        self.groups, self.lines = [], []
        for tier in sorted(tiers, key=lambda t: (t is None, t)):
            key = "without a tier" if tier is None else f"tier {tier}"
            self.groups.append(Group(key, tuple(tiers[tier])))
            self.lines.append(-len(self.groups))
            if key not in self.folded:
                self.lines += tiers[tier]

    def group(self, line: int) -> Group | None:
        """Return the group whose heading stands on a line."""
        item = self.lines[line] if 0 <= line < len(self.lines) else 0
        return self.groups[-item - 1] if item < 0 else None

    def step_sort(self, by: int) -> str:
        """Sort by the next column to the right or left; returns its name."""
        names = ["", *(column.name for column in COLUMNS if column.name != "history")]
        self.sort_by(names[(names.index(self.sort) + by) % len(names)])
        return self.sort

    def sort_by(self, name: str) -> None:
        """Sort by a column; by the same one again: the other way round."""
        self.reverse = not self.reverse if name == self.sort else False
        self.sort = name
        self._dirty = True


def counts(rows: Iterable[Row | None]) -> tuple[int, int, int]:
    """Return how many agents are healthy, degraded and failed; declared ones do not count."""
    found = [0, 0, 0]
    for row in rows:
        if row is not None and row[MODE] != "declared":
            found[row[HEALTH]] += 1
    return found[0], found[1], found[2]


def ails(row: Row) -> bool:
    """Return whether somebody should look at an agent."""
    return bool(row[HEALTH]) or lifecycle(row) in {"backing_off", "quarantined"}


def _roster(row: Row | None) -> tuple[bool, int, str]:
    if row is None:
        return True, 0, ""
    return row[NUMBER] is None, row[NUMBER] or 0, row[ID]
