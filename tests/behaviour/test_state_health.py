"""The health gauge: 0, 1 and 2 as the table of section State says."""

from __future__ import annotations

import asyncio

import pytest
from helpers_fleet import fleet_of, steady

from fleetmon import HangLimits, HealthPolicy, Quarantine
from fleetmon.testing import ScriptedAgent, ScriptedError, Step

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]

CRASH = Step.crash()
DENIED = Step.fail(PermissionError)


class ThrottledError(Exception):
    """What a backend says that wants less."""


def gauge(fleet) -> int:
    return fleet.snapshot().agent("A").health


async def fail(agent, times=1):
    for _ in range(times):
        await asyncio.gather(agent.run("work"), return_exceptions=True)


class TestZero:
    async def test_first_starting_and_running_without_conditions(self, clock):
        async with fleet_of() as (fleet, _):
            adding = asyncio.ensure_future(
                fleet.add("A", ScriptedAgent(start=[Step.wait(10)], serve=[Step.hang()]))
            )
            await asyncio.sleep(5)
            assert (fleet.snapshot().agent("A").lifecycle, gauge(fleet)) == ("starting", 0)
            await adding
            assert (fleet.snapshot().agent("A").lifecycle, gauge(fleet)) == ("running", 0)

    @pytest.mark.parametrize("command", ["pause", "drain", "stop", "quarantine"])
    async def test_taken_down_by_an_operator_when_it_was_healthy_before(self, clock, command):
        async with fleet_of() as (fleet, cap):
            await fleet.add("A", ScriptedAgent(serve=[Step.hang()]))
            await fleet.command(command, "A", wait=True)
            await asyncio.sleep(50)
            assert gauge(fleet) == 0
            assert not cap.of("health_changed")

    async def test_a_commanded_restart_of_a_healthy_agent_stays_healthy(self, clock):
        async with fleet_of() as (fleet, cap):
            agent = await fleet.add("A", ScriptedAgent(start=[Step.wait(1)], stop=[Step.wait(1)]))
            await agent.restart(wait=True)
            assert not cap.of("health_changed")


class TestOne:
    async def test_recovering_and_probing(self, clock):
        slow = [Step.succeed(), Step.wait(5)]
        lives = ScriptedAgent(start=slow, serve=[CRASH, DENIED, Step.hang()])
        async with fleet_of() as (fleet, cap):
            agent = await fleet.add("A", lives, spec=steady())
            seen = []
            for state in ("backing_off", "recovering", "quarantined", "probing", "recovering"):
                await cap.until(lambda state=state: agent.snapshot().lifecycle == state)
                seen.append(gauge(fleet))
            assert seen == [2, 1, 2, 1, 1]
            await cap.wait_for("verified", "A")
            assert gauge(fleet) == 0

    async def test_only_verified_progress_brings_0_back(self, clock):
        lives = ScriptedAgent(serve=[CRASH, [Step.wait(2), Step.heartbeat(), Step.hang()]])
        async with fleet_of() as (fleet, cap):
            await fleet.add("A", lives, spec=steady(verify={"timeout": 30, "idle_after": 30}))
            await cap.wait_for("verified", "A")
            changes = [(e.data["before"], e.data["after"]) for e in cap.of("health_changed")]
            assert changes == [(0, 2), (2, 1), (1, 0)]

    async def test_a_single_throttle_degrades_and_passes(self, clock):
        error = ThrottledError("slow down")
        error.status_code = 429
        async with fleet_of() as (fleet, _):
            agent = await fleet.add("A", ScriptedAgent(handle=[Step.fail(error), Step.succeed()]))
            await fail(agent)
            assert ([c.name for c in agent.snapshot().conditions], gauge(fleet)) == (
                ["throttled"],
                1,
            )
            await agent.run("work")
            assert gauge(fleet) == 0

    async def test_throttles_however_many_never_flip_to_failed(self, clock):
        error = ThrottledError("slow down")
        error.status_code = 429
        async with fleet_of() as (fleet, cap):
            agent = await fleet.add("A", ScriptedAgent(handle=[Step.fail(error)]))
            await fail(agent, 50)
            assert gauge(fleet) == 1
            assert not cap.of("lapsed")

    async def test_a_soft_hang_is_suspect_until_it_gets_on(self, clock):
        script = [Step.wait(8), Step.heartbeat(), Step.wait(2), Step.succeed()]
        async with fleet_of() as (fleet, _):
            spec = steady(hang=HangLimits(soft=5, hard=100))
            agent = await fleet.add("A", ScriptedAgent(handle=[script]), spec=spec)
            task = await agent.submit("work")
            await asyncio.sleep(7)
            (condition,) = agent.snapshot().conditions
            assert (condition.name, gauge(fleet)) == ("suspect", 1)
            assert 5 <= condition.since <= 5.5
            assert condition.reason
            await asyncio.sleep(2)
            assert (agent.snapshot().conditions, gauge(fleet)) == ((), 0)
            await task

    async def test_conditions_stand_side_by_side_each_with_since_and_reason(self, clock):
        error = ThrottledError("slow down")
        error.status_code = 429
        lives = ScriptedAgent(
            serve=[Step.swallow(300), Step.hang()], handle=[*[Step.fail()] * 4, Step.fail(error)]
        )
        async with fleet_of() as (fleet, _):
            spec = steady(health=HealthPolicy(min_tasks=4), max_consecutive_failures=None)
            agent = await fleet.add("A", lives, spec=spec)
            await agent.restart(wait=True)
            await fail(agent, 5)
            conditions = {c.name: c for c in agent.snapshot().conditions}
            assert set(conditions) == {"zombie", "failing", "throttled"}
            since = {name: c.since for name, c in conditions.items()}
            assert since == {"zombie": 5, "failing": 6, "throttled": 6}
            assert all(c.reason for c in conditions.values())
            assert gauge(fleet) == 1


class TestTwo:
    async def test_lapsed_and_not_serving_from_the_first_moment(self, clock):
        lives = ScriptedAgent(serve=[[Step.wait(1), CRASH]], stop=[Step.wait(3)])
        async with fleet_of() as (fleet, cap):
            await fleet.add("A", lives, spec=steady())
            await cap.wait_for("lapsed", "A")
            assert (fleet.snapshot().agent("A").lifecycle, gauge(fleet)) == ("stopping", 2)
            await cap.wait_for("backing_off", "A")
            assert gauge(fleet) == 2

    @pytest.mark.parametrize("command", ["stop", "drain", "pause", "quarantine"])
    async def test_an_operator_who_takes_down_a_lapsed_agent_does_not_heal_it(self, clock, command):
        async with fleet_of() as (fleet, cap):
            await fleet.add("A", ScriptedAgent(serve=[CRASH]), spec=steady())
            await cap.wait_for("backing_off", "A")
            await fleet.command(command, "A", wait=True)
            assert gauge(fleet) == 2
            await asyncio.sleep(50)
            assert gauge(fleet) == 2

    async def test_quarantined_by_exhaustion_without_probe_stays_2(self, clock):
        async with fleet_of() as (fleet, _):
            spec = steady(quarantine=Quarantine(probe_interval=None))
            await fleet.add("A", ScriptedAgent(serve=[DENIED]), spec=spec)
            await asyncio.sleep(1000)
            assert gauge(fleet) == 2

    async def test_start_after_a_lapse_is_degraded_not_healthy(self, clock):
        lives = ScriptedAgent(start=[Step.succeed(), Step.wait(5)], serve=[CRASH, Step.hang()])
        async with fleet_of() as (fleet, _):
            agent = await fleet.add("A", lives, spec=steady(restart="temporary"))
            await asyncio.sleep(1)
            assert (agent.snapshot().lifecycle, gauge(fleet)) == ("stopped", 2)
            await agent.start()
            assert (agent.snapshot().lifecycle, gauge(fleet)) == ("recovering", 1)
            await asyncio.sleep(10)
            assert gauge(fleet) == 0


class TestNeither:
    async def test_a_single_failed_task_does_not_colour_an_agent(self, clock):
        async with fleet_of() as (fleet, cap):
            agent = await fleet.add("A", ScriptedAgent(handle=[Step.fail()]))
            with pytest.raises(ScriptedError):
                await agent.run("work")
            assert gauge(fleet) == 0
            assert not cap.of("condition_raised")

    async def test_a_cancelled_task_is_no_failure(self, clock):
        async with fleet_of() as (fleet, cap):
            agent = await fleet.add("A", ScriptedAgent(handle=[Step.hang()]))
            for _ in range(10):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(1):
                        await agent.run("work")
            await clock.idle()  # its caller is told before the task has ended
            assert (agent.snapshot().cancelled, agent.snapshot().failed, gauge(fleet)) == (10, 0, 0)
            assert not cap.of("lapsed")

    async def test_a_task_that_is_cancelled_before_its_first_step_is_booked_and_frees_its_slot(
        self, clock
    ):
        async with fleet_of() as (fleet, _):
            agent = await fleet.add("A", ScriptedAgent(handle=[Step.succeed("x")]))
            task = await agent.submit("work")
            task.cancel()
            with pytest.raises(Exception, match="cancel"):
                await asyncio.wait_for(task.future, 10)
            assert agent.snapshot().cancelled == 1
            assert await asyncio.wait_for(agent.run("work"), 10) == "x"

    async def test_the_failure_rate_clears_with_better_times(self, clock):
        lives = ScriptedAgent(handle=[*[Step.fail()] * 6, Step.succeed()])
        async with fleet_of() as (fleet, _):
            spec = steady(max_consecutive_failures=None, health=HealthPolicy(window=30))
            agent = await fleet.add("A", lives, spec=spec)
            await fail(agent, 6)
            assert gauge(fleet) == 1
            await asyncio.sleep(40)
            assert gauge(fleet) == 0
