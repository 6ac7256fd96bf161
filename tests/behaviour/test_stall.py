"""Work that waits while nothing finishes (15), in virtual time."""

from __future__ import annotations

import asyncio

import pytest
from support import events_of, fleet_on, outcome_of, spec

from fleetmon import HangLimits, Watchdog

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]

NEVER = HangLimits(soft=None, hard=None)


class Sleeper:
    async def handle(self, task):
        await asyncio.sleep(task.payload)
        return "done"


def conditions(agent):
    return {c.name for c in agent.snapshot().conditions}


async def test_15_work_waiting_and_nothing_finishing_is_a_stall_and_is_reported():
    async with fleet_on(watchdog=Watchdog(stall_after=30.0)) as fleet:
        agent = await fleet.add("A", Sleeper, spec=spec(hang=NEVER))
        tasks = [await agent.submit("x", 50.0) for _ in range(3)]
        await asyncio.sleep(29)
        assert conditions(agent) == set()
        await asyncio.sleep(2)
        assert conditions(agent) == {"stalled"}
        assert agent.snapshot().health == 1
        (event,) = events_of(fleet, "stalled", "A")
        assert event.data["waiting"] == 2
        await tasks[0]  # something finishes
        assert conditions(agent) == set()
        await asyncio.gather(*tasks)


async def test_15_a_body_that_takes_nothing_stalls_too():
    class Body:
        async def serve(self, agent):
            await asyncio.sleep(1e6)

    async with fleet_on(watchdog=Watchdog(stall_after=30.0)) as fleet:
        agent = await fleet.add("A", Body, spec=spec())
        await asyncio.sleep(100)
        task = await agent.submit("x")
        await asyncio.sleep(29)
        assert not events_of(fleet, "stalled")  # the quiet before it came does not count
        await asyncio.sleep(2)
        assert len(events_of(fleet, "stalled")) == 1
        task.cancel()
        await asyncio.sleep(1)
        assert conditions(agent) == set()
        assert outcome_of(task.future) == "cancelled"


async def test_15_a_long_task_alone_and_a_paused_queue_are_no_stall():
    async with fleet_on(watchdog=Watchdog(stall_after=30.0)) as fleet:
        agent = await fleet.add("A", Sleeper, spec=spec(hang=NEVER))
        await agent.run("x", 500.0)
        assert not events_of(fleet, "stalled")


async def test_15_tasks_that_gave_up_waiting_do_not_make_a_stall_of_those_after_them():
    async with fleet_on(watchdog=Watchdog(stall_after=30.0)) as fleet:
        agent = await fleet.add("A", Sleeper, spec=spec(hang=NEVER))
        slow = await agent.submit("x", 60.0)
        impatient = await agent.submit("x", 1.0, timeout=5.0)
        await asyncio.sleep(28)
        patient = await agent.submit("x", 1.0)
        await asyncio.sleep(10)
        # what waits has waited for ten seconds only; nothing finished for longer, though
        assert outcome_of(impatient.future) == "timed_out"
        assert len(events_of(fleet, "stalled")) <= 1
        await asyncio.gather(slow, patient)


async def test_15_a_task_handed_back_has_not_waited_since_before_its_agent_came_back():
    class Body:
        lives = 0

        async def serve(self, agent):
            Body.lives += 1
            if Body.lives > 1:
                agent.heartbeat()  # it is back, and has to read something before it takes work
                await asyncio.sleep(20)
            async for task in agent.tasks():
                if Body.lives == 1:
                    raise RuntimeError("away")
                task.done("done")

    async with fleet_on(watchdog=Watchdog(stall_after=30.0)) as fleet:
        agent = await fleet.add("A", Body, spec=spec(in_flight="requeue"))
        await asyncio.sleep(100)
        assert await agent.run("x") == "done"
        assert Body.lives == 2
        assert not events_of(fleet, "stalled")
