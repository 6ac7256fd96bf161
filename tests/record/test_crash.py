"""A kill of the whole process in the middle of many tasks, and the next start."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from fleetmon import AgentSpec, EventKind, Recorder, Recording, Supervisor
from fleetmon.testing import capture

pytestmark = pytest.mark.anyio

HERE = Path(__file__).parent
SOAK = int(os.environ.get("FLEETMON_SOAK_RECORD", "0"))
RUNS = SOAK or 5
TASKS = 100_000
SLACK = 0.1  # seconds between what a task says of itself and what happens to it


class Told(NamedTuple):
    """What the tasks themselves said: times by task, and numbers of those that are to survive."""

    begun: dict[int, float]
    ended: dict[int, float]
    accepted: dict[int, float]
    numbers: dict[int, int]
    killed: float


def killed_host(directory: Path, seed: int) -> Told:
    """Start a host, kill it at a random moment, and return what its tasks had said."""
    rng = random.Random(seed)
    with subprocess.Popen(
        [
            sys.executable,
            str(HERE / "crash_host.py"),
            str(directory / "fleet.db"),
            str(directory / "truth"),
            str(seed),
            str(TASKS),
        ],
        stdout=subprocess.PIPE,
        cwd=HERE.parent.parent,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"at work\n"
        time.sleep(rng.uniform(0.05, 4.0 if SOAK else 1.5))  # the moment is the test
        killed = time.time()  # and not after the wait, which a busy machine makes long
        process.send_signal(signal.SIGKILL)
        process.wait()
    told = Told({}, {}, {}, {}, killed)
    for line in (directory / "truth").read_text().splitlines():
        what, task_id, at, *more = line.split()
        {"B": told.begun, "E": told.ended, "A": told.accepted}[what][int(task_id)] = float(at)
        if more:
            told.numbers[int(task_id)] = int(more[0])
    return told


class Keeps:
    """Takes tasks over from a life that was killed, and remembers them."""

    def __init__(self, seen):
        self.seen = seen

    async def handle(self, task):
        self.seen.append((task.payload["number"], task.attempt))


@pytest.mark.parametrize("seed", range(RUNS))
async def test_after_a_kill_the_record_is_exact_as_of_its_last_commit(tmp_path, seed):
    told = await asyncio.to_thread(killed_host, tmp_path, seed)
    with Recording(tmp_path / "fleet.db") as record:
        (life,) = record.lives()
        assert life.ended == "crashed"
        assert told.killed - life.last < 1.0, "the last commit is more than a second old"
        recorded = [task.task_id for task in record.all_tasks()]
        left = {task.task_id: task for task in record.interrupted()}
        assert not record.gaps()
        if life.last - life.began > 1.0:  # there has been time for a picture
            assert record.at(life.last).state == "recorded"
    settled = life.last - SLACK
    ended = Counter(recorded)
    # none is doubled, and each is either ended or uncertain
    assert max(ended.values(), default=1) == 1
    assert not ended.keys() & left.keys()
    # nothing is told that did not happen, and nothing lacks that had happened by then
    assert ended.keys() <= told.ended.keys()
    assert {i for i, at in told.ended.items() if at < settled} <= ended.keys()
    running = {i for i, task in left.items() if not task.waiting}
    handed_out = {i for i, task in left.items() if told.killed - task.since < 1.0}
    assert running <= told.begun.keys() | handed_out  # it may not have come to say anything
    assert {i for i, at in told.begun.items() if at < settled} <= ended.keys() | left.keys()
    # what waits is told only where its policy keeps it, and then all of it
    waiting = {i for i, task in left.items() if task.waiting}
    kept = {i for i, task in left.items() if task.fate == "pending"}
    assert waiting <= kept
    assert {task.agent_id for i, task in left.items() if i in kept} <= {"durable"}
    assert {i for i, at in told.accepted.items() if at < settled} <= ended.keys() | kept
    assert {task.fate for i, task in left.items() if i not in kept} <= {"uncertain"}
    await the_next_start_tells_and_delivers_again(tmp_path, told, left, kept)


async def the_next_start_tells_and_delivers_again(tmp_path, told, left, kept):
    seen = []
    supervisor = Supervisor(recorder=Recorder(tmp_path / "fleet.db"))
    events = capture(supervisor)
    async with supervisor as fleet:
        assert {task.task_id: task for task in fleet.interrupted()} == left
        (found,) = [e for e in events.events if e.kind is EventKind.INTERRUPTED]
        assert (found.data["tasks"], found.data["pending"]) == (len(left), len(kept))
        spec = AgentSpec(capacity=3, after_crash="redeliver")
        agent = await fleet.add("durable", lambda: Keeps(seen), spec=spec)
        # those that had just been accepted may have been killed before they could say so
        expected = [told.numbers[i] for i in kept if i in told.numbers]
        async with asyncio.timeout(20):
            while len(seen) < len(kept):
                await asyncio.sleep(0.01)
        assert set(expected) <= {number for number, _ in seen}
        assert len({number for number, _ in seen}) == len(seen) == len(kept)
        assert {attempt for _, attempt in seen} <= {2}
        await agent.run("d", {"number": -1})
        now = agent.snapshot()
        assert now.balanced
        assert (now.assigned, now.succeeded) == (len(kept) + 1, len(kept) + 1)
        assert now.numbers.redelivered == len(kept)
        assert {t.fate for t in fleet.interrupted()} <= {"uncertain", "redelivered"}
    async with Supervisor(recorder=Recorder(tmp_path / "fleet.db")) as fleet:
        await fleet.add("durable", lambda: Keeps(seen), spec=spec)
        assert fleet.interrupted() == (), "told once, delivered once"
