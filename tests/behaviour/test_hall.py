"""The hall's promises around one agent: delegation, other loops and threads, probes, forks."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import threading

import pytest
from support import Sleeper, events_of, fleet_on, outcome_of, spec

from fleetmon import NotRunningError, Probing, SpecError, TaskTimeoutError, UnknownAgentError

pytestmark = pytest.mark.anyio
virtual = pytest.mark.virtual_time


class Delegates:
    """Hands its work on to another agent."""

    def __init__(self, fleet, to, seen):
        self.fleet, self.to, self.seen = fleet, to, seen

    async def handle(self, task):
        self.seen.append((task.id, task.parent.id if task.parent else 0, task.deadline))
        if self.to == task.agent_id and task.payload == 0:
            return "bottom"
        payload = task.payload - 1 if self.to == task.agent_id else task.payload
        return await self.fleet.agent(self.to).run(task.task_type, payload)


@virtual
class TestByName:
    async def test_a_task_is_run_by_the_name_of_its_agent(self):
        async with fleet_on() as fleet:
            await fleet.add("A", Sleeper, spec=spec())
            assert await fleet.run("A", "x", 2.0, timeout=5) == 2.0
            task = await fleet.submit("A", "x", 3.0)
            assert await task == 3.0
            with pytest.raises(TaskTimeoutError):
                await fleet.run("A", "x", 10.0, timeout=5)
            assert fleet.agent("A").snapshot().assigned == 3

    async def test_a_name_that_nobody_has_is_told_and_books_nothing(self):
        async with fleet_on() as fleet:
            await fleet.add("APEX", Sleeper, spec=spec())
            for way in (fleet.run, fleet.submit):
                with pytest.raises(UnknownAgentError, match="did you mean APEX"):
                    await way("APEXX", "x", 1.0)


@virtual
class TestDelegation:
    async def chain(self, fleet, seen):
        await fleet.add("C", Sleeper, spec=spec())
        await fleet.add("B", lambda: Delegates(fleet, "C", seen), spec=spec())
        return await fleet.add("A", lambda: Delegates(fleet, "B", seen), spec=spec())

    async def test_a_deadline_is_passed_on_to_the_last_of_a_chain(self):
        seen = []
        async with fleet_on() as fleet:
            agent = await self.chain(fleet, seen)
            with pytest.raises(TaskTimeoutError):
                await agent.run("x", 1000.0, timeout=5)
            assert asyncio.get_running_loop().time() == pytest.approx(5)
            await asyncio.sleep(1)
            for snapshot in fleet.snapshot().agents:
                assert (snapshot.timed_out, snapshot.numbers.in_flight) == (1, 0)
            assert {deadline for _, _, deadline in seen} == {5.0}

    async def test_a_cancellation_is_passed_on_and_every_agent_is_free_again(self):
        async with fleet_on() as fleet:
            agent = await self.chain(fleet, [])
            task = await agent.submit("x", 1000.0)
            await asyncio.sleep(1)
            task.cancel()
            await asyncio.sleep(1)
            assert outcome_of(task.future) == "cancelled"
            for snapshot in fleet.snapshot().agents:
                assert (snapshot.cancelled, snapshot.failed, snapshot.tasks) == (1, 0, ())
            assert await agent.run("x", 1.0) == 1.0

    async def test_each_is_counted_for_its_own_and_knows_its_parent(self):
        seen = []
        async with fleet_on() as fleet:
            agent = await self.chain(fleet, seen)
            with fleet.attach("host").task("all") as outer:
                assert await agent.run("x", 1.0) == 1.0
            assert [a.succeeded for a in fleet.snapshot().agents] == [1, 1, 1, 1]
            (first, above, _), (_, parent, _) = seen
            assert (above, parent) == (outer.id, first)

    async def test_recursion_is_safe_within_the_capacity(self):
        seen = []
        async with fleet_on() as fleet:
            agent = await fleet.add("A", lambda: Delegates(fleet, "A", seen), spec=spec(capacity=5))
            assert await agent.run("x", 4, timeout=5) == "bottom"
            assert [parent for _, parent, _ in seen] == [0, *[number for number, *_ in seen[:-1]]]
            with pytest.raises(TaskTimeoutError):  # one too deep waits for itself, but bounded
                await agent.run("x", 5, timeout=5)
            await asyncio.sleep(1)
            assert agent.snapshot().numbers.in_flight == 0
            assert await agent.run("x", 1, timeout=5) == "bottom"

    async def test_scopes_nest_within_one_agent_and_across(self):
        async with fleet_on() as fleet:
            a, b = fleet.attach("A"), fleet.attach("B")
            with a.task("x") as first, a.task("x") as second, b.task("y") as third:
                assert (second.parent, third.parent) == (first, second)
            with b.task("y") as after:
                assert after.parent is None
            assert (a.snapshot().succeeded, b.snapshot().succeeded) == (2, 2)


class Calls:
    """Synchronous, in a worker thread: calls another agent."""

    def __init__(self, fleet):
        self.fleet = fleet

    def handle(self, task):
        return self.fleet.agent("B").call("x", task.payload)


class TestThreads:
    async def test_call_hands_work_on_from_a_worker_thread_deadline_included(self):
        async with fleet_on(virtual=False) as fleet:
            agent = await fleet.add("A", lambda: Calls(fleet), spec=spec())
            other = await fleet.add("B", Sleeper, spec=spec())
            assert await agent.run("x", 0.01, timeout=5) == 0.01
            with pytest.raises(TaskTimeoutError):
                await agent.run("x", 60, timeout=0.1)
            while other.snapshot().numbers.in_flight or agent.snapshot().numbers.in_flight:
                await asyncio.sleep(0.005)
            assert (other.snapshot().timed_out, agent.snapshot().timed_out) == (1, 1)

    async def test_call_in_the_supervisors_own_loop_is_refused(self):
        async with fleet_on(virtual=False) as fleet:
            agent = await fleet.add("A", Sleeper, spec=spec())
            with pytest.raises(NotRunningError, match="await run"):
                agent.call("x", 0)

    async def test_several_loops_in_threads_run_tasks_and_command(self):
        async with fleet_on(virtual=False) as fleet:
            agent = await fleet.add("A", Sleeper, spec=spec(capacity=8))
            host = fleet.attach("B")

            async def use():
                assert threading.get_ident() != fleet._fleet.thread
                answers = await asyncio.gather(*[agent.run("x", 0.001) for _ in range(20)])
                with host.task("x"):
                    await asyncio.sleep(0)
                with pytest.raises(SpecError, match="own loop"):
                    await agent.submit("x", 1)
                with pytest.raises(TaskTimeoutError):
                    await agent.run("x", 60, timeout=0.02)
                command = await host.pause()
                return len(answers), command.agent_id

            loops = [asyncio.to_thread(lambda: asyncio.run(use())) for _ in range(4)]
            assert await asyncio.gather(*loops) == [(20, "B")] * 4
            assert (agent.snapshot().succeeded, agent.snapshot().timed_out) == (80, 4)
            assert host.snapshot().succeeded == 4
            assert len(events_of(fleet, "command", "B")) == 4


@virtual
async def test_a_running_agent_is_probed_as_often_as_its_spec_says_and_lapses_when_it_fails():
    asked = []

    class Probed(Sleeper):
        async def probe(self):
            asked.append(asyncio.get_running_loop().time())
            return len(asked) != 3

    async with fleet_on() as fleet:
        agent = await fleet.add("A", Probed, spec=spec(probing=Probing(every=10)))
        await asyncio.sleep(29)
        assert (asked, agent.generation) == ([10, 20], 1)
        await asyncio.sleep(5)
        assert (agent.generation, agent.snapshot().health) == (2, 0)
        await asyncio.sleep(100)
        assert len(asked) >= 12
        assert agent.generation == 2


@virtual
async def test_a_snapshot_is_frozen_and_balanced_whatever_goes_on():
    async with fleet_on() as fleet:
        agent = await fleet.add("A", Sleeper, spec=spec(capacity=2))
        tasks = [await agent.submit("x", 5.0) for _ in range(5)]
        await asyncio.sleep(1)
        before = fleet.snapshot()
        with pytest.raises((AttributeError, dataclasses.FrozenInstanceError)):
            before.agents[0].health = 2
        await asyncio.gather(*tasks)
        picture = before.agent("A")
        assert (len(picture.tasks), picture.numbers.queued, picture.balanced) == (2, 3, True)
        assert [t.seconds for t in picture.tasks] == [1.0, 1.0]
        with pytest.raises(KeyError):
            before.agent("nobody")


@virtual
async def test_23_explain_takes_a_spec_a_name_or_the_defaults():
    async with fleet_on() as fleet:
        policy = spec(intensity={"max_restarts": 2, "period": 100})
        await fleet.add("A", Sleeper, spec=policy)
        assert fleet.explain("A") == fleet.explain(policy)
        assert fleet.explain() == fleet.explain(fleet.settings.defaults)
        assert fleet.explain() != fleet.explain("A")
        with pytest.raises(UnknownAgentError):
            fleet.explain("nobody")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform cannot fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_a_forked_child_has_no_supervisor_and_says_so():
    async with fleet_on(virtual=False) as fleet:
        agent = await fleet.add("A", Sleeper, spec=spec())
        host = fleet.attach("B")
        reading, writing = os.pipe()
        child = os.fork()
        if not child:  # no assert may escape from here: the child must not become a second pytest
            try:
                said = [fleet.snapshot().phase]
                for action in (lambda: fleet.attach("C"), lambda: agent.call("x", 0)):
                    try:
                        action()
                    except NotRunningError as error:
                        said.append("stopped" if "stopped" in str(error) else str(error))
                with host.task("x"):  # measuring goes on harmlessly
                    said.append("works")
                os.write(writing, " ".join(said).encode())
            finally:
                os._exit(0)
        os.close(writing)
        os.waitpid(child, 0)
        with os.fdopen(reading) as pipe:
            assert pipe.read() == "stopped stopped stopped works"
        assert await agent.run("x", 0.01) == 0.01
        assert host.snapshot().assigned == 0
