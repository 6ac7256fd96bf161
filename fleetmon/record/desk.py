"""What the recorder's thread does: look at the fleet, write, cope with a file that fails.

Only :attr:`Desk.left`, :meth:`Desk.take_restarts` and the numbers are read from other threads.
"""

from __future__ import annotations

import os
import sqlite3
import time
from typing import TYPE_CHECKING, Any

from fleetmon.errors import RecordError
from fleetmon.events import EventKind
from fleetmon.record import previous
from fleetmon.record.inflight import Look, unfinished
from fleetmon.record.pack import WIDTH
from fleetmon.record.scribe import Life, Open, Scribe
from fleetmon.record.shapes import CLOCK_SET_BACK
from fleetmon.record.store import Store, broken, full
from fleetmon.rows import COLUMNS
from fleetmon.snapshot import Warnings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from fleetmon.events import Event
    from fleetmon.hooks import FleetView
    from fleetmon.record.sketch import Sketch
    from fleetmon.snapshot import InterruptedTask

_PIECE, _LAST_PIECE = 0.1, 2.0  # seconds for a piece of a picture, of a turn and of the last one
_SHARE = 20.0  # pictures take at most one part in so many of a core
_AWAY = 2.0  # seconds after which a task that runs no more has lost its end in an overflow
_FIRST_RETRY, _LAST_RETRY = 1.0, 30.0  # seconds
_IDLE = 1.0  # seconds between two commits that say nothing but "still alive"
_TIDY = 10.0  # seconds between two looks at the file's bounds
_QUIET = 60.0  # seconds between two failures that are told
_BACK = 1.0  # seconds from which on it is told that the wall clock was set back


class Desk:
    """The thread's own state.

    Attributes:
        ends: taken from the hooks and not yet committed, the values of one after those of another;
            ``accepted`` and ``events`` likewise.
        problem: why nothing is written just now; empty while all is well.
        open: whether the file is open.
        commits: so far.
        errors: so far.
        size: bytes on the disk.
        left: tasks that earlier lives have left.
    """

    def __init__(
        self,
        path: Path,
        *,
        pictures: float,
        whole_pictures: float,
        max_bytes: int,
        max_age: float | None,
        limit: int,
    ) -> None:
        """Prepare."""
        self.path = path
        self.ends: list[Any] = []
        self.accepted: list[tuple[int, Open, bytes]] = []
        self.events: list[Event] = []
        self.problem = ""
        self.commits = 0
        self.errors = 0
        self.size = 0
        self.left: list[InterruptedTask] = []
        self._pictures = pictures
        self._whole_pictures = whole_pictures
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._limit = limit
        self._store: Store | None = None
        self._scribe: Scribe | None = None
        self._view: FleetView
        self._lives: dict[InterruptedTask, int] = {}
        self._restarts: dict[str, tuple[int, tuple[float, ...]]] = {}
        self._taken: set[str] = set()
        self._away: dict[int, float] = {}
        self._doubted = False  # the file was found broken while it was written
        self._told = False
        self._tell_at = 0.0
        self._retry_at = 0.0
        self._retry_in = _FIRST_RETRY
        self._sketch: Sketch | None = None
        self._picture_at = 0.0
        self._whole_at = 0.0
        self._tidy_at = 0.0
        self._committed_at = 0.0
        self._written_at = 0.0
        self._lost: dict[str, int] = {}

    @property
    def open(self) -> bool:
        """Whether the file is open."""
        return self._store is not None

    @property
    def room_for_ends(self) -> int:
        """How many more ends may wait here."""
        return self._limit - len(self.ends) // WIDTH

    @property
    def room_for_events(self) -> int:
        """How many more events may wait here."""
        return self._limit - len(self.events)

    # -- the file --------------------------------------------------------------------------------

    def begin(self, view: FleetView) -> None:
        """Open the file for this view's life, and find out what earlier lives have left."""
        self._view = view
        self._written_at = view.wall()
        self._try_open()

    def _try_open(self) -> None:
        view = self._view
        store: Store | None = None
        try:
            store = Store(
                self.path,
                max_bytes=self._max_bytes,
                max_age=self._max_age,
                doubted=self._doubted,
            )
            with store.transaction() as database:
                scribe = Scribe(
                    database,
                    Life(view.name, view.epoch, os.getpid(), COLUMNS, view.wall(), view.now()),
                )
                scribe.take_up(view.epoch)
                left = previous.adopt(database, scribe.life)
        except (RecordError, sqlite3.Error, OSError) as error:
            if store is not None:
                store.close()
            self._failed(error)
            return
        scribe.committed()
        self._doubted = False
        self._store, self._scribe = store, scribe
        self._picture_at = self._whole_at = 0.0
        self.size = store.size
        if store.put_aside is not None:
            self.errors += 1
            self._tell(
                EventKind.RECORD_FAILED,
                {"error": f"it was broken; kept as {store.put_aside}, and a new one was begun"},
            )
        self._take_over(left)

    def _take_over(self, left: previous.Left) -> None:
        self._lives |= dict(zip(left.tasks, left.lives, strict=True))
        self.left = [*self.left, *left.tasks]
        for agent_id, told in left.restarts.items():
            if agent_id not in self._taken:
                self._restarts[agent_id] = told
        for epoch, pid, at in left.crashed:
            tasks = [t for t in left.tasks if t.epoch == epoch]
            self._tell(
                EventKind.INTERRUPTED,
                {
                    "epoch": epoch,
                    "pid": pid,
                    "at": at,
                    "tasks": len(tasks),
                    "pending": sum(t.fate == "pending" for t in tasks),
                },
            )

    def _tell(self, kind: EventKind, data: dict[str, Any]) -> None:
        self._view.publish(kind, "", {"path": str(self.path), **data})

    def _failed(self, error: BaseException) -> None:
        """Take note of a file that does not take what is written; try again later."""
        self.errors += 1
        self.problem = str(error) or type(error).__name__
        self._retry_at = time.monotonic() + self._retry_in
        self._retry_in = min(2 * self._retry_in, _LAST_RETRY)
        self._whole_at = 0.0  # what was looked at and not written is looked at again
        self._sketch = None
        now = time.monotonic()
        if not self._told and now >= self._tell_at:
            self._told = True
            self._tell_at = now + _QUIET
            self._tell(EventKind.RECORD_FAILED, {"error": self.problem})

    def _again(self) -> None:
        """Leave the file, to open it anew."""
        if self._store is not None:
            self._store.close()
        self._store = self._scribe = self._sketch = None

    # -- a turn ----------------------------------------------------------------------------------

    def look(self, *, last: bool) -> Look | None:
        """Look at what runs; ``None`` while it is not yet time to try a failed file again."""
        if self.problem and time.monotonic() < self._retry_at and not last:
            return None
        if self._store is None:
            self._try_open()
            if self._store is None:
                return None
        view = self._view
        return Look(view.wall(), view.now(), view.running())

    def write(self, look: Look, drops: Mapping[str, int], *, last: bool) -> dict[str, int]:
        """Write what has gathered; returns what was lost here, by kind.

        Args:
            look: taken before what has gathered was taken from the hooks.
            drops: what the hooks had to drop so far.
            last: the life ends.
        """
        store, scribe = self._store, self._scribe
        if store is None or scribe is None:
            return {}
        now = time.monotonic()
        lost: dict[str, int] = {}
        try:
            store.check()
            self._commit(store, scribe, look, drops, now, last=last)
            if now >= self._tidy_at or last:
                self._tidy_at = now + _TIDY
                self.size = store.size
                if store.prune(self._view.wall()):
                    self._whole_at = 0.0  # the picture that reading begins at may be gone
        except (sqlite3.Error, RecordError, OSError) as error:
            scribe.rolled_back()
            self._mend(store, error)
        except Exception as error:  # noqa: BLE001 - nothing here may end the thread
            scribe.rolled_back()
            lost = {"tasks": len(self.ends) // WIDTH, "events": len(self.events)}
            self._clear()
            self._failed(error)
        return lost

    def _mend(self, store: Store, error: BaseException) -> None:
        self._failed(error)
        if full(error):
            try:
                store.prune(self._view.wall(), least=True)
                self._retry_at = 0.0
            except sqlite3.Error:
                self.errors += 1
        elif broken(error) or store.gone:
            self._doubted = broken(error)
            self._again()  # opening it again puts a broken file aside
            self._retry_at = 0.0

    def _clear(self) -> None:
        self.ends, self.accepted, self.events = [], [], []

    def _commit(
        self,
        store: Store,
        scribe: Scribe,
        look: Look,
        drops: Mapping[str, int],
        now: float,
        *,
        last: bool,
    ) -> None:
        view = self._view
        at, clock, seq = look.at, look.clock, view.seq
        # of tens of thousands that have ended, those that something is known of besides
        ended = {*scribe.open, *(task.id for task in look.running)}
        ended.update(number for number, _, _ in self.accepted)
        ended.update(event.task_id for event in self.events)
        ended.intersection_update(self.ends[::WIDTH])
        opened, payloads = unfinished(look, self.accepted, self.events, scribe.open, ended)
        closed = ended & scribe.open.keys()
        closed |= self._without_end(look, scribe, ended | opened.keys(), now, last=last)
        more = {k: n - self._lost.get(k, 0) for k, n in drops.items() if n > self._lost.get(k, 0)}
        picture = self._picture(look, scribe, now, last=last)
        idle = not (self.ends or self.events or opened or closed or picture or more)
        if idle and now - self._committed_at < _IDLE:
            return
        warned = view.warnings() if picture else Warnings((), ())
        with store.transaction():
            scribe.events(self.events)
            scribe.ends(self.ends, at, clock)
            scribe.open_tasks(opened, payloads)
            scribe.close_tasks(closed)
            if more:
                scribe.gap(self._written_at, at, more)
            if at < self._written_at - _BACK:  # times up to the later one occur twice
                back = round(self._written_at - at)
                scribe.gap(at, self._written_at, {CLOCK_SET_BACK: back})
            if picture:
                facts = {**view.facts(), "summaries": list(warned.summaries)}
                scribe.picture(picture, facts)
                scribe.warnings(warned.instances, at, clock)
                scribe.restarts(view.restarts(), at, clock, taken=self._taken)
            scribe.alive(at, clock, seq)
            if last:
                scribe.end()
        scribe.committed()
        self._clear()
        self._lost = dict(drops)
        self.commits += 1
        self._committed_at, self._written_at = now, at
        if picture:
            self._plan(picture, now)
        if self.problem:
            self.problem = ""
            self._retry_in = _FIRST_RETRY
            if self._told:
                self._told = False
                self._tell(EventKind.RECORD_RESUMED, {"lost": more})

    def _picture(self, look: Look, scribe: Scribe, now: float, *, last: bool) -> Sketch | None:
        """Go on with the next picture if it is due; returns it once it is complete."""
        view = self._view
        if last or (self._sketch is None and now >= self._picture_at):
            whole = last or now >= self._whole_at
            gone = view.gone()  # before the rows: who comes back meanwhile stays
            self._sketch = scribe.sketch(
                view.look(whole=whole),
                whole=whole,
                at=look.at,
                clock=look.clock,
                seq=view.seq,
                gone=gone,
            )
        sketch = self._sketch
        if sketch is None or not sketch.go(_LAST_PIECE if last else _PIECE):
            return None
        return sketch

    def _plan(self, sketch: Sketch, now: float) -> None:
        self._sketch = None
        if sketch.whole:
            self._whole_at = now + max(self._whole_pictures, 10 * _SHARE * sketch.seconds)
        self._picture_at = now + max(self._pictures, _SHARE * sketch.seconds)

    def _without_end(
        self, look: Look, scribe: Scribe, known: set[int], now: float, *, last: bool
    ) -> set[int]:
        """Return tasks that stand in the file as running, run no more, and whose end was lost."""
        running = {task.id for task in look.running}
        away = {
            number: self._away.get(number, now)
            for number, task in scribe.open.items()
            if not task.waiting and number not in running and number not in known
        }
        lost = {number for number, since in away.items() if last or now - since > _AWAY}
        self._away = {n: since for n, since in away.items() if n not in lost}
        return lost

    # -- what earlier lives have left ------------------------------------------------------------

    def take_restarts(self, agent_id: str) -> tuple[int, tuple[float, ...]] | None:
        """Return what an agent brings along, once; from any thread."""
        self._taken.add(agent_id)
        return self._restarts.pop(agent_id, None)

    def claim(
        self, numbers: Mapping[InterruptedTask, int], limit: int
    ) -> dict[InterruptedTask, bytes]:
        """Take tasks over for good; raises :class:`RecordError` when that cannot be written."""
        store, scribe = self._store, self._scribe
        if store is None or scribe is None:
            raise RecordError(self.problem or f"{self.path} is not open", path=self.path)
        payloads: dict[InterruptedTask, bytes] = {}
        fates: dict[InterruptedTask, InterruptedTask] = {}
        at = self._view.wall()
        try:
            with store.transaction() as database:
                opened: dict[int, Open] = {}
                for task, number in numbers.items():
                    fate = "redelivered" if task.attempt < limit else "dead_lettered"
                    payload = previous.claim(
                        database,
                        self._lives[task],
                        task.task_id,
                        found=scribe.life,
                        again=number,
                        fate=fate,
                    )
                    if payload is None:
                        continue
                    payloads[task] = payload
                    fates[task] = task._replace(fate=fate)  # type: ignore[arg-type]
                    opened[number] = Open(
                        task.agent_id, task.task_type, task.attempt + 1, 0, at, waiting=True
                    )
                scribe.open_tasks(
                    opened, {n: payloads[t] for t, n in numbers.items() if t in payloads}
                )
        except sqlite3.Error as error:
            scribe.rolled_back()
            self._mend(store, error)
            raise RecordError(str(error), path=self.path) from error
        scribe.committed()
        self.commits += 1
        self.left = [fates.get(task, task) for task in self.left]
        return payloads

    def close(self) -> None:
        """Let go of the file."""
        self._again()

    def forget_parent(self) -> None:
        """In a forked child: nothing of the file may be touched."""
        if self._store is not None:
            self._store.forget_parent()
        self._store = self._scribe = None
        self._clear()
        self.left = []
