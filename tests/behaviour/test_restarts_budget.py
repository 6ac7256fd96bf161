"""Restarts: intensity, exhaustion, backoff and the streak (behaviours 1 to 4, and 12)."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise

import pytest
from helpers_fleet import fleet_of, steady

from fleetmon import (
    AgentSpec,
    Backoff,
    Intensity,
    Quarantine,
    Roster,
    RosterEntry,
    Supervisor,
    SupervisorSettings,
    Verification,
)
from fleetmon.policy import backoff
from fleetmon.testing import ScriptedAgent, ScriptedError, Step, capture, current_clock

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]

CRASH = Step.crash()
LIMIT_2 = Intensity(max_restarts=2, period=100.0)
FOREVER = Quarantine(probe_interval=None)


class TestIntensity:
    async def test_01_with_limit_2_the_third_lapse_inside_the_window_exhausts(self, clock):
        async with fleet_of() as (fleet, cap):
            agent = await fleet.add(
                "A", ScriptedAgent(serve=[CRASH]), spec=steady(intensity=LIMIT_2)
            )
            quarantined = await cap.wait_for("quarantined", "A")
            assert [e.monotonic for e in cap.of("lapsed", "A")] == [0, 1, 2]
            assert quarantined.monotonic == 2
            assert "2 lapses within 100 s" in quarantined.data["reason"]
            now = agent.snapshot()
            assert (now.lifecycle, now.health, now.numbers.restarts) == ("quarantined", 2, 2)

    async def test_01_the_second_lapse_inside_the_window_does_not_exhaust(self, clock):
        lives = ScriptedAgent(serve=[CRASH, CRASH, Step.hang()])
        async with fleet_of() as (fleet, cap):
            agent = await fleet.add("A", lives, spec=steady(intensity=LIMIT_2))
            await cap.wait_for("verified", "A")
            assert agent.snapshot().lifecycle == "running"

    async def test_01_spaced_lapses_never_exhaust(self, clock):
        lives = ScriptedAgent(serve=[[Step.wait(10), CRASH]])
        spec = steady(intensity=Intensity(max_restarts=2, period=20.0))
        async with fleet_of() as (fleet, cap):
            await fleet.add("A", lives, spec=spec)
            await cap.wait_for("lapsed", "A", count=25)
            assert not cap.of("quarantined")

    async def test_01_a_window_slides_it_is_not_reset_by_a_quiet_start(self, clock):
        # 0, 9, 18 | 27: never three within 18 s, although each is within 18 s of its neighbours
        lives = ScriptedAgent(serve=[CRASH, [Step.wait(8), CRASH]])
        async with fleet_of() as (fleet, cap):
            spec = steady(intensity=Intensity(max_restarts=2, period=18.0))
            await fleet.add("A", lives, spec=spec)
            await cap.wait_for("lapsed", "A", count=10)
            assert not cap.of("quarantined")
        async with fleet_of() as (fleet, cap):
            spec = steady(intensity=Intensity(max_restarts=2, period=18.5))
            await fleet.add("A", ScriptedAgent(serve=[CRASH, [Step.wait(8), CRASH]]), spec=spec)
            await cap.wait_for("quarantined", "A")
            assert len(cap.of("lapsed")) == 3

    @pytest.mark.parametrize("where", ["factory", "start"])
    async def test_01_a_factory_or_start_that_raises_spends_budget_too(self, clock, where):
        lives = ScriptedAgent(serve=[CRASH], **{where: [Step.succeed(), Step.fail()]})
        async with fleet_of() as (fleet, cap):
            agent = await fleet.add("A", lives, spec=steady(intensity=LIMIT_2))
            await cap.wait_for("quarantined", "A")
            assert [e.data["error_type"] for e in cap.of("lapsed")] == [
                "crash",
                "start_failed",
                "start_failed",
            ]
            assert agent.snapshot().numbers.failures["start_failed"] == 2

    async def test_01_limit_0_quarantines_at_the_first_lapse(self, clock):
        async with fleet_of() as (fleet, cap):
            spec = steady(intensity=Intensity(max_restarts=0, period=1.0))
            await fleet.add("A", ScriptedAgent(serve=[CRASH]), spec=spec)
            await cap.wait_for("quarantined", "A")
            assert not cap.of("backing_off")

    async def test_01_the_spec_given_to_add_counts_also_for_a_declared_agent(self, clock):
        roster = Roster(name="test", entries=(RosterEntry(agent_id="A"),))
        supervisor = Supervisor(SupervisorSettings(), roster=roster, clock=current_clock())
        cap = capture(supervisor)
        async with supervisor as fleet:
            await fleet.add("A", ScriptedAgent(serve=[CRASH]), spec=steady(intensity=LIMIT_2))
            await cap.wait_for("quarantined", "A", timeout=50)
            assert len(cap.of("lapsed")) == 3

    async def test_01_the_spec_of_a_second_life_counts_not_that_of_the_first(self, clock):
        async with fleet_of() as (fleet, cap):
            await fleet.add("A", ScriptedAgent(), spec=steady(intensity=LIMIT_2))
            await fleet.remove("A")
            await fleet.add("A", ScriptedAgent(serve=[CRASH]), spec=steady())
            await cap.wait_for("lapsed", "A", count=10)
            assert not cap.of("quarantined")


class TestExhaustion:
    async def test_02_exhaustion_is_the_agents_own_affair(self, clock):
        once = ScriptedAgent(serve=[[Step.wait(50), CRASH], Step.hang()])
        async with fleet_of() as (fleet, cap):
            spec = steady(intensity=LIMIT_2, quarantine=FOREVER)
            await fleet.add("A", ScriptedAgent(serve=[CRASH]), spec=spec)
            other = await fleet.add("B", once, spec=spec)
            await cap.wait_for("quarantined", "A")
            assert other.snapshot().health == 0
            lapsed = await cap.wait_for("lapsed", "B")
            back = await cap.wait_for("verified", "B")
            assert back.monotonic == lapsed.monotonic + 1 + 1  # backoff, then idle_after
            now = fleet.snapshot()
            assert (now.agent("B").lifecycle, now.agent("A").lifecycle) == (
                "running",
                "quarantined",
            )
            assert len(cap.of("backing_off", "B")) == 1


class TestBackoff:
    POLICY = Backoff(floor=0.5, base=1.0, factor=2.0, cap=10.0)

    async def delays(self, seed: int, count: int = 12) -> list[float]:
        spec = AgentSpec(backoff=self.POLICY, intensity=Intensity(max_restarts=99, period=9999))
        async with fleet_of(seed=seed) as (fleet, cap):
            await fleet.add("A", ScriptedAgent(serve=[CRASH]), spec=spec)
            await cap.wait_for("backing_off", "A", count=count)
            drawn = [e.data["delay_seconds"] for e in cap.of("backing_off")]
            waits = [
                begun.monotonic - armed.monotonic
                for armed, begun in zip(cap.of("backing_off"), cap.of("starting")[1:], strict=False)
            ]
            assert waits == pytest.approx(drawn[: len(waits)])
            assert [e.data["streak"] for e in cap.of("backing_off")] == list(range(1, count + 1))
            return drawn

    async def test_03_each_delay_lies_between_floor_and_the_growing_upper_end(self, clock):
        drawn = await self.delays(1)
        for lapse, delay in enumerate(drawn):
            assert 0.5 <= delay <= min(10.0, 2.0**lapse)
        assert max(drawn) > 5.0  # full jitter fills the whole range
        assert len(set(drawn)) == len(drawn)

    async def test_03_the_seed_decides_the_draws(self, clock):
        assert await self.delays(1) == await self.delays(1)
        assert await self.delays(1) != await self.delays(2)

    def test_03_a_streak_of_2_to_the_31_does_not_overflow(self):
        for streak in (2**31, 2**63):
            delay = backoff.delay(Backoff(floor=1, base=1, cap=30), streak, random.Random(1))
            assert 1 <= delay <= 30

    async def test_03_a_retry_after_is_a_lower_bound_even_above_the_cap(self, clock):
        asked = ScriptedError("slow down")
        asked.retry_after = 42.0
        asked.status_code = 429
        lives = ScriptedAgent(serve=[Step.crash(asked), Step.hang()])
        async with fleet_of() as (fleet, cap):
            await fleet.add("A", lives, spec=AgentSpec(backoff=self.POLICY))
            event = await cap.wait_for("starting", "A", count=2)
            assert cap.of("backing_off")[0].data["delay_seconds"] == 42.0
            assert event.monotonic == 42.0


class TestStreak:
    VERIFY = Verification(timeout=30, idle_after=1.0, stable_for=30.0)

    async def test_04_the_streak_resets_after_stable_for_of_verified_running(self, clock):
        lives = ScriptedAgent(serve=[CRASH, CRASH, CRASH, Step.hang()])
        async with fleet_of() as (fleet, cap):
            agent = await fleet.add("A", lives, spec=steady(verify=self.VERIFY))
            await cap.wait_for("verified", "A")
            assert agent.snapshot().streak == 3
            await asyncio.sleep(29.5)
            assert agent.snapshot().streak == 3
            await asyncio.sleep(0.5)
            assert agent.snapshot().streak == 0

    async def test_04_start_succeeded_never_clears_it(self, clock):
        verify = Verification(timeout=500, idle_after=400, stable_for=1.0)
        lives = ScriptedAgent(serve=[CRASH, [Step.wait(200), CRASH], Step.hang()])
        async with fleet_of() as (fleet, cap):
            agent = await fleet.add("A", lives, spec=steady(verify=verify))
            await cap.wait_for("started", "A", count=3)
            assert agent.snapshot().streak == 2

    async def test_04_a_reset_armed_before_a_newer_crash_is_ignored(self, clock):
        # verified at 2, its reset would be due at 32; it crashes at 21 and is verified at 23
        lives = ScriptedAgent(serve=[CRASH, [Step.wait(20), CRASH], Step.hang()])
        async with fleet_of() as (fleet, cap):
            agent = await fleet.add("A", lives, spec=steady(verify=self.VERIFY))
            first = await cap.wait_for("verified", "A")
            second = await cap.wait_for("verified", "A", count=2)
            assert (first.monotonic, second.monotonic) == (2, 23)
            await asyncio.sleep(32.5 - clock.monotonic())
            assert agent.snapshot().streak == 2
            await asyncio.sleep(53.5 - clock.monotonic())
            assert agent.snapshot().streak == 0

    async def test_04_a_lapse_before_it_is_stable_goes_on_with_the_streak(self, clock):
        lives = ScriptedAgent(serve=[CRASH, [Step.wait(20), CRASH], [Step.wait(40), CRASH]])
        async with fleet_of() as (fleet, cap):
            await fleet.add("A", lives, spec=steady(verify=self.VERIFY))
            await cap.wait_for("backing_off", "A", count=3)
            assert [e.data["streak"] for e in cap.of("backing_off")] == [1, 2, 1]

    async def test_04_time_spent_stopped_is_not_running(self, clock):
        lives = ScriptedAgent(serve=[CRASH, Step.hang(), CRASH, Step.hang()])
        async with fleet_of() as (fleet, cap):
            await fleet.add("A", lives, spec=steady(verify=self.VERIFY))
            await cap.wait_for("verified", "A")
            await fleet.stop("A", wait=True)
            await asyncio.sleep(100)
            await fleet.start("A")
            await cap.wait_for("backing_off", "A", count=2)
            assert [e.data["streak"] for e in cap.of("backing_off")] == [1, 2]

    async def test_12_a_new_host_begins_with_no_streak_neither_zeroed_nor_invented(self, clock):
        seen = []
        for _ in range(2):
            async with fleet_of() as (fleet, cap):
                await fleet.add("A", ScriptedAgent(serve=[CRASH]), spec=steady())
                await cap.wait_for("backing_off", "A", count=3)
                seen.append([e.data["streak"] for e in cap.of("backing_off")])
        assert seen == [[1, 2, 3], [1, 2, 3]]

    async def test_12_a_removed_agent_comes_back_without_the_streak_of_its_earlier_life(
        self, clock
    ):
        async with fleet_of() as (fleet, cap):
            await fleet.add("A", ScriptedAgent(serve=[CRASH]), spec=steady())
            await cap.wait_for("backing_off", "A", count=3)
            await fleet.remove("A")
            agent = await fleet.add("A", ScriptedAgent(), spec=steady())
            now = agent.snapshot()
            assert (now.streak, now.health, now.lifecycle) == (0, 0, "running")


async def test_03_the_intensity_counts_lapses_by_the_monotonic_clock(clock):
    async with fleet_of() as (fleet, cap):
        spec = steady(intensity=LIMIT_2)
        await fleet.add("A", ScriptedAgent(serve=[[Step.wait(1), CRASH]]), spec=spec)
        await cap.wait_for("lapsed", "A")
        clock.set_wall(0.0)
        await cap.wait_for("quarantined", "A")
        times = [e.monotonic for e in cap.of("lapsed")]
        assert all(after - before == pytest.approx(2) for before, after in pairwise(times))
