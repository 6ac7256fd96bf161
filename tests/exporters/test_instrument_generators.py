"""Wrapped generators of both kinds: only the time counts in which they run, however they end."""

from __future__ import annotations

import asyncio
import gc
import inspect
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from helpers_instrument import Book, Clock

pytestmark = pytest.mark.anyio


def test_a_generator_counts_the_time_in_which_it_runs(book: Book, clock: Clock) -> None:
    def work() -> Any:
        clock.pass_(1)
        got = yield "a"
        clock.pass_(2)
        yield got
        clock.pass_(3)
        return "end"

    wrapped = book.wrap(work)
    assert inspect.isgeneratorfunction(work)
    flow = wrapped()
    assert next(flow) == "a"
    clock.pass_(100)  # the consumer's own
    assert flow.send("b") == "b"
    clock.pass_(100)
    with pytest.raises(StopIteration) as stop:
        next(flow)
    assert stop.value.value == "end"
    assert book.calls == [("success", 6)]
    assert book.items == ["a", "b"]


def test_a_generator_closed_early_is_cancelled_and_one_never_started_is_nothing(
    book: Book, clock: Clock
) -> None:
    closed = []

    def work() -> Any:
        try:
            clock.pass_(1)
            yield 1
            yield 2
        finally:
            closed.append(True)

    wrapped = book.wrap(work)
    wrapped().close()
    never = wrapped()
    del never
    gc.collect()
    assert book.calls == []
    for _ in wrapped():
        break  # collected, and closed, at once
    gc.collect()
    assert book.calls == [("cancelled", 1)]
    assert closed == [True]


def test_a_generator_that_raises_inside_and_one_into_which_is_thrown(book: Book) -> None:
    def raises() -> Any:
        yield 1
        raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        list(book.wrap(raises)())

    def catches() -> Any:
        try:
            yield 1
        except KeyError:
            yield "caught"

    flow = book.wrap(catches)()
    next(flow)
    assert flow.throw(KeyError()) == "caught"
    assert list(flow) == []

    def lets_through() -> Any:
        yield 1

    flow = book.wrap(lets_through)()
    next(flow)
    with pytest.raises(KeyError):
        flow.throw(KeyError())
    assert book.statuses == ["error", "success", "error"]


def test_a_bare_iterator_is_followed_only_where_asked_for(book: Book) -> None:
    assert isinstance(book.wrap(lambda: iter([1, 2]))(), type(iter([])))
    assert book.statuses == ["success"]
    assert list(book.wrap(lambda: iter([1, 2]), iterators=True)()) == [1, 2]
    assert book.items == [1, 2]


async def test_async_generators_end_close_raise_and_cancel(book: Book, clock: Clock) -> None:
    async def work(fail: bool = False) -> Any:
        clock.pass_(1)
        got = yield "a"
        if fail:
            raise ValueError("inside")
        clock.pass_(2)
        yield got

    wrapped = book.wrap(work)
    flow = wrapped()
    assert await anext(flow) == "a"
    clock.pass_(50)
    assert await flow.asend("b") == "b"
    with pytest.raises(StopAsyncIteration):
        await anext(flow)
    await wrapped().aclose()  # never started
    early = wrapped()
    await anext(early)
    await early.aclose()
    with pytest.raises(ValueError, match="inside"):
        _ = [item async for item in wrapped(fail=True)]
    assert book.calls == [("success", 3), ("cancelled", 1), ("error", 1)]

    async def waits() -> Any:
        yield 1
        await asyncio.Event().wait()

    async def consume() -> None:
        async for _ in book.wrap(waits)():
            started.set()

    started = asyncio.Event()
    task = asyncio.ensure_future(consume())
    await started.wait()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert book.statuses[-1] == "cancelled"
