"""Desired and actual: what each command does in each state (section State)."""

from __future__ import annotations

import asyncio

import pytest
from helpers_fleet import fleet_of, steady

from fleetmon import (
    Accepted,
    Deadlines,
    DrainingError,
    HangLimits,
    NotAcceptingError,
    TaskFailedError,
    TaskHungError,
)
from fleetmon.testing import ScriptedAgent, ScriptedError, Step

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]

CRASH = Step.crash()
STUBBORN = [Step.swallow(500)]


class TestPause:
    async def test_pause_keeps_the_incarnation_and_takes_nothing_new(self, clock):
        lives = ScriptedAgent(handle=[[Step.wait(5), Step.succeed("done")]])
        async with fleet_of() as (fleet, _):
            agent = await fleet.add("A", lives)
            task = await agent.submit("work")
            await agent.pause()
            with pytest.raises(NotAcceptingError, match="paused"):
                await agent.run("work")
            assert await task == "done"  # what it has it finishes
            assert (agent.generation, agent.snapshot().lifecycle) == (1, "paused")
            assert agent.snapshot().health == 0
            await agent.resume()
            assert await agent.run("work") == "done"
            assert agent.generation == 1

    async def test_pause_in_backing_off_cancels_the_timer_and_resume_starts_into_recovering(
        self, clock
    ):
        lives = ScriptedAgent(serve=[CRASH, Step.hang()])
        async with fleet_of() as (fleet, cap):
            agent = await fleet.add("A", lives, spec=steady())
            await cap.wait_for("backing_off", "A")
            await agent.pause()
            assert agent.snapshot().retry_in is None
            await asyncio.sleep(500)
            assert (lives.lives, agent.snapshot().actual) == (1, "backing_off")
            await agent.resume()
            assert agent.snapshot().lifecycle == "recovering"
            await cap.wait_for("verified", "A")
            assert clock.monotonic() == 501

    async def test_a_lapse_while_paused_stays_down_until_resume(self, clock):
        lives = ScriptedAgent(serve=[[Step.wait(3), CRASH], Step.hang()])
        async with fleet_of() as (fleet, cap):
            agent = await fleet.add("A", lives, spec=steady())
            await agent.pause()
            await cap.wait_for("lapsed", "A")
            await asyncio.sleep(500)
            now = agent.snapshot()
            assert (lives.lives, now.actual, now.health) == (1, "backing_off", 2)
            result = await agent.resume(wait=True)
            assert result.settled
            assert (lives.lives, agent.snapshot().health) == (2, 0)

    async def test_pause_while_recovering_and_quarantined(self, clock):
        denied = Step.fail(PermissionError)
        lives = ScriptedAgent(serve=[CRASH, [Step.wait(50), denied], Step.hang()])
        async with fleet_of() as (fleet, cap):
            agent = await fleet.add("A", lives, spec=steady())
            await cap.wait_for("recovering", "A")
            await agent.pause()
            await cap.wait_for("verified", "A")
            assert agent.snapshot().lifecycle == "paused"
            await cap.wait_for("quarantined", "A")
            await asyncio.sleep(500)
            assert (lives.lives, agent.snapshot().retry_in) == (2, None)
            await agent.resume()
            await cap.wait_for("verified", "A", count=2)
            assert clock.monotonic() == pytest.approx(51 + 500 + 60 + 1)


class TestDrain:
    async def test_drain_refuses_new_work_finishes_then_stops(self, clock):
        lives = ScriptedAgent(handle=[[Step.wait(5), Step.succeed("done")]])
        async with fleet_of() as (fleet, cap):
            agent = await fleet.add("A", lives)
            tasks = [await agent.submit("work") for _ in range(3)]
            await agent.drain()
            assert agent.snapshot().lifecycle == "draining"
            with pytest.raises(DrainingError):
                await agent.run("work")
            await cap.wait_for("stopped", "A")
            assert clock.monotonic() == 15
            assert [await task for task in tasks] == ["done"] * 3
            assert (agent.snapshot().health, agent.snapshot().succeeded) == (0, 3)
            await agent.resume(wait=True)
            assert await agent.run("work") == "done"

    async def test_a_drain_is_bounded_by_its_deadline(self, clock):
        async with fleet_of() as (fleet, _):
            spec = steady(deadlines=Deadlines(drain=7))
            agent = await fleet.add("A", ScriptedAgent(handle=[Step.hang()]), spec=spec)
            task = await agent.submit("work")
            result = await agent.drain(wait=True)
            assert (result.settled, clock.monotonic()) == (True, 7)
            assert agent.snapshot().cancelled == 1
            with pytest.raises(Exception, match="cancelled"):
                await task

    async def test_a_second_drain_has_its_whole_deadline(self, clock):
        async with fleet_of() as (fleet, _):
            spec = steady(deadlines=Deadlines(drain=10))
            lives = ScriptedAgent(handle=[[Step.wait(14), Step.succeed("done")]])
            agent = await fleet.add("A", lives, spec=spec)
            task = await agent.submit("work")
            await agent.drain()
            await asyncio.sleep(6)
            await agent.resume()
            await agent.drain()
            assert await task == "done"
            assert agent.snapshot().succeeded == 1

    async def test_a_lapse_while_draining_ends_it_and_books_what_was_in_flight(self, clock):
        lives = ScriptedAgent(serve=[[Step.wait(3), CRASH]], handle=[Step.hang()])
        async with fleet_of() as (fleet, cap):
            agent = await fleet.add("A", lives, spec=steady(capacity=1))
            tasks = [await agent.submit("work") for _ in range(2)]
            await agent.drain()
            await cap.wait_for("stopped", "A")
            assert clock.monotonic() == 3
            now = agent.snapshot()
            assert (now.lifecycle, now.health, now.failed, now.cancelled) == ("stopped", 2, 1, 1)
            with pytest.raises(TaskFailedError):
                await tasks[0]
            await asyncio.sleep(500)
            assert lives.lives == 1
            await agent.resume()
            assert agent.snapshot().lifecycle == "recovering"

    async def test_drain_lets_a_body_that_pulls_finish(self, clock):
        lives = ScriptedAgent(serve=[Step.pull()], handle=[[Step.wait(2), Step.succeed("x")]])
        async with fleet_of() as (fleet, cap):
            agent = await fleet.add("A", lives)
            tasks = [await agent.submit("work") for _ in range(3)]
            result = await agent.drain(wait=True)
            assert result.settled
            assert [await t for t in tasks] == ["x"] * 3
            assert not cap.of("lapsed")


class TestStartStopRestart:
    async def test_start_after_stop_is_a_clean_start(self, clock):
        async with fleet_of() as (fleet, cap):
            agent = await fleet.add("A", ScriptedAgent(start=[Step.succeed(), Step.wait(3)]))
            await agent.stop(wait=True)
            assert (agent.snapshot().lifecycle, agent.snapshot().health) == ("stopped", 0)
            with pytest.raises(NotAcceptingError, match="start it first"):
                await agent.run("work")
            await agent.start()
            assert (agent.snapshot().lifecycle, agent.snapshot().health) == ("starting", 0)
            await cap.wait_for("started", "A", count=2)
            assert agent.snapshot().lifecycle == "running"

    @pytest.mark.parametrize("back", ["start", "restart"])
    async def test_a_start_while_it_still_stops_is_not_forgotten(self, clock, back):
        lives = ScriptedAgent(serve=[STUBBORN, Step.hang()])
        async with fleet_of() as (fleet, _):
            agent = await fleet.add("A", lives)
            await agent.stop()
            await asyncio.sleep(1)
            assert agent.snapshot().lifecycle == "stopping"
            assert isinstance(await fleet.command(back, "A"), Accepted)
            await asyncio.sleep(20)
            now = agent.snapshot()
            assert (now.desired, now.lifecycle, lives.lives) == ("run", "running", 2)

    async def test_a_resume_while_a_drained_agent_still_stops_is_not_forgotten(self, clock):
        lives = ScriptedAgent(serve=[STUBBORN, Step.hang()])
        async with fleet_of() as (fleet, _):
            agent = await fleet.add("A", lives)
            await agent.drain()
            await asyncio.sleep(1)
            assert agent.snapshot().lifecycle == "stopping"
            assert isinstance(await agent.resume(), Accepted)
            await asyncio.sleep(20)
            assert (agent.snapshot().lifecycle, lives.lives) == ("running", 2)

    async def test_a_reset_while_a_quarantined_agent_still_stops_is_not_forgotten(self, clock):
        lives = ScriptedAgent(serve=[STUBBORN, Step.hang()])
        async with fleet_of() as (fleet, _):
            agent = await fleet.add("A", lives)
            await agent.quarantine()
            await asyncio.sleep(1)
            assert isinstance(await agent.reset(), Accepted)
            await asyncio.sleep(20)
            assert (agent.snapshot().lifecycle, lives.lives) == ("running", 2)

    async def test_restart_ends_the_old_life_first_within_its_deadline(self, clock):
        lives = ScriptedAgent(start=[Step.succeed(), Step.wait(1)], stop=[Step.wait(2)])
        async with fleet_of() as (fleet, cap):
            agent = await fleet.add("A", lives)
            await agent.restart()
            assert agent.snapshot().lifecycle == "stopping"
            await cap.wait_for("starting", "A", count=2)
            assert (clock.monotonic(), agent.snapshot().lifecycle) == (2, "starting")
            await cap.wait_for("started", "A", count=2)
            assert agent.snapshot().lifecycle == "running"
            assert lives.overlap <= 1

    async def test_restart_of_one_that_had_lapsed_leads_to_recovering(self, clock):
        lives = ScriptedAgent(serve=[CRASH, Step.hang()])
        async with fleet_of() as (fleet, cap):
            agent = await fleet.add("A", lives, spec=steady())
            await cap.wait_for("recovering", "A")
            await agent.restart()
            await cap.wait_for("starting", "A", count=3)
            assert agent.snapshot().lifecycle == "recovering"
            await agent.restart(wait=True)
            assert agent.snapshot().health == 0

    @pytest.mark.parametrize("state", ["paused", "drained", "stopped", "quarantined"])
    async def test_restart_works_from_every_desired_state(self, clock, state):
        async with fleet_of() as (fleet, _):
            agent = await fleet.add("A", ScriptedAgent(serve=[Step.hang()]))
            name = {"paused": "pause", "drained": "drain", "stopped": "stop"}.get(
                state, "quarantine"
            )
            await fleet.command(name, "A", wait=True)
            result = await agent.restart(wait=True)
            assert result == Accepted("restart", "A", "running", settled=True)
            assert agent.generation == 2

    @pytest.mark.parametrize("command", ["stop", "drain", "shutdown"])
    @pytest.mark.parametrize("state", ["starting", "recovering", "probing", "backing_off"])
    async def test_stop_drain_and_shutdown_win_at_once(self, clock, state, command):
        denied = Step.fail(PermissionError)
        slow = [Step.succeed(), Step.wait(10)]
        lives = {
            "starting": ScriptedAgent(start=slow),
            "recovering": ScriptedAgent(start=slow, serve=[CRASH, Step.hang()]),
            "probing": ScriptedAgent(start=slow, serve=[denied, Step.hang()]),
            "backing_off": ScriptedAgent(serve=[CRASH]),
        }[state]
        async with fleet_of() as (fleet, cap):
            agent = await fleet.add("A", lives, spec=steady())
            if state == "starting":
                await agent.stop(wait=True)
                await agent.start()
            await cap.until(lambda: agent.snapshot().lifecycle == state)
            at, made = clock.monotonic(), lives.lives
            if command == "shutdown":
                await fleet.shutdown(drain=0)
            else:
                await fleet.command(command, "A", wait=True)
            assert clock.monotonic() == at
            assert agent.snapshot().lifecycle == "stopped"
            await asyncio.sleep(500)
            assert lives.lives <= made + 1  # one that was due just now may never have been built
            assert agent.snapshot().lifecycle == "stopped"

    @pytest.mark.parametrize("command", ["stop", "restart", "drain", "quarantine"])
    async def test_a_life_that_is_ended_before_its_first_step_leaves_no_zombie(
        self, clock, command
    ):
        lives = ScriptedAgent(serve=[Step.hang()])
        async with fleet_of() as (fleet, _):
            agent = await fleet.add("A", lives)
            await agent.stop(wait=True)
            await agent.start()  # the loop has not turned since
            result = await fleet.command(command, "A", wait=True)
            # a restart that is waited for has to show a sign of life
            assert (result.settled, clock.monotonic()) == (True, float(command == "restart"))
            assert agent.snapshot().zombies == 0


class TestHangOfOneTask:
    SPEC = steady(capacity=2, hang=HangLimits(soft=5, hard=10, cancel_grace=5))

    async def test_the_hung_task_is_cancelled_first_and_the_agent_goes_on(self, clock):
        lives = ScriptedAgent(handle=[Step.hang(), [Step.wait(14), Step.succeed("fine")]])
        spec = self.SPEC.model_copy(update={"task_limits": {"long": HangLimits(hard=100)}})
        async with fleet_of() as (fleet, cap):
            agent = await fleet.add("A", lives, spec=spec)
            hung = await agent.submit("work")
            fine = await agent.submit("long")
            with pytest.raises(TaskHungError):
                await hung
            assert 10 < clock.monotonic() < 11
            assert await fine == "fine"
            assert not cap.of("lapsed")
            assert (agent.generation, agent.snapshot().failed) == (1, 1)

    async def test_only_a_hang_that_survives_its_cancellation_is_a_lapse(self, clock):
        lives = ScriptedAgent(handle=[Step.swallow(500), Step.succeed("new")])
        async with fleet_of() as (fleet, cap):
            agent = await fleet.add("A", lives, spec=self.SPEC)
            hung = await agent.submit("work")
            event = await cap.wait_for("lapsed", "A")
            assert 15 < event.monotonic < 16
            assert event.data["error_type"] == "hang"
            with pytest.raises(TaskHungError):
                await hung
            await cap.wait_for("verified", "A")
            assert await agent.run("work") == "new"


class TestReset:
    async def test_reset_forgets_the_streak_and_changes_no_incarnation(self, clock):
        lives = ScriptedAgent(serve=[CRASH, CRASH, Step.hang()])
        async with fleet_of() as (fleet, cap):
            agent = await fleet.add("A", lives, spec=steady())
            await cap.wait_for("verified", "A")
            assert agent.snapshot().streak == 2
            await agent.reset()
            now = agent.snapshot()
            assert (now.streak, now.generation, now.lifecycle) == (0, 3, "running")

    async def test_reset_in_backing_off_keeps_the_timer(self, clock):
        async with fleet_of() as (fleet, cap):
            agent = await fleet.add("A", ScriptedAgent(serve=[CRASH, Step.hang()]), spec=steady())
            await cap.wait_for("backing_off", "A")
            await asyncio.sleep(0.5)
            await agent.reset()
            assert agent.snapshot().retry_in == 0.5
            assert agent.snapshot().streak == 0
            await cap.wait_for("verified", "A")
            assert clock.monotonic() == 2

    async def test_reset_clears_the_condition_failing(self, clock):
        async with fleet_of() as (fleet, _):
            spec = steady(max_consecutive_failures=None)
            agent = await fleet.add("A", ScriptedAgent(handle=[Step.fail()]), spec=spec)
            for _ in range(10):
                with pytest.raises(ScriptedError):
                    await agent.run("work")
            assert [c.name for c in agent.snapshot().conditions] == ["failing"]
            assert agent.snapshot().health == 1
            await agent.reset()
            assert (agent.snapshot().conditions, agent.snapshot().health) == ((), 0)
            assert agent.generation == 1
