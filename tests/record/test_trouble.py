"""A record that cannot be written never harms the fleet: it says so once, and counts."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import threading
import time

import pytest
from helpers_clock import Turned

from fleetmon import (
    AgentSpec,
    EventKind,
    Recorder,
    RecordError,
    Recording,
    SharedCause,
    Supervisor,
    SupervisorSettings,
)
from fleetmon.record.pack import WIDTH
from fleetmon.record.store import lock_of
from fleetmon.testing import capture

pytestmark = pytest.mark.anyio

CALM = SupervisorSettings(shared_cause=SharedCause(enabled=False))


async def worker():
    async def handle(payload):
        return payload

    return handle


def recorder(path, **options):
    return Recorder(path, **{"interval": 0.02, "pictures": 0.05, **options})


def failed(events):
    return [e.data["error"] for e in events.of(EventKind.RECORD_FAILED)]


async def until(true, *, seconds=20):
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.02)


async def works(fleet, tasks=200):
    """The fleet is as well as without a record."""
    agent = await fleet.add("A", worker)
    for number in range(tasks):
        assert await agent.run("t", number) == number
    snapshot = agent.snapshot()
    assert (snapshot.lifecycle, snapshot.health) == ("running", 0)
    assert snapshot.succeeded == tasks
    assert snapshot.balanced
    return agent


@contextlib.asynccontextmanager
async def recorded(path, **options):
    """Run a fleet that is recorded; gives it, its recorder and what it tells."""
    record = recorder(path, **options)
    supervisor = Supervisor(CALM, recorder=record)
    events = capture(supervisor)
    async with supervisor as fleet:
        yield fleet, record, events


async def not_written(path, why, **options):
    """Run a fleet whose record cannot be written; returns what it told."""
    async with recorded(path, **options) as (fleet, record, events):
        assert why in record.problem
        await works(fleet)
        reading = fleet.snapshot().fleet.recorder
        assert not reading.up
        assert reading.errors >= 1
        assert fleet.interrupted() == ()
    (told,) = failed(events)
    assert why in told
    assert events.of(EventKind.RECORD_FAILED)[0].data["path"] == str(path)


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


async def a_record(path):
    async with Supervisor(CALM, recorder=recorder(path)) as fleet:
        await works(fleet, 50)


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


FULL = (
    "import asyncio, resource, signal, sys\n"
    "from fleetmon import *\n"
    "from fleetmon.record.store import Store\n"
    "real, pruned = Store.prune, []\n"
    "def prune(*args, **how):\n"
    "    pruned.append(real(*args, **how))\n"
    "    return pruned[-1]\n"
    "Store.prune = prune\n"
    "async def worker():\n"
    "    async def handle(x): return x\n"
    "    return handle\n"
    "async def main():\n"
    "    record = Recorder(sys.argv[1], interval=0.02, pictures=0.05)\n"
    "    async with Supervisor(recorder=record) as fleet:\n"
    "        agent = await fleet.add('A', worker)\n"
    "        limit = int(sys.argv[2])\n"
    "        if limit:\n"
    "            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))\n"
    "        for n in range(100_000):\n"
    "            await agent.run('t', n)\n"
    "            if n % 100 == 0: await agent.pause(); await agent.resume()\n"
    "            if record.problem and n > 1000: break\n"
    "        print('full', record.problem)\n"
    "        for n in range(100): await agent.run('t', n)\n"
    "        snapshot = agent.snapshot()\n"
    "        print(snapshot.balanced, snapshot.failed, snapshot.lifecycle)\n"
    "        events = [e.kind.value for e in fleet.recent_events()]\n"
    "        print(events.count('record_failed'), record.reading().errors > 0)\n"
    "        sys.stdout.flush(); sys.stdin.readline()\n"  # room is made meanwhile
    "        if limit:\n"
    "            resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))\n"
    "        while record.problem:\n"
    "            await asyncio.sleep(0.05)\n"
    "        await agent.run('t', 'after')\n"
    "        print('back', await asyncio.to_thread(record.flush))\n"
    "asyncio.run(main())\n"
    "print('forgot', any(pruned))\n"
)


def ran_full(path, limit, make_room):
    with subprocess.Popen(
        [sys.executable, "-c", FULL, str(path), str(limit)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        said = [process.stdout.readline() for _ in range(3)]
        make_room()
        rest, _ = process.communicate("\n", timeout=60)
    assert said[0].startswith("full "), said
    assert said[1:] == ["True 0 running\n", "1 True\n"]
    back, forgot = rest.splitlines()
    assert back == "back True"
    with Recording(path) as read:
        assert read.lives()[-1].ended == "stopped"
        last = read.tasks(limit=1)[0]
        ends = sorted(t.task_id for t in read.all_tasks())
        assert len(ends) == len(set(ends))
        lost = sum(gap.lost.get("tasks", 0) for gap in read.gaps())
        assert last.task_id == ends[-1]
        # the oldest is lacking only where it was forgotten to make room; from there on nothing is
        first = ends[0] if forgot == "forgot True" else 1
        assert len(ends) + lost >= ends[-1] - first + 1, "what is lacking is told"


def test_a_file_that_may_not_grow_any_more(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ran_full(tmp_path / "fleet.db", 300_000, lambda: None)
    assert resource.getrlimit(resource.RLIMIT_FSIZE) == before


@pytest.fixture
def small_disk(tmp_path):
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.getuid() != 0:
        pytest.skip("mounting a small disk takes root")
    made = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {made.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_is_full(small_disk):
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(1_600_000))
    ran_full(small_disk / "fleet.db", 0, ballast.unlink)


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


async def test_a_disk_that_hangs_holds_up_neither_tasks_nor_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr("fleetmon.record.recorder._CLOSING", 0.2)
    record = recorder(tmp_path / "fleet.db", limit=64)
    hung, over = threading.Event(), threading.Event()
    supervisor = Supervisor(CALM, recorder=record)
    async with supervisor as fleet:
        agent = await works(fleet, 10)
        await asyncio.to_thread(record.flush)

        def hang(*_args, **_more):
            hung.set()
            over.wait(30)
            return {}

        monkeypatch.setattr(record._desk, "write", hang)
        await until(hung.is_set)
        for number in range(300):
            await agent.run("t", number)
        assert agent.snapshot().succeeded == 310
        assert record.reading().drops["tasks"] > 100
        assert len(record._ends) <= 64 * WIDTH
    over.set()
    record._thread.join(10)


async def test_more_than_the_buffers_take_is_dropped_counted_and_told_in_the_record(tmp_path):
    path = tmp_path / "fleet.db"
    record = recorder(path, limit=100, interval=1.0)
    async with Supervisor(CALM, recorder=record) as fleet:
        agent = await fleet.add("A", worker)
        with agent.task("own"):  # no turn of the loop in between: the thread cannot keep up
            for _ in range(5000):
                with agent.task("t"):
                    pass
        assert await asyncio.to_thread(record.flush)
        dropped = fleet.snapshot().fleet.recorder.drops["tasks"]
    with Recording(path) as read:
        assert sum(gap.lost["tasks"] for gap in read.gaps()) == dropped
        assert len(read.tasks(limit=10_000)) + dropped == 5001
        assert read.interrupted() == ()


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
