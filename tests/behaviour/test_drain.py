"""Drain and shutdown (20), in virtual time."""

from __future__ import annotations

import asyncio

import pytest
from support import Sleeper, Stubborn, events_of, fleet_on, now, outcome_of, spec

from fleetmon import (
    AgentStartError,
    Deadlines,
    DrainingError,
    NotRunningError,
    Shutdown,
    Supervisor,
    SupervisorSettings,
    TaskTimeoutError,
)
from fleetmon.testing import current_clock

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


class TestDrain:
    async def test_20_a_draining_agent_refuses_new_work_and_finishes_what_it_has(self):
        async with fleet_on() as fleet:
            agent = await fleet.add("A", Sleeper, spec=spec())
            tasks = [await agent.submit("x", 3) for _ in range(3)]
            await agent.drain()
            assert agent.snapshot().lifecycle == "draining"
            with pytest.raises(DrainingError, match="'A'"):
                await agent.run("x", 1)
            assert await asyncio.gather(*tasks) == [3, 3, 3]
            await asyncio.sleep(0.1)
            assert agent.snapshot().lifecycle == "stopped"
            assert now() < 9.5
            assert (await agent.resume(wait=True)).settled
            assert await agent.run("x", 1) == 1

    async def test_20_then_cancel_then_abandon(self):
        work = Stubborn()
        async with fleet_on() as fleet:
            deadlines = Deadlines(drain=10, stop=5)
            soft = await fleet.add("soft", Sleeper, spec=spec(deadlines=deadlines))
            hard = await fleet.add("hard", lambda: work, spec=spec(deadlines=deadlines))
            tasks = [await agent.submit("x", 1000) for agent in (soft, hard)]
            await asyncio.sleep(1)
            begun = now()
            assert (await soft.drain(wait=True)).settled
            assert now() - begun == pytest.approx(10, abs=0.1)  # cancelled
            assert outcome_of(tasks[0].future) == "cancelled"
            begun = now()
            assert (await hard.drain(wait=True)).settled
            assert now() - begun == pytest.approx(15, abs=0.1)  # abandoned
            assert outcome_of(tasks[1].future) == "cancelled"
            assert hard.snapshot().zombies == 1
            work.release.set()
            await asyncio.sleep(1)

    @pytest.mark.parametrize("end", ["success", "failure", "closed early", "deadline"])
    async def test_20_an_observed_agent_has_drained_when_its_last_task_ends_however(self, end):
        async with fleet_on() as fleet:
            agent = fleet.attach("A", spec=spec(deadlines=Deadlines(drain=1000)))

            def steps():
                yield 1
                if end == "failure":
                    raise OSError
                if end == "deadline":
                    raise TaskTimeoutError("x", agent_id="A", task_id=1)

            running = agent.watch(steps, task_type="x")()
            next(running)
            await agent.drain()
            await asyncio.sleep(5)
            assert agent.snapshot().lifecycle == "draining"
            if end == "closed early":
                running.close()
            else:
                with pytest.raises((StopIteration, OSError, TaskTimeoutError)):
                    next(running)
            await asyncio.sleep(1)
            assert agent.snapshot().lifecycle == "stopped"

    async def test_20_the_fleet_drains_then_cancels_then_abandons_and_names_it(self):
        work = Stubborn()
        supervisor = Supervisor(
            SupervisorSettings(shutdown=Shutdown(drain=10, stop=5)), clock=current_clock()
        )
        async with supervisor as fleet:
            policy = spec(deadlines=Deadlines(stop=2))
            good = await fleet.add("good", Sleeper, spec=policy)
            slow = await fleet.add("slow", Sleeper, spec=policy)
            hard = await fleet.add("hard", lambda: work, spec=policy)
            tasks = [
                await agent.submit("x", seconds)
                for agent, seconds in ((good, 5), (good, 4), (slow, 100), (hard, 0))
            ]
            begun = now()
        assert [outcome_of(t.future) for t in tasks] == ["succeeded"] * 2 + ["cancelled"] * 2
        report = supervisor.report
        assert report.seconds == pytest.approx(now() - begun)
        assert report.seconds == pytest.approx(12, abs=0.2)
        assert report.cancelled == 2
        assert [(x.what, x.agent_id) for x in report.left_behind] == [("incarnation", "hard")]
        assert "1 task" in report.left_behind[0].detail
        (stopped,) = events_of(fleet, "fleet_stopped")
        assert "hard" in stopped.data["left_behind"][0]
        work.release.set()

    async def test_20_adding_and_working_during_shutdown_are_refused(self):
        async with fleet_on(shutdown=Shutdown(drain=100)) as fleet:
            agent = await fleet.add("A", Sleeper, spec=spec())
            task = await agent.submit("x", 10)
            leaving = asyncio.create_task(fleet.shutdown(drain=100))
            await asyncio.sleep(1)
            with pytest.raises(NotRunningError, match="draining"):
                await fleet.add("B", Sleeper)
            with pytest.raises(NotRunningError, match="draining"):
                fleet.attach("B")
            with pytest.raises(DrainingError):
                await agent.run("x", 1)
            assert (await fleet.restart("A")).reason.startswith("the fleet is draining")
            assert await task == 10
            await leaving

    async def test_20_a_second_crash_does_not_stop_the_shutdown(self):
        class Crashing:
            async def serve(self, agent):
                async for _ in agent.tasks():
                    raise RuntimeError("once more")

            async def stop(self):
                raise RuntimeError("while stopping")

        supervisor = Supervisor(
            SupervisorSettings(shutdown=Shutdown(drain=10, stop=5)), clock=current_clock()
        )
        async with supervisor as fleet:
            agent = await fleet.add("A", Crashing, spec=spec(in_flight="requeue"))
            bystander = await fleet.add("B", Sleeper, spec=spec())
            tasks = [await agent.submit("x") for _ in range(20)]
            other = await bystander.submit("x", 5)
        assert supervisor.report is not None
        assert all(t.future.done() for t in tasks)
        assert outcome_of(other.future) == "succeeded"
        assert {a.actual for a in supervisor.snapshot().agents} == {"stopped"}
        assert all(a.balanced for a in supervisor.snapshot().agents)

    async def test_20_with_an_error_on_its_way_there_is_no_draining(self):
        supervisor = Supervisor(
            SupervisorSettings(shutdown=Shutdown(drain=1000)), clock=current_clock()
        )

        async def host() -> None:
            async with supervisor as fleet:
                agent = await fleet.add("A", Sleeper)
                await agent.submit("x", 500)
                raise KeyError

        with pytest.raises(KeyError):
            await host()
        assert supervisor.report.seconds < 1

    async def test_20_shutdown_twice_gives_the_same_report_and_both_wait(self):
        async with fleet_on() as fleet:
            await fleet.add("A", Sleeper, spec=spec())
            first, second = await asyncio.gather(fleet.shutdown(), fleet.shutdown())
            assert first is second
            assert len(events_of(fleet, "fleet_stopped")) == 1

    async def test_20_shutdown_while_an_agent_starts_is_bounded(self):
        class Slow:
            async def start(self):
                await asyncio.sleep(1e5)

            async def handle(self, task):
                return 1

        supervisor = Supervisor(SupervisorSettings(), clock=current_clock())
        async with supervisor as fleet:
            adding = asyncio.create_task(fleet.add("A", Slow))
            await asyncio.sleep(1)
            begun = now()
        assert now() - begun <= 11
        async with asyncio.timeout(10):
            with pytest.raises((AgentStartError, NotRunningError, asyncio.CancelledError)):
                await adding
