"""What becomes of a task when its agent goes down under it (16), in virtual time."""

from __future__ import annotations

import asyncio

import pytest
from support import (
    FatalError,
    Worker,
    crash,
    events_of,
    fleet_on,
    outcome_of,
    raising,
    spec,
)

from fleetmon import (
    DeadLetteredError,
    Supervisor,
    SupervisorSettings,
    TaskFailedError,
    TaskTimeoutError,
)
from fleetmon.testing import current_clock

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


class TestFate:
    async def test_16_fail_is_the_default_and_the_caller_hears_it(self):
        async with fleet_on() as fleet:
            agent = await fleet.add("A", Worker, spec=spec(capacity=2))
            task = await agent.submit("x", 50)
            await crash(agent)
            with pytest.raises(TaskFailedError, match="went down"):
                await task
            now = agent.snapshot()
            assert (now.failed, now.numbers.redelivered, now.dead_lettered) == (2, 0, 0)

    async def test_16_requeue_delivers_the_same_task_again_with_attempt_plus_one(self):
        async with fleet_on() as fleet:
            agent = await fleet.add("A", Worker, spec=spec(capacity=2, in_flight="requeue"))
            task = await agent.submit("x", "once")
            await crash(agent)
            assert await task == 2
            now = agent.snapshot()
            assert (now.succeeded, now.failed, now.assigned) == (1, 1, 2)  # the other: the crash
            assert now.numbers.redelivered == 1
            (event,) = events_of(fleet, "task_redelivered")
            assert (event.task_id, event.data["attempt"]) == (task.id, 2)

    async def test_16_dead_letter_is_a_policy_of_its_own(self):
        async with fleet_on() as fleet:
            agent = await fleet.add("A", Worker, spec=spec(capacity=2, in_flight="dead_letter"))
            task = await agent.submit("x", 50)
            await crash(agent)
            with pytest.raises(DeadLetteredError):
                await task
            assert [x.task_id for x in fleet.dead_letters()] == [task.id]
            assert agent.snapshot().dead_lettered == 1

    @pytest.mark.parametrize("deliveries", [1, 2, 4])
    async def test_16_max_deliveries_ends_in_the_dead_letters(self, deliveries):
        lives = Worker()
        async with fleet_on() as fleet:
            agent = await fleet.add(
                "A",
                lambda: lives,
                spec=spec(capacity=2, in_flight="requeue", max_deliveries=deliveries),
            )
            task = await agent.submit("x", 1000)
            for _ in range(deliveries):
                await crash(agent)
                await asyncio.sleep(5)
            assert outcome_of(task.future) == "dead_lettered"
            assert [b for b in lives.begun if b[0] == 1000] == [
                (1000, n + 1) for n in range(deliveries)
            ]
            (letter,) = fleet.dead_letters()
            assert (letter.attempts, letter.payload, letter.task_type) == (deliveries, 1000, "x")
            assert str(deliveries) in letter.reason

    @pytest.mark.parametrize("in_flight", ["fail", "requeue", "dead_letter"])
    async def test_16_tasks_that_wait_are_not_blamed(self, in_flight):
        async with fleet_on() as fleet:
            agent = await fleet.add("A", Worker, spec=spec(in_flight=in_flight, max_deliveries=1))
            bad = await agent.submit("x", "fatal")
            waiting = [await agent.submit("x", n / 10) for n in range(20)]
            assert await asyncio.gather(*waiting) == [1] * 20  # first attempts, all of them
            with pytest.raises(FatalError):
                await bad
            assert agent.snapshot().succeeded == 20

    async def test_16_a_body_that_crashes_gives_back_what_it_had_taken_and_only_that(self):
        class Body:
            async def serve(self, agent):
                async for task in agent.tasks():
                    if task.payload == "boom" and task.attempt < 3:
                        raise RuntimeError(task.payload)
                    task.done(task.attempt)

        async with fleet_on() as fleet:
            agent = await fleet.add("A", Body, spec=spec(in_flight="requeue"))
            tasks = [await agent.submit("x", p) for p in ("fine", "boom", "fine")]
            assert await asyncio.gather(*tasks) == [1, 3, 1]
            assert agent.snapshot().numbers.redelivered == 2

    async def test_16_a_restart_by_hand_requeues_by_the_same_policy_handled_or_taken(self):
        class Body:
            async def serve(self, agent):
                async for task in agent.tasks():
                    if task.attempt == 1:
                        await asyncio.sleep(1e5)
                    task.done(task.attempt)

        async with fleet_on() as fleet:
            for name, factory in (("handles", Worker), ("takes", Body)):
                agent = await fleet.add(name, factory, spec=spec(in_flight="requeue"))
                task = await agent.submit("x", "once")
                await asyncio.sleep(1)
                await agent.restart(wait=True)
                await asyncio.sleep(1)
                assert outcome_of(task.future) == "succeeded", name
                assert await task == 2

    async def test_16_a_task_that_cleans_up_with_another_error_is_requeued_all_the_same(self):
        class Messy:
            async def handle(self, task):
                if task.payload == "fatal":
                    raise FatalError
                if task.attempt == 1:
                    try:
                        await asyncio.sleep(1e5)
                    finally:
                        raise ConnectionResetError
                return task.attempt

        async with fleet_on() as fleet:
            agent = await fleet.add("A", Messy, spec=spec(capacity=2, in_flight="requeue"))
            task = await agent.submit("x")
            await crash(agent)
            await asyncio.sleep(5)
            assert outcome_of(task.future) == "succeeded"

    async def test_16_the_outcome_of_a_task_that_timed_out_is_what_its_caller_heard(self):
        class Messy:
            async def handle(self, task):
                try:
                    await asyncio.sleep(1e5)
                finally:
                    raise ConnectionResetError

        async with fleet_on() as fleet:
            agent = await fleet.add("A", Messy, spec=spec())
            with pytest.raises(TaskTimeoutError):
                await agent.run("x", timeout=3)
            await asyncio.sleep(1)
            now = agent.snapshot()
            assert (now.timed_out, now.failed) == (1, 0)

    async def test_16_a_deadline_goes_on_over_redeliveries(self):
        async with fleet_on() as fleet:
            agent = await fleet.add(
                "A", Worker, spec=spec(capacity=2, in_flight="requeue", max_deliveries=100)
            )
            begun = asyncio.get_running_loop().time()
            task = await agent.submit("x", 1000, timeout=10)
            for _ in range(3):
                await crash(agent)
                await asyncio.sleep(1)
            with pytest.raises(TaskTimeoutError):
                await task
            assert asyncio.get_running_loop().time() - begun == 10
            assert agent.snapshot().timed_out == 1

    async def test_16_a_requeued_task_can_be_cancelled_by_who_submitted_it(self):
        async with fleet_on() as fleet:
            agent = await fleet.add("A", Worker, spec=spec(capacity=2, in_flight="requeue"))
            task = await agent.submit("x", 1000)
            await crash(agent)
            await asyncio.sleep(5)
            task.cancel()
            await asyncio.sleep(0.1)
            assert outcome_of(task.future) == "cancelled"
            assert agent.snapshot().cancelled == 1


class _Raises:
    """A tracer and a log at once that can do nothing but raise."""

    capture = begin = end = event = ended = staticmethod(raising(lambda: RuntimeError("hook")))


class _UnreadableError(Exception):
    def __str__(self):
        raise RuntimeError("no words")

    __repr__ = __str__


class TestReporting:
    async def test_16_the_slot_is_freed_even_when_every_hook_raises(self):
        hooks = _Raises()
        async with fleet_on(tracer=hooks, log=hooks) as fleet:
            agent = await fleet.add(
                "A", Worker, spec=spec(in_flight="requeue", max_consecutive_failures=None)
            )
            assert await agent.run("x", "fine") == 1
            task = await agent.submit("x", "once")
            await asyncio.sleep(0.1)
            await agent.restart(wait=True)
            assert await task == 2
            await crash(agent)
            assert await asyncio.gather(*[agent.run("x", 0.1) for _ in range(5)]) == [1] * 5
            assert fleet.snapshot().fleet.hook_errors > 10

    @pytest.mark.parametrize("error", [_UnreadableError, KeyError, StopIteration, ExceptionGroup])
    async def test_16_the_slot_is_freed_whatever_the_error_is_like(self, error):
        class Odd:
            async def handle(self, task):
                if task.payload:
                    raise error("odd", [OSError()]) if error is ExceptionGroup else error
                return "fine"

        async with fleet_on() as fleet:
            agent = await fleet.add("A", Odd, spec=spec())
            for _ in range(3):
                with pytest.raises((error, RuntimeError)):
                    await agent.run("x", 1, timeout=5)
            assert await agent.run("x", timeout=5) == "fine"
            assert agent.snapshot().failed == 3

    async def test_16_the_slot_is_freed_when_the_classifier_or_failed_raise(self):
        supervisor = Supervisor(
            SupervisorSettings(), clock=current_clock(), classifier=raising(ValueError)
        )
        async with supervisor as fleet:
            agent = await fleet.add("A", Worker, failed=raising(lambda: KeyError("result")))
            for _ in range(2):
                with pytest.raises(KeyError):
                    await agent.run("x", "fine")
            with pytest.raises(FatalError):
                await agent.run("x", "fatal")
            assert agent.snapshot().failed == 3
