"""What a record tells at the terminal, and records that are made from another process's stream."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile

import pytest

from fleetmon import AgentSpec, Backoff, EventKind, Recorder, RecordError, Recording, Supervisor
from fleetmon.cli import main
from fleetmon.control.client import Client, find
from fleetmon.record import record
from fleetmon.settings import Control, SupervisorSettings

pytestmark = pytest.mark.anyio

SPEC = AgentSpec(backoff=Backoff(floor=0.0, base=0.0, cap=0.0))


class FatalError(RuntimeError):
    fatal = True


async def worker():
    async def handle(payload):
        if payload:
            raise FatalError("evil \x1b[2J words")
        return "done"

    return handle


async def live(path):
    async with Supervisor(recorder=Recorder(path)) as fleet:
        agent = await fleet.add("Apex", worker, spec=SPEC)
        await agent.run("review")
        with pytest.raises(FatalError):
            await agent.run("review", payload=True)
        await agent.restart(actor="ann", reason="stuck \x1b[2J")


@pytest.fixture
def told(tmp_path):
    """A record of two lives of an agent that fell once."""
    path = tmp_path / "fleet.db"
    for _ in range(2):
        asyncio.run(live(path))
    return str(path)


def ran(capsys, *arguments):
    code = main(["history", *arguments])
    return code, *capsys.readouterr()


def test_history_tells_lives_events_commands_and_tasks_of_one_agent(told, capsys):
    code, out, err = ran(capsys, "@apex", "--record", told)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "Apex"
    assert [line.partition("  ")[2].partition(" (")[0] for line in lines if line[0] == "2"] == [
        "fleet began to be recorded",
        "the fleet was stopped",
    ] * 2
    assert out.count("lapsed") == 2
    assert "command=restart actor=ann reason=stuck ?[2J" in out
    assert out.count("2 tasks accepted: 1 succeeded, 1 failed") == 2
    assert "review failed (exception) after" in out
    assert "\x1b" not in out


def test_history_as_json_carries_its_schema_and_everything(told, capsys):
    code, out, _ = ran(capsys, "Apex", "--record", told, "--json", "--tasks", "3")
    whole = json.loads(out)
    assert (code, whole["schema"], whole["agent_id"]) == (0, 1, "Apex")
    assert [life["ended"] for life in whole["lives"]] == ["stopped", "stopped"]
    assert [life["row"]["assigned"] for life in whole["lives"]] == [2, 2]
    assert [t["outcome"] for t in whole["tasks"]] == ["failed", "succeeded", "failed"]
    code, out, _ = ran(capsys, "Apex", "--record", told, "--jsonl")
    events = [json.loads(line) for line in out.splitlines()]
    assert [(e["seq"], e["kind"]) for e in events] == [
        (e["seq"], e["kind"]) for e in whole["events"]
    ]
    assert {e["schema"] for e in events} == {1}


def test_history_of_the_last_hour_leaves_older_things_out(told, capsys):
    code, out, _ = ran(capsys, "Apex", "--record", told, "--last", "1h")
    assert code == 0
    assert out.count("lapsed") == 2
    import sqlite3

    with sqlite3.connect(told) as database:
        database.execute("UPDATE events SET at=at-7200 WHERE life=1")
        database.execute(
            "UPDATE lives SET began_at=began_at-7200, last_at=last_at-7200 WHERE life=1"
        )
    database.close()
    _, out, _ = ran(capsys, "Apex", "--record", told, "--last", "1h")
    assert out.count("lapsed") == 1


def test_history_finds_the_record_in_the_environment(told, capsys, monkeypatch):
    monkeypatch.setenv("FLEETMON_RECORD", told)
    assert ran(capsys, "Apex")[0] == 0
    monkeypatch.delenv("FLEETMON_RECORD")
    code, out, err = ran(capsys, "Apex")
    assert (code, out) == (2, "")
    assert err == "fleetmon history: name the record with --record FILE or in FLEETMON_RECORD\n"


def test_history_of_an_unknown_agent_names_the_nearest(told, capsys):
    code, out, err = ran(capsys, "Apec", "--record", told)
    assert (code, out) == (4, "")
    assert err.endswith("knows no agent 'Apec'; did you mean Apex?\n")


def test_history_of_what_is_no_record_is_one_line(tmp_path, capsys):
    code, out, err = ran(capsys, "A", "--record", str(tmp_path / "none"))
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "is not there" in err


@pytest.fixture
def place(monkeypatch):
    with tempfile.TemporaryDirectory(prefix="fm-") as directory:  # short, for a socket's path
        monkeypatch.setenv("XDG_RUNTIME_DIR", directory)
        monkeypatch.setenv("TMPDIR", f"{directory}/tmp")
        yield directory


async def test_the_stream_of_another_fleet_becomes_a_record_of_it(place, tmp_path):
    path = tmp_path / "stream.db"
    settings = SupervisorSettings(name="far", control=Control(enabled=True))
    async with Supervisor(settings) as fleet:
        agent = await fleet.add("A", worker, spec=SPEC)
        other = await fleet.add("B", worker, spec=SPEC)
        frames = Client(find("far").socket).stream(events=0, rate=10)
        writing = asyncio.create_task(asyncio.to_thread(record, frames, path))
        async with asyncio.timeout(20):
            while not path.exists() or not (read := Recording(path)).agents():
                await asyncio.sleep(0.05)
            await agent.run("t")
            with pytest.raises(FatalError):
                await agent.run("t", payload=True)
            await other.pause(actor="ann")
            while read.at(1e11).row("B").desired != "paused" or not read.live:
                await asyncio.sleep(0.05)
        expected = [(e.seq, e.kind.value) for e in fleet.recent_events()]
    done = await writing
    assert (done.lost, done.lives, done.ended) == (0, 1, True)
    assert done.events >= len(expected)
    (life,) = read.lives()
    assert (life.name, life.epoch, life.pid) == ("far", fleet.snapshot().epoch, os.getpid())
    assert life.ended == "stopped"
    assert [(e.seq, e.kind) for e in read.events()][: len(expected)] == expected
    picture = read.at(life.last)
    assert picture.row("A").assigned == 2
    assert picture.facts["phase"] in ("running", "draining", "stopping")
    (lapsed,) = read.events(kinds=[EventKind.LAPSED])
    assert lapsed.monotonic == pytest.approx(
        next(e.monotonic for e in fleet.recent_events() if e.kind is EventKind.LAPSED), abs=0.1
    )
    read.close()


async def test_events_record_keeps_a_record_until_ctrl_c(place, tmp_path):
    path = tmp_path / "far.db"
    settings = SupervisorSettings(name="far", control=Control(enabled=True))
    async with Supervisor(settings) as fleet:
        agent = await fleet.add("A", worker, spec=SPEC)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "fleetmon", "events", "--fleet", "far", "--record", str(path),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            # whoever started the tests in the background has made them ignore Ctrl-C
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        async with asyncio.timeout(30):
            assert b"recording far into" in await process.stdout.readline()
            await agent.restart(actor="ann")
            while not path.exists() or not _events_of(path, "command"):
                await asyncio.sleep(0.05)
            process.send_signal(signal.SIGINT)
            out, err = await process.communicate()
        assert (process.returncode, err) == (0, b"")
        assert b" events" in out
    with Recording(path) as read:
        assert [life.ended for life in read.lives()] == ["left"]
        assert read.events()[0].seq == 1, "what the fleet had kept stands in it, too"
        assert read.at(1e11).row("A").generation == 2
        assert read.at(1e11).state == "gap"


def _events_of(path, kind):
    try:
        with Recording(path) as read:
            return read.events(kinds=[kind])
    except RecordError:  # it is just being made
        return []


async def test_events_record_of_no_fleet_leaves_no_file(place, tmp_path, capsys):
    code = main(["events", "--record", str(tmp_path / "none.db")])
    assert code == 3
    assert not (tmp_path / "none.db").exists()


def frames_of(epoch="e", *, pid=7):
    hello = {
        "type": "hello", "name": "far", "epoch": epoch, "pid": pid, "version": "0", "clock": 5.0,
        "at": 1000.0, "columns": ["agent_id", "assigned"], "resumed": False, "rate": 4,
    }  # fmt: skip
    fleet = {
        "type": "fleet", "seq": 1, "phase": "running", "health": 0, "blocked": None, "drops": {},
        "warnings": [], "summaries": [],
    }  # fmt: skip
    rows = {"type": "rows", "seq": 1, "more": False, "removed": [], "rows": [["A", 1], ["B", 2]]}
    return [hello, fleet, rows]


def test_a_connection_that_is_lost_and_a_fleet_that_is_started_again_are_told_apart(tmp_path):
    path = tmp_path / "stream.db"
    event = {
        "type": "event", "seq": 3, "at": 1001.0, "kind": "lapsed", "agent_id": "A",
        "generation": 1, "task_id": 0, "data": {},
    }  # fmt: skip
    told = {"type": "events", "lost": 0, "events": [event]}
    again = {**frames_of()[0], "resumed": True}
    more = {"type": "rows", "seq": 2, "more": False, "removed": ["B"], "rows": [["A", 9]]}
    unknown = {"type": "telepathy"}
    frames = [
        unknown, *frames_of(), told, again, told, more, *frames_of("f", pid=8),
        {"type": "events", "lost": 4, "events": [{**event, "seq": 9}]},
    ]  # fmt: skip
    done = record(iter(frames), path)
    assert done == (2, 0, 2, False)  # what was before we came is no loss
    with Recording(path) as read:
        assert [(x.epoch, x.pid, x.ended) for x in read.lives()] == [
            ("e", 7, "crashed"),
            ("f", 8, "left"),
        ]
        assert [e.life for e in read.events()] == [1, 2]
        assert read.events()[0].monotonic == 6.0
        assert read.at(0.0).state == "recorded"
    with pytest.raises(RecordError, match="being written by process"):
        _recorded_twice(path)


def _recorded_twice(path):
    def frames():
        yield from frames_of()
        record(iter(()), path)

    record(frames(), path)


def test_loading_the_reader_does_not_load_what_writes():
    code = (
        "import sys; from fleetmon.record import Recording; "
        "print('fleetmon.record.recorder' in sys.modules, 'asyncio' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "False False\n"
