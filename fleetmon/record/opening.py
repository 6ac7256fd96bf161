"""Opens a record for reading, wherever it lies."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from pathlib import Path
from urllib.parse import quote

from fleetmon.errors import RecordError
from fleetmon.record.schema import APPLICATION, VERSION

_READONLY = 8  # primary result codes of SQLite
_CANTOPEN = 14


def opened(
    path: Path,
) -> tuple[sqlite3.Connection, tempfile.TemporaryDirectory[str] | None]:
    """Return a connection that only reads, and the copy that it reads from if there had to be one.

    A record in WAL mode cannot be read without a file beside it; where none can be made (a
    read-only directory) a copy is read.

    Raises:
        RecordError: there is no such file, it is no record, or it cannot be read.
    """
    if not path.is_file():
        msg = f"{path} is not there; name the record that a supervisor writes"
        raise RecordError(msg, path=path)
    copy: tempfile.TemporaryDirectory[str] | None = None
    try:
        try:
            return _connected(path), None
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in (_READONLY, _CANTOPEN):
                raise
            copy = tempfile.TemporaryDirectory(prefix="fleetmon-record-")
            place = Path(copy.name) / path.name
            for end in ("", "-wal"):
                source = path.with_name(path.name + end)
                if source.exists():
                    shutil.copyfile(source, place.with_name(place.name + end))
            return _connected(place), copy
    except (sqlite3.Error, OSError) as error:
        if copy is not None:
            copy.cleanup()
        msg = f"{path} cannot be read: {error}"
        raise RecordError(msg, path=path) from error


def _refuse(path: Path, application: int, version: int) -> None:
    msg = f"{path} is no record of a fleet"
    if application == APPLICATION:
        msg = f"{path} has format {version}, and this fleetmon reads {VERSION}"
    raise RecordError(msg, path=path)


def _connected(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?mode=ro",
        uri=True,
        timeout=5.0,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        (application,) = database.execute("PRAGMA application_id").fetchone()
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if application != APPLICATION or version != VERSION:
            _refuse(path, application, version)
        database.execute("SELECT 1 FROM lives LIMIT 1").fetchone()
    except BaseException:
        database.close()
        raise
    return database
