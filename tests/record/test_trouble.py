"""A record that cannot be written never harms the fleet: it says so once, and counts."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import subprocess
import sys
import threading
import time

import pytest
from helpers_clock import Turned
from helpers_trouble import CALM, failed, not_written, recorder, until, works

from fleetmon import RecordError, Recording, Supervisor
from fleetmon.testing import capture

pytestmark = pytest.mark.anyio


async def test_a_directory_that_is_not_there_or_is_none(tmp_path):
    await not_written(tmp_path / "none" / "fleet.db", "No such file")
    (tmp_path / "file").write_text("x")
    await not_written(tmp_path / "file" / "fleet.db", "Not a directory")


def test_a_directory_that_must_not_be_written(tmp_path):
    # in a process without root's rights, for which the mode of a directory means something
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    program = (
        "import asyncio, os, sys\n"
        "from fleetmon import *\n"
        "async def worker():\n"
        "    async def handle(x): return x\n"
        "    return handle\n"
        "async def main(path):\n"
        "    record = Recorder(path)\n"
        "    async with Supervisor(recorder=record) as fleet:\n"
        "        agent = await fleet.add('A', worker)\n"
        "        print(await agent.run('t', 1), record.problem)\n"
        "        print([e.kind.value for e in fleet.recent_events()].count('record_failed'))\n"
        "asyncio.run(main(sys.argv[1]))\n"  # with rights, which also loads what there is to load
        "os.chdir(sys.argv[2])\n"
        "if os.getuid() == 0:\n"
        "    os.setgid(65534)\n"
        "    os.setuid(65534)\n"
        "asyncio.run(main('fleet.db'))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "open.db"), str(closed)],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    well, told, bad, once = ran.stdout.splitlines()
    assert (well, told) == ("1 ", "0")
    assert bad.startswith("1 ")
    assert "Permission denied" in bad
    assert once == "1"


async def test_a_clock_that_is_set_back_loses_nothing_and_is_told_of_once(tmp_path):
    path = tmp_path / "fleet.db"
    clock = Turned()
    record = recorder(path)
    supervisor = Supervisor(CALM, recorder=record, clock=clock)
    events = capture(supervisor)
    async with supervisor as fleet:
        agent = await works(fleet, 100)
        assert await asyncio.to_thread(record.flush)
        clock.by = -3600.0
        for number in range(50):
            await agent.run("t", number)
        assert await asyncio.to_thread(record.flush)
        for _ in range(3):
            await agent.run("t", "later")
            assert await asyncio.to_thread(record.flush)
        assert record.problem == ""
        with Recording(path) as read:
            assert len({task.task_id for task in read.all_tasks()}) == 153
            (gap,) = read.gaps()
            assert gap.lost == {"clock_set_back": pytest.approx(3600, abs=5)}
            assert gap.until - gap.since == pytest.approx(3600, abs=5)
            await until(lambda: read.at(time.time() - 3600).row("A").assigned == 153)
    assert failed(events) == []


async def test_a_required_record_that_cannot_be_written_keeps_the_fleet_from_starting(tmp_path):
    supervisor = Supervisor(CALM, recorder=recorder(tmp_path / "no" / "fleet.db", required=True))
    with pytest.raises(RecordError, match="No such file"):
        async with supervisor:
            pytest.fail("it started")
    assert threading.active_count() < 20


async def test_a_record_in_a_directory_where_nothing_can_be_made_can_still_be_read(tmp_path):
    path = tmp_path / "fleet.db"
    record = recorder(path)
    async with Supervisor(CALM, recorder=record) as fleet:
        await works(fleet, 20)
        await asyncio.to_thread(record.flush)
        kept = tmp_path / "kept"
        kept.mkdir()
        for end in ("", "-wal"):  # as a kill would leave it, without its index
            shutil.copyfile(f"{path}{end}", kept / f"fleet.db{end}")
    from fleetmon.record import opening

    real = opening._connected
    try:
        opening._connected = lambda p: _not_there(p, kept, real)
        with Recording(kept / "fleet.db") as read:
            assert len(read.tasks()) == 20
            assert read._copy is not None
    finally:
        opening._connected = real


def _not_there(path, kept, real):
    if path.parent == kept:
        error = sqlite3.OperationalError("unable to open database file")
        error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
        raise error
    return real(path)
