"""The file as its one writer has it: locked, created, kept within its bounds, put aside if broken.

Belongs to one thread.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import sqlite3
import struct
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from fleetmon.errors import RecordError
from fleetmon.record.schema import APPLICATION, PAGE, TABLES, TIMED, VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MAGIC = b"SQLite format 3\0"
_ID_AT = 68  # where the header holds the application's id, 4 bytes, big-endian
_WAL = "-wal"  # what SQLite calls the log beside the file
_CHECKED = 16 * 1024 * 1024  # bytes up to which the whole file is looked through when opened
_LOG = 4 * 1024 * 1024  # bytes to which the write-ahead log is cut back
_LONGEST_LOG = 64 * 1024 * 1024  # bytes of it, when somebody reads without end
_FULL, _EMPTIED = 0.85, 0.7  # shares of the bound at which pruning begins and ends
_SLICES = 8  # pruning takes the oldest one of so many
_PATIENCE = 1.0  # seconds; who only looks whether somebody writes holds the lock for an instant


class _Cut(NamedTuple):
    """A moment in the order of writing, which no turning of the wall clock changes."""

    life: int
    clock: float
    at: float


class Store:
    """One open file.

    Attributes:
        path: of the file.
        put_aside: where a broken file was moved when this one was begun in its place.
    """

    def __init__(
        self, path: Path, *, max_bytes: int, max_age: float | None, doubted: bool = False
    ) -> None:
        """Open or create the file and lock it.

        Args:
            path: of the file.
            max_bytes: its bound.
            max_age: seconds for which anything is kept; ``None``: as long as there is room.
            doubted: look all of it through, however large it is.

        Raises:
            RecordError: somebody else writes it, it is none of ours, or it cannot be had.
        """
        self.path = path
        self.put_aside: Path | None = None
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._checked = math.inf if doubted else _CHECKED
        self._lock = _locked(path)
        self._inode = 0
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        try:
            self._identify()
            # payloads may stand in it: from its first byte on it is the user's own
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            try:
                self.database = self._connected()
            except sqlite3.DatabaseError as error:
                if not broken(error) or not self.path.exists():
                    raise
                self._set_aside()
                self.database = self._connected()
        except (sqlite3.Error, OSError) as error:
            raise RecordError(f"{self.path} cannot be written: {error}", path=self.path) from error
        with contextlib.suppress(OSError):
            self._inode = self.path.stat().st_ino
        self._sizes = self._measured()

    def _identify(self) -> None:
        """Refuse a file that is none of ours: it may be somebody's work."""
        try:
            with self.path.open("rb") as file:
                head = file.read(100)
        except FileNotFoundError:
            return
        if head and (
            not head.startswith(_MAGIC)
            or head[_ID_AT : _ID_AT + 4] != struct.pack(">I", APPLICATION)
        ):
            raise RecordError(
                f"{self.path} is no record of a fleet, or is broken beyond recognition; move it "
                "away or name another file",
                path=self.path,
            )

    def _connected(self) -> sqlite3.Connection:
        database = sqlite3.connect(
            self.path, timeout=1.0, isolation_level=None, check_same_thread=False
        )
        try:
            database.execute(f"PRAGMA page_size={PAGE}")
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if not version:
                # in one transaction, so that a file is ours from its first byte on
                database.executescript(
                    f"BEGIN; PRAGMA application_id={APPLICATION}; PRAGMA user_version={VERSION};"
                    f"{TABLES} COMMIT;"
                )
            elif version != VERSION:
                self._refuse(version)
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=NORMAL")
            database.execute(f"PRAGMA journal_size_limit={_LOG}")
            database.execute(f"PRAGMA max_page_count={max(64, self._max_bytes // PAGE)}")
            self._look_through(database)
            for table in ("lives", "open", "interrupted", "restarts"):
                database.execute(f"SELECT * FROM {table} LIMIT 1").fetchone()  # noqa: S608 - our own names
        except BaseException:
            database.close()
            raise
        return database

    def _refuse(self, version: int) -> None:
        raise RecordError(
            f"{self.path} has format {version}, and this fleetmon writes {VERSION}; name another "
            "file",
            path=self.path,
        )

    def _look_through(self, database: sqlite3.Connection) -> None:
        if self.path.stat().st_size > self._checked:
            return
        (said,) = database.execute("PRAGMA quick_check(1)").fetchone()
        if said != "ok":
            raise _BrokenError(str(said))

    def _set_aside(self) -> None:
        """Keep a broken file of ours for a look, in place of one kept before."""
        kept = self.path.with_name(f"{self.path.name}.broken")
        self.path.replace(kept)
        for end in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                self.path.with_name(self.path.name + end).unlink()
        self.put_aside = kept

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit what is done inside as one, or nothing of it; raises :class:`sqlite3.Error`."""
        database = self.database
        database.execute("BEGIN IMMEDIATE")
        try:
            yield database
            database.execute("COMMIT")
            self._sizes = self._measured()
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                if database.in_transaction:
                    database.execute("ROLLBACK")
            raise

    def check(self) -> None:
        """Raise :class:`RecordError` if writing would be in vain or without bounds."""
        if self.gone:
            raise RecordError(f"{self.path} was removed or replaced", path=self.path)
        if self._cut_short():
            raise _BrokenError(f"{self.path} or its log was cut short")
        if self._log_too_long():
            raise RecordError(
                f"somebody reads {self.path} without end, so its log cannot be cut back",
                path=self.path,
            )

    def _measured(self) -> dict[str, int]:
        sizes = {"": 0, _WAL: 0}
        for end in sizes:
            with contextlib.suppress(OSError):
                sizes[end] = self.path.with_name(self.path.name + end).stat().st_size
        return sizes

    def _cut_short(self) -> bool:
        """Whether somebody took something away since; SQLite itself does not see that for long."""
        before, self._sizes = self._sizes, self._measured()
        # the file itself never shrinks; its log does, to nothing when somebody has it written into
        # the file (a backup may), and otherwise to no less than this
        log = self._sizes[_WAL]
        return self._sizes[""] < before[""] or 0 < log < min(before[_WAL], _LOG)

    @property
    def gone(self) -> bool:
        """Whether the file was removed or replaced under us."""
        try:
            return self.path.stat().st_ino != self._inode
        except FileNotFoundError:
            return True
        except OSError:
            return False

    # -- bounds ----------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """Bytes on the disk, the write-ahead log included."""
        return sum(self._measured().values())

    def used(self) -> float:
        """Return the share of the bound that is in use."""
        (pages,) = self.database.execute("PRAGMA page_count").fetchone()
        (free,) = self.database.execute("PRAGMA freelist_count").fetchone()
        used: float = (pages - free) * PAGE / self._max_bytes
        return used

    def prune(self, now: float, *, least: bool = False) -> bool:
        """Forget the oldest, until the file is within its bounds; returns whether there was any.

        Args:
            now: wall clock, seconds.
            least: forget something in any case, since the file was found full.
        """
        found = self._max_age is not None and self._forget(now - self._max_age)
        if not least and self.used() < _FULL:
            return found
        for _ in range(4 * _SLICES):
            cut = self._oldest_slice()
            if cut is None:
                break
            found = self._forget(cut.at, cut) or found
            if self.used() < _EMPTIED:
                break
        return found

    def _oldest_slice(self) -> _Cut | None:
        found: list[_Cut] = []
        many: list[_Cut] = []  # of two pictures, the newest alone would be the rest
        for table in TIMED:
            first, last = self.database.execute(
                f"SELECT min(id), max(id) FROM {table}"  # noqa: S608 - our own names
            ).fetchone()
            if first is None or first == last:
                continue
            row = self.database.execute(
                f"SELECT life, clock, at FROM {table} WHERE id > ? ORDER BY id LIMIT 1",  # noqa: S608 - our own names
                (first + (last - first) // _SLICES,),
            ).fetchone()
            (many if last - first >= _SLICES else found).append(_Cut(*row))
        return max(many or found, default=None)

    def _forget(self, before: float, cut: _Cut | None = None) -> bool:
        """Forget what is older than a wall-clock time, or what was written before a cut."""
        with self.transaction() as database:
            changes = database.total_changes
            (since,) = database.execute(
                "SELECT coalesce((SELECT since FROM gaps WHERE life=0),"
                " (SELECT min(began_at) FROM lives))"
            ).fetchone()
            for table in TIMED:
                if cut is None:
                    database.execute(f"DELETE FROM {table} WHERE at < ?", (before,))  # noqa: S608 - our own names
                    continue
                # rows stand in the order in which they were written: this looks at the oldest only
                database.execute(
                    f"DELETE FROM {table} WHERE id < coalesce((SELECT id FROM {table} WHERE"  # noqa: S608 - our own names
                    " (life, clock) >= (?, ?) ORDER BY id LIMIT 1), 9e18)",
                    (cut.life, cut.clock),
                )
            if database.total_changes > changes:  # who reads is told that there was more
                database.execute("DELETE FROM gaps WHERE life=0")
                database.execute(
                    "INSERT INTO gaps(life, since, until, lost) VALUES (0,?,?,'{}')",
                    (before if since is None else min(since, before), before),
                )
            for table in ("gaps", "warnings"):
                database.execute(
                    f"DELETE FROM {table} WHERE until < ? AND life > 0",  # noqa: S608 - our own names
                    (before,),
                )
            database.execute(
                "DELETE FROM interrupted WHERE fate <> 'pending' AND since < ?", (before,)
            )
            database.execute(
                "DELETE FROM lives WHERE ended <> '' AND last_at < ? AND life NOT IN "
                "(SELECT life FROM interrupted UNION SELECT life FROM frames UNION SELECT life "
                "FROM events UNION SELECT life FROM ends)",
                (before,),
            )
            return database.total_changes > changes

    def _log_too_long(self) -> bool:
        """Whether the write-ahead log cannot be cut back since somebody reads without end."""
        log = self.path.with_name(f"{self.path.name}-wal")
        try:
            if log.stat().st_size <= _LONGEST_LOG:
                return False
            self.database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            self._sizes[_WAL] = 0
            return log.stat().st_size > _LONGEST_LOG
        except (OSError, sqlite3.Error):
            return False

    def close(self) -> None:
        """Let go of the file; no harm when it was closed before."""
        database: sqlite3.Connection | None = getattr(self, "database", None)
        if database is not None:
            with contextlib.suppress(sqlite3.Error):
                database.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def forget_parent(self) -> None:
        """In a forked child: file and lock are the parent's, nothing of them may be touched."""
        _INHERITED.append(self)
        if self._lock >= 0:
            os.close(self._lock)  # of a copy; the parent holds the lock on
            self._lock = -1


_INHERITED: list[Store] = []  # closing a connection that came over a fork would harm the parent's


class _BrokenError(sqlite3.DatabaseError):
    """SQLite found the file unsound."""

    sqlite_errorcode = sqlite3.SQLITE_CORRUPT


def broken(error: BaseException) -> bool:
    """Return whether an error says that the file itself is unsound."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def full(error: BaseException) -> bool:
    """Return whether an error says that there is no room."""
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL


def lock_of(path: Path) -> Path:
    """Return the file that whoever writes ``path`` keeps locked."""
    return path.with_name(f"{path.name}-lock")


def _locked(path: Path) -> int:
    """Lock the record for its one writer; the lock ends with the process, however that ends."""
    lock = lock_of(path)
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise RecordError(f"{path} cannot be written: {error}", path=path) from error
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError as error:
            if isinstance(error, BlockingIOError) and time.monotonic() < deadline:
                time.sleep(0.05)
                continue
            said = os.pread(descriptor, 100, 0).decode("utf-8", "replace").strip()
            os.close(descriptor)
            who = f"process {said}" if said else "another recorder"
            raise RecordError(
                f"{path} is being written by {who}; give each supervisor a record of its own",
                path=path,
            ) from error
    with contextlib.suppress(OSError):  # a full disk; the lock itself holds
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def writing(path: Path) -> bool:
    """Return whether somebody writes the record just now."""
    try:
        descriptor = os.open(lock_of(path), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def execute_all(database: sqlite3.Connection, statement: str, rows: list[tuple[Any, ...]]) -> None:
    """Run a statement for each row; nothing when there are none."""
    if rows:
        database.executemany(statement, rows)
