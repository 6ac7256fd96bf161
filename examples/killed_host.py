"""Pathology: the whole process is killed in the middle of its work.

With a recorder the next start knows which tasks were cut off. Those of an agent with
``after_crash="redeliver"`` are delivered once more; of the others nobody knows how far they came.

Prints::

    the host is killed with 3 tasks at work
    NOTIFIER: send was cut off (uncertain)
    LEDGER: book was cut off (pending)
    LEDGER: book was cut off (pending)
    LEDGER books 10, attempt 2
    LEDGER books 20, attempt 2
    accepted 2, succeeded 2, redelivered 2
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from fleetmon import AgentSpec, Recorder, Supervisor

if TYPE_CHECKING:
    from fleetmon import Task

DURABLE = AgentSpec(capacity=2, after_crash="redeliver")


class Stuck:
    """Never gets done, so that its process is killed under it."""

    async def handle(self, task: Task) -> None:
        """Wait."""
        del task
        await asyncio.Event().wait()


class Ledger:
    """Books amounts; doing so twice must do no harm, since a task may come again."""

    async def handle(self, task: Task) -> None:
        """Book one."""
        print(f"LEDGER books {task.payload}, attempt {task.attempt}")


async def first_life(record: str) -> None:
    """Take work in, and be killed."""
    recorder = Recorder(record)
    async with Supervisor(recorder=recorder) as fleet:
        notifier = await fleet.add("NOTIFIER", Stuck)
        ledger = await fleet.add("LEDGER", Stuck, spec=DURABLE)
        await notifier.submit("send")
        for amount in (10, 20):
            await ledger.submit("book", amount)
        await asyncio.sleep(0)
        await asyncio.to_thread(recorder.flush)  # otherwise within half a second
        os.kill(os.getpid(), signal.SIGKILL)


async def second_life(record: str) -> None:
    """Find out what was cut off, and do what has to be done."""
    async with Supervisor(recorder=Recorder(record)) as fleet:
        for task in fleet.interrupted():
            print(f"{task.agent_id}: {task.task_type} was cut off ({task.fate})")
        ledger = await fleet.add("LEDGER", Ledger, spec=DURABLE)
        await fleet.drain()
        now = ledger.snapshot()
        print(
            f"accepted {now.assigned}, succeeded {now.succeeded}, "
            f"redelivered {now.numbers.redelivered}"
        )


def main() -> None:
    """Live twice."""
    with tempfile.TemporaryDirectory() as folder:
        record = str(Path(folder, "fleet.db"))
        killed = subprocess.run([sys.executable, __file__, record], check=False)  # noqa: S603 - this file
        if killed.returncode == -signal.SIGKILL:
            print("the host is killed with 3 tasks at work")
        asyncio.run(second_life(record))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(first_life(sys.argv[1]))
    else:
        main()
