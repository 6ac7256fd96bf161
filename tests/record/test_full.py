"""A disk that is full or hangs, and buffers that are full: what is lacking is told."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import subprocess
import sys
import threading

import pytest
from helpers_trouble import CALM, recorder, until, worker, works

from fleetmon import Recording, Supervisor
from fleetmon.record.pack import WIDTH

pytestmark = pytest.mark.anyio


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
