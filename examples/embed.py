"""Embed a supervisor in ten lines.

Prints::

    shouted: HELLO FLEET
    APEX is running, health 0, 1 task succeeded
"""

from __future__ import annotations

import asyncio

from fleetmon import Supervisor, Task


class Apex:
    """An agent is any class with a method that takes a task."""

    async def handle(self, task: Task) -> str:
        """Work on one task; what it returns goes back to the caller of ``run``."""
        return str(task.payload).upper()


async def main() -> None:
    """Run one agent and give it one task."""
    async with Supervisor() as fleet:
        apex = await fleet.add("APEX", Apex)
        print("shouted:", await apex.run("shout", "hello fleet", timeout=5))
        now = apex.snapshot()
        print(f"APEX is {now.lifecycle}, health {now.health}, {now.succeeded} task succeeded")


if __name__ == "__main__":
    asyncio.run(main())
