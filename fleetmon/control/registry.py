"""Where running fleets are found: one private directory, a socket and a JSON file for each fleet.

Both sides use it: the server to publish, the client to look. Nothing in the directory is believed
unless the directory is the user's own and closed to others.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import socket
import stat
from typing import Any, NamedTuple

from fleetmon.control.protocol import ControlError

LONGEST = 104
"""Bytes of a socket's path, the terminating zero included, on the strictest system (macOS)."""

DIRECTORY = "FLEETMON_CONTROL_DIRECTORY"
"""Environment variable with the one directory to use, for fleets and for who looks for them."""

_NAME = 24  # characters of the fleet's name within a file's name
_PATIENCE = 2.0  # seconds for a connection on this machine


class Entry(NamedTuple):
    """One fleet as its registry file tells of it."""

    name: str
    pid: int
    epoch: str
    version: str
    protocol: int
    socket: str
    started_at: float  # wall clock, seconds


def directories(directory: str | None = None) -> tuple[str, ...]:
    """Return where to look, the preferred one first; none need exist.

    Args:
        directory: the only one; otherwise what the environment says there (:data:`DIRECTORY`),
            and without that the usual ones.
    """
    directory = directory or os.environ.get(DIRECTORY)
    if directory:
        return (os.path.abspath(directory),)
    temporary = os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 - a private directory below it
    own = os.path.join(temporary, f"fleetmon-{os.geteuid()}")
    found = [os.path.abspath(own)]
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and os.path.isabs(runtime):
        found.insert(0, os.path.join(runtime, "fleetmon"))
    return tuple(found)


def place(name: str, pid: int, epoch: str, directory: str | None = None) -> str:
    """Return a path for a new socket, below 104 bytes, its directory made and checked.

    Args:
        name: of the fleet.
        pid: of its process.
        epoch: its life.
        directory: where it has to be; one of :func:`directories` by default.

    Raises:
        ControlError: no directory is private enough, or all are too deep.
    """
    stem = f"{re.sub(r'[^A-Za-z0-9_-]', '_', name)[:_NAME]}.{pid}.{epoch[:6]}.sock"
    trouble = []
    for where in directories(directory):
        path = os.path.join(where, stem)
        if len(os.fsencode(path)) >= LONGEST:
            trouble.append(f"{where} is too deep for a socket ({LONGEST - 1} bytes at most)")
            continue
        try:
            _make(where)
            reason = untrusted(where)
        except OSError as error:
            reason = f"{where}: {error.strerror}"
        if not reason:
            return path
        trouble.append(reason)
    fix = "choose another control.directory"
    if directory is None:
        fix = f"set {DIRECTORY if os.environ.get(DIRECTORY) else 'XDG_RUNTIME_DIR'} to another one"
    message = f"no place for the control socket: {'; '.join(trouble)}; {fix}"
    raise ControlError(message)


def _make(directory: str) -> None:
    # parents as well: in one that others may write to, they could put another in its place
    if os.path.lexists(directory):
        return
    parent = os.path.dirname(directory)
    if parent != directory:
        _make(parent)
    with contextlib.suppress(FileExistsError):
        os.mkdir(directory, mode=0o700)
        os.chmod(directory, 0o700)  # a strange umask may have taken more


def untrusted(directory: str) -> str:
    """Return why a directory must not be believed, or nothing; raises :class:`OSError`."""
    found = os.lstat(directory)
    if not stat.S_ISDIR(found.st_mode):
        return f"{directory} is not a directory"
    if found.st_uid != os.geteuid():
        return f"{directory} belongs to another user"
    if stat.S_IMODE(found.st_mode) & 0o077:
        return f"{directory} is open to other users; chmod 700 it"
    return ""


def publish(entry: Entry) -> None:
    """Write a fleet's file beside its socket, private from birth and never seen half-written."""
    path = beside(entry.socket)
    number = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(number, "w", encoding="utf-8") as file:
        os.fchmod(number, 0o600)  # a strange umask may have taken more
        json.dump(entry._asdict(), file)
    os.replace(f"{path}.new", path)


def beside(path: str) -> str:
    """Return the registry file of a socket."""
    return path.removesuffix(".sock") + ".json"


def withdraw(path: str) -> None:
    """Remove a socket and its file; no harm if they are gone."""
    for name in (path, beside(path), beside(path) + ".new"):
        with contextlib.suppress(OSError):
            os.unlink(name)


def entries(directory: str | None = None) -> tuple[Entry, ...]:
    """Return all fleets that left a readable file, dead ones included, oldest first.

    Args:
        directory: as for :func:`directories`.
    """
    found = []
    for where in directories(directory):
        try:
            if untrusted(where):
                continue
            names = os.listdir(where)
        except OSError:
            continue
        for name in names:
            if name.endswith(".json"):
                entry = _read(os.path.join(where, name))
                if entry is not None:
                    found.append(entry)
    return tuple(sorted(found, key=lambda e: (e.started_at, e.epoch)))


def unbelieved(directory: str | None = None) -> list[str]:
    """Return why directories that are there were not looked into; as :func:`entries`."""
    trouble = []
    for where in directories(directory):
        try:
            reason = untrusted(where)
        except FileNotFoundError:
            continue
        except OSError as error:
            reason = f"{where}: {error.strerror}"
        if reason:
            trouble.append(reason)
    return trouble


def _read(path: str) -> Entry | None:
    try:
        with open(path, encoding="utf-8") as file:
            told: Any = json.load(file)
        entry = Entry(**{name: told[name] for name in Entry._fields})
    except (OSError, ValueError, KeyError, TypeError):
        return None
    words = (entry.name, entry.epoch, entry.version, entry.socket)
    right = (
        all(isinstance(word, str) for word in words)
        and isinstance(entry.pid, int)
        and isinstance(entry.protocol, int)
        and isinstance(entry.started_at, int | float)
    )
    # a file speaks for the socket beside it and no other
    return entry if right and beside(entry.socket) == path else None


def alive(entry: Entry) -> bool:
    """Return whether somebody listens on the fleet's socket.

    Raises:
        PermissionError: the socket belongs to somebody else.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(_PATIENCE)
        try:
            sock.connect(entry.socket)
        except TimeoutError:
            return True  # its backlog is full: very busy, not dead
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM):
                raise
            return error.errno == errno.EAGAIN
    return True


def sweep(directory: str | None = None) -> None:
    """Remove what fleets left that died without cleaning up; as :func:`entries`."""
    for entry in entries(directory):
        with contextlib.suppress(OSError):
            if not alive(entry):
                withdraw(entry.socket)
