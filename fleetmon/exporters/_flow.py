"""The wrappers themselves, one for each kind of callable."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fleetmon.exporters._instrument import Begin, Observation

Call = Callable[..., Any]


def function(target: Call, begin: Begin, *, iterators: bool) -> Call:
    """Measure a plain function; what it returns may be the call going on."""
    streams: tuple[type, ...] = (Generator, AsyncGenerator)
    if iterators:
        streams = (Iterator, AsyncIterator)

    def measured(*args: Any, **kwargs: Any) -> Any:
        seen = begin(args, kwargs)
        seen.resume()
        try:
            result = target(*args, **kwargs)
        except BaseException as error:
            seen.raised(error)
            raise
        if isinstance(result, streams):
            seen.pause()
            flow = async_generator if isinstance(result, AsyncIterator) else generator
            return flow(lambda: result, lambda _args, _kwargs: seen)()
        if inspect.iscoroutine(result):
            seen.pause()
            return coroutine(lambda: result, lambda _args, _kwargs: seen)()
        if isinstance(result, (asyncio.Future, concurrent.futures.Future)):
            result.add_done_callback(lambda done: _settled(done, seen))
            return result
        seen.returned(result)
        return result

    return measured


def coroutine(target: Call, begin: Begin) -> Call:
    """Measure a coroutine function."""

    async def measured(*args: Any, **kwargs: Any) -> Any:
        seen = begin(args, kwargs)
        seen.resume()
        try:
            result = await target(*args, **kwargs)
        except BaseException as error:
            seen.raised(error)
            raise
        seen.returned(result)
        return result

    return measured


def generator(target: Call, begin: Begin) -> Call:
    """Measure a generator function, its pauses left out."""

    def measured(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        seen = begin(args, kwargs)
        seen.resume()
        try:
            source = target(*args, **kwargs)
            try:
                item = next(source)
                while True:
                    seen.took(item)
                    try:
                        sent = yield item
                    except GeneratorExit:
                        seen.resume()
                        _close(source)
                        raise
                    except BaseException as error:  # noqa: BLE001 - the source decides
                        seen.resume()
                        item = _throw(source, error)
                    else:
                        seen.resume()
                        item = next(source) if sent is None else source.send(sent)
            except StopIteration as stop:
                result = stop.value
        except BaseException as error:
            seen.raised(error)
            raise
        seen.returned(result)
        return result

    return measured


def async_generator(target: Call, begin: Begin) -> Call:
    """Measure an asynchronous generator function, its pauses left out."""

    async def measured(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        seen = begin(args, kwargs)
        seen.resume()
        try:
            source = target(*args, **kwargs)
            try:
                item = await anext(source)
                while True:
                    seen.took(item)
                    try:
                        sent = yield item
                    except GeneratorExit:
                        seen.resume()
                        await _aclose(source)
                        raise
                    except BaseException as error:  # noqa: BLE001 - the source decides
                        seen.resume()
                        item = await _athrow(source, error)
                    else:
                        seen.resume()
                        item = await (anext(source) if sent is None else source.asend(sent))
            except StopAsyncIteration:
                pass
        except BaseException as error:
            seen.raised(error)
            raise
        seen.returned(None)

    return measured


def _close(source: Any) -> None:
    if close := getattr(source, "close", None):
        close()


async def _aclose(source: Any) -> None:
    if close := getattr(source, "aclose", None):
        await close()


def _throw(source: Any, error: BaseException) -> Any:
    if throw := getattr(source, "throw", None):
        return throw(error)
    raise error  # a bare iterator has nowhere to take it


async def _athrow(source: Any, error: BaseException) -> Any:
    if throw := getattr(source, "athrow", None):
        return await throw(error)
    raise error


def _settled(done: Any, seen: Observation) -> None:
    """Book a future that has come to its end."""
    if done.cancelled():
        seen.raised(asyncio.CancelledError())
    elif (error := done.exception()) is not None:
        seen.raised(error)
    else:
        seen.returned(done.result())
