"""Cursor, marks and ranges: they hold names, not lines, and stay with the agent whatever moves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetmon_tui.state.store import ID

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleetmon_tui.state.listing import Listing
    from fleetmon_tui.state.store import Store


class Selection:
    """Where the cursor is and which agents are marked.

    Attributes:
        line: of the cursor.
        marks: ids; they survive filters, new connections and other lives of the fleet.
        anchor: id at which a range begins, ``None`` without one.
    """

    def __init__(self, store: Store, listing: Listing) -> None:
        """Begin at the top, without marks.

        Args:
            store: the rows.
            listing: the lines among which the cursor moves.
        """
        self.line = 0
        self.marks: set[str] = set()
        self.anchor: str | None = None
        self._store = store
        self._listing = listing
        self._wanted: str | None = None  # name of the cursor's line, also while it is not listed
        self._before: set[str] = set()  # marks when the range began

    def follow(self) -> None:
        """Find the cursor's agent again after the lines have changed."""
        lines = self._listing.lines
        if self._wanted is not None:
            found = self._find(self._wanted)
            if found is not None:
                self.line = found
                return
        self.line = max(0, min(self.line, len(lines) - 1))
        if self._wanted is None and lines:
            self._wanted = self._name(self.line)

    def move(self, by: int) -> None:
        """Move the cursor down, or up with a negative number; it stops at the ends."""
        self.go(self.line + by)

    def go(self, line: int) -> None:
        """Put the cursor on a line, the nearest there is."""
        count = len(self._listing.lines)
        if not count:
            return
        self.line = max(0, min(line, count - 1))
        self._wanted = self._name(self.line)
        if self.anchor is not None:
            self.marks = self._before | self._between()

    def go_to(self, agent_id: str) -> bool:
        """Put the cursor on an agent; returns whether it is listed."""
        found = self._find(agent_id)
        self._wanted = agent_id
        if found is None:
            return False
        self.go(found)
        return True

    @property
    def agent_id(self) -> str | None:
        """The agent under the cursor."""
        lines = self._listing.lines
        item = lines[self.line] if self.line < len(lines) else -1
        row = self._store.rows[item] if item >= 0 else None
        return None if row is None else row[ID]

    # -- marks -----------------------------------------------------------------------------------

    def toggle(self) -> None:
        """Mark what is under the cursor, or take its mark away; a group means all of its agents."""
        if self.anchor is not None:
            self.end_range()
            return
        ids = self._under()
        if ids <= self.marks:
            self.marks -= ids
        else:
            self.marks |= ids

    def begin_range(self) -> None:
        """Mark everything from here to wherever the cursor goes, until the range ends."""
        if self.anchor is not None:
            self.end_range()
            return
        self.anchor = self._name(self.line)
        self._before = set(self.marks)
        self.marks = self._before | self._between()

    def end_range(self) -> None:
        """Keep what the range has marked."""
        self.anchor = None

    def mark_all(self) -> int:
        """Mark every agent that is listed, folded ones too; returns how many."""
        listed = self._ids(self._listing.admitted)
        self.marks |= listed
        return len(listed)

    def invert(self) -> None:
        """Mark what is listed and not marked, and the other way round."""
        self.marks ^= self._ids(self._listing.admitted)

    def clear(self) -> bool:
        """Take all marks away; returns whether there were any."""
        had = bool(self.marks) or self.anchor is not None
        self.marks = set()
        self.anchor = None
        return had

    def targets(self) -> tuple[str, ...]:
        """Return whom a command is for: the marked agents that exist, else those at the cursor."""
        places = self._store.places
        ids = self.marks & places.keys() if self.marks else self._under()
        order = {place: at for at, place in enumerate(self._listing.admitted)}
        return tuple(sorted(ids, key=lambda x: (order.get(places[x], len(order)), x)))

    def hidden(self) -> int:
        """Return how many marked agents the filter hides."""
        if not self.marks:
            return 0
        return len((self.marks & self._store.places.keys()) - self._ids(self._listing.admitted))

    # -- names and lines -------------------------------------------------------------------------

    def _under(self) -> set[str]:
        group = self._listing.group(self.line)
        if group is not None:
            return self._ids(group.places)
        agent_id = self.agent_id
        return set() if agent_id is None else {agent_id}

    def _between(self) -> set[str]:
        found = self._find(self.anchor) if self.anchor is not None else None
        start = self.line if found is None else found
        low, high = sorted((start, self.line))
        return self._ids(item for item in self._listing.lines[low : high + 1] if item >= 0)

    def _ids(self, places: Iterable[int]) -> set[str]:
        rows = self._store.rows
        return {row[ID] for place in places if (row := rows[place]) is not None}

    def _name(self, line: int) -> str:
        group = self._listing.group(line)
        if group is not None:
            return f"\0{group.key}"
        row = self._store.rows[self._listing.lines[line]]
        return "" if row is None else str(row[ID])

    def _find(self, name: str) -> int | None:
        lines = self._listing.lines
        if name.startswith("\0"):
            keys = [f"\0{group.key}" for group in self._listing.groups]
            item = -keys.index(name) - 1 if name in keys else None
        else:
            item = self._store.places.get(name)
        if item is None:
            return None
        if self.line < len(lines) and lines[self.line] == item:
            return self.line
        try:
            return lines.index(item)
        except ValueError:
            return None
