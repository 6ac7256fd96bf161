"""A record of a fleet that is well: what it holds, and how the fleet stood at any time."""

from __future__ import annotations

import asyncio
import pickle
import subprocess
import sys
import threading
import time

import pytest
from helpers_clock import Turned
from helpers_rows import row_of

from fleetmon import (
    AgentSpec,
    Backoff,
    EventKind,
    NotRunningError,
    Quarantine,
    Recorder,
    RecordError,
    Recording,
    SharedCause,
    SpecError,
    Supervisor,
    SupervisorSettings,
)
from fleetmon.cli import main
from fleetmon.record.store import lock_of
from fleetmon.testing import capture

pytestmark = pytest.mark.anyio

QUICK = Backoff(floor=0.0, base=0.0, cap=0.0)


class FatalError(RuntimeError):
    fatal = True


async def worker():
    async def handle(payload):
        if payload == "fatal":
            raise FatalError(payload)
        if payload == "fail":
            raise ValueError(payload)
        await asyncio.sleep(payload or 0.0)

    return handle


def recorder(path, **options):
    return Recorder(path, **{"interval": 0.02, "pictures": 0.05, "whole_pictures": 0.2, **options})


def calm(**values):
    return SupervisorSettings(shared_cause=SharedCause(enabled=False), **values)


async def committed(record):
    assert await asyncio.to_thread(record.flush), record.problem


async def test_events_and_ends_of_tasks_are_recorded_as_they_happened(tmp_path):
    path = tmp_path / "fleet.db"
    record = recorder(path)
    supervisor = Supervisor(calm(name="research"), recorder=record)
    events = capture(supervisor)
    async with supervisor as fleet:
        agent = await fleet.add("A", worker, spec=AgentSpec(backoff=QUICK, task_types=("t",)))
        await agent.run("t")
        with pytest.raises(ValueError, match="fail"):
            await agent.run("t", "fail")
        late = await agent.submit("t", 30.0, timeout=0.05)
        with pytest.raises(TimeoutError):
            await late
        with pytest.raises(FatalError):
            await agent.run("t", "fatal")
        await events.wait_for(EventKind.VERIFIED, "A")
        with fleet.attach("B").task("own"):
            pass
        await agent.restart(actor="ann", reason="stuck")
    with Recording(path) as read:
        assert not read.live
        (life,) = read.lives()
        assert (life.name, life.epoch, life.ended) == (
            "research",
            fleet.snapshot().epoch,
            "stopped",
        )
        said = [tuple(e)[1:] for e in read.events()]
        assert said == [
            (e.seq, e.at, e.monotonic, e.kind.value, *e[4:7], dict(e.data)) for e in events.events
        ]
        (command,) = read.events(agent="A", kinds=[EventKind.COMMAND])
        assert (command.data["actor"], command.data["reason"]) == ("ann", "stuck")
        assert [e.kind for e in read.events(agent="B")] == [
            e.kind for e in events.events if e.agent_id == "B"
        ]
        assert [t.outcome for t in reversed(read.tasks("A"))] == [
            "succeeded",
            "failed",
            "timed_out",
            "failed",
        ]
        fatal, late_one, *_ = read.tasks("A", limit=2)
        assert (fatal.error_type, fatal.attempt, fatal.generation) == ("exception", 1, 1)
        assert late_one.ended - late_one.began == pytest.approx(0.05, abs=0.04)
        assert [t.agent_id for t in read.tasks(since=fatal.ended + 1e-6)] == ["B"]
        assert read.interrupted() == ()
        assert read.gaps() == ()


async def test_a_picture_at_any_time_is_how_the_fleet_stood_then(tmp_path):
    path = tmp_path / "fleet.db"
    record = recorder(path)
    async with Supervisor(calm(), recorder=record) as fleet:
        agents = [await fleet.add(f"A{n}", worker) for n in range(3)]
        seen = []
        for n in range(12):
            await agents[n % 3].run("t")
            if n == 5:
                await agents[1].pause()
            if n == 6:
                await agents[1].resume()
            if n == 8:
                await fleet.remove("A2")
                agents[2] = agents[0]
            before = record.reading().commits
            async with asyncio.timeout(10):
                while record.reading().commits < before + 5:
                    await asyncio.sleep(0.02)  # some pictures are taken of this
            snapshot = fleet.snapshot()
            seen.append((snapshot.at, {a.agent_id: a.assigned for a in snapshot.agents}))
        bounds = fleet.settings.metrics.buckets
        rows = [row_of(a, snapshot.monotonic, bounds) for a in snapshot.agents]
        with Recording(path) as read:  # while it is written
            assert read.live
            async with asyncio.timeout(10):
                while read.lives()[0].last < seen[-1][0]:
                    await asyncio.sleep(0.02)
            for at, assigned in [*seen, *reversed(seen)]:
                picture = read.at(at)
                assert {r.agent_id: r.assigned for r in picture.rows} == assigned
                assert picture.state == "recorded"
                assert picture.facts["phase"] == "running"
                assert picture.at == at
            assert read.at(seen[5][0]).row("A1").desired == "paused"
            assert read.at(seen[8][0]).row("A1").desired == "run"
            last = read.at(at := seen[-1][0])
            assert last.clock == pytest.approx(snapshot.monotonic, abs=0.01)
            for ours, theirs in zip(last.rows, rows, strict=True):
                told, want = ours._asdict(), theirs._asdict()
                assert told.pop("utilization") == pytest.approx(want.pop("utilization"), abs=0.1)
                assert told == {**want, "conditions": []}
            first, until = read.span()
            assert first <= seen[0][0]
            assert until >= at
            assert read.at(0.0).at == first, "before the first there is the first"
    with Recording(path) as read:
        after = read.at(time.time() + 100)
        assert after.state == "stopped"
        assert read.at(seen[0][0]).state == "recorded"


async def test_warnings_are_recorded_with_their_time_and_say_where_to_jump(tmp_path):
    path = tmp_path / "fleet.db"
    record = recorder(path)
    spec = AgentSpec(backoff=QUICK, max_consecutive_failures=None)
    async with Supervisor(calm(), recorder=record) as fleet:
        agent = await fleet.add("A", worker, spec=spec)
        began = time.time()
        for _ in range(8):
            with pytest.raises(ValueError, match="fail"):
                await agent.run("t", "fail")
        assert [w.rule for w in fleet.warnings().instances] == ["failing"]
        await committed(record)
        async with asyncio.timeout(10):
            with Recording(path) as read:
                while not read.warnings():
                    await asyncio.sleep(0.02)
        await agent.reset()
        with Recording(path) as read:
            async with asyncio.timeout(10):
                while read.warnings()[0].until is None:
                    await asyncio.sleep(0.02)
            (warned,) = read.warnings()
            assert (warned.rule, warned.agent_id, warned.severity) == ("failing", "A", "warning")
            assert began < warned.since < warned.until <= time.time()
            assert read.next_warning(began) == warned
            assert read.next_warning(warned.since) is None
            (shown,) = read.at((warned.since + warned.until) / 2).facts["warnings"]
            assert (shown["rule"], shown["text"]) == ("failing", warned.text)
            assert read.at(warned.until + 0.001).facts["warnings"] == []


async def test_another_sentence_about_the_same_thing_is_another_warning(tmp_path):
    from fleetmon.record.reader import RecordedWarning
    from fleetmon.record.scribe import Life, Scribe
    from fleetmon.record.store import Store
    from fleetmon.rows import COLUMNS
    from fleetmon.snapshot import FleetWarning

    store = Store(tmp_path / "fleet.db", max_bytes=1 << 24, max_age=None)
    with store.transaction() as database:
        scribe = Scribe(database, Life("f", "e", 1, COLUMNS, 1000.0, 0.0, "0"))
        scribe.committed()
        for at, texts in ((5.0, ["falls (3 of 9)"]), (6.0, ["falls (4 of 9)"]), (7.0, ["fell"]),
                          (8.0, [])):  # fmt: skip
            told = [FleetWarning("storm", "", 4.0, "critical", text) for text in texts]
            scribe.warnings(told, 1000.0 + at, at)
            scribe.committed()
    store.close()
    with Recording(tmp_path / "fleet.db") as read:
        assert read.warnings() == [
            RecordedWarning(1, 1004.0, 1007.0, "storm", "", "critical", "falls (3 of 9)"),
            RecordedWarning(1, 1007.0, 1008.0, "storm", "", "critical", "fell"),
        ]


async def test_an_idle_fleet_says_that_it_is_alive_and_nothing_else(tmp_path):
    path = tmp_path / "fleet.db"
    async with Supervisor(recorder=recorder(path)) as fleet:
        await fleet.add("A", worker)
        with Recording(path) as read:
            async with asyncio.timeout(20):
                while time.time() - read.lives()[0].began < 2.5:
                    await asyncio.sleep(0.1)
            (life,) = read.lives()
            assert time.time() - life.last < 1.5
            frames = read._all("SELECT count(*) FROM frames WHERE NOT whole")
            assert frames[0][0] < 8


@pytest.mark.parametrize("set_back", [0.0, 3600.0])
async def test_a_record_is_bounded_and_forgets_the_oldest_first(tmp_path, set_back):
    path = tmp_path / "fleet.db"
    record = recorder(path, max_bytes=1024 * 1024)
    clock = Turned()
    async with Supervisor(calm(event_ring=100), recorder=record, clock=clock) as fleet:
        agent = await fleet.add("A", worker, spec=AgentSpec(backoff=QUICK))
        for turn in range(40):
            if turn == 10:
                clock.by = -set_back
            for _ in range(120):
                await agent.pause(reason="x" * 200)
                await agent.resume(reason="x" * 200)
            await committed(record)
            record._desk._tidy_at = 0.0
        await asyncio.sleep(0.3)  # some pictures after the last pruning
        assert record.reading().drops == {"tasks": 0, "events": 0, "payloads": 0}
        assert path.stat().st_size <= 1024 * 1024
        with Recording(path) as read:
            kept = read.events()
            assert kept[-1].seq == fleet.snapshot().seq
            assert 500 < len(kept) < 9000
            assert [e.seq for e in kept] == list(range(kept[0].seq, kept[-1].seq + 1))
            picture = read.at(0.0)
            assert picture.row("A").lifecycle in ("running", "paused")


async def test_what_is_too_old_is_forgotten_and_said_to_be_but_not_the_life_that_goes_on(
    tmp_path, capsys
):
    path = tmp_path / "fleet.db"
    began = time.time()
    record = recorder(path, max_age=1.0)
    async with Supervisor(calm(), recorder=record) as fleet:
        agent = await fleet.add("A", worker)
        await agent.run("t")
        await committed(record)
        async with asyncio.timeout(20):
            with Recording(path) as read:
                while read.tasks():
                    record._desk._tidy_at = 0.0
                    await agent.restart()
                    await asyncio.sleep(0.1)
                assert [life.ended for life in read.lives()] == [""]
                assert read.at(time.time()).row("A").restarts > 0
                since, until = read.forgotten()
                assert began <= since < until < time.time()
                assert all(event.at >= until for event in read.events())
                assert read.gaps() == ()  # it lacks nothing of what it is there to tell
    code, out = main(["history", "A", "--record", str(path)]), capsys.readouterr().out
    assert (code, "was forgotten to make room" in out.splitlines()[1]) == (0, True)


async def test_the_streak_of_restarts_is_neither_forgotten_nor_invented_over_a_restart(tmp_path):
    path = tmp_path / "fleet.db"
    spec = AgentSpec(
        backoff=QUICK,
        intensity={"max_restarts": 3, "period": 600.0},
        quarantine=Quarantine(probe_interval=None),
    )

    async def lapse(fleet, agent, events):
        events.clear()
        with pytest.raises(FatalError):
            await agent.run("t", "fatal")
        while agent.snapshot().lifecycle not in ("running", "quarantined"):
            await asyncio.sleep(0.01)

    async def live(lapses):
        supervisor = Supervisor(calm(), recorder=recorder(path))
        events = capture(supervisor)
        async with supervisor as fleet:
            agent = await fleet.add("A", worker, spec=spec)
            calm_one = await fleet.add("B", worker, spec=spec)
            told = [agent.snapshot().streak]
            async with asyncio.timeout(20):
                for _ in range(lapses):
                    await lapse(fleet, agent, events)
                    told.append(agent.snapshot().streak)
            assert calm_one.snapshot().streak == 0
            return told, agent.snapshot().lifecycle

    assert await live(2) == ([0, 1, 2], "running")
    assert await live(0) == ([2], "running")  # starting the host anew is no lapse
    assert await live(1) == ([2, 3], "running")
    told, lifecycle = await live(1)  # the fourth within the period, over four lives
    assert (told[0], lifecycle) == (3, "quarantined")


async def test_a_streak_that_an_operator_has_reset_is_forgotten_for_good(tmp_path):
    path = tmp_path / "fleet.db"
    spec = AgentSpec(backoff=QUICK)
    for lapses, before in ((2, 0), (0, 2), (0, 0)):
        async with Supervisor(calm(), recorder=recorder(path)) as fleet:
            agent = await fleet.add("A", worker, spec=spec)
            assert agent.snapshot().streak == before
            async with asyncio.timeout(20):
                for n in range(lapses):
                    with pytest.raises(FatalError):
                        await agent.run("t", "fatal")
                    while agent.snapshot().lifecycle != "running" or agent.generation < n + 2:
                        await asyncio.sleep(0.01)
            if not lapses:
                await agent.reset()


async def test_only_payloads_of_tasks_that_are_to_survive_are_stored(tmp_path):
    path = tmp_path / "fleet.db"
    record = recorder(path)
    async with Supervisor(calm(), recorder=record) as fleet:
        plain = await fleet.add("plain", worker)
        durable = await fleet.add("durable", worker, spec=AgentSpec(after_crash="redeliver"))
        tasks = [await agent.submit("t", 30.0) for agent in (plain, plain, durable, durable)]
        await committed(record)
        with Recording(path) as read:
            stored = dict(read._all("SELECT task_id, payload FROM open"))
            assert stored == {
                tasks[0].id: None,
                tasks[2].id: pickle.dumps(30.0, pickle.HIGHEST_PROTOCOL),
                tasks[3].id: pickle.dumps(30.0, pickle.HIGHEST_PROTOCOL),
            }
        await fleet.shutdown(drain=0)
    assert path.stat().st_mode & 0o777 == 0o600
    assert lock_of(path).stat().st_mode & 0o777 == 0o600
    with Recording(path) as read:
        assert read.interrupted() == (), "a stop cancels what waits; nobody is surprised by it"


async def test_a_payload_that_cannot_be_kept_is_told_once_and_the_task_runs_all_the_same(tmp_path):
    record = recorder(tmp_path / "fleet.db", max_payload=100)
    supervisor = Supervisor(calm(), recorder=record)
    events = capture(supervisor)

    async def taker():
        async def handle(payload):
            return type(payload).__name__

        return handle

    async with supervisor as fleet:
        for name, payload in (("A", threading.Lock()), ("B", "x" * 200)):
            agent = await fleet.add(name, taker, spec=AgentSpec(after_crash="redeliver"))
            for _ in range(3):
                assert await agent.run("t", payload) == type(payload).__name__
        told = [(e.agent_id, e.data["error"]) for e in events.of(EventKind.PAYLOAD_NOT_KEPT)]
        assert told == [
            ("A", "it cannot be pickled: TypeError"),
            ("B", "it has 215 bytes, and the recorder keeps 100"),
        ]
        assert fleet.snapshot().fleet.recorder.drops["payloads"] == 6


async def test_a_task_that_takes_its_process_down_again_and_again_ends_as_a_dead_letter(tmp_path):
    path = tmp_path / "fleet.db"
    program = (
        "import asyncio, os, sys\n"
        "from fleetmon import *\n"
        "async def factory():\n"
        "    async def handle(payload):\n"
        "        await asyncio.to_thread(record.flush)\n"
        "        os.kill(os.getpid(), 9)\n"
        "    return handle\n"
        "async def main():\n"
        "    async with Supervisor(recorder=record) as fleet:\n"
        "        agent = await fleet.add('A', factory, spec=AgentSpec(after_crash='redeliver'))\n"
        "        if not fleet.interrupted():\n"
        "            await agent.submit('poison', 'it')\n"
        "        letters = [(x.payload, x.attempts) for x in fleet.dead_letters()]\n"
        "        if letters:\n"
        "            print(letters, agent.snapshot().balanced, agent.snapshot().dead_lettered)\n"
        "            return\n"
        "        await asyncio.sleep(60)\n"
        "record = Recorder(sys.argv[1], interval=0.02)\n"
        "asyncio.run(main())\n"
    )

    def live():
        return subprocess.run(
            [sys.executable, "-c", program, str(path)],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )

    for _ in range(3):
        assert (await asyncio.to_thread(live)).returncode == -9
    last = await asyncio.to_thread(live)
    assert last.stdout == "[('it', 3)] True 1\n", last.stderr
    with Recording(path) as read:
        assert [t.fate for t in read.interrupted()] == ["redelivered"] * 2 + ["dead_lettered"]
        assert [t.attempt for t in read.interrupted()] == [1, 2, 3]


async def test_interrupted_tasks_of_an_agent_that_is_not_added_wait_for_a_later_life(tmp_path):
    path = tmp_path / "fleet.db"
    record = recorder(path)
    spec = AgentSpec(after_crash="redeliver")
    supervisor = Supervisor(calm(), recorder=record)
    await supervisor.__aenter__()
    agent = await supervisor.add("A", worker, spec=spec)
    await agent.submit("t", 0.01)
    await agent.submit("t", 1000.0)
    with supervisor.attach("own").task("t"):
        await committed(record)
        with record._desk._store.transaction() as database:  # as a crash would leave it
            tables = [
                database.execute(f"SELECT * FROM {table}").fetchall() for table in ("lives", "open")
            ]
    await supervisor.shutdown(drain=0)
    crashed = recorder(tmp_path / "other.db")
    async with Supervisor(calm(), recorder=crashed):
        pass
    import sqlite3

    with sqlite3.connect(tmp_path / "other.db") as database:
        for table, rows in zip(("lives", "open"), tables, strict=True):
            for row in rows:
                values = (99, *row[1:])
                marks = ",".join("?" * len(row))
                database.execute(f"INSERT INTO {table} VALUES ({marks})", values)
    database.close()
    async with Supervisor(calm(), recorder=recorder(tmp_path / "other.db")) as fleet:
        fates = {(t.agent_id, t.fate) for t in fleet.interrupted()}
        assert fates == {("A", "pending"), ("own", "uncertain")}
    async with Supervisor(calm(), recorder=recorder(tmp_path / "other.db")) as fleet:
        assert {t.fate for t in fleet.interrupted()} == {"pending"}, "uncertain ones are told once"
        other = await fleet.add("A", worker, spec=AgentSpec(**spec.model_dump(exclude_unset=True)))
        assert {t.fate for t in fleet.interrupted()} == {"redelivered"}
        assert other.snapshot().assigned in (1, 2)
        await fleet.shutdown(drain=0)


async def test_two_supervisors_cannot_share_a_recorder(tmp_path):
    record = recorder(tmp_path / "fleet.db")
    async with Supervisor(recorder=record):
        with pytest.raises(NotRunningError, match="make another"):
            async with Supervisor(recorder=record):
                pass


def test_settings_that_make_no_sense_are_refused(tmp_path):
    for options in ({"interval": 2.0}, {"max_bytes": 10}, {"limit": 0}, {"max_age": 0.0}):
        with pytest.raises(SpecError, match=next(iter(options))):
            Recorder(tmp_path / "fleet.db", **options)


def test_reading_what_is_no_record_is_one_plain_error(tmp_path):
    with pytest.raises(RecordError, match="is not there"):
        Recording(tmp_path / "none.db")
    (tmp_path / "text").write_text("hello " * 1000)
    with pytest.raises(RecordError, match="cannot be read"):
        Recording(tmp_path / "text")
    import sqlite3

    sqlite3.connect(tmp_path / "other.db").execute("CREATE TABLE t(x)").connection.close()
    with pytest.raises(RecordError, match="is no record of a fleet"):
        Recording(tmp_path / "other.db")


async def test_a_picture_of_a_large_fleet_is_taken_in_pieces_and_commits_go_on(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("fleetmon.record.desk._PIECE", 0.0)
    path = tmp_path / "fleet.db"
    record = recorder(path)
    async with Supervisor(calm(), recorder=record) as fleet:
        agents = [fleet.attach(f"agent-{n}") for n in range(200)]
        with agents[0].task("t"):
            await committed(record)
            with Recording(path) as read:
                assert len(read._all("SELECT task_id FROM open")) == 1, "tasks do not wait for it"
                async with asyncio.timeout(20):
                    while True:
                        await asyncio.sleep(0.02)
                        if not read._all("SELECT 1 FROM frames"):
                            continue
                        rows = {row.agent_id: row for row in read.at(time.time()).rows}
                        if len(rows) == 200 and rows["agent-0"].in_flight == 1:
                            break
    with Recording(path) as read:
        last = read.at(time.time())
        assert {row.lifecycle for row in last.rows} == {"stopped"}
        assert last.row("agent-0").succeeded == 1
