"""Pathology: a crash loop. The agent crashes at once after every start.

It is restarted with growing delays. More than ``max_restarts`` lapses within ``period`` end in
quarantine, where a slow probe tries it again from time to time. Others do not notice.

Prints::

    LOOPER lapsed: its body raised
    LOOPER lapsed: its body raised
    LOOPER lapsed: its body raised
    LOOPER is quarantined, health 2, after 2 restarts
    STEADY is running, health 0
    after mending the cause and a reset: running, health 0
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fleetmon import AgentSpec, Backoff, EventKind, Intensity, Supervisor, Task

if TYPE_CHECKING:
    from fleetmon import Body

config = {"broken": True}


class Looper:
    """Pulls its own work, if it gets that far."""

    async def serve(self, agent: Body) -> None:
        """Crash as long as the configuration is broken."""
        if config["broken"]:
            raise RuntimeError("cannot read the configuration")
        async for task in agent.tasks():
            task.done()


class Steady:
    """Has nothing to do with it."""

    async def handle(self, task: Task) -> object:
        """Return what it gets."""
        return task.payload


async def main() -> None:
    """Watch the loop end in quarantine, then mend the cause."""
    async with Supervisor() as fleet:
        steady = await fleet.add("STEADY", Steady)
        events = fleet.events()
        spec = AgentSpec(
            backoff=Backoff(floor=0, base=0.01, cap=0.05),
            intensity=Intensity(max_restarts=2, period=60),
        )
        looper = await fleet.add("LOOPER", Looper, spec=spec)
        async for event in events:
            if event.kind is EventKind.LAPSED:
                print(f"{event.agent_id} lapsed: {event.data['reason']}")
            if event.kind is EventKind.QUARANTINED:
                break
        now = looper.snapshot()
        print(
            f"LOOPER is {now.lifecycle}, health {now.health}, after {now.numbers.restarts} restarts"
        )
        print(f"STEADY is {steady.snapshot().lifecycle}, health {steady.snapshot().health}")

        config["broken"] = False
        await looper.reset(reason="configuration mended", actor="example", wait=True, timeout=10)
        now = looper.snapshot()
        print(f"after mending the cause and a reset: {now.lifecycle}, health {now.health}")


if __name__ == "__main__":
    asyncio.run(main())
