"""Pathology: a blocked event loop. An agent calls ``time.sleep`` in a coroutine.

Nothing in the loop runs meanwhile, so a thread of the supervisor's own looks at it from outside and
names the agent, the task type and the line.

Prints::

    blocked by BLOCKER in task 'think', at blocked_loop.py in handle
    the line: time.sleep(0.6)
    BLOCKER's condition meanwhile: blocked_loop, health 1
    afterwards: BLOCKER health 0, BYSTANDER health 0
"""

from __future__ import annotations

import asyncio
import linecache
import time
from pathlib import Path

from fleetmon import Event, EventKind, Supervisor, Task


class Blocker:
    """Does synchronous waiting where it must not."""

    async def handle(self, task: Task) -> None:
        """Block the whole loop."""
        del task
        time.sleep(0.6)  # noqa: ASYNC251 - the mistake that this example shows


class Bystander:
    """Lives in the same loop."""

    async def handle(self, task: Task) -> object:
        """Return what it gets."""
        return task.payload


async def main() -> None:
    """Block the loop and look at what was reported."""
    async with Supervisor() as fleet:

        def report(event: Event) -> None:  # runs in a thread of its own, also while we block
            if event.kind is EventKind.LOOP_BLOCKED:
                data = event.data
                file = Path(data["file"]).name
                task_type, function = data["task_type"], data["function"]
                print(f"blocked by {event.agent_id} in task {task_type!r}, at {file} in {function}")
                line = linecache.getline(data["file"], data["line"]).partition("#")[0].strip()
                print("the line:", line)
                now = fleet.snapshot().agent(event.agent_id)
                names = ", ".join(condition.name for condition in now.conditions)
                print(f"BLOCKER's condition meanwhile: {names}, health {now.health}")

        fleet.subscribe(report)
        events = fleet.events()
        blocker = await fleet.add("BLOCKER", Blocker)
        bystander = await fleet.add("BYSTANDER", Bystander)
        await blocker.run("think")
        async for event in events:
            if event.kind is EventKind.HEALTH_CHANGED and event.data["after"] == 0:
                break
        first, second = blocker.snapshot().health, bystander.snapshot().health
        print(f"afterwards: BLOCKER health {first}, BYSTANDER health {second}")


if __name__ == "__main__":
    asyncio.run(main())
