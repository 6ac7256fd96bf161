"""Reads a record: how the fleet stood at any time, and what happened.

Works while the record is written, from another process, and after a crash of the one that wrote.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

from fleetmon.errors import RecordError
from fleetmon.events import EventKind
from fleetmon.numbers import OUTCOMES
from fleetmon.record.opening import opened
from fleetmon.record.pack import apply, select, unpack_ends, unpack_frame
from fleetmon.record.previous import interrupted_of
from fleetmon.record.shapes import (
    Gap,
    LifeSpan,
    Picture,
    RecordedEvent,
    RecordedTask,
    RecordedWarning,
    blocked_of,
)
from fleetmon.record.store import writing
from fleetmon.rows import COLUMNS, AgentRow

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator

    from fleetmon.record.pack import Row
    from fleetmon.snapshot import InterruptedTask

__all__ = [
    "Gap",
    "LifeSpan",
    "Picture",
    "RecordedEvent",
    "RecordedTask",
    "RecordedWarning",
    "Recording",
]

_SILENT = 5.0  # seconds after which a record that is being written should have said something


class _Cursor(NamedTuple):
    """Where the reading of pictures stands, so that going forward is quick."""

    life: int
    whole: int
    frame: int
    rows: dict[str, Row]
    facts: dict[str, Any]


class Recording:
    """A record of a fleet, for reading; any thread may use it.

    All times are wall clock, seconds since the epoch. Methods raise :class:`RecordError` when the
    file turns out to be broken.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open the record.

        Raises:
            RecordError: there is none, or it cannot be read.
        """
        self.path = Path(path)
        self._lock = threading.RLock()
        self._database, self._copy = opened(self.path)
        self._cursor: _Cursor | None = None
        self._columns: dict[int, list[str]] = {}

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._database.close()
            if self._copy is not None:
                self._copy.cleanup()

    def __enter__(self) -> Self:
        """Use as a context manager to be sure that it is closed."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def _all(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        # everything at once: a statement left open would keep the writer's log from being cut back
        with self._lock:
            try:
                return self._database.execute(statement, values).fetchall()
            except sqlite3.Error as error:
                msg = f"{self.path} cannot be read: {error}"
                raise RecordError(msg, path=self.path) from error

    # -- what there is ---------------------------------------------------------------------------

    @property
    def live(self) -> bool:
        """Whether somebody writes it just now."""
        return writing(self.path)

    def lives(self) -> tuple[LifeSpan, ...]:
        """Return the lives that are recorded, oldest first."""
        rows = self._all(
            "SELECT life, epoch, name, version, pid, began_at, last_at, ended FROM lives"
            " ORDER BY life"
        )
        lives = [LifeSpan(*row) for row in rows]
        if lives and not lives[-1].ended and not self.live:
            lives[-1] = lives[-1]._replace(ended="crashed")
        return tuple(lives)

    def span(self) -> tuple[float, float]:
        """Return the first and the last time of which there is a picture; raises RecordError."""
        ((first,),) = self._all("SELECT min(at) FROM frames WHERE whole")
        lives = self.lives()
        if first is None or not lives:
            msg = f"{self.path} holds no picture of a fleet yet"
            raise RecordError(msg, path=self.path)
        return first, max(first, lives[-1].last)

    def gaps(self, since: float = 0.0, until: float = 1e12) -> tuple[Gap, ...]:
        """Return the times of which the record lacks something."""
        rows = self._all(
            "SELECT life, since, until, lost FROM gaps WHERE until>=? AND since<=? AND life>0"
            " ORDER BY id",
            since,
            until,
        )
        return tuple(Gap(life, x, y, json.loads(lost)) for life, x, y, lost in rows)

    def forgotten(self) -> tuple[float, float] | None:
        """Return since and until when the record was pruned of all that happened, if it was."""
        rows = self._all("SELECT since, until FROM gaps WHERE life=0")
        return (rows[0][0], rows[0][1]) if rows else None

    # -- pictures --------------------------------------------------------------------------------

    def agents(self) -> tuple[str, ...]:
        """Return the agents of which anything is known, sorted."""
        known = {row[0] for row in self._all("SELECT DISTINCT agent_id FROM events")} - {""}
        for (body,) in self._all(
            "SELECT body FROM frames WHERE id IN (SELECT max(id) FROM frames WHERE whole"
            " GROUP BY life)"
        ):
            try:
                known |= unpack_frame(body).rows.keys()
            except ValueError:
                continue
        return tuple(sorted(known))

    def at(self, when: float, *, life: int | None = None) -> Picture:
        """Return how the fleet stood at a time; the nearest picture where there is none.

        Args:
            when: the time.
            life: only if it is of this life.

        Raises:
            RecordError: there is no picture at all.
            LookupError: there is none of that life.
        """
        picture = self._picture(when)
        if life is not None and picture.life.life != life:
            msg = f"{self.path} holds no picture of life {life}"
            raise LookupError(msg)
        return picture

    def _picture(self, when: float) -> Picture:
        first, _ = self.span()
        when = max(when, first)
        lives = self.lives()
        life = next((x for x in reversed(lives) if x.began <= when), lives[0])
        with self._lock:
            frame = self._frame(life.life, when)
            if frame is None:  # its pictures were forgotten, or it has none yet
                others = [x for x in reversed(lives) if x.life != life.life]
                for other in others:
                    frame = self._frame(other.life, when)
                    if frame is not None:
                        life = other
                        break
            if frame is None:
                frame_life = self._all("SELECT life, at FROM frames WHERE whole LIMIT 1")[0]
                life = next(x for x in lives if x.life == frame_life[0])
                frame = self._frame(life.life, frame_life[1])
            cursor, at, clock, seq = frame  # type: ignore[misc] # span() has seen a picture
        asked = max(when, at)
        here = min(asked, max(life.last, at))
        here_clock = clock + (here - at)
        facts = {
            **cursor.facts,
            "blocked": self._blocked(life.life, here, here_clock),
            "shared_cause_open": self._cause_open(life.life, here),
            "warnings": [
                {
                    "rule": w.rule,
                    "agent_id": w.agent_id,
                    "since": round(here_clock - (here - w.since), 3),  # as in a live frame
                    "severity": w.severity,
                    "text": w.text,
                }
                for w in self.warnings(here, here)
                if w.life == life.life and (w.until is None or w.until > here)
            ],
        }
        places = self._places(life.life)
        rows = tuple(
            AgentRow(*(None if p is None else row[p] for p in places))  # type: ignore[arg-type]
            for row in cursor.rows.values()
        )
        return Picture(here, here_clock, life, seq, rows, facts, self._state(life, asked))

    def _state(
        self, life: LifeSpan, when: float
    ) -> Literal["recorded", "gap", "stopped", "crashed"]:
        if when > life.last + (0.0 if life.ended else _SILENT):
            return life.ended if life.ended in ("stopped", "crashed") else "gap"
        if any(g.life == life.life for g in self.gaps(when, when)):
            return "gap"
        return "recorded"

    def _frame(self, life: int, when: float) -> tuple[_Cursor, float, float, int] | None:
        """Return the rows as of the newest picture that is not newer, and its times."""
        found = self._all(
            "SELECT id, at, clock, seq FROM frames WHERE life=? AND at<=? ORDER BY id DESC LIMIT 1",
            life,
            when,
        )
        if not found:
            return None
        number, at, clock, seq = found[0]
        ((whole,),) = self._all(
            "SELECT max(id) FROM frames WHERE life=? AND whole AND id<=?", life, number
        )
        if whole is None:
            return None
        cursor = self._cursor
        if cursor is None or cursor[:2] != (life, whole) or cursor.frame > number:
            cursor = _Cursor(life, whole, whole - 1, {}, {})
        if cursor.frame == number:
            return cursor, at, clock, seq
        rows, facts = dict(cursor.rows), cursor.facts
        for (body,) in self._all(
            "SELECT body FROM frames WHERE life=? AND id>? AND id<=? ORDER BY id",
            life,
            cursor.frame,
            number,
        ):
            try:
                frame = unpack_frame(body)
            except ValueError:
                continue  # the next whole picture sets it right
            apply(rows, frame)
            facts = facts if frame.facts is None else frame.facts
        self._cursor = cursor = _Cursor(life, whole, number, rows, facts)
        return cursor, at, clock, seq

    def _places(self, life: int) -> Any:
        if life not in self._columns:
            ((columns,),) = self._all("SELECT columns FROM lives WHERE life=?", life)
            self._columns[life] = json.loads(columns)
        return select(self._columns[life], COLUMNS)

    def _blocked(self, life: int, when: float, clock: float) -> dict[str, Any] | None:
        found = self._all(
            "SELECT kind, agent_id, clock, data FROM events WHERE life=? AND at<=? AND kind IN"
            " (?,?) ORDER BY id DESC LIMIT 1",
            life,
            when,
            EventKind.LOOP_BLOCKED.value,
            EventKind.LOOP_FREED.value,
        )
        if not found or found[0][0] == EventKind.LOOP_FREED:
            return None
        return blocked_of(*found[0][1:], clock=clock)

    def _cause_open(self, life: int, when: float) -> bool:
        # from the events, which miss none that is shorter than the time between two pictures
        found = self._all(
            "SELECT kind FROM events WHERE life=? AND at<=? AND kind IN (?,?,?)"
            " ORDER BY id DESC LIMIT 1",
            life,
            when,
            EventKind.SHARED_CAUSE_OPENED.value,
            EventKind.SHARED_CAUSE_RAMPING.value,
            EventKind.SHARED_CAUSE_CLOSED.value,
        )
        return bool(found) and found[0][0] == EventKind.SHARED_CAUSE_OPENED

    # -- what happened ---------------------------------------------------------------------------

    def events(
        self,
        since: float = 0.0,
        until: float = 1e12,
        *,
        agent: str | None = None,
        kinds: Iterable[str] = (),
        limit: int | None = None,
    ) -> list[RecordedEvent]:
        """Return events, oldest first.

        Args:
            since: from this time on.
            until: up to this time.
            agent: of this agent only.
            kinds: of these kinds only; all by default.
            limit: the last so many of them.
        """
        chosen = [str(kind) for kind in kinds]
        marks = ",".join("?" * len(chosen))
        rows = self._all(
            "SELECT life, seq, at, clock, kind, agent_id, generation, task_id, data FROM events"  # noqa: S608 - question marks
            " WHERE at>=? AND at<=?"
            + (" AND agent_id=?" if agent is not None else "")
            + (f" AND kind IN ({marks})" if chosen else "")
            + " ORDER BY id DESC LIMIT ?",
            since,
            until,
            *([] if agent is None else [agent]),
            *chosen,
            -1 if limit is None else limit,
        )
        return [RecordedEvent._make((*row[:-1], json.loads(row[-1]))) for row in reversed(rows)]

    def warnings(self, since: float = 0.0, until: float = 1e12) -> list[RecordedWarning]:
        """Return the warnings that stood at some time between, in the order in which they began."""
        rows = self._all(
            "SELECT life, since, until, rule, agent_id, severity, text FROM warnings"
            " WHERE since<=? AND coalesce(until, 1e12)>=? ORDER BY id",
            until,
            since,
        )
        over = {life.life: life.last for life in self.lives() if life.ended}
        found = [RecordedWarning(*row) for row in rows]
        found = [w if w.until is not None else w._replace(until=over.get(w.life)) for w in found]
        return [w for w in found if w.until is None or w.until >= since]

    def next_warning(self, after: float) -> RecordedWarning | None:
        """Return the first warning that begins after a time."""
        later = (w for w in self.warnings(after) if w.since > after)
        return min(later, key=lambda w: w.since, default=None)  # a rule may look back

    def tasks(
        self,
        agent: str | None = None,
        *,
        since: float = 0.0,
        until: float = 1e12,
        limit: int = 1000,
    ) -> list[RecordedTask]:
        """Return the ends of tasks, newest first.

        Args:
            agent: of this agent only.
            since: that ended from this time on.
            until: that ended up to this time.
            limit: at most so many.
        """
        found: list[RecordedTask] = []
        for task in self.all_tasks(since=since, until=until):
            if agent is None or task.agent_id == agent:
                found.append(task)
                if len(found) >= limit:
                    break
        return found

    def all_tasks(self, *, since: float = 0.0, until: float = 1e12) -> Iterator[RecordedTask]:
        """Yield the ends of all tasks within a time, about newest first."""
        batches = self._all(
            "SELECT id FROM ends WHERE at>=? ORDER BY id DESC",
            since,
        )
        for (number,) in batches:
            for life, at, clock, body in self._all(
                "SELECT life, at, clock, body FROM ends WHERE id=?", number
            ):
                offset = at - clock
                try:
                    ends = unpack_ends(body)
                except ValueError:
                    continue
                for end in reversed(ends):
                    ended = offset + end.ended
                    if since <= ended <= until:
                        yield RecordedTask(
                            life,
                            *end[:5],
                            began=offset + end.began if end.generation else 0.0,
                            ended=ended,
                            outcome=OUTCOMES[end.outcome],
                            error_type=end.error_type,
                        )

    def interrupted(self) -> tuple[InterruptedTask, ...]:
        """Return the tasks that lives which crashed have left, oldest life first."""
        fields = "life, task_id, agent_id, task_type, attempt, generation, since, waiting"
        known = self._all(f"SELECT {fields}, fate FROM interrupted ORDER BY life, task_id")  # noqa: S608 - our own names
        lives = {life.life: life for life in self.lives()}
        over = [life.life for life in lives.values() if life.ended]
        left = self._all(f"SELECT {fields}, payload IS NULL FROM open ORDER BY life, task_id")  # noqa: S608 - our own names
        told = [*known]
        told += [(*row[:8], "uncertain" if row[8] else "pending") for row in left if row[0] in over]
        return tuple(
            interrupted_of((lives[row[0]].epoch if row[0] in lives else "", *row[1:]))
            for row in told
        )
