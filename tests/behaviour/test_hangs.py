"""Hangs in virtual time: idle is never hung, and what refreshes which limit (13)."""

from __future__ import annotations

import asyncio

import pytest
from support import Stubborn, events_of, fleet_on, spec

from fleetmon import Deadlines, HangLimits, TaskHungError, Verification

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


def limits(soft: float | None = 10.0, hard: float | None = 100.0) -> HangLimits:
    return HangLimits(soft=soft, hard=hard, cancel_grace=5.0)


class Sleeper:
    """Takes as many seconds as its payload says; a pair says how often it reports progress."""

    async def handle(self, task):
        seconds, every = task.payload if isinstance(task.payload, tuple) else (task.payload, None)
        if every is None:
            await asyncio.sleep(seconds)
        else:
            for step in range(round(seconds / every)):
                await asyncio.sleep(every)
                task.progress(f"step {step}")
        return "done"


def conditions(agent):
    return {c.name for c in agent.snapshot().conditions}


async def test_13_idle_is_never_hung():
    class Body:
        async def serve(self, agent):
            agent.heartbeat("up")
            async for task in agent.tasks():
                task.done()

    async with fleet_on() as fleet:
        tight = spec(hang=limits(0.5, 1.0))
        await fleet.add("handler", Sleeper, spec=tight)
        await fleet.add("body", Body, spec=tight)
        fleet.attach("host", spec=tight)
        await asyncio.sleep(5_000)
        assert not events_of(fleet, "task_hung")
        assert not events_of(fleet, "condition_raised")
        assert not events_of(fleet, "lapsed")
        assert [a.health for a in fleet.snapshot().agents] == [0, 0, 0]


async def test_13_a_task_exactly_as_long_as_its_hard_limit_is_not_hung():
    async with fleet_on() as fleet:
        agent = await fleet.add("A", Sleeper, spec=spec(hang=limits(None, 10.0), capacity=2))
        assert await agent.run("x", 10.0) == "done"
        with pytest.raises(TaskHungError):
            await agent.run("x", 10.5)  # the fleet looks four times a second


async def test_13_a_task_exactly_as_long_as_its_soft_limit_is_not_suspect():
    async with fleet_on() as fleet:
        agent = await fleet.add("A", Sleeper, spec=spec(hang=limits(10.0, None)))
        await agent.run("x", 10.0)
        assert not events_of(fleet, "task_hung")
        await agent.run("x", 10.5)
        assert [e.data["limit"] for e in events_of(fleet, "task_hung")] == ["soft"]


async def test_13_a_soft_hang_makes_suspect_and_degraded_and_its_end_clears_it():
    async with fleet_on() as fleet:
        agent = await fleet.add("A", Sleeper, spec=spec(hang=limits()))
        task = await agent.submit("x", 20.0)
        await asyncio.sleep(11)
        assert conditions(agent) == {"suspect"}
        assert agent.snapshot().health == 1
        await task
        assert conditions(agent) == set()
        assert agent.snapshot().health == 0


async def test_13_progress_refreshes_the_soft_limit():
    async with fleet_on() as fleet:
        agent = await fleet.add("A", Sleeper, spec=spec(hang=limits(10.0, None)))
        await agent.run("x", (90.0, 9.0))
        assert not events_of(fleet, "task_hung")


async def test_13_progress_after_a_soft_hang_clears_suspect_at_once():
    async with fleet_on() as fleet:
        agent = await fleet.add("A", Sleeper, spec=spec(hang=limits(10.0, None)))
        task = await agent.submit("x", (45.0, 15.0))
        await asyncio.sleep(14)
        assert conditions(agent) == {"suspect"}
        await asyncio.sleep(1.1)
        assert conditions(agent) == set()
        await task


async def test_13_progress_never_refreshes_the_hard_limit():
    async with fleet_on() as fleet:
        agent = await fleet.add("A", Sleeper, spec=spec(hang=limits(10.0, 30.0)))
        with pytest.raises(TaskHungError):
            await agent.run("x", (90.0, 1.0))
        assert [e.data["limit"] for e in events_of(fleet, "task_hung")] == ["hard"]
        assert agent.snapshot().numbers.failures["hang"] == 1


async def test_13_a_heartbeat_refreshes_the_soft_limit_and_never_the_hard_one():
    class Body:
        async def serve(self, agent):
            async for _ in agent.tasks():
                for beat in range(1000):
                    await asyncio.sleep(5)
                    agent.heartbeat(beat)

    async with fleet_on() as fleet:
        agent = await fleet.add("A", Body, spec=spec(hang=limits(10.0, 60.0)))
        with pytest.raises(TaskHungError):
            await agent.run("x")
        assert {e.data["limit"] for e in events_of(fleet, "task_hung")} == {"hard", "survived"}


async def test_13_heartbeats_of_an_older_generation_do_not_count():
    handles = []

    class Body:
        async def serve(self, agent):
            handles.append(agent)
            async for _ in agent.tasks():
                await asyncio.sleep(1000)

    async with fleet_on() as fleet:
        agent = await fleet.add("A", Body, spec=spec(hang=limits(10.0, None)))
        await fleet.restart("A", wait=True)
        task = await agent.submit("x")
        for _ in range(12):
            await asyncio.sleep(1)
            handles[0].heartbeat("still here")
        assert conditions(agent) == {"suspect"}
        assert fleet.snapshot().fleet.late_results >= 12
        task.cancel()


class SaysTheSame:
    async def serve(self, agent):
        while True:
            agent.heartbeat("page 1")
            await asyncio.sleep(3)


async def test_13_identical_heartbeats_without_progress_become_suspect():
    async with fleet_on() as fleet:
        agent = await fleet.add("A", SaysTheSame, spec=spec(hang=limits(10.0, None)))
        await asyncio.sleep(9.9)
        assert conditions(agent) == set()
        await asyncio.sleep(3)
        assert conditions(agent) == {"suspect"}
        assert agent.snapshot().health == 1


async def test_13_a_suspect_that_goes_on_saying_the_same_stays_suspect_without_flapping():
    async with fleet_on() as fleet:
        agent = await fleet.add("A", SaysTheSame, spec=spec(hang=limits(10.0, None)))
        await asyncio.sleep(100)
        assert len(events_of(fleet, "condition_raised")) == 1
        assert not events_of(fleet, "condition_cleared")
        assert conditions(agent) == {"suspect"}


async def test_13_heartbeats_that_fell_silent_in_time_are_not_identical_for_too_long():
    class Body:
        async def serve(self, agent):
            for _ in range(3):
                agent.heartbeat("warming up")
                await asyncio.sleep(3)
            await asyncio.sleep(1e6)

    async with fleet_on() as fleet:
        await fleet.add("A", Body, spec=spec(hang=limits(10.0, None)))
        await asyncio.sleep(1000)
        assert not events_of(fleet, "condition_raised")  # idle is never hung


async def test_13_changing_heartbeats_or_none_to_tell_are_never_suspect():
    class Body:
        def __init__(self, note):
            self.note = note

        async def serve(self, agent):
            for beat in range(1000):
                agent.heartbeat(self.note and beat)
                await asyncio.sleep(3)

    async with fleet_on() as fleet:
        for name, note in (("changing", True), ("silent", None)):
            await fleet.add(name, lambda note=note: Body(note), spec=spec(hang=limits(10.0)))
        await asyncio.sleep(1000)
        assert not events_of(fleet, "condition_raised")


async def test_13_identical_heartbeats_with_finished_tasks_between_are_not_suspect():
    class Body:
        async def serve(self, agent):
            async for task in agent.tasks():
                agent.heartbeat("serving")
                task.done()

    async with fleet_on() as fleet:
        agent = await fleet.add("A", Body, spec=spec(hang=limits(10.0)))
        for _ in range(50):
            await agent.run("x")
            await asyncio.sleep(3)
        assert not events_of(fleet, "condition_raised")


async def test_13_a_new_incarnation_is_not_suspect_for_the_heartbeats_of_the_old_one():
    class Body:
        lives = 0

        async def serve(self, agent):
            Body.lives += 1
            while Body.lives == 1:
                agent.heartbeat("page 1")
                await asyncio.sleep(3)
            await asyncio.sleep(1e6)

    async with fleet_on() as fleet:
        agent = await fleet.add("A", Body, spec=spec(hang=limits(10.0)))
        await asyncio.sleep(20)
        assert conditions(agent) == {"suspect"}
        await agent.restart(wait=True)
        await asyncio.sleep(20)
        assert conditions(agent) == set()


async def test_13_a_task_type_may_have_its_own_limits():
    own = {"train": HangLimits(soft=500.0, hard=1000.0), "chat": HangLimits(soft=1.0, hard=2.0)}
    async with fleet_on() as fleet:
        agent = await fleet.add(
            "A", Sleeper, spec=spec(hang=limits(10.0, 20.0), task_limits=own, capacity=3)
        )
        assert await agent.run("train", 400.0) == "done"
        assert not events_of(fleet, "task_hung")
        begun = asyncio.get_running_loop().time()
        for task_type, hard in (("chat", 2.0), ("other", 20.0)):
            begun = asyncio.get_running_loop().time()
            with pytest.raises(TaskHungError):
                await agent.run(task_type, 400.0)
            assert hard < asyncio.get_running_loop().time() - begun <= hard + 0.5


async def test_13_a_limit_of_none_is_never_crossed():
    async with fleet_on() as fleet:
        agent = await fleet.add("A", Sleeper, spec=spec(hang=limits(None, None)))
        await agent.run("x", 3_000.0)
        assert not events_of(fleet, "task_hung")


async def test_13_one_of_several_hangs_and_only_it_is_cancelled():
    async with fleet_on() as fleet:
        agent = await fleet.add("A", Sleeper, spec=spec(hang=limits(None, 10.0), capacity=3))
        slow = await agent.submit("x", 100.0)
        await asyncio.sleep(5)
        others = [await agent.submit("x", 9.0) for _ in range(2)]
        assert await asyncio.gather(*others) == ["done", "done"]
        with pytest.raises(TaskHungError):
            await slow
        assert not events_of(fleet, "lapsed")
        assert agent.generation == 1


async def test_13_only_a_hang_that_survives_its_cancellation_is_a_lapse():
    stubborn = Stubborn()
    async with fleet_on() as fleet:
        agent = await fleet.add(
            "A",
            lambda: stubborn,
            spec=spec(hang=limits(None, 10.0), deadlines=Deadlines(stop=2.0)),
        )
        task = await agent.submit("x", 1)
        await asyncio.sleep(14)
        assert not events_of(fleet, "lapsed")
        await asyncio.sleep(2)
        (lapse,) = events_of(fleet, "lapsed")
        assert "survived" in lapse.data["reason"]
        assert lapse.data["error_type"] == "hang"
        await asyncio.sleep(10)
        assert agent.snapshot().zombies == 1
        with pytest.raises(TaskHungError):
            await task
        stubborn.release.set()
        await asyncio.sleep(1)
        assert agent.snapshot().zombies == 0
        assert agent.snapshot().failed == 1


async def test_13_a_hung_task_of_a_host_lapses_its_agent_and_is_booked_once_when_it_ends():
    async with fleet_on() as fleet:
        agent = fleet.attach("A", recover=lambda: None, spec=spec(hang=limits(None, 10.0)))
        with agent.task("x"):
            await asyncio.sleep(11)
            (lapse,) = events_of(fleet, "lapsed")
            assert lapse.data["error_type"] == "hang"
            await asyncio.sleep(50)
            assert agent.generation == 2
            assert len(events_of(fleet, "lapsed")) == 1
        now = agent.snapshot()
        assert (now.succeeded, now.assigned, now.numbers.in_flight) == (1, 1, 0)


async def test_13_what_a_zombie_does_does_not_verify_the_life_after_it():
    release = asyncio.Event()

    class Body:
        lives = 0

        async def serve(self, agent):
            Body.lives += 1
            if Body.lives > 1:
                await asyncio.sleep(1e6)
            for _ in range(100):
                if release.is_set():
                    return
                try:
                    await asyncio.sleep(1)
                    with agent.task("late work"):
                        pass
                except asyncio.CancelledError:
                    pass

    async with fleet_on() as fleet:
        agent = await fleet.add(
            "A",
            Body,
            spec=spec(
                deadlines=Deadlines(stop=2.0), verify=Verification(idle_after=20.0, timeout=60.0)
            ),
        )
        quarantined = await agent.quarantine(wait=True)
        assert quarantined.settled
        assert agent.snapshot().zombies == 1
        await agent.reset()
        await asyncio.sleep(10)
        assert agent.snapshot().actual == "recovering"
        await asyncio.sleep(11)
        assert [e.data["by"] for e in events_of(fleet, "verified")] == ["alive"]
        release.set()
        await asyncio.sleep(3)


async def test_13_a_hung_task_that_cleans_up_with_another_error_is_still_a_hang():
    class Messy:
        async def handle(self, task):
            try:
                await asyncio.sleep(1e6)
            finally:
                raise ConnectionResetError(task.payload)

    async with fleet_on() as fleet:
        agent = await fleet.add("A", Messy, spec=spec(hang=limits(None, 10.0)))
        task = await agent.submit("x")
        with pytest.raises(TaskHungError):
            await task
        assert agent.snapshot().numbers.failures["hang"] == 1
