"""Zombies' tasks, the budget of redeliveries, dead letters (16 and 17), in virtual time."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest
from support import (
    FatalError,
    Stubborn,
    Worker,
    crash,
    fleet_on,
    outcome_of,
    spec,
)

from fleetmon import (
    DeadLetteredError,
    Deadlines,
    Intensity,
    Quarantine,
    Restarts,
    TaskCancelledError,
    TaskRefusedError,
    TaskTimeoutError,
)

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


def kept_on_metrics(fleet):
    """Return what /metrics says of dead letters."""
    (family,) = (f for f in fleet.collector().collect() if f.name == "fleetmon_dead_letters")
    return family.samples[0].value


async def abandoned(fleet, work, **policy):
    """Add an agent and restart it over a task that holds on; returns both."""
    policy = spec(in_flight="requeue", deadlines=Deadlines(stop=2.0), **policy)
    agent = await fleet.add("A", lambda: work, spec=policy)
    task = await agent.submit("x", "p")
    await asyncio.sleep(0.1)
    await agent.restart(wait=True)
    return agent, task


class TestNoOverlap:
    async def test_16_the_task_of_a_zombie_waits_until_the_zombie_is_reaped(self):
        work = Stubborn()
        async with fleet_on() as fleet:
            agent, task = await abandoned(fleet, work)
            assert agent.snapshot().zombies == 1
            await asyncio.sleep(100)
            assert work.begun == [("p", 1)]
            assert agent.snapshot().numbers.queued == 1
            work.release.set()
            assert await task == 2
            assert (work.begun, work.overlap) == ([("p", 1), ("p", 2)], 1)

    async def test_16_others_are_served_while_the_task_of_a_zombie_waits(self):
        work = Stubborn()
        async with fleet_on() as fleet:
            agent, _ = await abandoned(fleet, work)
            work.release.set()
            fresh = await agent.submit("x", "q")
            assert await fresh == 1

    async def test_16_at_least_once_hands_it_out_again_at_once(self):
        work = Stubborn()
        async with fleet_on() as fleet:
            agent, task = await abandoned(fleet, work, at_least_once=True)
            assert await task == 2
            assert work.overlap == 2
            work.release.set()
            await asyncio.sleep(1)
            now = agent.snapshot()
            assert (now.succeeded, now.assigned, now.zombies) == (1, 1, 0)
            assert fleet.snapshot().fleet.late_results == 1

    async def test_16_shutdown_ends_the_task_of_a_zombie_for_its_caller_too(self):
        work = Stubborn()
        async with fleet_on() as fleet:
            agent, task = await abandoned(fleet, work)
        assert task.future.done(), "its caller waits for ever"
        assert outcome_of(task.future) == "cancelled"
        assert [x.what for x in fleet.report.left_behind] == ["incarnation"]
        now = agent.snapshot()
        assert (now.cancelled, now.numbers.queued) == (1, 0)
        work.release.set()

    async def test_16_stopping_the_agent_ends_the_task_of_its_zombie_too(self):
        work = Stubborn()
        async with fleet_on() as fleet:
            agent, task = await abandoned(fleet, work)
            await agent.stop(wait=True)
            assert task.future.done(), "its caller waits for ever"
            work.release.set()
            await asyncio.sleep(1)
            assert agent.snapshot().cancelled == 1


class TestBudget:
    async def test_16_redeliveries_have_a_budget_over_the_whole_fleet(self):
        async with fleet_on(restarts=Restarts(redeliveries=3, max_concurrent=100)) as fleet:
            policy = spec(capacity=3, in_flight="requeue", max_deliveries=1000)
            agents = [await fleet.add(name, Worker, spec=policy) for name in "ABC"]
            tasks = [await agent.submit("x", 1000) for agent in agents for _ in range(2)]
            for agent in agents:
                await crash(agent)
            await asyncio.sleep(1)
            redelivered = sum(a.snapshot().numbers.redelivered for a in agents)
            assert redelivered == 3
            dead = [t for t in tasks if t.future.done()]
            assert [outcome_of(t.future) for t in dead] == ["dead_lettered"] * 3
            assert all("budget" in x.reason for x in fleet.dead_letters())
            await asyncio.sleep(61)  # a minute later there is a new budget
            await crash(agents[0])
            await asyncio.sleep(1)
            assert sum(a.snapshot().numbers.redelivered for a in agents) > 3


class TestPoison:
    async def test_17_a_poison_task_goes_to_the_dead_letters_and_can_be_retried_by_hand(self):
        healed = False

        class Fragile:
            async def serve(self, agent):
                async for task in agent.tasks():
                    if task.payload == "poison" and not healed:
                        raise RuntimeError("poisoned")
                    task.done(task.payload)

        async with fleet_on() as fleet:
            agent = await fleet.add("A", Fragile, spec=spec(in_flight="requeue", max_deliveries=3))
            poison = await agent.submit("x", "poison")
            good = await agent.submit("x", "good")
            with pytest.raises(DeadLetteredError):
                await poison
            assert await good == "good"
            (letter,) = fleet.dead_letters()
            assert kept_on_metrics(fleet) == 1
            assert (letter.agent_id, letter.payload, letter.attempts) == ("A", "poison", 3)
            assert agent.generation == 4
            with pytest.raises(LookupError, match="12345"):
                await fleet.retry_dead_letter(12345)
            healed = True
            assert await fleet.retry_dead_letter(letter.task_id) == "poison"
            assert fleet.dead_letters() == ()
            assert kept_on_metrics(fleet) == 0
            now = agent.snapshot()
            assert (now.dead_lettered, now.succeeded, now.assigned) == (1, 2, 3)

    async def test_17_a_letter_can_be_retried_at_another_agent(self):
        async with fleet_on() as fleet:
            agent = await fleet.add("A", Worker, spec=spec(capacity=2, in_flight="dead_letter"))
            await fleet.add("B", Worker, spec=spec())
            task = await agent.submit("x", 5)
            await crash(agent)
            assert await fleet.retry_dead_letter(task.id, "B") == 1
            assert fleet.agent("B").snapshot().succeeded == 1

    async def test_17_a_refused_retry_keeps_the_letter_in_its_place(self):
        async with fleet_on() as fleet:
            agent = await fleet.add("A", Worker, spec=spec(capacity=3, in_flight="dead_letter"))
            first, second = [await agent.submit("x", 5) for _ in range(2)]
            await crash(agent)
            await agent.pause()
            with pytest.raises(TaskRefusedError):
                await fleet.retry_dead_letter(first.id)
            with pytest.raises(LookupError):
                await fleet.retry_dead_letter(first.id, "nobody")
            assert [x.task_id for x in fleet.dead_letters()] == [first.id, second.id]

    async def test_17_a_retry_from_another_loop_works_or_keeps_the_letter(self, clock):
        async with fleet_on() as fleet:
            agent = await fleet.add("A", Worker, spec=spec(capacity=2, in_flight="dead_letter"))
            task = await agent.submit("x", 5)
            await crash(agent)
            await asyncio.sleep(5)
            passing = asyncio.create_task(clock.elapse(1000))
            try:
                answer = await asyncio.to_thread(
                    lambda: asyncio.run(fleet.retry_dead_letter(task.id))
                )
            except Exception:
                assert [x.task_id for x in fleet.dead_letters()] == [task.id]
                raise
            finally:
                passing.cancel()
            assert answer == 1
            assert fleet.dead_letters() == ()

    async def test_17_the_dead_letters_are_bounded_and_the_oldest_go_first(self):
        async with fleet_on(dead_letters=3) as fleet:
            agent = await fleet.add("A", Worker, spec=spec(capacity=6, in_flight="dead_letter"))
            tasks = [await agent.submit("x", 50) for _ in range(5)]
            await crash(agent)
            assert [x.task_id for x in fleet.dead_letters()] == [t.id for t in tasks[2:]]
            assert agent.snapshot().dead_lettered == 5

    async def test_16_a_quarantined_agent_keeps_what_waits_until_it_is_reset_or_stopped(self):
        async with fleet_on() as fleet:
            agent = await fleet.add(
                "A",
                Worker,
                spec=spec(
                    intensity=Intensity(max_restarts=0, period=10),
                    quarantine=Quarantine(probe_interval=None),
                ),
            )
            bad = await agent.submit("x", "fatal")
            waiting = await agent.submit("x", 1)
            with pytest.raises(FatalError):
                await bad
            await asyncio.sleep(50)
            assert agent.snapshot().actual == "quarantined"
            assert not waiting.future.done()
            await agent.reset()
            assert await waiting == 1

    async def test_16_a_body_that_swallows_keeps_what_it_took_fenced(self):
        class Body:
            async def serve(self, agent):
                async for task in agent.tasks():
                    for _ in range(30):
                        try:
                            await asyncio.sleep(1)
                        except asyncio.CancelledError:
                            if task.attempt > 1:
                                raise
                    task.done(task.attempt)

        async with fleet_on() as fleet:
            agent = await fleet.add(
                "A", Body, spec=spec(in_flight="fail", deadlines=Deadlines(stop=2.0))
            )
            task = await agent.submit("x")
            await asyncio.sleep(1)
            await agent.stop(wait=True)
            with pytest.raises(TaskCancelledError):
                await task
            await asyncio.sleep(40)
            now = agent.snapshot()
            assert (now.cancelled, now.succeeded, now.zombies) == (1, 0, 0)

    async def test_16_tasks_that_gave_up_waiting_leave_nothing_behind(self):
        class Payload:
            pass

        async with fleet_on() as fleet:
            agent = await fleet.add("A", Worker, spec=spec(queue=2))
            blocker = await agent.submit("x", 1000)
            payloads = []
            for _ in range(20):
                payload = Payload()
                payloads.append(weakref.ref(payload))
                with pytest.raises(TaskTimeoutError):
                    await agent.run("x", payload, timeout=1)
                del payload
            gc.collect()
            kept = sum(ref() is not None for ref in payloads)
            assert kept <= 2, f"{kept} payloads of tasks that are over are kept, the queue holds 2"
            blocker.cancel()
