"""A record of a fleet that is well: what it holds, and how the fleet stood at any time."""

from __future__ import annotations

import asyncio
import time

import pytest
from helpers_recorder import QUICK, FatalError, calm, committed, recorder, worker
from helpers_rows import row_of

from fleetmon import (
    AgentSpec,
    EventKind,
    NotRunningError,
    Recorder,
    RecordError,
    Recording,
    SpecError,
    Supervisor,
)
from fleetmon.testing import capture

pytestmark = pytest.mark.anyio


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
