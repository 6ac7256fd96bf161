"""The socket: private at every instant, found by itself, and nothing left that misleads."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fleetmon import FleetmonError
from fleetmon.control import registry, server
from fleetmon.control.client import Client, find
from fleetmon.control.protocol import AmbiguousFleetError, NoFleetError

pytestmark = pytest.mark.anyio


class Onlooker(threading.Thread):
    """Looks at every mode in a directory as often as it can."""

    def __init__(self, directory):
        super().__init__(daemon=True)
        self.directory = directory
        self.modes = set()
        self.stop = threading.Event()
        self.looked = threading.Event()
        self.start()

    def run(self):
        while not self.stop.is_set():
            for path in (self.directory, *self.directory.iterdir()):
                with contextlib.suppress(FileNotFoundError):
                    mode = path.lstat().st_mode
                    self.modes.add((stat.S_IFMT(mode), stat.S_IMODE(mode)))
            self.looked.set()


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
async def test_socket_file_and_directory_are_private_at_every_instant(reachable, place, umask):
    place.mkdir(0o700)
    onlooker = Onlooker(place)
    before = os.umask(umask)
    try:
        for _ in range(20):
            onlooker.looked.clear()
            async with reachable():
                assert await asyncio.to_thread(onlooker.looked.wait, 5)
    finally:
        os.umask(before)
        onlooker.stop.set()
        onlooker.join()
    assert {mode for kind, mode in onlooker.modes if kind == stat.S_IFDIR} == {0o700}
    # a strange umask may take more away for a moment, never give
    assert {mode & ~0o600 for kind, mode in onlooker.modes if kind != stat.S_IFDIR} == {0}
    assert (stat.S_IFSOCK, 0o600) in onlooker.modes
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("umask", [0o000, 0o777])
async def test_directories_above_it_that_are_made_are_private_too(reachable, place, umask):
    above = place.parent / "a" / "b"
    before = os.umask(umask)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_RUNTIME_DIR", str(above))
            async with reachable():
                assert find().socket.startswith(str(above))
    finally:
        os.umask(before)
    made = (above / "fleetmon", above, above.parent)
    assert {stat.S_IMODE(path.lstat().st_mode) for path in made} == {0o700}


async def test_a_link_or_a_file_in_its_place_is_not_followed(reachable, place, monkeypatch):
    target = place.parent / "elsewhere"
    target.mkdir(mode=0o700)
    Path(os.environ["TMPDIR"]).mkdir()
    place.symlink_to(target)
    async with reachable():  # goes on to the next place
        assert find().socket.startswith(os.environ["TMPDIR"])
        assert list(target.iterdir()) == []
    place.unlink()
    place.write_text("")
    monkeypatch.setenv("TMPDIR", str(place))
    with pytest.raises(FleetmonError, match=r"is not a directory.*: Not a directory; set XDG_RUN"):
        await reachable().__aenter__()


async def test_a_relative_temporary_directory_is_found_from_anywhere(reachable, place, monkeypatch):
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.chdir(place.parent)
    monkeypatch.setenv("TMPDIR", "tmp")
    async with reachable():
        monkeypatch.chdir("/")
        monkeypatch.setenv("TMPDIR", str(place.parent / "tmp"))
        assert find().name == "hall"


async def test_a_directory_that_others_can_write_is_not_believed_by_either_side(reachable, place):
    place.mkdir(0o700)
    async with reachable() as fleet:
        assert find().epoch == fleet.snapshot().epoch
        place.chmod(0o755)
        with pytest.raises(NoFleetError, match="no fleet runs"):
            find()
        other = Path(registry.directories()[1])
        other.parent.mkdir()
        async with reachable("second"):  # goes on to the next place
            assert find().socket.startswith(str(other))
        other.chmod(0o770)
        with pytest.raises(FleetmonError, match=r"chmod 700 it.*set XDG_RUNTIME_DIR"):
            await reachable("third").__aenter__()
        place.chmod(0o700)


async def test_paths_stay_below_104_bytes(place, reachable, monkeypatch):
    async with reachable("a/../b " + "x" * 50):
        assert len(find().socket.encode()) < 104
        assert find().socket.startswith(f"{place}/a____b_")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(place.parent / ("d" * 90)))
    Path(os.environ["TMPDIR"]).mkdir()
    async with reachable():
        assert find().socket.startswith(os.environ["TMPDIR"])


async def test_another_users_process_is_turned_away(reachable, monkeypatch):
    async with reachable():
        path = find().socket
        await asyncio.to_thread(Client(path).snapshot)
        monkeypatch.setattr(server, "_CREDENTIALS", Stranger)
        with pytest.raises(NoFleetError):
            await asyncio.to_thread(Client(path).snapshot)
        monkeypatch.undo()


class Stranger:
    size = server._CREDENTIALS.size

    @staticmethod
    def unpack(told):
        pid, uid, gid = server.struct.unpack("3i", told)
        assert (pid, uid, gid) == (os.getpid(), os.getuid(), os.getgid())
        return pid, uid + 12_345, gid


async def test_two_fleets_of_one_name_are_told_apart(reachable, fleetmon):
    async with reachable() as first, reachable() as second:
        with pytest.raises(AmbiguousFleetError, match="2 fleets run here: hall"):
            find()
        code, out, err = await fleetmon("status")
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert err.endswith(f"; choose one: fleetmon --fleet {os.getpid()}\n")
        told = set()
        for entry in registry.entries():
            told.add((await asyncio.to_thread(Client(entry.socket).snapshot))["epoch"])
        assert told == {first.snapshot().epoch, second.snapshot().epoch}
    async with reachable("left"), reachable("right") as right:
        assert find("right").epoch == right.snapshot().epoch
        with pytest.raises(NoFleetError, match=r"no fleet 'middle' runs here; there is 'left', 'r"):
            find("middle")


DIES = """
import asyncio, os, signal
from fleetmon import Supervisor, SupervisorSettings
from fleetmon.settings import Control
async def main():
    async with Supervisor(SupervisorSettings(name="gone", control=Control(enabled=True))):
        os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


async def test_what_a_dead_fleet_left_is_told_and_then_removed(reachable, place, fleetmon):
    died = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", DIES], check=False)
    assert died.returncode == -signal.SIGKILL
    assert sorted(path.suffix for path in place.iterdir()) == [".json", ".sock"]
    code, out, err = await fleetmon("status")
    assert (code, out) == (3, "")
    assert "fleet 'gone' (process " in err
    assert "died, its files stayed" in err
    async with reachable():
        assert {entry.name for entry in registry.entries()} == {"hall"}
        assert len(list(place.iterdir())) == 2
    assert list(place.iterdir()) == []


async def test_rubbish_in_the_registry_is_passed_over(place, reachable):
    place.mkdir(0o700)
    for name, text in (
        ("a.json", "{"),
        ("b.json", "[]"),
        ("c.json", '{"name": 1}'),
        ("d.json", json.dumps(["d", 1, "e", "v", 1, "/elsewhere.sock", 0])),
        ("e.json", json.dumps(dict(zip(registry.Entry._fields, ("e", 1, "e", "v", 1, "/x.sock", 0),
                                       strict=True)))),
    ):  # fmt: skip
        (place / name).write_text(text)
    async with reachable():
        assert [entry.name for entry in registry.entries()] == ["hall"]


async def test_a_forked_child_neither_answers_nor_takes_the_files_away(reachable, place):
    async with reachable() as fleet:
        pid = os.fork()
        if pid == 0:  # pragma: no cover - counted in the parent
            fleet._control.close()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert len(list(place.iterdir())) == 2
        assert (await asyncio.to_thread(Client(find().socket).snapshot))["phase"] == "running"


async def exchange(path, sent):
    def talk():
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(5)
            sock.connect(path)
            sock.sendall(sent)
            told = b""
            while piece := sock.recv(65536):
                told += piece
            return told

    return await asyncio.to_thread(talk)


def http(method, target, *headers, body=b"", host="localhost"):
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", "Connection: close", *headers]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


JSON = "Content-Type: application/json"


@pytest.mark.parametrize(
    ("sent", "status", "word"),
    [
        (http("GET", "/v1/snapshot", host="evil.example"), 403, "foreign_host"),
        (http("GET", "/v1/snapshot", "Origin: http://localhost"), 403, "foreign_origin"),
        (http("GET", "/v1/snapshot", "Fleetmon-Protocol: 3"), 426, "upgrade this fleetmon or"),
        (http("GET", "/v1/snapshot", "Fleetmon-Protocol: 2"), 200, '"protocol":1'),
        (http("GET", "/v1/snapshot", "Fleetmon-Protocol: x"), 400, "bad_request"),
        (http("GET", "/v2"), 404, "no_such_page"),
        (http("DELETE", "/v1/snapshot"), 405, "no_such_page"),
        (http("GET", "/v1/events?since=-1"), 400, "since='-1'"),
        (http("GET", "/v1/events?since=" + "9" * 30), 400, "no sequence number"),
        (http("GET", "/v1/events?follow=maybe"), 400, "follow='maybe'"),
        (http("GET", "/v1/agents/nobody%0a"), 404, "unknown_agent"),
        (http("POST", "/v1/command", body=b"{}"), 415, "not_json"),
        (http("POST", "/v1/command", JSON, body=b"{}"), 400, "bad_request"),
        (http("POST", "/v1/command", JSON, body=b"[" * 60_000), 400, "bad_request"),
        (http("POST", "/v1/command", JSON, body=b"\xff\x00"), 400, "bad_request"),
        (http("POST", "/v1/command", JSON, body=b" " * 70_000), 413, "too_large"),
        (b"rubbish\r\n\r\n", 400, ""),
    ],
)
async def test_a_request_that_makes_no_sense_is_refused_with_a_reason(
    reachable, sent, status, word
):
    async with reachable():
        told = (await exchange(find().socket, sent)).decode()
    assert told.startswith(f"HTTP/1.1 {status} ")
    assert word in told
    if status >= 400 and word:
        problem = json.loads(told.partition("\r\n\r\n")[2])
        assert set(problem) == {"schema", "protocol", "code", "message", "suggestions"}
