"""`fleetmon doctor`: each way in which a fleet is out of reach or set up oddly, and the fix."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from helpers_control import Echo
from test_socket import DIES

from fleetmon import SharedCause, Supervisor, SupervisorSettings
from fleetmon.cli import _findings
from fleetmon.control import registry
from fleetmon.settings import Control

pytestmark = pytest.mark.anyio

ELSEWHERE = _findings._elsewhere


async def levels(as_json, line="doctor --json"):
    code, told = await as_json(line)
    bad = [x for x in told["findings"] if x["level"] == "bad"]
    assert (code, told["ok"], told["schema"]) == (int(bool(bad)), not bad, 1)
    return {(x["level"], x["text"], x["fix"]) for x in told["findings"]}


def has(found, level, text, fix=""):
    return any(x[0] == level and text in x[1] and fix in x[2] for x in found)


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    # what other programs of this machine left is not this test's
    monkeypatch.setattr(_findings, "_elsewhere", lambda _: iter(()))


async def test_a_fleet_that_is_well_is_told_so_line_by_line(reachable, as_json, fleetmon):
    async with reachable() as fleet:
        await fleet.add("APEX", Echo)
        found = await levels(as_json)
        assert has(found, "ok", "is private")
        assert has(found, "ok", "fleet 'hall' (process")
        assert has(found, "ok", "fleet 'hall' answers: fleetmon")
        assert has(found, "note", "it serves no /metrics", "Metrics(listen=")
        code, out, err = await fleetmon("doctor")
        assert (code, err) == (0, "")
        assert {line[:6] for line in out.splitlines()} == {"ok    ", "note  "}
        _, out, _ = await fleetmon("doctor --jsonl")
        assert out.count('"schema": 1') == out.count("\n") > 3


async def test_nothing_there_a_dead_fleet_and_rubbish_are_told_apart(place, as_json):
    found = await levels(as_json)
    assert has(found, "ok", "is not there: no fleet was started with it")
    assert has(found, "bad", "no fleet runs for this user", "start one: fleetmon demo")
    died = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", DIES], check=False)
    assert died.returncode == -signal.SIGKILL
    (place / "junk.json").write_text("{")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(place / "lone.sock"))
    found = await levels(as_json)
    assert has(found, "note", "fleet 'gone' (process", "the next fleet removes them, or rm")
    assert has(found, "bad", "junk.json is no entry of a fleet", f"rm {place}/junk.json")
    assert has(found, "note", "lone.sock is a socket without an entry", "rm ")


async def test_a_place_that_is_open_or_another_users_is_not_believed_and_said_to_be(
    place, as_json, fleetmon, monkeypatch
):
    place.mkdir(0o755)
    place.chmod(0o755)
    found = await levels(as_json)
    assert has(found, "bad", "is open to other users", "chmod 700 it")
    code, _, err = await fleetmon("status")
    assert (code, err.count("\n")) == (3, 1)
    assert "is open to other users" in err
    place.chmod(0o700)
    monkeypatch.setattr(registry.os, "geteuid", lambda: os.getuid() + 12_345)
    monkeypatch.setattr(registry, "directories", lambda _=None: (str(place),))
    found = await levels(as_json)
    assert has(found, "bad", "belongs to another user", "run this as")
    code, _, err = await fleetmon("status")
    assert (code, "belongs to another user" in err, err.count("\n")) == (3, True, 1)


async def test_a_fleet_of_another_environment_is_found(reachable, as_json, monkeypatch):
    monkeypatch.undo()
    async with reachable():
        monkeypatch.setenv("XDG_RUNTIME_DIR", "relative")
        with tempfile.TemporaryDirectory(prefix="fm-") as other:
            monkeypatch.setenv("TMPDIR", other)
            monkeypatch.setattr(_findings, "_holds", lambda path: path.startswith("/run"))
            found = await levels(as_json)
    assert has(found, "bad", "XDG_RUNTIME_DIR=relative is not absolute", "mend or unset it")
    assert has(found, "bad", "fleets are registered in /run/user/", "set XDG_RUNTIME_DIR=/run/")


async def test_a_fleet_whose_host_chose_another_place_is_reached_there_and_doctor_finds_it(
    place, fleetmon, as_json, monkeypatch
):
    with tempfile.TemporaryDirectory(prefix="fm-") as other:
        control = Control(enabled=True, directory=f"{other}/own")
        async with Supervisor(SupervisorSettings(name="own", control=control)):
            code, _, err = await fleetmon("status")
            assert (code, "no fleet runs for this user" in err) == (3, True)
            monkeypatch.setattr(_findings, "_elsewhere", ELSEWHERE)
            found = await levels(as_json)
            assert has(found, "note", f"a fleet listens in {other}/own", f"--directory {other}/own")
            code, out, _ = await fleetmon(f"status --directory {other}/own")
            assert (code, out[:4]) == (0, "own:")
            code, out, _ = await fleetmon(f"--directory {other}/own completion fleets")
            assert (code, out) == (0, "own\n")
            found = await levels(as_json, f"doctor --json --directory {other}/own")
            assert has(found, "ok", f"--directory says to look into {other}/own and nowhere else")
            monkeypatch.setenv(registry.DIRECTORY, f"{other}/own")
            assert (await fleetmon("status --fleet own"))[0] == 0
            found = await levels(as_json)
            assert has(found, "ok", f"$FLEETMON_CONTROL_DIRECTORY says to look into {other}/own")
            assert not has(found, "note", f"a fleet listens in {other}/own")
            code, _, err = await fleetmon("status --directory x --url unix:/x")
            assert (code, "both name a fleet" in err) == (2, True)
        code, _, err = await fleetmon("status")
        assert (code, f"looked in {other}/own)" in err, err.count("\n")) == (3, True, 1)


async def test_a_dead_fleet_is_swept_from_a_place_of_its_own_as_well(place):
    with tempfile.TemporaryDirectory(prefix="fm-") as other:
        control = Control(enabled=True, directory=other)
        dead = registry.Entry("gone", 1, "e", "v", 1, f"{other}/gone.1.abc123.sock", 0.0)
        registry.publish(dead)
        async with Supervisor(SupervisorSettings(name="own", control=control)):
            assert [x.name for x in registry.entries(other)] == ["own"]


async def test_what_is_misconfigured_or_blocked_is_bad_and_how_to_mend_it_is_said(
    reachable, as_json
):
    async with reachable(shared_cause=SharedCause(enabled=False)):
        found = await levels(as_json)
        assert has(found, "note", "SharedCause is off")
        assert has(found, "note", "it has no agents yet", "Supervisor.add")
        config = {"settings": {"watchdog": {"enabled": False}, "metrics": {"listen": "x:1"},
                               "control": {"listen": "0.0.0.0:9004"}, "dead_letters": 5,
                               "defaults": {"hang": {"hard": None}}}}  # fmt: skip
        told = {tuple(x) for x in _findings.settings(config, {"dead_letters": 5})}
        assert has(told, "bad", "its watchdog is off", "Watchdog(enabled=True)")
        assert has(told, "bad", "without TLS", "tls_cert")
        assert has(told, "note", "the 5 dead letters that are kept are full", "retry")
        assert has(told, "note", "tasks may hang for ever")
        blocked = {"agent_id": "A", "seconds": 3.0, "file": "a.py", "line": 7}
        now = {"blocked": blocked, "took": 1.0, "warnings": [1, 2], "agents": []}
        told = {tuple(x) for x in _findings._now(now)}
        assert has(told, "bad", "blocked by A for 3.0 s at a.py:7", "AgentSpec.executor")
        assert has(told, "note", "it has 2 warnings", "fleetmon status")


async def test_over_the_network_token_name_and_port_are_looked_at(place, as_json, monkeypatch):
    monkeypatch.delenv("FLEETMON_CONTROL_TOKEN", raising=False)
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        found = await levels(as_json, f"doctor --json --url http://127.0.0.1:{port}")
    assert has(found, "bad", "no token in $FLEETMON_CONTROL_TOKEN", "--token-file")
    assert has(found, "bad", "Connection refused", "is it running")
    place.mkdir(parents=True)
    token = place / "token"
    token.write_text("secret\n")
    token.chmod(0o644)
    found = await levels(
        as_json, f"doctor --json --url http://127.0.0.1:{port} --token-file {token}"
    )
    assert has(found, "ok", f"a token is in {token}")
    assert has(found, "note", f"{token} is open to other users", f"chmod 600 {token}")
    found = await levels(as_json, f"doctor --json --url unix:{place}/nothing.sock")
    assert has(found, "bad", "nothing.sock is not there")
    found = await levels(as_json, f"doctor --json --url unix:{Path(token)}")
    assert has(found, "bad", "token is no socket")
    found = await levels(as_json, "doctor --json --url ftp://x")
    assert has(found, "bad", "no address of a fleet")
