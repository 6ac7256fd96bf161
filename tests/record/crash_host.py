"""A host that is killed in the middle of its work: ``crash_host.py RECORD TRUTH SEED TASKS``.

It tells the truth about every task in a file of its own, a line with one write: ``A`` accepted (and
to survive), ``B`` begun, ``E`` about to end; then the task's number and the wall clock.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time

from fleetmon import AgentSpec, Recorder, Supervisor, SupervisorSettings
from fleetmon.settings import Watchdog

INTERVAL = 0.25  # seconds between two commits


class Truth:
    def __init__(self, path):
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def tell(self, what, task_id, more=""):
        os.write(self._file, f"{what} {task_id} {time.time()!r} {more}\n".encode())


def works(truth, rng):
    class Works:
        async def handle(self, task):
            truth.tell("B", task.id)
            if rng.random() < 0.2:
                await asyncio.sleep(rng.random() * 0.3)
            truth.tell("E", task.id)

    return Works


def blocks(truth):
    class Blocks:
        def handle(self, task):
            truth.tell("B", task.id)
            time.sleep(0.001)
            truth.tell("E", task.id)

    return Blocks


async def feed(agent, rng, tasks):
    for _ in range(tasks):
        await agent.submit(rng.choice("abc"))


async def feed_durable(agent, truth, tasks):
    for number in range(tasks):
        task = await agent.submit("d", {"number": number})
        truth.tell("A", task.id, str(number))
        if number % 10 == 0:
            await asyncio.sleep(0.001)


async def around(agent, truth):
    while True:
        with agent.task("own") as task:
            truth.tell("B", task.id)
            await asyncio.sleep(0.002)
            truth.tell("E", task.id)


async def main(record, truth, seed, tasks):
    rng = random.Random(seed)
    spec = AgentSpec(capacity=8, queue=20)
    durable_spec = AgentSpec(capacity=4, queue=20, after_crash="redeliver")
    async with Supervisor(
        SupervisorSettings(watchdog=Watchdog(enabled=False)),
        recorder=Recorder(record, interval=INTERVAL, max_bytes=64 << 20),
    ) as fleet:
        agents = [await fleet.add(f"async-{n}", works(truth, rng), spec=spec) for n in range(4)]
        agents.append(await fleet.add("thread", blocks(truth), spec=spec))
        durable = await fleet.add("durable", works(truth, rng), spec=durable_spec)
        sys.stdout.write("at work\n")
        sys.stdout.flush()
        aside = asyncio.create_task(around(fleet.attach("own"), truth))
        await asyncio.gather(
            feed_durable(durable, truth, tasks // 6),
            *(feed(agent, rng, tasks // 6) for agent in agents),
        )
        aside.cancel()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Truth(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
