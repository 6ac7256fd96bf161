"""What ``fleetmon doctor`` looks at, from the ground up: places, sockets, the fleet itself."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import stat
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fleetmon._version import __version__
from fleetmon.cli import _fleet as fleet
from fleetmon.cli._words import duration, several
from fleetmon.control import registry
from fleetmon.control.client import CLOSED
from fleetmon.control.protocol import PROTOCOL, ControlError, RequestError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from fleetmon.control.client import Client
    from fleetmon.control.protocol import ConfigShape, SnapshotShape

_SLOW = 0.5  # seconds of the server's own for a picture
_APART = 5.0  # seconds between two clocks
_PATIENCE = 3.0  # seconds for an answer
_UNAUTHORIZED = 401
_SOCKET = re.compile(r"^/.*\.\d+\.[0-9a-f]{1,6}\.sock$")  # as registry.place() names them
_EVERYBODY = ["0", "0", "4294967295"]  # /proc/self/uid_map outside all containers
_LOCAL = ("127.", "localhost", "[::1]", "::1")


class Finding(NamedTuple):
    """One thing that was looked at: ``ok``, worth a ``note``, or ``bad``; and what to do."""

    level: str
    text: str
    fix: str = ""


def look(arguments: argparse.Namespace) -> Iterator[Finding]:
    """Yield findings as they are made."""
    python = ".".join(map(str, sys.version_info[:3]))
    yield Finding(
        "ok",
        f"fleetmon {__version__}, control protocol {PROTOCOL}, Python {python}, "
        f"user {_user(os.geteuid())}",
    )
    if arguments.url is None:
        yield from _places(arguments.directory)
        yield from _elsewhere(arguments.directory)
    else:
        yield from _network(arguments)
    try:
        client = fleet.connect(arguments, patience=_PATIENCE)
        yield from _fleet(client)
    except ControlError as error:
        yield _unreached(error)


def _user(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"number {uid}"


def _as_user(uid: int) -> str:
    """Return what one types before a command to run it as another user."""
    return f"sudo -u '#{uid}'" if _user(uid) == f"number {uid}" else f"sudo -u {_user(uid)}"


def _foreign(uid: int) -> bool:
    """Return whether a user is one from outside this container, all of whom look alike here."""
    try:
        overflow = int(Path("/proc/sys/kernel/overflowuid").read_text(encoding="ascii"))
        mapped = Path("/proc/self/uid_map").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return False
    return uid == overflow and mapped != _EVERYBODY


# -- this machine ------------------------------------------------------------------------------


def _places(own: str | None) -> Iterator[Finding]:
    if own or os.environ.get(registry.DIRECTORY):
        (only,) = registry.directories(own)
        who = "--directory" if own else f"${registry.DIRECTORY}"
        yield Finding("ok", f"{who} says to look into {only} and nowhere else")
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and not Path(runtime).is_absolute():
        yield Finding(
            "bad",
            f"XDG_RUNTIME_DIR={runtime} is not absolute and is passed over",
            "mend or unset it",
        )
    for directory in registry.directories(own):
        try:
            reason = registry.untrusted(directory)
        except FileNotFoundError:
            yield Finding("ok", f"{directory} is not there: no fleet was started with it")
            continue
        except OSError as error:
            yield Finding("bad", f"{directory}: {error.strerror}", "ask who owns it")
            continue
        if reason:
            text, _, fix = reason.partition("; ")
            yield Finding("bad", text, fix or f"fleets in it are {_owned(directory)}")
            continue
        yield Finding("ok", f"{directory} is private")
        yield from _files(Path(directory), own)


def _owned(directory: str) -> str:
    uid = Path(directory).lstat().st_uid
    if _foreign(uid):
        return "of a user outside this container; run this there"
    return f"another user's; run this as {_user(uid)}: {_as_user(uid)} fleetmon status"


def _files(directory: Path, own: str | None) -> Iterator[Finding]:
    known = {entry.socket: entry for entry in registry.entries(own)}
    for path in sorted(directory.iterdir()):
        if path.suffix == ".json":
            entry = known.get(str(path.with_suffix(".sock")))
            if entry is None:
                yield Finding("bad", f"{path} is no entry of a fleet", f"rm {path}")
                continue
            who = f"fleet {entry.name!r} (process {entry.pid}, fleetmon {entry.version})"
            try:
                alive = registry.alive(entry)
            except OSError as error:
                yield Finding("bad", f"{who}: {error.strerror}", "run this as its user")
                continue
            if alive:
                yield Finding("ok", f"{who} listens on {entry.socket}")
            else:
                yield Finding(
                    "note",
                    f"{who} died {_ago(entry.started_at)}and left its files",
                    f"the next fleet removes them, or rm {path.with_suffix('')}.*",
                )
        elif path.suffix == ".sock" and str(path) not in known:
            yield Finding("note", f"{path} is a socket without an entry", f"rm {path}")


def _ago(started_at: float) -> str:
    since = time.time() - started_at
    return f"(started {duration(since)} ago) " if since > 0 else ""


def _elsewhere(own: str | None) -> Iterator[Finding]:
    """Look where a fleet of another environment, or of another user, would be."""
    uid = os.geteuid()
    looked = {os.path.realpath(directory) for directory in registry.directories(own)}
    ours = [f"/run/user/{uid}/fleetmon", f"/tmp/fleetmon-{uid}", f"/var/tmp/fleetmon-{uid}"]  # noqa: S108 - looked at only
    for directory in ours:
        if os.path.realpath(directory) not in looked and _holds(directory):
            setting = (
                f"XDG_RUNTIME_DIR={Path(directory).parent}"
                if directory.startswith("/run")
                else f"TMPDIR={Path(directory).parent}"
            )
            yield Finding(
                "bad",
                f"fleets are registered in {directory}, where this terminal does not look",
                f"set {setting}",
            )
    for directory in _listened() - looked - set(ours):
        yield Finding(
            "note",
            f"a fleet listens in {directory}, where this terminal does not look",
            f"--directory {directory}, or set {registry.DIRECTORY}",
        )
    for pattern, root in (("fleetmon-[0-9]*", "/tmp"), ("*/fleetmon", "/run/user")):  # noqa: S108 - looked at only
        try:
            found = sorted(Path(root).glob(pattern))
        except OSError:
            continue
        for path in found:
            try:
                owner = path.lstat().st_uid
            except OSError:
                continue
            if owner != uid and str(path) not in looked:
                yield Finding(
                    "note",
                    f"{path} belongs to {_user(owner)}; fleets in it answer that user alone",
                    "run this outside this container"
                    if _foreign(owner)
                    else f"{_as_user(owner)} fleetmon status",
                )


def _listened() -> set[str]:
    """Return directories of this user in which somebody listens on a socket of a fleet's name."""
    try:
        text = Path("/proc/net/unix").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return set()
    found = set()
    for line in text.splitlines():
        path = line.rpartition(" ")[2]
        if _SOCKET.search(path):
            # another user's, or not there: of another mount namespace
            with contextlib.suppress(OSError):
                directory = os.path.realpath(Path(path).parent)
                if not registry.untrusted(directory) and Path(registry.beside(path)).exists():
                    found.add(directory)
    return found


def _holds(directory: str) -> bool:
    try:
        return any(name.endswith(".json") for name in os.listdir(directory))  # noqa: PTH208 - names are enough
    except OSError:
        return False


# -- elsewhere ---------------------------------------------------------------------------------


def _network(arguments: argparse.Namespace) -> Iterator[Finding]:
    from fleetmon.control import address

    try:
        where = address.parse(arguments.url)
    except ControlError as error:
        yield Finding("bad", str(error))
        return
    if where.path:
        yield from _socket(Path(where.path))
        return
    yield from _token(arguments)
    try:
        found = socket.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        yield Finding("bad", f"{where.host} has no address: {reason}", "check the name")
        return
    there = ", ".join(sorted({str(item[4][0]) for item in found}))
    yield Finding("ok", f"{where.host} is {there}")
    if not where.tls and not where.host.startswith(_LOCAL):
        yield Finding(
            "note", f"{where} is not encrypted: everybody on the way reads the token", "use https"
        )


def _socket(path: Path) -> Iterator[Finding]:
    try:
        found = path.stat()
    except FileNotFoundError:
        yield Finding("bad", f"{path} is not there", "`fleetmon doctor` without --url looks around")
    except OSError as error:
        yield Finding("bad", f"{path}: {error.strerror}", "run this as its user")
    else:
        if not stat.S_ISSOCK(found.st_mode):
            yield Finding("bad", f"{path} is no socket", "give the one that ends with .sock")
        elif found.st_uid != os.geteuid() and os.geteuid():
            yield Finding(
                "bad", f"{path} belongs to {_user(found.st_uid)}", "run this as that user"
            )


def _token(arguments: argparse.Namespace) -> Iterator[Finding]:
    try:
        token = fleet.token(arguments)
    except ControlError as error:
        yield Finding("bad", str(error))
        return
    source = arguments.token_file or f"${fleet.TOKEN}"
    if not token:
        yield Finding("bad", f"no token in {source}", f"set ${fleet.TOKEN} or give --token-file")
        return
    yield Finding("ok", f"a token is in {source}")
    if arguments.token_file and Path(arguments.token_file).stat().st_mode & 0o077:
        yield Finding("note", f"{source} is open to other users", f"chmod 600 {source}")


def _unreached(error: ControlError) -> Finding:
    said = str(error)
    if isinstance(error, RequestError) and error.status == _UNAUTHORIZED:
        return Finding("bad", "the fleet does not know this token", "ask for the present one")
    if "CERTIFICATE_VERIFY_FAILED" in said or "certificate verify failed" in said:
        return Finding("bad", said, "give its authority with --ca-file")
    if "WRONG_VERSION_NUMBER" in said or "wrong version number" in said:
        return Finding("bad", f"{said}: it does not speak TLS", "use http:// instead of https://")
    if CLOSED in said:
        fix = "if it is another user's, or a container's, run this as that user and inside"
        return Finding("bad", said, fix)
    if "Connection refused" in said:
        return Finding("bad", said, "is it running, and with Control(listen=...)?")
    text, _, fix = said.partition("; ")
    return Finding("bad", text, fix)


# -- the fleet ---------------------------------------------------------------------------------


def _fleet(client: Client) -> Iterator[Finding]:
    hello = client.hello()
    name = hello["name"]
    text = (
        f"fleet {name!r} answers: fleetmon {hello['version']}, control protocol "
        f"{hello['protocol']}, process {hello['pid']}"
    )
    if hello["version"] == __version__ and hello["protocol"] == PROTOCOL:
        yield Finding("ok", text)
    else:
        yield Finding("note", f"{text}; this is fleetmon {__version__}, and they do work together")
    apart = hello["at"] - time.time()
    if abs(apart) > _APART:
        yield Finding("note", f"its clock is {apart:+.0f} s from this one's", "times will look odd")
    snapshot = client.snapshot(brief=True)
    yield from _now(snapshot)
    yield from settings(client.config(), snapshot)


def _now(snapshot: SnapshotShape) -> Iterator[Finding]:
    blocked = snapshot["blocked"]
    if blocked is not None:
        who = blocked["agent_id"] or "something that is no agent's task"
        yield Finding(
            "bad",
            f"its event loop is blocked by {who} for {duration(blocked['seconds'])} at "
            f"{blocked['file']}:{blocked['line']}: commands wait",
            "let that code await, or run in a thread or process (AgentSpec.executor)",
        )
    if snapshot["took"] > _SLOW:
        yield Finding("note", f"it needed {duration(snapshot['took'])} for one picture of itself")
    count = len(snapshot["warnings"])
    if count:
        many = several(count, "warning")
        yield Finding("note", f"it has {many}", "fleetmon status")
    if not (snapshot.get("left_out") or any(a["mode"] != "declared" for a in snapshot["agents"])):
        yield Finding("note", "it has no agents yet", "Supervisor.add or Supervisor.attach")


def settings(config: ConfigShape, snapshot: SnapshotShape) -> Iterator[Finding]:
    """Yield what is odd about how a fleet is set up."""
    found = config["settings"]
    if not _of(found, "watchdog", "enabled", usual=True):
        yield Finding(
            "bad",
            "its watchdog is off: nobody notices blocked loops and hangs",
            "Watchdog(enabled=True)",
        )
    if _of(found, "metrics", "listen") is None:
        yield Finding("note", "it serves no /metrics of its own", "Metrics(listen='HOST:PORT')")
    listen = _of(found, "control", "listen")
    if listen and not str(listen).startswith(_LOCAL) and not _of(found, "control", "tls_cert"):
        yield Finding(
            "bad",
            f"commands are accepted on {listen} without TLS: the token can be read on the way",
            "Control(tls_cert=..., tls_key=...), or listen on 127.0.0.1",
        )
    if not _of(found, "shared_cause", "enabled", usual=True):
        yield Finding("note", "a failure with one cause restarts everybody: SharedCause is off")
    if _of(found, "defaults", "hang", "hard") is None:
        yield Finding("note", "tasks may hang for ever by default: HangLimits(hard=None)")
    kept = _of(found, "dead_letters")
    if kept and snapshot["dead_letters"] >= kept:
        yield Finding(
            "note", f"the {kept} dead letters that are kept are full", "fleetmon dead-letters retry"
        )


def _of(found: Any, *path: str, usual: Any = None) -> Any:
    for name in path:
        if not isinstance(found, dict) or name not in found:
            return usual
        found = found[name]
    return found
