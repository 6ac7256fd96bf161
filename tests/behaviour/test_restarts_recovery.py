"""Verified recovery, permanent errors, first start, counters (behaviours 8, 9, 11, 22, 23)."""

from __future__ import annotations

import asyncio
import math
from itertools import pairwise

import pytest
from helpers_fleet import fleet_of, steady

from fleetmon import (
    AgentSpec,
    AgentStartError,
    Backoff,
    Deadlines,
    Intensity,
    Metrics,
    Quarantine,
    SpecError,
    UnknownAgentError,
    Verification,
)
from fleetmon.testing import ScriptedAgent, ScriptedError, Step

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]

CRASH = Step.crash()
DENIED = Step.fail(PermissionError)
STRICT = Verification(timeout=30.0, idle_after=1000.0)  # being alive is not enough


class TestVerifiedRecovery:
    async def test_08_a_restart_leads_to_recovering_and_gauge_1_until_verified(self, clock):
        async with fleet_of() as (fleet, cap):
            lives = ScriptedAgent(serve=[CRASH, [Step.wait(5), Step.heartbeat(), Step.hang()]])
            agent = await fleet.add("A", lives, spec=steady(verify=STRICT))
            await cap.wait_for("started", "A", count=2)
            assert (agent.snapshot().lifecycle, agent.snapshot().health) == ("recovering", 1)
            event = await cap.wait_for("verified", "A")
            assert (event.monotonic, event.data["by"]) == (6, "progress")
            assert (agent.snapshot().lifecycle, agent.snapshot().health) == ("running", 0)
            assert agent.snapshot().numbers.recoveries[0] == 1

    async def test_08_a_probe_verifies(self, clock):
        async with fleet_of() as (fleet, cap):
            lives = ScriptedAgent(serve=[CRASH, Step.hang()], probe=[[Step.wait(2)]])
            await fleet.add("A", lives, spec=steady(verify=STRICT))
            event = await cap.wait_for("verified", "A")
            assert (event.monotonic, event.data["by"]) == (3, "probe")

    async def test_08_a_finished_task_verifies_a_failed_one_does_not(self, clock):
        lives = ScriptedAgent(handle=[CRASH, Step.fail(), Step.succeed(1)])
        async with fleet_of() as (fleet, cap):
            agent = await fleet.add("A", lives, spec=steady(verify=STRICT))
            with pytest.raises(ScriptedError):
                await agent.run("work")
            await cap.wait_for("started", "A", count=2)
            with pytest.raises(ScriptedError):
                await agent.run("work")
            assert agent.snapshot().lifecycle == "recovering"
            assert await agent.run("work") == 1
            assert agent.snapshot().lifecycle == "running"
            assert cap.of("verified")[0].data["by"] == "progress"

    async def test_08_progress_of_an_older_life_verifies_nothing(self, clock):
        old = [Step.swallow(10), Step.heartbeat(), Step.hang()]
        lives = ScriptedAgent(serve=[old, Step.hang()], handle=[CRASH])
        async with fleet_of() as (fleet, cap):
            agent = await fleet.add("A", lives, spec=steady(verify=STRICT))
            with pytest.raises(ScriptedError):
                await agent.run("work")
            await cap.wait_for("started", "A", count=2)
            await asyncio.sleep(15)
            assert agent.snapshot().lifecycle == "recovering"
            assert fleet.snapshot().fleet.late_results >= 1

    async def test_08_a_verification_that_times_out_is_a_failed_attempt(self, clock):
        async with fleet_of() as (fleet, cap):
            spec = steady(verify=STRICT, intensity=Intensity(max_restarts=2, period=1000))
            lives = ScriptedAgent(serve=[CRASH, Step.hang()])
            agent = await fleet.add("A", lives, spec=spec)
            await cap.wait_for("quarantined", "A")
            assert [e.monotonic for e in cap.of("lapsed")] == [0, 31, 62]
            assert [e.monotonic for e in cap.of("verify_failed")] == [31, 62]
            assert tuple(agent.snapshot().numbers.recoveries) == (0, 2)

    async def test_08_a_probe_that_fails_or_hangs_is_a_failed_attempt(self, clock):
        lives = ScriptedAgent(
            serve=[CRASH, Step.hang()],
            probe=[Step.fail(), Step.hang(), Step.succeed(False), Step.succeed()],
        )
        async with fleet_of() as (fleet, cap):
            agent = await fleet.add("A", lives, spec=steady(deadlines=Deadlines(probe=4.0)))
            await cap.wait_for("verified", "A")
            assert [e.monotonic for e in cap.of("probe_failed")] == [1, 6, 7]
            assert clock.monotonic() == 8
            assert tuple(agent.snapshot().numbers.recoveries) == (1, 3)

    async def test_08_an_agent_with_no_traffic_becomes_healthy_too(self, clock):
        async with fleet_of() as (fleet, cap):
            agent = await fleet.add("A", ScriptedAgent(serve=[CRASH, Step.hang()]), spec=steady())
            event = await cap.wait_for("verified", "A")
            assert (event.data["by"], agent.snapshot().health) == ("alive", 0)

    async def test_08_a_lapse_in_recovering_goes_back_to_backing_off(self, clock):
        async with fleet_of() as (fleet, cap):
            lives = ScriptedAgent(serve=[CRASH, [Step.wait(0.5), CRASH], Step.hang()])
            agent = await fleet.add("A", lives, spec=steady())
            await cap.wait_for("backing_off", "A", count=2)
            assert agent.snapshot().lifecycle == "backing_off"
            assert tuple(agent.snapshot().numbers.recoveries) == (0, 1)


class TestPermanentErrors:
    SPEC = steady(quarantine=Quarantine(probe_interval=60.0, probe_timeout=10.0))

    @pytest.mark.parametrize("where", ["factory", "start", "serve"])
    async def test_09_a_permanent_error_of_start_or_body_goes_to_quarantine_at_once(
        self, clock, where
    ):
        scripts = {"serve": [Step.succeed(), DENIED], where: [Step.succeed(), DENIED]}
        async with fleet_of() as (fleet, cap):
            lives = ScriptedAgent(**scripts)
            agent = await fleet.add("A", lives, spec=self.SPEC)
            event = await cap.wait_for("quarantined", "A")
            assert event.monotonic == 1
            assert "permanent" in event.data["reason"]
            assert (len(cap.of("backing_off")), agent.snapshot().health) == (1, 2)
            assert agent.snapshot().retry_in == 60

    async def test_09_a_permanent_error_of_a_task_only_fails_that_task(self, clock):
        lives = ScriptedAgent(handle=[*[DENIED] * 20, Step.succeed(1)])
        async with fleet_of() as (fleet, cap):
            agent = await fleet.add("A", lives, spec=self.SPEC)
            for _ in range(20):
                with pytest.raises(PermissionError):
                    await agent.run("work")
            assert not cap.of("lapsed")
            assert agent.snapshot().lifecycle == "running"
            assert agent.snapshot().failed == 20

    async def test_09_one_permanent_error_of_a_task_does_not_colour_the_agent(self, clock):
        async with fleet_of() as (fleet, _):
            agent = await fleet.add("A", ScriptedAgent(handle=[DENIED]), spec=self.SPEC)
            with pytest.raises(PermissionError):
                await agent.run("work")
            assert agent.snapshot().health == 0

    async def test_09_the_slow_probe_of_a_quarantine_brings_the_agent_back(self, clock):
        lives = ScriptedAgent(serve=[DENIED, Step.hang()])
        async with fleet_of() as (fleet, cap):
            agent = await fleet.add("A", lives, spec=self.SPEC)
            await cap.wait_for("probing", "A")
            assert clock.monotonic() == 60
            await cap.wait_for("recovering", "A")
            assert agent.snapshot().health == 1
            await cap.wait_for("verified", "A")
            assert (agent.snapshot().health, lives.lives) == (0, 2)

    async def test_09_a_probe_that_fails_goes_back_to_quarantine_for_ever_trying(self, clock):
        probes = [Step.fail(), Step.succeed()]
        lives = ScriptedAgent(serve=[DENIED, CRASH, Step.hang()], probe=probes)
        async with fleet_of() as (fleet, cap):
            agent = await fleet.add("A", lives, spec=self.SPEC)
            await cap.wait_for("lapsed", "A", count=2)
            await asyncio.sleep(1)
            now = agent.snapshot()
            assert (now.lifecycle, now.health, now.retry_in) == ("quarantined", 2, 59)
            await cap.wait_for("verified", "A")
            assert [e.monotonic for e in cap.of("probing")] == [60, 120, 180]
            assert not cap.of("backing_off")

    async def test_09_a_probing_agent_is_gauge_1_and_a_lapse_there_is_a_failed_attempt(self, clock):
        lives = ScriptedAgent(serve=[DENIED, Step.hang()], probe=[[Step.wait(5), Step.fail()]])
        async with fleet_of() as (fleet, cap):
            agent = await fleet.add("A", lives, spec=self.SPEC)
            await cap.wait_for("probing", "A")
            await asyncio.sleep(2)
            assert (agent.snapshot().lifecycle, agent.snapshot().health) == ("probing", 1)
            await cap.wait_for("probe_failed", "A")
            await asyncio.sleep(1)
            assert (agent.snapshot().lifecycle, agent.snapshot().health) == ("quarantined", 2)
            assert tuple(agent.snapshot().numbers.recoveries) == (0, 1)

    async def test_09_the_probe_can_be_turned_off(self, clock):
        lives = ScriptedAgent(serve=[DENIED])
        async with fleet_of() as (fleet, _):
            spec = steady(quarantine=Quarantine(probe_interval=None))
            agent = await fleet.add("A", lives, spec=spec)
            await asyncio.sleep(5000)
            assert (lives.lives, agent.snapshot().retry_in) == (1, None)

    async def test_09_reset_clears_a_quarantine_into_recovering(self, clock):
        lives = ScriptedAgent(serve=[DENIED, CRASH, Step.hang()])
        async with fleet_of() as (fleet, cap):
            agent = await fleet.add("A", lives, spec=self.SPEC)
            await cap.wait_for("quarantined", "A")
            await agent.reset()
            assert agent.snapshot().lifecycle == "recovering"
            # it is an ordinary recovery: a lapse backs off, it does not go back to quarantine
            await cap.wait_for("backing_off", "A")
            await cap.wait_for("verified", "A")
            await asyncio.sleep(500)
            assert (agent.snapshot().lifecycle, lives.lives) == ("running", 3)

    async def test_09_who_waits_for_a_reset_waits_for_the_verified_recovery(self, clock):
        lives = ScriptedAgent(serve=[DENIED, CRASH, Step.hang()])
        async with fleet_of() as (fleet, cap):
            agent = await fleet.add("A", lives, spec=self.SPEC)
            await cap.wait_for("quarantined", "A")
            result = await agent.reset(wait=True)
            assert (result.settled, result.state, lives.lives) == (True, "running", 3)
            assert agent.snapshot().health == 0

    async def test_09_a_reset_that_ends_in_quarantine_again_has_not_come_about(self, clock):
        lives = ScriptedAgent(serve=[DENIED, DENIED])
        async with fleet_of() as (fleet, cap):
            agent = await fleet.add("A", lives, spec=self.SPEC)
            await cap.wait_for("quarantined", "A")
            result = await agent.reset(wait=True)
            assert (result.settled, result.state) == (False, "quarantined")

    async def test_09_a_reset_of_one_that_is_to_rest_is_waited_for_at_no_time(self, clock):
        async with fleet_of() as (fleet, _):
            agent = await fleet.add("A", ScriptedAgent(serve=[Step.hang()]), spec=self.SPEC)
            await agent.pause()
            assert (await agent.reset(wait=True)).settled is not False
            await agent.stop(wait=True)
            assert (await agent.reset(wait=True)).settled is not False

    async def test_09_an_operators_quarantine_has_no_probes(self, clock):
        lives = ScriptedAgent(serve=[Step.hang()])
        async with fleet_of() as (fleet, _):
            agent = await fleet.add("A", lives, spec=self.SPEC)
            await agent.quarantine(wait=True)
            await asyncio.sleep(5000)
            assert (lives.lives, agent.snapshot().lifecycle) == (1, "quarantined")
            result = await agent.reset(wait=True)
            assert (result.settled, agent.snapshot().health, lives.lives) == (True, 0, 2)


class TestFirstStart:
    @pytest.mark.parametrize("where", ["factory", "start"])
    async def test_11_it_surfaces_from_add_with_its_cause_and_registers_nothing(self, clock, where):
        async with fleet_of() as (fleet, _):
            error = ScriptedError("no model file")
            with pytest.raises(AgentStartError, match="no model file") as caught:
                await fleet.add("A", ScriptedAgent(**{where: [Step.fail(error)]}))
            assert caught.value.__cause__ is error
            assert fleet.agents == ()
            with pytest.raises(UnknownAgentError):
                fleet.agent("A")
            await asyncio.sleep(100)
            agent = await fleet.add("A", ScriptedAgent())  # the id is free
            assert agent.snapshot().health == 0

    async def test_11_a_start_that_hangs_is_bounded(self, clock):
        lives = ScriptedAgent(start=[Step.swallow(50)])
        async with fleet_of() as (fleet, _):
            with pytest.raises(AgentStartError, match="not up within 7 s"):
                await fleet.add("A", lives, spec=AgentSpec(deadlines=Deadlines(start=7)))
            assert clock.monotonic() == 7

    async def test_11_recover_registers_and_goes_on_trying(self, clock):
        lives = ScriptedAgent(start=[Step.fail(), Step.fail(), Step.succeed()])
        async with fleet_of() as (fleet, cap):
            agent = await fleet.add("A", lives, spec=steady(on_start_failure="recover"))
            assert (agent.snapshot().health, clock.monotonic()) == (2, 0)
            await cap.wait_for("verified", "A")
            assert (agent.snapshot().health, lives.lives) == (0, 3)

    async def test_11_an_add_that_is_cancelled_leaves_nothing(self, clock):
        lives = ScriptedAgent(start=[Step.wait(10)])
        async with fleet_of() as (fleet, _):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(3):
                    await fleet.add("A", lives)
            await asyncio.sleep(100)
            assert fleet.agents == ()
            assert [m.what for m in lives.journal] == ["begins", "cancelled"]

    @pytest.mark.parametrize("command", ["stop", "drain", "quarantine", "shutdown"])
    async def test_11_a_command_that_ends_the_first_start_also_ends_the_wait_of_add(
        self, clock, command
    ):
        async with fleet_of() as (fleet, _):
            adding = asyncio.ensure_future(fleet.add("A", ScriptedAgent(start=[Step.hang()])))
            await clock.idle()
            if command == "shutdown":
                await fleet.shutdown()
            else:
                await fleet.command(command, "A")
            with pytest.raises(AgentStartError):
                await asyncio.wait_for(adding, 20)


class TestCounters:
    def counters(self, agent):
        numbers = agent.snapshot().numbers  # the handle also shows an agent that was removed
        return [
            numbers.assigned,
            numbers.restarts,
            numbers.recovery_attempts,
            *numbers.recoveries,
            *numbers.failures.values(),
            *(n for t in numbers.types for n in t.outcomes),
        ]

    async def test_22_counters_never_go_back_when_an_agent_is_restarted_or_re_added(self, clock):
        async with fleet_of() as (fleet, cap):
            seen = []
            for life in range(3):
                lives = ScriptedAgent(handle=[Step.succeed(), Step.fail(), CRASH])
                agent = await fleet.add("A", lives, spec=steady(capacity=life + 1))
                seen.append(self.counters(agent))
                for _ in range(3):
                    await asyncio.gather(agent.run("work"), return_exceptions=True)
                await cap.wait_for("verified", "A", count=2 * life + 1)
                await agent.restart(wait=True)
                seen.append(self.counters(agent))
                await fleet.remove("A")
                seen.append(self.counters(agent))
            for before, after in pairwise(seen):
                assert all(b <= a for b, a in zip(before, after, strict=False))
            now = agent.snapshot()
            assert (now.assigned, now.succeeded, now.failed) == (9, 3, 6)
            assert now.generation >= 9

    async def test_22_restarting_agents_count_against_the_limit_of_agents(self, clock):
        async with fleet_of(metrics=Metrics(agents=2)) as (fleet, cap):
            for name in "AB":
                await fleet.add(name, ScriptedAgent(serve=[CRASH]), spec=steady())
            await cap.wait_for("backing_off", "B")
            with pytest.raises(SpecError, match="admits 2"):
                await fleet.add("C", ScriptedAgent())


class TestExplain:
    @pytest.mark.parametrize("restarts", [0, 1, 3])
    async def test_23_the_worst_case_is_what_the_worst_agent_measures(self, clock, restarts):
        # starts as late as allowed, shows no progress, and swallows the cancellation each time
        spec = AgentSpec(
            backoff=Backoff(floor=4.0, base=4.0, cap=4.0),
            intensity=Intensity(max_restarts=restarts, period=10_000),
            deadlines=Deadlines(start=20.0, stop=5.0),
            verify=Verification(timeout=30.0, idle_after=1000.0),
        )
        late = Step.wait(20.0 - 1e-6)
        body = [Step.swallow(9000)]
        lives = ScriptedAgent(start=[Step.succeed(), late], serve=[body], handle=[CRASH])
        async with fleet_of() as (fleet, cap):
            agent = await fleet.add("A", lives, spec=spec)
            with pytest.raises(ScriptedError):
                await agent.run("work")
            quarantined = await cap.wait_for("quarantined", "A")
            measured = quarantined.monotonic - cap.of("lapsed")[0].monotonic
            told = fleet.explain("A")
            assert measured <= told.worst_seconds
            assert measured == pytest.approx(told.worst_seconds, abs=0.01)
            assert told.attempts == restarts == agent.snapshot().numbers.restarts

    async def test_23_the_best_case_is_what_the_quickest_failure_measures(self, clock):
        spec = steady(intensity=Intensity(max_restarts=4, period=100))
        async with fleet_of() as (fleet, cap):
            await fleet.add("A", ScriptedAgent(serve=[CRASH]), spec=spec)
            quarantined = await cap.wait_for("quarantined", "A")
            assert quarantined.monotonic == fleet.explain("A").best_seconds == 4

    async def test_23_what_never_exhausts_is_said_to_take_for_ever(self, clock):
        spec = steady(intensity=Intensity(max_restarts=2, period=1.5))
        async with fleet_of() as (fleet, cap):
            await fleet.add("A", ScriptedAgent(serve=[CRASH]), spec=spec)
            await cap.wait_for("lapsed", "A", count=20)
            assert fleet.explain("A").best_seconds == math.inf
            assert not cap.of("quarantined")
