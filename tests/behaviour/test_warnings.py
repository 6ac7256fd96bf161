"""What a supervisor warns of, from its own facts and events."""

from __future__ import annotations

import asyncio

import pytest
from support import fleet_on, spec

from fleetmon import HangLimits, Intensity, Metrics, Watchdog

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


class Worker:
    async def handle(self, task):
        if isinstance(task.payload, Exception):
            raise task.payload
        await asyncio.sleep(task.payload or 0)


def told(fleet):
    return {(w.rule, w.agent_id) for w in fleet.warnings().instances}


async def test_a_fleet_that_is_well_warns_of_nothing():
    async with fleet_on() as fleet:
        agent = await fleet.add("A", Worker, spec=spec())
        await agent.run("x")
        fleet.attach("B")
        assert fleet.warnings() == ((), ())


async def test_conditions_lapses_and_task_types_become_warnings_and_go_again():
    metrics = Metrics(task_types=2)
    async with fleet_on(watchdog=Watchdog(stall_after=30.0), metrics=metrics) as fleet:
        calm = await fleet.add("CALM", Worker, spec=spec())
        lame = await fleet.add("LAME", Worker, spec=spec(hang=HangLimits(soft=5, hard=None)))
        tasks = [await lame.submit("x", 60.0) for _ in range(2)]
        await asyncio.sleep(40)
        assert told(fleet) == {("hang", "LAME"), ("stall", "LAME")}
        await asyncio.gather(*tasks)
        for task_type in "abc":
            await calm.run(task_type)
        assert told(fleet) == {("cardinality_overflow", "CALM")}


async def test_an_agent_that_comes_back_and_falls_flaps_and_nears_its_end():
    limits = Intensity(max_restarts=4, period=600)
    async with fleet_on() as fleet:
        agent = await fleet.add(
            "A", Worker, spec=spec(max_consecutive_failures=1, intensity=limits)
        )
        for _ in range(4):
            with pytest.raises(RuntimeError):
                await agent.run("x", RuntimeError("no"))
            while agent.snapshot().lifecycle != "running":
                await asyncio.sleep(0.1)
        assert told(fleet) == {("flapping", "A"), ("near_exhaustion", "A")}
        warnings = fleet.warnings()
        assert warnings.summaries == ("1 agent flaps", "1 agent has nearly spent its restarts")
        await agent.reset()
        assert told(fleet) == {("flapping", "A")}
        await asyncio.sleep(400)
        assert told(fleet) == set()
