"""Writes one life of a fleet into a store: pictures, events, ends of tasks, tasks in flight.

Every method that writes belongs inside a transaction of the store. What it remembers of the file
is brought up to date by :meth:`Scribe.committed` alone, so that a transaction which fails leaves
memory and file in agreement. Belongs to one thread.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from fleetmon._version import __version__
from fleetmon.record.pack import WIDTH, pack_ends
from fleetmon.record.previous import leave
from fleetmon.record.sketch import Sketch
from fleetmon.record.store import execute_all

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping, Sequence

    from fleetmon.record.pack import Row
    from fleetmon.snapshot import FleetWarning

_BATCH = 8192  # ends in one row of the file
_NUMBER = re.compile(r"\d[\d.]*")


class Life(NamedTuple):
    """Whose life is written.

    Attributes:
        name: of the fleet.
        epoch: tells two lives of a supervisor apart.
        pid: process that lives it.
        columns: names of the values of a row.
        at: when it began, seconds since the epoch.
        clock: the supervisor's clock then.
        version: of the fleetmon that lives it.
    """

    name: str
    epoch: str
    pid: int
    columns: Sequence[str]
    at: float
    clock: float
    version: str = __version__


class Open(NamedTuple):
    """A task that has not ended, as it stands in the file."""

    agent_id: str
    task_type: str
    attempt: int
    generation: int
    since: float
    waiting: bool


class Scribe:
    """One life in the making.

    Attributes:
        life: its number in the file.
        open: tasks that the file has as not ended.
    """

    def __init__(self, database: sqlite3.Connection, life: Life) -> None:
        """Begin the life; inside a transaction."""
        self._database = database
        self.life = _inserted(
            database,
            "INSERT INTO lives(epoch, name, version, pid, columns, began_at, last_at, last_clock,"
            " seq) VALUES (?,?,?,?,?,?,?,?,0)",
            (
                life.epoch,
                life.name,
                life.version,
                life.pid,
                json.dumps(list(life.columns)),
                life.at,
                life.at,
                life.clock,
            ),
        )
        self.open: dict[int, Open] = {}
        self._opened: dict[int, Open] = {}
        self._closed: set[int] = set()
        self._rows: dict[str, Row] = {}
        self._next_rows: dict[str, Row] | None = None
        self._facts: str = ""
        self._next_facts: str | None = None
        self._warned: dict[tuple[str, str, str], int] = {}
        self._next_warned: dict[tuple[str, str, str], int] | None = None
        self._restarts: dict[str, tuple[int, tuple[float, ...]]] = {}
        self._next_restarts: dict[str, tuple[int, tuple[float, ...]]] | None = None

    def take_up(self, epoch: str) -> None:
        """Go on with what this epoch had open when its file was closed; inside the transaction."""
        same = "(SELECT life FROM lives WHERE epoch=? AND life<>?)"
        self._database.execute(
            f"UPDATE OR REPLACE open SET life=? WHERE life IN {same}",  # noqa: S608 - a constant
            (self.life, epoch, self.life),
        )
        self._database.execute(
            "UPDATE lives SET ended='left' WHERE epoch=? AND life<>? AND ended=''",
            (epoch, self.life),
        )
        self.open = {
            task_id: Open._make((*facts, bool(waiting)))
            for task_id, *facts, waiting in self._database.execute(
                "SELECT task_id, agent_id, task_type, attempt, generation, since, waiting FROM open"
                " WHERE life=?",
                (self.life,),
            )
        }

    # -- once the transaction has been committed, or has not ------------------------------------

    def committed(self) -> None:
        """What was written stands in the file."""
        for task_id in self._closed:
            self.open.pop(task_id, None)
        self.open.update(self._opened)
        if self._next_rows is not None:
            self._rows = self._next_rows
        if self._next_facts is not None:
            self._facts = self._next_facts
        if self._next_warned is not None:
            self._warned = self._next_warned
        if self._next_restarts is not None:
            self._restarts = self._next_restarts
        self._clear()

    def rolled_back(self) -> None:
        """Nothing of what was written stands in the file."""
        self._clear()

    def _clear(self) -> None:
        self._opened = {}
        self._closed = set()
        self._next_rows = self._next_facts = self._next_warned = self._next_restarts = None

    # -- writing ---------------------------------------------------------------------------------

    def events(self, events: Iterable[Sequence[Any]]) -> None:
        """Write events: tuples in the order of :class:`fleetmon.events.Event`."""
        execute_all(
            self._database,
            "INSERT INTO events(life, seq, at, clock, kind, agent_id, generation, task_id, data)"
            " VALUES (?,?,?,?,?,?,?,?,?)",
            [
                (self.life, seq, at, clock, str(kind), agent_id, generation, task_id, _json(data))
                for seq, at, clock, kind, agent_id, generation, task_id, data in events
            ],
        )

    def ends(self, ends: list[Any], at: float, clock: float) -> None:
        """Write ends of tasks: the values of one after those of another."""
        for begin in range(0, len(ends), _BATCH * WIDTH):
            batch = ends[begin : begin + _BATCH * WIDTH]
            self._database.execute(
                "INSERT INTO ends(life, at, clock, count, body) VALUES (?,?,?,?,?)",
                (self.life, at, clock, len(batch) // WIDTH, pack_ends(batch)),
            )

    def close_tasks(self, task_ids: Iterable[int]) -> None:
        """Take tasks off the open ones."""
        gone = [task_id for task_id in task_ids if task_id in self.open]
        self._closed.update(gone)
        execute_all(
            self._database,
            "DELETE FROM open WHERE life=? AND task_id=?",
            [(self.life, task_id) for task_id in gone],
        )

    def open_tasks(
        self, tasks: Mapping[int, Open], payloads: Mapping[int, bytes | None] | None = None
    ) -> None:
        """Write tasks that have not ended; a payload that stands in the file stays."""
        new = {i: task for i, task in tasks.items() if self.open.get(i) != task}
        self._opened.update(new)
        execute_all(
            self._database,
            "INSERT INTO open(life, task_id, agent_id, task_type, attempt, generation, since,"
            " waiting, payload) VALUES (?,?,?,?,?,?,?,?,?) ON CONFLICT(life, task_id) DO UPDATE"
            " SET attempt=excluded.attempt, generation=excluded.generation,"
            " since=excluded.since, waiting=excluded.waiting,"
            " payload=coalesce(excluded.payload, payload)",
            [(self.life, i, *task, (payloads or {}).get(i)) for i, task in new.items()],
        )

    def sketch(
        self,
        rows: Iterable[Sequence[Any]],
        *,
        whole: bool,
        at: float,
        clock: float,
        seq: int,
        gone: Iterable[str] = (),
    ) -> Sketch:
        """Begin the next picture; see :class:`Sketch`. No transaction is needed for that."""
        return Sketch(rows, self._rows, whole=whole, at=at, clock=clock, seq=seq, gone=gone)

    def picture(self, sketch: Sketch, facts: Mapping[str, Any]) -> None:
        """Write a complete sketch, the latest that was begun, and facts about the whole fleet."""
        said = _json(facts)
        told = sketch.whole or said != self._facts
        if sketch.empty and not told:
            return
        self._database.execute(
            "INSERT INTO frames(life, at, clock, seq, whole, body) VALUES (?,?,?,?,?,?)",
            (
                self.life,
                sketch.at,
                sketch.clock,
                sketch.seq,
                sketch.whole,
                sketch.body(said if told else None),
            ),
        )
        if sketch.whole:
            self._next_rows = sketch.rows
        else:
            kept = {a: row for a, row in self._rows.items() if a not in sketch.gone}
            self._next_rows = kept | sketch.rows
        self._next_facts = said

    def restarts(
        self,
        restarts: Mapping[str, tuple[int, tuple[float, ...]]],
        at: float,
        clock: float,
        *,
        taken: Iterable[str] = (),
    ) -> None:
        """Write how often agents had to be restarted: streak, and clock times of the lapses.

        ``taken`` names those that went on from what an earlier life had written.
        """
        changed = {a: told for a, told in restarts.items() if self._restarts.get(a) != told}
        calm = [agent for agent in {*self._restarts, *taken} if agent not in restarts]
        if not changed and not calm:
            return
        execute_all(
            self._database,
            "INSERT OR REPLACE INTO restarts(agent_id, at, streak, lapses) VALUES (?,?,?,?)",
            [
                (agent_id, at, streak, json.dumps([at - (clock - x) for x in lapses]))
                for agent_id, (streak, lapses) in changed.items()
            ],
        )
        execute_all(
            self._database, "DELETE FROM restarts WHERE agent_id=?", [(agent,) for agent in calm]
        )
        self._next_restarts = dict(restarts)

    def warnings(self, warned: Iterable[FleetWarning], at: float, clock: float) -> None:
        """Write which warnings have come up and which are over.

        A sentence whose numbers move is kept as it began; another sentence is another warning,
        from now on.
        """
        now = {(w.rule, w.agent_id, _NUMBER.sub("#", w.text)): w for w in warned}
        before = {key[:2] for key in self._warned}
        kept = {key: number for key, number in self._warned.items() if key in now}
        execute_all(
            self._database,
            "UPDATE warnings SET until=? WHERE id=?",
            [(at, number) for key, number in self._warned.items() if key not in now],
        )
        for key, each in now.items():
            if key not in kept:
                since = at if key[:2] in before else at - (clock - each.since)
                kept[key] = _inserted(
                    self._database,
                    "INSERT INTO warnings(life, since, rule, agent_id, severity, text)"
                    " VALUES (?,?,?,?,?,?)",
                    (self.life, since, *key[:2], each.severity, each.text),
                )
        self._next_warned = kept

    def gap(self, since: float, until: float, lost: Mapping[str, int]) -> None:
        """Say that the record lacks something between two times."""
        self._database.execute(
            "INSERT INTO gaps(life, since, until, lost) VALUES (?,?,?,?)",
            (self.life, since, until, json.dumps(dict(lost))),
        )

    def alive(self, at: float, clock: float, seq: int) -> None:
        """Say until when the record knows what happened."""
        self._database.execute(
            "UPDATE lives SET last_at=?, last_clock=?, seq=? WHERE life=?",
            (at, clock, seq, self.life),
        )

    def end(self) -> None:
        """Say that the life has ended as it should; what is still open is the host's own work."""
        leave(self._database, "life=?", self.life)
        self._database.execute("UPDATE lives SET ended='stopped' WHERE life=?", (self.life,))


def _inserted(database: sqlite3.Connection, statement: str, values: tuple[Any, ...]) -> int:
    row: int | None = database.execute(statement, values).lastrowid
    return row or 0


def _json(data: Any) -> str:
    return json.dumps(data, separators=(",", ":"), default=str)
