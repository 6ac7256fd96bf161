"""Inline and thread executors, and the choice between them."""

from __future__ import annotations

import asyncio
import functools
import gc
import subprocess
import sys
import threading
import time
import weakref

import agents
import pytest

from fleetmon.errors import RemoteError, SpecError, WorkerDiedError
from fleetmon.runtime.executors import make_executor
from fleetmon.runtime.executors.auto import AutoExecutor
from fleetmon.spec import AgentSpec

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


async def started(kind, factory, host, **spec):
    executor = make_executor(kind, factory, AgentSpec(**spec), host)
    await executor.start()
    return executor


class Gate:
    """A synchronous agent that waits until it is let go."""

    def __init__(self):
        self.inside = threading.Semaphore(0)
        self.open = threading.Event()
        self.names = set()

    def handle(self, task):
        self.names.add(threading.current_thread().name)
        if task.payload == "wait":
            self.inside.release()
            self.open.wait(20)
        return task.payload

    async def entered(self):
        await asyncio.to_thread(self.inside.acquire)


async def test_the_inline_hot_path_is_the_handler_itself(host, new_task):
    executor = await started("auto", agents.AsyncAgent, host)
    assert executor.kind == "inline"
    assert executor.fast_call.__func__ is agents.AsyncAgent.handle
    assert not executor.takes_payload
    assert await executor.fast_call(new_task(5)) == 5
    assert await executor.call(new_task(6)) == 6
    assert await executor.probe()
    await executor.stop()


@pytest.mark.parametrize(
    ("factory", "kind"),
    [
        (agents.AsyncAgent, "inline"),
        (agents.make_sync, "thread"),
        (lambda: agents.AsyncAgent("/dev/null"), "inline"),
        (agents.Puller, "inline"),
        (agents.SyncPuller, "thread"),
        (agents.Wrapped, "thread"),
    ],
)
async def test_auto_chooses_by_what_the_product_is(host, factory, kind):
    executor = await started("auto", factory, host)
    assert executor.kind == kind
    await executor.stop()


@pytest.mark.parametrize("kind", ["inline", "thread", "auto"])
async def test_every_shape_of_handler_gives_its_result(host, new_task, kind):
    async def answer(value):
        return value + 1

    shapes = [
        (agents.make_sync, "handle", ["add", 1, 2], 3),
        (lambda: answer, "handle", 1, 2),
        (lambda: functools.partial(answer), "handle", 1, 2),
        (agents.AsyncAgent, "handle", 4, 4),
        (agents.Wrapped, "handle", 4, 4),
        (agents.Streamer, "count", 3, [0, 1, 2]),
        (agents.Streamer, "acount", 3, [0, 1, 2]),
    ]
    for factory, handler, payload, wanted in shapes:
        executor = await started(kind, factory, host, handler=handler)
        task = new_task(payload)
        assert await executor.call(task) == wanted
        if factory is agents.Streamer:
            await host.until(lambda task=task: (task.id, "item 1") in host.notes)
        assert await executor.probe()
        await executor.stop()


@pytest.mark.parametrize("kind", ["inline", "thread"])
async def test_what_would_end_a_loop_arrives_as_a_failure(host, new_task, kind):
    executor = await started(kind, agents.make_sync, host)
    names = ["exit", "stop"] + ["interrupt", "cancelled"] * (kind == "thread")
    for name in names:
        with pytest.raises((RemoteError, RuntimeError), match=r"Exit|Stop|Interrupt|Cancelled"):
            await executor.call(new_task(["raise", name]))
    with pytest.raises(agents.CustomError):
        await executor.call(new_task(["raise", "custom"]))
    assert await executor.call(new_task(["add", 1, 1])) == 2
    await executor.stop()


async def test_an_asynchronous_agent_in_a_thread_meets_the_same_and_lives_on(host, new_task):
    class Ending:
        async def handle(self, task):
            raise task.payload

    executor = await started("thread", Ending, host)
    for error in (SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), StopIteration()):
        with pytest.raises((RemoteError, RuntimeError)):
            await executor.call(new_task(error))
    with pytest.raises(ZeroDivisionError):
        await executor.call(new_task(ZeroDivisionError()))
    await executor.stop()


async def test_the_callers_context_passes_into_threads(host, new_task):
    executor = await started("thread", agents.make_sync, host)
    agents.COLOUR.set("red")
    assert await executor.call(new_task(["colour"])) == "red"
    await executor.stop()

    async def colour(_):
        return agents.COLOUR.get()

    executor = await started("thread", lambda: colour, host)
    assert await executor.call(new_task(None)) == "red"
    await executor.stop()


async def test_capacity_bounds_the_threads_and_they_are_reused(host, new_task):
    gate = Gate()
    executor = await started("thread", lambda: gate, host, capacity=3)
    calls = [asyncio.create_task(executor.call(new_task("wait"))) for _ in range(5)]
    for _ in range(3):
        await gate.entered()
    assert not gate.inside.acquire(blocking=False)
    assert await executor.probe()  # does not wait behind busy threads
    assert "agents.py" not in await executor.blame()
    assert " in handle" in await executor.blame() or " in wait" in await executor.blame()
    gate.open.set()
    assert await asyncio.gather(*calls) == ["wait"] * 5
    for number in range(20):
        assert await executor.call(new_task(number)) == number
    assert len(gate.names) <= 3
    await executor.stop()
    assert host.leaks == 0


async def test_a_cancelled_call_returns_at_once_and_its_thread_is_counted_until_it_ends(
    host, new_task
):
    gate = Gate()
    executor = await started("thread", lambda: gate, host)
    call = asyncio.create_task(executor.call(new_task("wait")))
    await gate.entered()
    waiting = asyncio.create_task(executor.call(new_task("never begun")))
    await asyncio.sleep(0)
    waiting.cancel()
    call.cancel()
    outcomes = await asyncio.gather(call, waiting, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError] * 2
    assert host.leaks == 1
    assert await executor.call(new_task("next")) == "next"  # another thread took its place
    gate.open.set()
    await host.until(lambda: host.leaks == 0)
    assert await executor.call(new_task("again")) == "again"
    await executor.stop()


async def test_cancelling_asynchronous_work_in_a_thread_waits_for_its_cleanup(
    host, new_task, tmp_path
):
    log = tmp_path / "log"
    ended = []

    class Slow:
        async def handle(self, task):
            log.touch()
            host.loop.call_soon_threadsafe(host.changed.set)
            try:
                await asyncio.sleep(600)
            finally:
                await asyncio.sleep(0)
                ended.append(threading.current_thread().name)

    host.loop = asyncio.get_running_loop()
    executor = await started("thread", Slow, host)
    call = asyncio.create_task(executor.call(new_task(None)))
    await host.until(log.exists)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert ended == ["fleetmon-APEX-3-loop"]
    early = asyncio.create_task(executor.call(new_task(None)))
    await asyncio.sleep(0)
    early.cancel()
    with pytest.raises(asyncio.CancelledError):
        await early
    await executor.stop()
    assert host.leaks == 0


@pytest.mark.parametrize("handler", ["count", "acount"])
async def test_a_cancelled_generator_is_closed(host, new_task, handler):
    for kind in ("inline", "thread"):
        agents.Streamer.closed = 0
        executor = await started(kind, agents.Streamer, host, handler=handler)
        call = asyncio.create_task(executor.call(new_task(10**9)))
        await host.until(lambda: host.notes)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await host.until(lambda: host.leaks == 0)
        assert agents.Streamer.closed == 1
        await executor.stop()
        host.notes.clear()


async def test_bodies_run_where_they_belong(host):
    seen = []

    class Body:
        def serve(self, agent):
            seen.append((agent, threading.current_thread().name))

    class AsyncBody:
        async def serve(self, agent):
            seen.append((agent, threading.current_thread().name))

    for factory in (Body, AsyncBody):
        executor = await started("thread", factory, host)
        await executor.serve()
        await executor.stop()
    assert [agent for agent, _ in seen] == [host.handle] * 2
    assert all(name.startswith("fleetmon-APEX-3-") for _, name in seen)
    with pytest.raises(SpecError, match="serve is synchronous"):
        await started("inline", Body, host)


async def test_hooks_of_a_synchronous_agent_with_capacity_one_share_its_thread(host, new_task):
    threads = []

    class Affine:
        def __init__(self):
            threads.append(threading.get_ident())

        start = probe = stop = __init__

        def handle(self, task):
            threads.append(threading.get_ident())

    executor = await started("thread", Affine, host)
    await executor.call(new_task(None))
    assert await executor.probe()
    await executor.stop()
    assert len(threads) == 5
    assert len(set(threads)) == 1
    assert threads[0] != threading.get_ident()


@pytest.mark.parametrize("blocking", ["sync", "async"])
async def test_killing_abandons_stuck_threads_and_counts_them(host, new_task, blocking):
    gate = Gate()

    class Blocker:
        async def handle(self, task):
            gate.handle(task)

    factory = Blocker if blocking == "async" else lambda: gate
    executor = await started("thread", factory, host)
    call = asyncio.create_task(executor.call(new_task("wait")))
    await gate.entered()
    executor.kill()
    with pytest.raises(WorkerDiedError, match="abandoned"):
        await call
    assert host.leaks == 1
    with pytest.raises(WorkerDiedError):
        await executor.call(new_task(1))
    gate.open.set()
    await host.until(lambda: host.leaks == 0)


async def test_threads_are_gone_after_stop_and_results_are_not_kept(host, new_task):
    class Result:
        pass

    alive = lambda: None  # noqa: E731 - replaced by a weak reference

    def make_result(_):
        nonlocal alive
        result = Result()
        alive = weakref.ref(result)
        return result

    before = threading.active_count()
    for factory in (lambda: make_result, agents.AsyncAgent):
        executor = await started("thread", factory, host, capacity=2)
        await executor.call(new_task(1))
        await asyncio.sleep(0)  # the loop itself holds what it has just handed out
        gc.collect()
        assert alive() is None
        await executor.stop()
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        await asyncio.sleep(0.001)
    assert threading.active_count() == before


async def test_a_failing_factory_or_start_surfaces_and_stop_is_harmless(host):
    class NoStart:
        def start(self):
            raise agents.CustomError(1)

        def handle(self, task): ...

    for kind in ("inline", "thread", "auto"):
        for factory in (agents.broken_factory, NoStart):
            executor = make_executor(kind, factory, AgentSpec(), host)
            with pytest.raises(agents.CustomError):
                await executor.start()
            await executor.stop()
            executor.kill()
        with pytest.raises(SpecError):
            await started(kind, object, host)


async def test_auto_hands_an_undetached_thread_to_the_worker(host, new_task):
    gate = Gate()
    executor = AutoExecutor(lambda: gate, AgentSpec(), host, detach=False)
    await executor.start()
    call = asyncio.create_task(executor.call(new_task("wait")))
    await gate.entered()
    call.cancel()
    await asyncio.sleep(0)
    assert not call.done()
    gate.open.set()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert host.leaks == 0
    await executor.stop()


_STUCK = """
import asyncio, threading
from conftest import Host, Task
from fleetmon.runtime.executors import make_executor
from fleetmon.spec import AgentSpec
inside = threading.Event()

def stuck(payload):
    inside.set()
    threading.Event().wait()

async def main():
    executor = make_executor("thread", lambda: stuck, AgentSpec(), Host())
    await executor.start()
    call = asyncio.create_task(executor.call(Task(1)))
    while not inside.is_set():
        await asyncio.sleep(0.001)

asyncio.run(main())
"""


def test_a_stuck_thread_does_not_keep_the_interpreter_from_exiting():
    from pathlib import Path

    path = [str(Path(__file__).parent), *filter(None, sys.path)]
    ended = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:] = {path!r}\n{_STUCK}"],
        timeout=20,
        check=False,
        capture_output=True,
    )
    assert (ended.returncode, ended.stderr) == (0, b"")
