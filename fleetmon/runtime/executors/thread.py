"""Work in threads of the agent's own: synchronous agents, and asynchronous ones that block."""

from __future__ import annotations

import inspect
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Literal

from fleetmon.errors import SpecError
from fleetmon.runtime.executors.base import SurfaceFacts, call_hook, passes, run_on_loop
from fleetmon.runtime.executors.faults import blame_frame
from fleetmon.runtime.executors.loopthread import LoopThread
from fleetmon.runtime.executors.pool import ThreadPool
from fleetmon.runtime.product import bind, build, kind_of, peek

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Awaitable, Callable

    from fleetmon.runtime.executors.base import ExecutorHost, Work
    from fleetmon.runtime.product import Surface, Terms

_PROGRESS_EVERY = 0.02  # seconds; a fast generator must not flood the loop


class ThreadExecutor(SurfaceFacts):
    """Synchronous parts run in a pool, asynchronous ones on a private loop, each made when needed.

    An asynchronous handler takes the hooks with it to the private loop, so that one thread sees
    the agent's whole life. With a capacity of 1 a synchronous agent, too, meets one thread only,
    as long as no call is left behind and no probe comes while one is busy.
    """

    kind: Literal["thread"] = "thread"
    fast_call: None = None

    def __init__(
        self,
        factory: Callable[[], Any],
        spec: Terms,
        host: ExecutorHost,
        *,
        detach: bool = True,
        surface: Surface | None = None,
    ) -> None:
        """Keep what is needed; nothing runs before :meth:`start`.

        Args:
            factory: called in a thread.
            spec: names the handler and the capacity.
            host: whom to report to.
            detach: leave cancelled synchronous calls behind (and count them); otherwise wait for
                them, for use where the whole process can be killed.
            surface: of a product that is already built; ``factory`` is not called then.
        """
        self._factory = factory
        self._spec = spec
        self._host = host
        self._detach = detach
        self._built = surface
        self.surface: Surface
        self._pool: ThreadPool | None = None
        self._private: LoopThread | None = None
        self._loop: AbstractEventLoop

    async def start(self) -> None:
        """Build the product in its thread and run its ``start``; raises what they raise."""
        import asyncio

        self._loop = asyncio.get_running_loop()
        self._pool = ThreadPool(self._name, self._spec.capacity, self._leaked)
        surface = self._built or bind(await self._build(), self._spec)
        self.surface = surface
        await self._hook(surface.start)

    async def serve(self) -> None:
        """Run the body to its end; a synchronous one in a thread of its own."""
        serve = self.surface.serve
        if serve is None:
            return
        handle = self._host.handle
        if self.surface.serve_kind == "async":
            await self._loop_thread().run(lambda: serve(handle))
            return
        if self._pool is not None:
            answer = await self._pool.run_alone(serve, handle, detach=self._detach)
            if inspect.isawaitable(answer):  # a synchronous wrapper around a coroutine function
                await self._loop_thread().run(lambda: answer)

    async def call(self, task: Work) -> Any:
        """Run one task; see :meth:`Executor.call`."""
        surface = self.surface
        call = surface.call
        if call is None:
            raise SpecError("the product has no handler; it only serves", field="handler")
        argument = task.payload if surface.takes_payload else task
        kind = surface.kind
        if kind in {"async", "asyncgen"}:
            report = self._reporter(task.id)
            private = self._private or self._loop_thread()
            return await private.run(lambda: run_on_loop(call, kind, argument, report))
        pool = self._pool
        if pool is None:
            raise SpecError("the executor is not started; await start() first")
        if kind == "gen":
            report = self._reporter(task.id)
            given_up = threading.Event()
            try:
                return await pool.run(
                    _collect, call, argument, report, given_up, detach=self._detach
                )
            finally:
                given_up.set()
        result = await pool.run(call, argument, detach=self._detach)
        if inspect.isawaitable(result):  # a synchronous wrapper around a coroutine function
            return await self._loop_thread().run(lambda: result)
        return result

    async def probe(self) -> bool:
        """Ask the product's probe, else go through the worker and back."""
        if self.surface.probe is not None:
            return passes(await self._hook(self.surface.probe))
        if self._lives_on_loop:
            await self._loop_thread().run(_pass_by)
        elif self._pool is not None:
            await self._pool.run(_nothing, control=True)
        return True

    async def stop(self) -> None:
        """Run the product's ``stop`` and release the threads, also when ``stop`` raises."""
        surface = getattr(self, "surface", None)
        try:
            if surface is not None:
                await self._hook(surface.stop)
            if self._private is not None:
                await self._private.stop()
        finally:
            self.kill()

    async def blame(self) -> str:
        """Say where the private loop is stuck, or the first of the pool's threads at work."""
        frames = sys._current_frames()  # noqa: SLF001 - the only way to see another thread's stack
        for thread in threading.enumerate():
            if thread.name.startswith(f"{self._name}-"):
                place = blame_frame(frames.get(thread.ident or 0))
                if place:
                    return place
        return ""

    def kill(self) -> None:
        """Abandon the threads: those at work are counted as leaked until they end."""
        if self._pool is not None:
            self._pool.close()
        if self._private is not None:
            self._private.kill()

    @property
    def _name(self) -> str:
        return f"fleetmon-{self._host.agent_id}-{self._host.generation}"

    @property
    def _lives_on_loop(self) -> bool:
        return self.surface.kind in {"async", "asyncgen"} or (
            self.surface.call is None and self.surface.serve_kind == "async"
        )

    def _leaked(self, change: int) -> None:
        self._host.leaked(change)

    def _loop_thread(self) -> LoopThread:
        if self._private is None:
            self._private = LoopThread(self._name, self._leaked)
        return self._private

    async def _build(self) -> Any:
        factory = self._factory
        if not callable(factory) or kind_of(factory) == "async" or peek(factory, self._spec):
            return await self._loop_thread().run(lambda: build(factory))
        if self._pool is None:
            return None
        product = await self._pool.run(factory, control=True)
        if inspect.isawaitable(product):
            return await self._loop_thread().run(lambda: product)
        return product

    async def _hook(self, hook: Callable[[], Any] | None) -> Any:
        if hook is None or self._pool is None:
            return None
        if self._lives_on_loop or kind_of(hook) == "async":
            return await self._loop_thread().run(lambda: call_hook(hook))
        answer = await self._pool.run(hook, control=True)
        if inspect.isawaitable(answer):
            return await self._loop_thread().run(lambda: answer)
        return answer

    def _reporter(self, task_id: int) -> Callable[[int], None]:
        """Give a callback for items that may be called from any thread as often as it likes."""
        last = 0.0
        tell: Callable[[int, str], None] = self._host.progress

        def report(count: int) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last < _PROGRESS_EVERY:
                return
            last = now
            try:
                self._loop.call_soon_threadsafe(tell, task_id, f"item {count}")
            except RuntimeError:  # the host's loop was closed: nobody listens
                return

        return report


def _collect(
    call: Callable[[Any], Any],
    argument: Any,
    report: Callable[[int], None],
    given_up: threading.Event,
) -> list[Any]:
    """Run a generator handler in a thread; stops between items when nobody waits any more."""
    items: list[Any] = []
    steps = call(argument)
    try:
        for value in steps:
            items.append(value)
            report(len(items))
            if given_up.is_set():
                break
    finally:
        steps.close()
    return items


def _nothing() -> None:
    """Go through a worker thread and back."""


def _pass_by() -> Awaitable[None]:
    return call_hook(None)
