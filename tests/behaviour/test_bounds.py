"""Bounded queues (18) and who asked for a cancellation (19), in virtual time."""

from __future__ import annotations

import asyncio

import pytest
from support import Sleeper, events_of, fleet_on, now, outcome_of, spec

from fleetmon import (
    DrainingError,
    NotAcceptingError,
    QueueFullError,
    Supervisor,
    SupervisorSettings,
    TaskCancelledError,
    TaskFailedError,
    TaskTimeoutError,
)
from fleetmon.testing import current_clock

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


class TestBounds:
    async def test_18_a_full_queue_raises_when_asked_not_to_wait_and_nothing_is_counted(self):
        async with fleet_on() as fleet:
            agent = await fleet.add("A", Sleeper, spec=spec(capacity=2, queue=3))
            tasks = [await agent.submit("x", 1, wait=False) for _ in range(5)]
            for call in (agent.submit, agent.run):
                with pytest.raises(QueueFullError, match="3 waiting") as caught:
                    await call("x", 1, wait=False)
                assert (caught.value.limit, caught.value.agent_id) == (3, "A")
            assert agent.snapshot().assigned == 5
            assert await asyncio.gather(*tasks) == [1] * 5

    async def test_18_a_full_queue_makes_submit_wait_for_room(self):
        async with fleet_on() as fleet:
            agent = await fleet.add("A", Sleeper, spec=spec(queue=2))
            for expected in (0, 0, 0, 1, 2, 3):
                await agent.submit("x", 1)
                assert now() == expected
                assert agent.snapshot().numbers.queued <= 2

    async def test_18_never_more_at_once_than_capacity_nor_waiting_than_the_queue(self):
        most = [0, 0, 0]

        class Counting:
            async def handle(self, task):
                most[0] += 1
                most[1] = max(most[:2])
                most[2] = max(most[2], agent.snapshot().numbers.queued)
                await asyncio.sleep(task.payload)
                most[0] -= 1

        async with fleet_on() as fleet:
            agent = await fleet.add("A", Counting, spec=spec(capacity=3, queue=4))
            await asyncio.gather(*[agent.run("x", 0.1 * (n % 7)) for n in range(100)])
            assert most[1:] == [3, 4]

    async def test_18_a_queue_of_none_waits_for_a_free_place_in_the_agent(self):
        async with fleet_on() as fleet:
            agent = await fleet.add("A", Sleeper, spec=spec(queue=0))
            assert await asyncio.gather(*[agent.run("x", 1, timeout=50) for _ in range(3)]) == [
                1,
                1,
                1,
            ]
            assert now() == 3

    async def test_18_who_gives_up_waiting_for_room_does_not_take_the_room_with_him(self):
        async with fleet_on() as fleet:
            agent = await fleet.add("A", Sleeper, spec=spec(queue=1))
            first, second = [await agent.submit("x", 10) for _ in range(2)]
            waits = [asyncio.create_task(agent.run("x", 1)) for _ in range(2)]
            await asyncio.sleep(1)

            def leave() -> None:  # in the very turn in which room was made for him
                waits[0].cancel()

            first.future.add_done_callback(lambda _: leave())
            await second
            async with asyncio.timeout(20):
                assert await waits[1] == 1
            assert outcome_of(waits[0]) == "cancelled"

    async def test_18_waiting_for_room_is_part_of_the_timeout_and_was_never_assigned(self):
        async with fleet_on() as fleet:
            agent = await fleet.add("A", Sleeper, spec=spec(queue=1))
            for _ in range(2):
                await agent.submit("x", 100)
            begun = now()
            with pytest.raises(TaskTimeoutError):
                await agent.run("x", 1, timeout=5)
            assert now() - begun == 5
            assert agent.snapshot().assigned == 2

    @pytest.mark.parametrize(
        ("command", "error"), [("stop", NotAcceptingError), ("drain", DrainingError)]
    )
    async def test_18_who_waits_for_room_hears_when_there_will_be_none(self, command, error):
        async with fleet_on() as fleet:
            agent = await fleet.add("A", Sleeper, spec=spec(queue=1))
            for _ in range(2):
                await agent.submit("x", 10)
            waits = [asyncio.create_task(agent.run("x", 1)) for _ in range(3)]
            await asyncio.sleep(1)
            await fleet.command(command, "A")
            async with asyncio.timeout(100):
                for wait in waits:
                    with pytest.raises((error, NotAcceptingError)):
                        await wait


class TestProvenance:
    async def test_19_a_cancel_raised_by_the_agent_itself_is_a_failure(self):
        class Odd:
            async def handle(self, task):
                raise asyncio.CancelledError

        async with fleet_on() as fleet:
            agent = await fleet.add("A", Odd, spec=spec())
            with pytest.raises(TaskFailedError):
                await agent.run("x")
            assert (agent.snapshot().failed, agent.snapshot().cancelled) == (1, 0)

    async def test_19_a_cancelled_helper_of_the_agent_is_a_failure_too(self):
        class Odd:
            async def handle(self, task):
                helper = asyncio.create_task(asyncio.sleep(10))
                asyncio.get_running_loop().call_soon(helper.cancel)
                await helper

        async with fleet_on() as fleet:
            agent = await fleet.add("A", Odd, spec=spec())
            with pytest.raises(TaskFailedError):
                await agent.run("x")
            assert agent.snapshot().failed == 1

    async def test_19_a_body_that_cancels_itself_lapses(self):
        class Body:
            async def serve(self, agent):
                await asyncio.sleep(1)
                raise asyncio.CancelledError

        async with fleet_on() as fleet:
            await fleet.add("A", Body, spec=spec())
            await asyncio.sleep(1.01)
            (lapse,) = events_of(fleet, "lapsed")
            assert lapse.data["error_type"] == "crash"

    async def test_19_a_cancel_asked_for_by_the_supervisor_is_no_failure(self):
        async with fleet_on() as fleet:
            agent = await fleet.add("A", Sleeper, spec=spec(capacity=2))
            tasks = [await agent.submit("x", 100) for _ in range(3)]
            await asyncio.sleep(1)
            await agent.stop(wait=True)
            assert [outcome_of(t.future) for t in tasks] == ["cancelled"] * 3
            for task in tasks:
                with pytest.raises(TaskCancelledError, match="stop"):
                    await task
            now_ = agent.snapshot()
            assert (now_.cancelled, now_.failed, now_.failures, now_.health) == (3, 0, 0, 0)
            assert not events_of(fleet, "lapsed")

    async def test_19_the_callers_cancel_propagates_and_cancels_the_task(self):
        seen = []

        class Seeing:
            async def handle(self, task):
                try:
                    await asyncio.sleep(100)
                except asyncio.CancelledError:
                    seen.append(task.id)
                    raise

        async with fleet_on() as fleet:
            agent = await fleet.add("A", Seeing, spec=spec())
            calls = [asyncio.create_task(agent.run("x")) for _ in range(2)]  # one runs, one waits
            await asyncio.sleep(1)
            for call in reversed(calls):
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call
            await asyncio.sleep(0.1)
            assert len(seen) == 1
            assert (agent.snapshot().cancelled, agent.snapshot().failed) == (2, 0)

    async def test_19_a_submitted_task_can_be_cancelled_in_the_turn_it_was_submitted_in(self):
        async with fleet_on() as fleet:
            agent = await fleet.add("A", Sleeper, spec=spec())
            task = await agent.submit("x", 100)
            task.cancel()  # it was handed out and has not had its first step
            await asyncio.sleep(1)
            assert task.future.done(), "its caller waits for ever"
            assert outcome_of(task.future) == "cancelled"
            assert await agent.run("x", 1, timeout=10) == 1, "the slot is lost"
            assert (agent.snapshot().cancelled, agent.snapshot().assigned) == (1, 2)

    async def test_19_the_hosts_cancel_goes_through_unchanged_around_its_own_call(self):
        async with fleet_on() as fleet:
            agent = fleet.attach("A")

            async def call() -> None:
                with agent.task("x"):
                    await asyncio.sleep(100)

            task = asyncio.create_task(call())
            await asyncio.sleep(1)
            task.cancel("host's own")
            with pytest.raises(asyncio.CancelledError, match="host's own"):
                await task
            now_ = agent.snapshot()
            assert (now_.cancelled, now_.failed) == (1, 0)

    async def test_19_a_cancel_that_the_hosts_work_raised_by_itself_is_a_failure(self):
        async with fleet_on() as fleet:
            agent = fleet.attach("A")
            with pytest.raises(asyncio.CancelledError), agent.task("x"):
                raise asyncio.CancelledError
            assert (agent.snapshot().cancelled, agent.snapshot().failed) == (0, 1)

    async def test_19_the_hosts_outer_cancel_ends_the_fleet_and_goes_on(self):
        supervisor = Supervisor(SupervisorSettings(), clock=current_clock())

        async def host() -> None:
            async with supervisor as fleet:
                agent = await fleet.add("A", Sleeper)
                await agent.run("x", 1000)

        running = asyncio.create_task(host())
        await asyncio.sleep(1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        agent = supervisor.snapshot().agents[0]
        assert (agent.actual, agent.cancelled, agent.failed) == ("stopped", 1, 0)
        assert supervisor.report is not None

    async def test_19_add_that_is_cancelled_leaves_no_agent(self):
        class Slow:
            async def start(self):
                await asyncio.sleep(1e5)

            async def handle(self, task):
                return 1

        async with fleet_on() as fleet:
            adding = asyncio.create_task(fleet.add("A", Slow, spec=spec()))
            await asyncio.sleep(1)
            adding.cancel()
            with pytest.raises(asyncio.CancelledError):
                await adding
            await asyncio.sleep(10)
            assert fleet.agents == ()
            agent = await fleet.add("A", Sleeper, spec=spec())
            assert await agent.run("x", 1, timeout=5) == 1
