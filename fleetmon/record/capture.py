"""Records another process's fleet from the frames of its stream: ``fleetmon events --record``."""

from __future__ import annotations

import math
import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fleetmon.errors import RecordError
from fleetmon.record.scribe import Life, Scribe
from fleetmon.record.store import Store, full
from fleetmon.snapshot import FleetWarning

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence

_INTERVAL = 0.5  # seconds between two commits; a stream says something each second at least
_WHOLE = 10.0  # seconds between two whole pictures
_TIDY = 10.0
_DERIVED = frozenset(("type", "seq", "warnings", "blocked"))  # of a fleet frame; kept otherwise


class Recorded(NamedTuple):
    """What a recording came to.

    Attributes:
        events: written.
        lost: events that the stream did not keep for us.
        lives: of the fleet that were seen.
        ended: the fleet has ended; otherwise the frames did.
    """

    events: int
    lost: int
    lives: int
    ended: bool


def record(
    frames: Iterable[Mapping[str, Any]],
    path: str | os.PathLike[str],
    *,
    max_bytes: int = 256 * 1024 * 1024,
    max_age: float | None = None,
) -> Recorded:
    """Write the frames of ``GET /v1/stream`` into a record, until they end.

    A Ctrl-C, and whatever ``frames`` raises, passes through; what came before it stands in the
    file. Pictures, events and warnings are kept; single tasks are not, since a stream does not tell
    of them.

    Args:
        frames: as :meth:`fleetmon.control.client.Client.stream` yields them; a second ``hello``
            goes on with the same life or begins another.
        path: of the file; it is created, or gone on with.
        max_bytes: size of the file; the oldest is forgotten first.
        max_age: seconds for which anything is kept; ``None``: as long as there is room.

    Raises:
        RecordError: the file cannot be written, or cannot any more.
    """
    place = Path(path)
    store = Store(place, max_bytes=max_bytes, max_age=max_age)
    try:
        capture = _Capture(store)
        try:
            for frame in frames:
                capture.take(frame)
                if capture.over:
                    break
        finally:
            capture.end()
        return Recorded(capture.written, capture.lost, capture.lives, capture.over)
    except sqlite3.Error as error:
        msg = f"{place} cannot be written: {error}"
        raise RecordError(msg, path=place) from error
    finally:
        store.close()


class _Capture:
    """Gathers frames and commits them now and then."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._scribe: Scribe | None = None
        self._epoch = ""
        self._rows: dict[str, Sequence[Any]] = {}
        self._fresh: dict[str, Sequence[Any]] | None = None
        self._changed: dict[str, Sequence[Any]] = {}
        self._gone: list[str] = []
        self._facts: dict[str, Any] = {}
        self._warned: list[FleetWarning] = []
        self._events: list[tuple[Any, ...]] = []
        self._seq = 0
        self._lost = 0
        self._at = self._clock = 0.0
        self._heard = 0.0
        self._committed = self._whole = self._tidied = 0.0
        self.written = self.lost = self.lives = 0
        self.over = False

    def take(self, frame: Mapping[str, Any]) -> None:
        kind = frame.get("type")
        if kind == "hello":
            self._hello(frame)
        elif self._scribe is None:
            return
        elif kind == "rows":
            self._take_rows(frame)
        elif kind == "events":
            self._take_events(frame)
        elif kind == "fleet":
            self._facts = {k: v for k, v in frame.items() if k not in _DERIVED}
            self._warned = [
                FleetWarning(w["rule"], w["agent_id"], w["since"], w["severity"], w["text"])
                for w in frame["warnings"]
            ]
        elif kind == "heartbeat":
            self._tick(frame)
        elif kind == "end":
            self.over = True
            return
        if time.monotonic() - self._committed >= _INTERVAL:
            self._commit()

    def _tick(self, frame: Mapping[str, Any]) -> None:
        self._at, self._clock = float(frame["at"]), float(frame["clock"])
        self._heard = time.monotonic()

    def _hello(self, frame: Mapping[str, Any]) -> None:
        if self._scribe is not None:
            self._commit()
        self._tick(frame)
        if frame["epoch"] != self._epoch:
            self._epoch = frame["epoch"]
            self.lives += 1
            life = Life(
                frame["name"],
                frame["epoch"],
                frame["pid"],
                frame["columns"],
                self._at,
                self._clock,
                frame["version"],
            )
            with self._store.transaction() as database:
                database.execute("UPDATE lives SET ended='crashed' WHERE ended=''")
                self._scribe = Scribe(database, life)
            self._scribe.committed()
            self._rows, self._facts, self._warned, self._seq = {}, {}, [], 0
        if not frame["resumed"]:
            self._fresh = {}

    def _take_rows(self, frame: Mapping[str, Any]) -> None:
        rows = {row[0]: row for row in frame["rows"]}
        if self._fresh is not None:
            self._fresh |= rows
            if not frame["more"]:
                self._rows, self._fresh = self._fresh, None
                self._whole = 0.0
            return
        for agent_id in frame["removed"]:
            if self._rows.pop(agent_id, None) is not None:
                self._gone.append(agent_id)
                self._changed.pop(agent_id, None)
        self._rows |= rows
        self._changed |= rows

    def _take_events(self, frame: Mapping[str, Any]) -> None:
        offset = self._at - self._clock
        if frame["lost"] and self._seq:  # what was before we came is no loss
            self._lost += frame["lost"]
        for e in frame["events"]:
            if e["seq"] <= self._seq:
                continue  # told again after a connection was lost
            self._seq = e["seq"]
            self._events.append(
                (
                    e["seq"],
                    e["at"],
                    e["at"] - offset,
                    e["kind"],
                    e["agent_id"],
                    e["generation"],
                    e["task_id"],
                    e["data"],
                )
            )

    def _commit(self, *, ended: str = "") -> None:
        scribe = self._scribe
        if scribe is None:
            return
        now = time.monotonic()
        passed = now - self._heard
        at, clock = self._at + passed, self._clock + passed
        known = bool(self._rows) and self._fresh is None
        whole = known and (now - self._whole >= _WHOLE or not self._whole)
        try:
            with self._store.transaction() as database:
                scribe.events(self._events)
                if self._lost:
                    scribe.gap(self._at, at, {"events": self._lost})
                if known:
                    sketch = scribe.sketch(
                        (self._rows if whole else self._changed).values(),
                        whole=whole,
                        at=at,
                        clock=clock,
                        seq=self._seq,
                        gone=self._gone,
                    )
                    sketch.go(math.inf)
                    scribe.picture(sketch, self._facts)
                    scribe.warnings(self._warned, at, clock)
                scribe.alive(at, clock, self._seq)
                if ended:
                    database.execute("UPDATE lives SET ended=? WHERE life=?", (ended, scribe.life))
        except sqlite3.Error as error:
            scribe.rolled_back()
            if full(error) and self._store.prune(at, least=True):
                self._whole = 0.0
                return  # tried again with the next frame
            raise
        scribe.committed()
        self.written += len(self._events)
        self.lost += self._lost
        self._events, self._changed, self._gone, self._lost = [], {}, [], 0
        self._committed = now
        if whole:
            self._whole = now
        if now - self._tidied >= _TIDY:
            self._tidied = now
            if self._store.prune(at):
                self._whole = 0.0

    def end(self) -> None:
        self._commit(ended="stopped" if self.over else "left")
