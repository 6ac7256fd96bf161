"""`watch`: every kind of the host's callables, each call one task, nothing else changed."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect

import pytest
from support import fleet_on

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


class Engine:
    """The host's own."""

    def sync(self, a: int, *, b: str = "x") -> str:
        """Do it at once."""
        return f"{a}{b}"

    async def coroutine(self, a: int) -> int:
        """Do it later."""
        await asyncio.sleep(1)
        return a

    def steps(self, n: int):
        """Do it step by step."""
        got = []
        for i in range(n):
            got.append((yield i))  # noqa: PERF401 - no comprehension may yield
        return got

    async def astream(self, n: int):
        """Do it step by step, later."""
        for i in range(n):
            await asyncio.sleep(1)
            yield i


def books(agent):
    now = agent.snapshot()
    return {
        "assigned": now.assigned,
        "succeeded": now.succeeded,
        "failed": now.failed,
        "cancelled": now.cancelled,
        "in_flight": now.numbers.in_flight,
    }


def only(**values):
    return {
        "assigned": sum(values.values()),
        "succeeded": 0,
        "failed": 0,
        "cancelled": 0,
        "in_flight": 0,
        **values,
    }


@pytest.fixture
async def agent():
    async with fleet_on() as fleet:
        yield fleet.attach("A")


@pytest.mark.parametrize("name", ["sync", "coroutine", "steps", "astream"])
async def test_watch_keeps_kind_name_docstring_and_signature(agent, name):
    own = getattr(Engine(), name)
    watched = agent.watch(own)
    assert watched.__name__ == name
    assert watched.__doc__ == own.__doc__
    assert watched.__qualname__ == own.__qualname__
    assert inspect.signature(watched) == inspect.signature(own)
    for is_a in (
        inspect.iscoroutinefunction,
        inspect.isgeneratorfunction,
        inspect.isasyncgenfunction,
    ):
        assert is_a(watched) == is_a(own)


async def test_watch_counts_each_call_once_under_the_functions_name(agent):
    engine = Engine()
    assert agent.watch(engine.sync)(1, b="y") == "1y"
    assert await agent.watch(engine.coroutine)(2) == 2
    assert list(agent.watch(engine.steps)(3)) == [0, 1, 2]
    assert [i async for i in agent.watch(engine.astream)(2)] == [0, 1]
    assert {t.task_type: t.assigned for t in agent.snapshot().numbers.types} == {
        "sync": 1,
        "coroutine": 1,
        "steps": 1,
        "astream": 1,
    }
    assert books(agent) == only(succeeded=4)


async def test_watch_takes_partials_lambdas_and_callable_objects(agent):
    class Callable:
        def __call__(self, a):
            return a

    class AsyncCallable:
        async def __call__(self, a):
            return a

    assert agent.watch(functools.partial(Engine().sync, 1))() == "1x"
    assert await agent.watch(functools.partial(Engine().coroutine, 1))() == 1
    assert agent.watch(lambda a: a)(3) == 3
    assert agent.watch(Callable())(4) == 4
    assert await agent.watch(AsyncCallable())(5) == 5
    assert await agent.watch(lambda a: Engine().coroutine(a))(6) == 6  # its whole length counts
    assert books(agent) == only(succeeded=6)


async def test_watch_books_what_is_raised_and_lets_it_through(agent):
    def boom(*_):
        raise KeyError("mine")

    async def aboom():
        raise KeyError("mine")

    def gboom():
        yield 1
        raise KeyError("mine")

    async def agboom():
        yield 1
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        agent.watch(boom)()
    with pytest.raises(KeyError, match="mine"):
        await agent.watch(aboom)()
    with pytest.raises(KeyError, match="mine"):
        list(agent.watch(gboom)())
    with pytest.raises(KeyError, match="mine"):
        _ = [i async for i in agent.watch(agboom)()]
    with pytest.raises(TypeError, match="argument"):
        agent.watch(Engine().sync)()
    assert books(agent) == only(failed=5)


async def test_watch_tells_failure_by_result(agent):
    def bad(result):
        return not result

    async def later(result):
        return result

    def steps(result):
        yield 1
        return result

    watched = agent.watch(lambda r: r, failed=bad)
    assert watched(0) == 0  # the host gets its result as it is
    assert watched(1) == 1
    assert await agent.watch(later, failed=bad)(0) == 0
    assert list(agent.watch(steps, failed=bad)(0)) == [1]
    now = agent.snapshot()
    assert (now.failed, now.succeeded) == (3, 1)
    assert now.numbers.failures["returned_failure"] == 3


async def test_watch_survives_a_failed_that_raises(agent):
    assert agent.watch(lambda: 1, failed=lambda r: r.success)() == 1
    assert books(agent) == only(succeeded=1)


async def test_a_watched_generator_that_was_never_started_is_nothing(agent):
    engine = Engine()
    one, other = agent.watch(engine.steps)(3), agent.watch(engine.astream)(3)
    one.close()
    await other.aclose()
    del one, other
    agent.watch(engine.steps)(3)
    gc.collect()
    assert books(agent) == only()


async def test_a_watched_generator_closed_early_is_cancelled(agent):
    engine = Engine()
    one = agent.watch(engine.steps)(3)
    next(one)
    assert books(agent)["in_flight"] == 1
    one.close()
    other = agent.watch(engine.astream)(3)
    await anext(other)
    await other.aclose()
    assert books(agent) == only(cancelled=2)


async def test_a_watched_generator_that_is_dropped_is_cancelled(agent):
    one = agent.watch(Engine().steps)(3)
    next(one)
    del one
    gc.collect()
    async for _ in agent.watch(Engine().astream)(3):
        break
    gc.collect()
    await asyncio.sleep(0.1)
    assert books(agent) == only(cancelled=2)


async def test_send_throw_and_return_go_through_a_watched_generator(agent):
    def echo():
        got = []
        while True:
            try:
                got.append((yield len(got)))
            except LookupError:
                return got

    running = agent.watch(echo)()
    assert [next(running), running.send("a"), running.send("b")] == [0, 1, 2]
    with pytest.raises(StopIteration) as stop:
        running.throw(LookupError)
    assert stop.value.value == ["a", "b"]

    async def aecho():
        got = []
        while True:
            try:
                got.append((yield len(got)))
            except LookupError:
                yield got
                return

    arunning = agent.watch(aecho)()
    assert [await anext(arunning), await arunning.asend("a")] == [0, 1]
    assert await arunning.athrow(LookupError) == ["a"]
    assert [i async for i in arunning] == []
    assert books(agent) == only(succeeded=2)


async def test_what_a_consumer_does_between_two_steps_is_not_inside_the_task(agent):
    inner = []

    def nested():
        with agent.task("nested") as task:
            inner.append(task.parent and task.parent.task_type)

    def steps():
        nested()
        yield 1
        nested()
        yield 2

    for _ in agent.watch(steps, task_type="outer")():
        nested()
    assert inner == ["outer", None, "outer", None]


async def test_what_a_consumer_does_between_two_async_steps_is_not_inside_the_task(agent):
    inner = []

    async def nested():
        with agent.task("nested") as task:
            inner.append(task.parent and task.parent.task_type)

    async def steps():
        await nested()
        yield 1
        await nested()
        yield 2

    async for _ in agent.watch(steps, task_type="outer")():
        await nested()
    assert inner == ["outer", None, "outer", None]


async def test_a_cancelled_consumer_cancels_the_watched_async_generator(agent):
    async def consume():
        async for _ in agent.watch(Engine().astream)(1000):
            pass

    task = asyncio.create_task(consume())
    await asyncio.sleep(5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert books(agent) == only(cancelled=1)


async def test_watch_on_a_method_replaces_it_in_place():
    async with fleet_on() as fleet:
        agent = fleet.attach("A")
        engine = Engine()
        engine.coroutine = agent.watch(engine.coroutine, task_type="think")
        assert await asyncio.gather(*[engine.coroutine(n) for n in range(5)]) == [0, 1, 2, 3, 4]
        (slot,) = agent.snapshot().numbers.types
        assert (slot.task_type, slot.assigned) == ("think", 5)
        assert slot.seconds == 5.0


async def test_watch_refuses_what_cannot_be_called(agent):
    with pytest.raises(TypeError, match="42"):
        agent.watch(42)
