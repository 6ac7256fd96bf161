"""Others at the same record: a second recorder, readers, locks, a forked child."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
import subprocess
import sys
import threading

import pytest
from helpers_trouble import CALM, a_record, failed, recorded, recorder, until, works

from fleetmon import EventKind, Recording, Supervisor
from fleetmon.record.store import lock_of
from fleetmon.testing import capture

pytestmark = pytest.mark.anyio


async def test_a_second_recorder_says_in_one_plain_sentence_who_writes_and_takes_over_later(
    tmp_path,
):
    path = tmp_path / "fleet.db"
    first = Supervisor(CALM, recorder=recorder(path))
    async with first as fleet:
        await works(fleet)
        record = recorder(path)
        second = Supervisor(CALM, recorder=record)
        events = capture(second)
        async with second as other:
            assert record.problem == (
                f"{path} is being written by process {os.getpid()}; give each supervisor a record "
                "of its own"
            )
            agent = await works(other)
            await first.shutdown()
            await until(lambda: record.problem == "")
            await agent.run("t", "late")
        (told,) = failed(events)
        assert told.startswith(f"{path} is being written by process")
        assert len(events.of(EventKind.RECORD_RESUMED)) == 1
    with Recording(path) as read:
        assert [life.ended for life in read.lives()] == ["stopped", "stopped"]
        assert read.tasks(limit=1)[0].life == 2


async def test_a_reader_that_holds_the_record_and_a_lock_that_is_held_stop_nothing(tmp_path):
    path = tmp_path / "fleet.db"
    async with recorded(path) as (fleet, record, events):
        agent = await works(fleet)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")  # somebody works on the file by hand
        await until(lambda: record.problem)
        for number in range(50):
            await agent.run("t", number)
        other.execute("ROLLBACK")
        other.close()
        await until(lambda: record.problem == "")
        assert len(failed(events)) == 1
        assert await asyncio.to_thread(record.flush)
        with Recording(path) as read:
            assert len(read.tasks()) == 250, "what could not be written was written later"
            assert not read.gaps()


def test_a_forked_child_leaves_the_record_to_its_parent(tmp_path):
    program = (
        "import asyncio, os, sys\n"
        "from fleetmon import *\n"
        "async def main():\n"
        "    record = Recorder(sys.argv[1], interval=0.02)\n"
        "    async with Supervisor(recorder=record) as fleet:\n"
        "        agent = fleet.attach('A')\n"
        "        with agent.task('t'): pass\n"
        "        await asyncio.to_thread(record.flush)\n"
        "        child = os.fork()\n"
        "        if child == 0:\n"
        "            with agent.task('child'): pass\n"
        "            os._exit(0 if record.reading().drops['tasks'] == 1 else 1)\n"
        "        print(os.waitpid(child, 0)[1])\n"
        "        with agent.task('t'): pass\n"
        "        print(await asyncio.to_thread(record.flush))\n"
        "asyncio.run(main())\n"
    )
    path = tmp_path / "fleet.db"
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, str(path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert ran.stdout == "0\nTrue\n"
    with Recording(path) as read:
        assert [t.task_type for t in read.tasks()] == ["t", "t"]
        assert read.lives()[0].ended == "stopped"


def test_who_only_looks_whether_somebody_writes_keeps_nobody_from_writing(tmp_path):
    path = tmp_path / "fleet.db"
    asyncio.run(a_record(path))
    with lock_of(path).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        threading.Timer(0.3, fcntl.flock, (file, fcntl.LOCK_UN)).start()
        asyncio.run(a_record(path))
    with Recording(path) as read:
        assert len(read.lives()) == 2
