"""Commands during a restart, bounded stops, typed answers (behaviours 5, 6 and 24)."""

from __future__ import annotations

import asyncio

import pytest
from helpers_fleet import fleet_of, steady

from fleetmon import (
    Accepted,
    Backoff,
    Deadlines,
    Intensity,
    NoOp,
    Rejected,
    Restarts,
    Roster,
    RosterEntry,
    Shutdown,
    SpecError,
    Supervisor,
    SupervisorSettings,
    TaskCancelledError,
    UnknownAgentError,
    Verification,
)
from fleetmon.testing import ScriptedAgent, Step, current_clock

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]

CRASH = Step.crash()
SLOW = {"backoff": Backoff(floor=60.0, base=60.0, cap=60.0)}


class TestDuringBackoff:
    async def test_05_status_shows_backing_off_with_the_time_left(self, clock):
        async with fleet_of() as (fleet, cap):
            agent = await fleet.add("A", ScriptedAgent(serve=[CRASH]), spec=steady(**SLOW))
            await cap.wait_for("backing_off", "A")
            assert agent.snapshot().retry_in == 60
            await asyncio.sleep(45)
            now = agent.snapshot()
            assert (now.lifecycle, now.retry_in, now.health) == ("backing_off", 15, 2)

    @pytest.mark.parametrize("way", ["stop", "drain", "quarantine", "remove", "shutdown"])
    async def test_05_it_can_be_ended_at_once_and_no_ghost_start_follows(self, clock, way):
        lives = ScriptedAgent(serve=[CRASH])
        async with fleet_of() as (fleet, cap):
            agent = await fleet.add("A", lives, spec=steady(**SLOW))
            await cap.wait_for("backing_off", "A")
            await asyncio.sleep(30)
            if way == "remove":
                await fleet.remove("A")
            elif way == "shutdown":
                await fleet.shutdown()
            else:
                assert isinstance(await fleet.command(way, "A", wait=True), Accepted)
            assert clock.monotonic() == 30
            assert agent.snapshot().retry_in is None
            await asyncio.sleep(1000)
            assert lives.lives == 1
            assert agent.snapshot().lifecycle == (
                "quarantined" if way == "quarantine" else "stopped"
            )

    async def test_05_a_stop_while_it_waits_for_its_turn_is_final(self, clock):
        first, second = (
            ScriptedAgent(serve=[[Step.wait(seconds), CRASH], Step.hang()]) for seconds in (1, 1.5)
        )
        verify = Verification(timeout=100, idle_after=20)
        async with fleet_of(restarts=Restarts(max_concurrent=1)) as (fleet, cap):
            await fleet.add("A", first, spec=steady(verify=verify))
            await fleet.add("B", second, spec=steady(verify=verify))
            await asyncio.sleep(5)  # A recovers until 22, B is due and waits for A
            now = fleet.snapshot()
            assert (now.agent("A").lifecycle, now.agent("B").lifecycle) == (
                "recovering",
                "backing_off",
            )
            assert now.agent("B").retry_in == 0
            await fleet.stop("B", wait=True)
            await cap.wait_for("verified", "A")
            await asyncio.sleep(100)
            assert second.lives == 1

    async def test_05_a_restart_during_backoff_starts_now_and_only_once(self, clock):
        lives = ScriptedAgent(serve=[CRASH, Step.hang()])
        async with fleet_of() as (fleet, cap):
            agent = await fleet.add("A", lives, spec=steady(**SLOW))
            await cap.wait_for("backing_off", "A")
            await asyncio.sleep(30)
            await fleet.restart("A")
            assert agent.snapshot().lifecycle == "recovering"
            await cap.wait_for("started", "A", count=2)
            assert clock.monotonic() == 30
            await asyncio.sleep(1000)
            assert (lives.lives, agent.generation) == (2, 2)

    async def test_05_a_second_restart_is_a_typed_no_op(self, clock):
        lives = ScriptedAgent(start=[Step.wait(5)], serve=[Step.hang()])
        async with fleet_of() as (fleet, cap):
            agent = await fleet.add("A", lives, spec=steady())
            assert isinstance(await agent.restart(), Accepted)
            await asyncio.sleep(1)
            again = await agent.restart()
            assert isinstance(again, NoOp)
            assert "already" in again.reason
            await cap.wait_for("started", "A", count=2)
            assert lives.lives == 2
            assert isinstance(await agent.restart(), Accepted)  # that one is over

    async def test_05_a_restart_that_is_waited_for_has_shown_a_sign_of_life(self, clock):
        async with fleet_of() as (fleet, cap):
            agent = await fleet.add("A", ScriptedAgent(), spec=steady())
            result = await agent.restart(wait=True)
            assert (result.settled, clock.monotonic()) == (True, 1.0)
            assert cap.kinds("A")[-4:] == ["command", "starting", "started", "verified"]
            assert cap.of("verified")[-1].data == {"by": "alive"}
            restarting = asyncio.ensure_future(agent.restart(wait=True))
            await cap.wait_for("started", "A", count=3)
            assert agent.snapshot().lifecycle == "running"  # it serves meanwhile
            await agent.run("work")
            assert (await restarting).settled
            assert clock.monotonic() == 1.0
            assert cap.of("verified")[-1].data == {"by": "progress"}
            assert agent.snapshot().health == 0

    async def test_05_a_restart_that_is_waited_for_is_not_done_when_the_new_life_falls(self, clock):
        async with fleet_of() as (fleet, cap):
            lives = ScriptedAgent(serve=[Step.hang(), [Step.wait(0.5), CRASH], Step.hang()])
            agent = await fleet.add("A", lives, spec=steady())
            result = await agent.restart(wait=True)
            assert result.settled
            assert len(cap.of("lapsed")) == 1
            assert cap.kinds("A")[-2:] == ["verified", "health_changed"]
            assert agent.generation == 3
            once = ScriptedAgent(serve=[Step.hang(), [Step.wait(0.5), CRASH]])
            spent = await fleet.add("B", once, spec=steady(intensity=Intensity(max_restarts=0)))
            assert not (await spent.restart(wait=True)).settled

    async def test_05_a_probe_of_its_own_says_whether_a_restart_is_done(self, clock):
        async with fleet_of() as (fleet, cap):
            lives = ScriptedAgent(probe=[Step.wait(2)])
            agent = await fleet.add("A", lives, spec=steady())
            assert (await agent.restart(wait=True)).settled
            assert clock.monotonic() == 2
            assert cap.of("verified")[-1].data == {"by": "probe"}

    async def test_05_operator_restarts_spend_no_budget(self, clock):
        lives = ScriptedAgent(serve=[*[Step.hang()] * 6, CRASH, Step.hang()])
        async with fleet_of() as (fleet, cap):
            spec = steady(intensity=Intensity(max_restarts=1, period=1000))
            agent = await fleet.add("A", lives, spec=spec)
            for _ in range(6):
                result = await agent.restart(wait=True)
                assert result.settled
            await cap.wait_for("verified", "A")
            assert not cap.of("quarantined")
            assert agent.snapshot().streak == 1
            assert agent.snapshot().lifecycle == "running"

    async def test_05_a_start_or_resume_during_backoff_does_not_cut_it_short(self, clock):
        async with fleet_of() as (fleet, cap):
            await fleet.add("A", ScriptedAgent(serve=[CRASH]), spec=steady(**SLOW))
            await cap.wait_for("backing_off", "A")
            for name in ("start", "resume"):
                assert isinstance(await fleet.command(name, "A"), NoOp)
            event = await cap.wait_for("starting", "A", count=2)
            assert event.monotonic == 60


class TestBoundedStop:
    SPEC = steady(deadlines=Deadlines(stop=5.0))

    async def test_06_a_body_that_swallows_cancellation_is_given_up_at_its_deadline(self, clock):
        lives = ScriptedAgent(serve=[[Step.swallow(100), Step.heartbeat()], Step.hang()])
        async with fleet_of() as (fleet, cap):
            agent = await fleet.add("A", lives, spec=self.SPEC)
            result = await agent.stop(wait=True)
            assert (result.settled, clock.monotonic()) == (True, 5)
            now = agent.snapshot()
            assert (now.lifecycle, now.zombies, now.health) == ("stopped", 1, 0)
            assert [c.name for c in now.conditions] == ["zombie"]
            assert fleet.snapshot().fleet.zombies == 1
            assert cap.of("zombie", "A")[0].generation == 1

            await agent.start(wait=True)
            assert (agent.snapshot().lifecycle, agent.snapshot().health) == ("running", 1)
            before = fleet.snapshot().fleet.late_results
            reaped = await cap.wait_for("zombie_reaped", "A")
            assert (reaped.monotonic, reaped.data["generation"]) == (100, 1)
            assert fleet.snapshot().fleet.late_results == before + 1  # its heartbeat
            assert (agent.snapshot().zombies, agent.snapshot().health) == (0, 0)
            assert agent.generation == 2

    async def test_06_a_task_that_swallows_cancellation_is_booked_once_and_its_result_fenced(
        self, clock
    ):
        lives = ScriptedAgent(
            handle=[[Step.swallow(50), Step.succeed("late")], Step.succeed("new")]
        )
        async with fleet_of() as (fleet, cap):
            agent = await fleet.add("A", lives, spec=self.SPEC)
            old = await agent.submit("work", 1)
            await asyncio.sleep(1)
            await agent.restart(wait=True)
            assert clock.monotonic() == 7  # the old life is given up at 6, the new one lives
            with pytest.raises(TaskCancelledError):
                await old
            assert await agent.run("work", 2) == "new"
            await cap.wait_for("zombie_reaped", "A")
            now = agent.snapshot()
            assert (now.assigned, now.succeeded, now.cancelled) == (2, 1, 1)

    async def test_06_a_clean_up_that_hangs_is_bounded_too(self, clock):
        lives = ScriptedAgent(serve=[Step.hang()], stop=[Step.wait(1), Step.hang()])
        async with fleet_of() as (fleet, _):
            agent = await fleet.add("A", lives, spec=self.SPEC)
            await agent.restart(wait=True)
            assert clock.monotonic() == 2
            assert agent.snapshot().zombies == 0
            await agent.stop(wait=True)
            assert clock.monotonic() == 7

    async def test_06_shutdown_is_bounded_and_names_what_it_left_behind(self, clock):
        async with fleet_of(shutdown=Shutdown(drain=3, stop=4)) as (fleet, _):
            await fleet.add("A", ScriptedAgent(serve=[Step.swallow(500)]))
            await fleet.add("B", ScriptedAgent(serve=[Step.hang()]))
            report = await fleet.shutdown()
            assert [(x.what, x.agent_id) for x in report.left_behind] == [("incarnation", "A")]
            assert clock.monotonic() <= 7

    async def test_06_each_stubborn_life_is_counted(self, clock):
        lives = ScriptedAgent(serve=[Step.swallow(100), Step.swallow(200), Step.hang()])
        async with fleet_of() as (fleet, cap):
            agent = await fleet.add("A", lives, spec=self.SPEC)
            await agent.restart(wait=True)
            await agent.restart(wait=True)
            assert agent.snapshot().zombies == 2
            await cap.wait_for("zombie_reaped", "A")
            assert (agent.snapshot().zombies, agent.snapshot().health) == (1, 1)
            await cap.wait_for("zombie_reaped", "A", count=2)
            assert (agent.snapshot().zombies, agent.snapshot().health) == (0, 0)


class TestAnswers:
    async def test_24_each_answer_is_typed_and_says_state_and_reason(self, clock):
        async with fleet_of() as (fleet, _):
            await fleet.add("A", ScriptedAgent(serve=[Step.hang()]))
            accepted = await fleet.pause("A")
            assert accepted == Accepted("pause", "A", "paused")
            noop = await fleet.pause("A")
            assert isinstance(noop, NoOp)
            assert (noop.state, noop.reason) == ("paused", "already paused")
            await fleet.quarantine("A")
            rejected = await fleet.start("A")
            assert isinstance(rejected, Rejected)
            assert rejected.state in {"stopping", "quarantined"}
            assert "reset" in rejected.reason

    async def test_24_each_command_is_an_event_with_actor_and_reason(self, clock):
        async with fleet_of() as (fleet, cap):
            await fleet.add("A", ScriptedAgent(serve=[Step.hang()]))
            await fleet.pause("A", actor="ada", reason="upgrade")
            await fleet.pause("A", actor="bob", reason="me too")
            await fleet.quarantine("A", actor="eve")
            await fleet.start("A", actor="bob", reason="why not")
            await fleet.remove("A", actor="ada", reason="gone")
            told = [
                (e.data["command"], e.data["actor"], e.data["reason"], e.data["result"])
                for e in cap.of("command", "A")
            ]
            assert told == [
                ("pause", "ada", "upgrade", "accepted"),
                ("pause", "bob", "me too", "noop"),
                ("quarantine", "eve", "", "accepted"),
                ("start", "bob", "why not", "rejected"),
                ("remove", "ada", "gone", "accepted"),
            ]

    async def test_24_a_command_may_insist_on_the_incarnation_that_its_caller_saw(self, clock):
        async with fleet_of() as (fleet, _):
            agent = await fleet.add("A", ScriptedAgent(serve=[Step.hang()]))
            seen = agent.generation
            assert isinstance(await fleet.restart("A", generation=seen, wait=True), Accepted)
            late = await fleet.restart("A", generation=seen)
            assert isinstance(late, Rejected)
            assert "generation is 2, not 1" in late.reason

    async def test_24_commands_to_what_is_not_there_are_refused(self, clock):
        roster = Roster(name="test", entries=(RosterEntry(agent_id="D"),))
        supervisor = Supervisor(SupervisorSettings(), roster=roster, clock=current_clock())
        async with supervisor as fleet:
            declared = await fleet.start("D")
            assert isinstance(declared, Rejected)
            assert "add" in declared.reason
            with pytest.raises(UnknownAgentError):
                await fleet.start("nobody")
            with pytest.raises(SpecError, match="no command 'explode'"):
                await fleet.command("explode", "D")
            await fleet.add("A", ScriptedAgent())
            await fleet.drain(0.1)
            refused = await fleet.restart("A")
            assert isinstance(refused, Rejected)
            assert "draining" in refused.reason

    async def test_24_waiting_tells_whether_it_came_about(self, clock):
        lives = ScriptedAgent(serve=[Step.hang(), CRASH])
        async with fleet_of() as (fleet, _):
            spec = steady(intensity=Intensity(max_restarts=0, period=1))
            agent = await fleet.add("A", lives, spec=spec)
            result = await agent.restart(wait=True)
            assert result == Accepted("restart", "A", "quarantined", settled=False)
            timed = await fleet.add("B", ScriptedAgent(start=[Step.succeed(), Step.wait(20)]))
            result = await timed.restart(wait=True, timeout=3)
            assert (result.settled, clock.monotonic()) == (False, 3)

    async def test_24_a_removed_agent_cannot_be_removed_again(self, clock):
        async with fleet_of() as (fleet, cap):
            await fleet.add("A", ScriptedAgent())
            await fleet.remove("A")
            with pytest.raises(UnknownAgentError):
                await fleet.remove("A")
            assert len(cap.of("agent_removed", "A")) == 1
