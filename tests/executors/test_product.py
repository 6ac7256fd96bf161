"""What counts as a product, and what is found on it."""

from __future__ import annotations

import asyncio
import functools

import agents
import pytest

from fleetmon.errors import SpecError
from fleetmon.runtime.product import bind, build, kind_of, peek
from fleetmon.spec import AgentSpec

SPEC = AgentSpec()


async def coroutine(value):
    return value


def generator(value):
    yield value


async def stream(value):
    yield value


class AsyncCallable:
    async def __call__(self, value):
        return value


class Both:
    def __call__(self, value):
        raise AssertionError

    async def handle(self, task):
        return task


class Server:
    async def serve(self, agent): ...


class Named:
    def process(self, payload): ...


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (len, "sync"),
        (coroutine, "async"),
        (generator, "gen"),
        (stream, "asyncgen"),
        (functools.partial(functools.partial(coroutine), 1), "async"),
        (functools.partial(stream, 1), "asyncgen"),
        (AsyncCallable(), "async"),
        (functools.partial(AsyncCallable(), 1), "async"),
        (Both().handle, "async"),
        (agents.Streamer().count, "gen"),
        (agents.Wrapped().handle, "sync"),
    ],
)
def test_the_kind_is_seen_through_partials_methods_and_call(function, kind):
    assert kind_of(function) == kind


def test_a_plain_callable_gets_the_payload_and_an_object_the_task():
    plain = bind(coroutine, SPEC)
    assert (plain.call, plain.takes_payload, plain.kind) == (coroutine, True, "async")
    assert bind(AsyncCallable(), SPEC).takes_payload
    both = bind(Both(), SPEC)
    assert not both.takes_payload
    assert both.call.__name__ == "handle"
    named = bind(Named(), AgentSpec(handler="process"))
    assert named.takes_payload
    assert named.kind == "sync"


def test_serve_alone_is_enough_and_missing_hooks_are_none():
    surface = bind(Server(), SPEC)
    assert surface.call is None
    assert surface.serve_kind == "async"
    assert surface.is_async
    assert (surface.start, surface.probe, surface.stop) == (None, None, None)


class BadHook:
    stop = 3

    def handle(self, task): ...


class BadHandler:
    handle = "no"


class YieldingServe:
    async def serve(self, agent):
        yield


@pytest.mark.parametrize(
    ("product", "handler", "words"),
    [
        (object(), "handle", "neither handle nor serve"),
        (None, "handle", "a NoneType has neither"),
        (Both(), "process", "no method 'process'.*it has handle"),
        (coroutine, "process", "no method 'process'"),
        (Both, "handle", "class Both instead of an instance"),
        (BadHandler(), "handle", "handle of a BadHandler is 'no'"),
        (BadHook(), "handle", "stop of a BadHook is 3"),
        (YieldingServe(), "handle", "generator"),
    ],
)
def test_a_product_of_no_use_is_refused_by_name(product, handler, words):
    with pytest.raises(SpecError, match=words):
        bind(product, AgentSpec(handler=handler))


def test_factories_of_every_shape_are_built():
    async def make():
        return Server()

    async def scenario():
        for factory in (Server, make, functools.partial(make)):
            assert isinstance(await build(factory), Server)
        with pytest.raises(SpecError, match="3 is not callable"):
            await build(3)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("factory", "handler", "answer"),
    [
        (agents.AsyncAgent, "handle", True),
        (functools.partial(agents.AsyncAgent, "log"), "handle", True),
        (agents.Streamer, "count", False),
        (agents.Streamer, "acount", True),
        (AsyncCallable, "handle", True),
        (agents.make_sync, "handle", None),
        (object, "handle", None),
    ],
)
def test_a_class_tells_before_it_is_built_whether_its_work_is_asynchronous(
    factory, handler, answer
):
    assert peek(factory, AgentSpec(handler=handler)) is answer
