"""What a fresh checkout shows: the demo in one terminal, an operator in another."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile

import pytest
from helpers_programs import ROOT, Program, eventually


@pytest.fixture
def demo(monkeypatch):
    with tempfile.TemporaryDirectory(prefix="fm-") as directory:  # short, for a socket's path
        monkeypatch.setenv("XDG_RUNTIME_DIR", directory)
        monkeypatch.setenv("TMPDIR", directory)  # no other fleet of this user is seen
        program = Program(
            [sys.executable, "-m", "fleetmon", "demo", "--duration", "120", "--metrics", "0",
             "--json"]
        )  # fmt: skip
        try:
            yield program
        finally:
            program.end()


def fleetmon(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "fleetmon", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_status_restart_and_events_of_a_demo_in_another_terminal(demo):
    def forty():
        told = fleetmon("status", "--json")
        if told.returncode:
            return False
        agents = json.loads(told.stdout)["agents"]
        return len([a for a in agents if a["lifecycle"] == "running"]) == 40

    eventually(forty, within=40)
    told = fleetmon("status")
    assert told.returncode == 0
    assert told.stdout.startswith("demo: running, 40 agents: ")
    assert len([x for x in told.stdout.splitlines() if x[:1].isupper()]) == 41  # and their head
    told = fleetmon("restart", "SENTRY", "--reason", "test", "--wait", "--yes")
    assert (told.returncode, told.stdout, told.stderr) == (
        0, "SENTRY: restart done; now running\n", "",
    )  # fmt: skip
    told = fleetmon("events", "--jsonl", "--agent", "SENTRY")
    events = [json.loads(line) for line in told.stdout.splitlines()]
    (command,) = (e for e in events if e["kind"] == "command")
    assert (command["data"]["command"], command["data"]["reason"]) == ("restart", "test")
    assert command["data"]["result"] == "accepted"
    after = [e["kind"] for e in events if e["seq"] > command["seq"]]
    assert after[:2] == ["starting", "started"]
    told = fleetmon("agent", "@sentry", "--json")
    assert json.loads(told.stdout)["generation"] == 2
    told = fleetmon("restart", "SENTRI", "--yes")
    assert told.returncode == 4
    assert "did you mean SENTRY" in told.stderr
    demo.ask_to_end(signal.SIGINT)
    assert demo.process.returncode == 0
    assert fleetmon("status").returncode == 3
