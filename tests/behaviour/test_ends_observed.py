"""Whoever observes the ends of tasks hears of each exactly once, and harms nobody."""

from __future__ import annotations

import asyncio

import pytest
from helpers_fleet import fleet_of

from fleetmon import AgentSpec
from fleetmon.numbers import CANCELLED, SUCCEEDED, TIMED_OUT

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


class Ends:
    def __init__(self, *, broken=False):
        self.heard = []
        self.broken = broken

    def ended(self, task):
        if self.broken:
            raise RuntimeError("broken")
        self.heard.append((task.id, task.outcome, bool(task.generation)))


async def sleeper():
    async def handle(seconds):
        await asyncio.sleep(seconds)

    return handle


async def test_an_observer_hears_of_every_end_also_of_tasks_that_never_began():
    ends = Ends()
    async with fleet_of() as (fleet, _):
        fleet.observe(ends)
        agent = await fleet.add("A", sleeper, spec=AgentSpec(capacity=1))
        first = await agent.submit("a", 10.0)
        late = await agent.submit("a", 1.0, timeout=5.0)
        gone = await agent.submit("a", 1.0)
        gone.cancel()
        await first
        with agent.task("own") as own:
            pass
    assert ends.heard == [
        (gone.id, CANCELLED, False),
        (late.id, TIMED_OUT, False),
        (first.id, SUCCEEDED, True),
        (own.id, SUCCEEDED, True),
    ]


async def test_several_observers_are_told_and_one_that_raises_is_counted_and_robs_nobody():
    before, broken, after = Ends(), Ends(broken=True), Ends()
    async with fleet_of() as (fleet, _):
        for observer in (before, broken, after):
            fleet.observe(observer)
        agent = await fleet.add("A", sleeper)
        await agent.run("a", 1.0)
        fleet.unobserve(before)
        await agent.run("a", 1.0)
        fleet.unobserve(broken)
        fleet.unobserve(after)
        await agent.run("a", 1.0)
        assert fleet.snapshot().fleet.hook_errors == 2
    assert [len(o.heard) for o in (before, broken, after)] == [1, 0, 2]
