"""No deadline of an agent passes while somebody else blocks the loop (14). In real time."""

from __future__ import annotations

import asyncio
import time

import pytest
from support import events_of, fleet_on, spec, until

from fleetmon import Deadlines, Probing, Watchdog

pytestmark = pytest.mark.anyio

QUICK = Watchdog(idle_interval=0.02, blocked_after=0.1, hard_after=30.0)
POLICY = spec(
    deadlines=Deadlines(start=0.4, stop=0.4, probe=0.4, drain=0.4), probing=Probing(every=0.01)
)


class Slowly:
    """Takes 0.15 s of a deadline of 0.4 s, and says when it has begun."""

    def __init__(self):
        self.begun = asyncio.Event()

    async def __call__(self):
        self.begun.set()
        await asyncio.sleep(0.15)


async def block_and_look(fleet, slowly):
    """Block the loop for longer than the deadline; nothing may have come of it."""
    await slowly.begun.wait()
    time.sleep(0.6)
    await until(lambda: events_of(fleet, "loop_freed"))
    await asyncio.sleep(0.2)
    for kind in ("lapsed", "zombie", "probe_failed", "start_failed"):
        assert not events_of(fleet, kind)


async def test_14_a_probe_that_is_out_does_not_fail_for_it():
    slowly = Slowly()
    async with fleet_on(virtual=False, watchdog=QUICK) as fleet:
        fleet.attach("B", probe=slowly.__call__, spec=POLICY)
        await block_and_look(fleet, slowly)


async def test_14_a_recovery_of_the_hosts_does_not_fail_for_it():
    slowly = Slowly()
    async with fleet_on(virtual=False, watchdog=QUICK) as fleet:
        agent = fleet.attach("B", recover=slowly.__call__, spec=POLICY)
        await agent.restart()
        await block_and_look(fleet, slowly)
        assert agent.generation == 2


async def test_14_an_agent_that_starts_does_not_fail_for_it():
    slowly = Slowly()

    class Starts:
        async def start(self):
            await slowly()

        async def handle(self, task):
            return 1

    async with fleet_on(virtual=False, watchdog=QUICK) as fleet:
        adding = asyncio.create_task(fleet.add("B", Starts, spec=POLICY))
        await block_and_look(fleet, slowly)
        assert (await adding).generation == 1


async def test_14_an_agent_that_stops_is_not_given_up_for_it():
    slowly = Slowly()

    class Stops:
        async def handle(self, task):
            return 1

        async def stop(self):
            await slowly()

    async with fleet_on(virtual=False, watchdog=QUICK) as fleet:
        agent = await fleet.add("B", Stops, spec=POLICY)
        await agent.stop()
        await block_and_look(fleet, slowly)
        assert agent.snapshot().actual == "stopped"


async def test_14_a_task_of_a_draining_agent_is_not_cancelled_for_it():
    slowly = Slowly()

    class Works:
        async def handle(self, task):
            await slowly()
            return "done"

    async with fleet_on(virtual=False, watchdog=QUICK) as fleet:
        agent = await fleet.add("B", Works, spec=POLICY)
        task = await agent.submit("x")
        await agent.drain()
        await block_and_look(fleet, slowly)
        assert await task == "done"
