"""A record that is broken, cut short or removed is kept aside, and a new one begun."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time

import pytest
from helpers_trouble import CALM, a_record, failed, not_written, recorded, recorder, until, works

from fleetmon import AgentSpec, EventKind, Recording, Supervisor
from fleetmon.testing import capture

pytestmark = pytest.mark.anyio


async def test_a_file_that_is_none_of_ours_is_left_as_it_is(tmp_path):
    path = tmp_path / "fleet.db"
    for content in (b"my thesis " * 5000, os.urandom(50_000), b"x"):
        path.write_bytes(content)
        await not_written(path, "is no record of a fleet, or is broken beyond recognition")
        assert path.read_bytes() == content
    path.unlink()
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE mine(x)")
    database.close()
    content = path.read_bytes()
    await not_written(path, "is no record of a fleet")
    assert path.read_bytes() == content


@pytest.mark.parametrize("damage", ["a page", "the end", "the header's rest", "everything else"])
async def test_a_broken_record_is_kept_aside_and_a_new_one_begun(tmp_path, damage):
    path = tmp_path / "fleet.db"
    await a_record(path)
    content = bytearray(path.read_bytes())
    if damage == "a page":
        content[4096 : 3 * 4096] = os.urandom(2 * 4096)
    elif damage == "the end":
        del content[len(content) // 3 :]
    elif damage == "the header's rest":
        content[100:4096] = os.urandom(3996)
    else:
        content[100:] = os.urandom(len(content) - 100)
    path.write_bytes(content)
    async with recorded(path) as (fleet, record, events):
        assert record.problem == ""
        await works(fleet)
    (told,) = failed(events)
    assert "it was broken; kept as" in told
    assert record.reading().errors == 1
    assert (tmp_path / "fleet.db.broken").read_bytes() == bytes(content)
    with Recording(path) as read:
        assert len(read.tasks()) == 200
        assert len(read.lives()) == 1


async def test_a_record_that_breaks_while_it_is_written_is_begun_anew(tmp_path):
    path = tmp_path / "fleet.db"
    async with recorded(path) as (fleet, record, events):
        agent = await works(fleet)
        await asyncio.to_thread(record.flush)
        database = record._desk._store.database
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.execute("PRAGMA cache_size=0")  # or it would not look at the disk again
        database.execute("PRAGMA shrink_memory")
        with path.open("r+b") as file:
            file.seek(100)
            file.write(os.urandom(40 * 4096))
        await until(lambda: failed(events))
        before = record.reading().commits
        await until(lambda: record.reading().commits > before + 2)
        await agent.run("t", 1)
        assert record.problem == ""
    assert (tmp_path / "fleet.db.broken").exists()
    with Recording(path) as read:
        assert read.tasks()[0].outcome == "succeeded"
        assert read.at(time.time()).row("A").assigned == 201


@pytest.mark.parametrize("size", ["small", "large"])
async def test_a_record_that_is_cut_short_while_it_is_written_is_begun_anew(
    tmp_path, monkeypatch, size
):
    if size == "large":  # larger than what is looked through whenever it is opened
        monkeypatch.setattr("fleetmon.record.store._CHECKED", 1000)
    path = tmp_path / "fleet.db"
    record = recorder(path)
    supervisor = Supervisor(CALM, recorder=record)
    events = capture(supervisor)
    async with supervisor as fleet:
        agent = await works(fleet)
        assert await asyncio.to_thread(record.flush)
        record._desk._store.database.execute("PRAGMA wal_checkpoint")
        os.truncate(path, path.stat().st_size // 3)
        await until(lambda: len(failed(events)) == 2)
        await until(lambda: record.problem == "")
        await agent.run("t", 1)
    cut, aside = failed(events)
    assert "was cut short" in cut
    assert "it was broken; kept as" in aside
    assert record.reading().errors == 2
    assert (tmp_path / "fleet.db.broken").exists()
    with Recording(path) as read:
        assert read.at(time.time()).row("A").assigned == 201


async def test_a_log_that_is_cut_short_costs_its_end_and_nothing_is_taken_for_a_crash(tmp_path):
    path = tmp_path / "fleet.db"
    log = tmp_path / "fleet.db-wal"
    record = recorder(path)
    supervisor = Supervisor(CALM, recorder=record)
    events = capture(supervisor)
    spec = AgentSpec(after_crash="redeliver")
    release = asyncio.Event()

    async def held():
        async def handle(payload):
            await release.wait()

        return handle

    async with supervisor as fleet:
        await works(fleet)
        slow = await fleet.add("HELD", held, spec=spec)
        tasks = [await slow.submit("t", number) for number in range(3)]
        assert await asyncio.to_thread(record.flush)
        os.truncate(log, log.stat().st_size // 2)
        await until(lambda: failed(events))
        await until(lambda: record.problem == "")
        assert fleet.interrupted() == ()
        assert events.of(EventKind.INTERRUPTED) == []
        release.set()
        for task in tasks:
            await task
    (told,) = failed(events)
    assert "or its log was cut short" in told
    with Recording(path) as read:
        assert [life.ended for life in read.lives()] == ["left", "stopped"]
        assert read.interrupted() == ()
        assert {task.id for task in tasks} <= {task.task_id for task in read.all_tasks()}


async def test_a_record_that_is_removed_under_the_recorder_is_begun_anew(tmp_path):
    path = tmp_path / "fleet.db"
    async with recorded(path) as (fleet, record, events):
        agent = await works(fleet)
        for each in tmp_path.iterdir():
            each.unlink()
        await until(path.exists)
        await until(lambda: record.problem == "")
        await agent.run("t", 1)
    (told,) = failed(events)
    assert "was removed or replaced" in told
    with Recording(path) as read:
        assert read.at(time.time()).row("A").assigned == 201
