"""A private event loop in a daemon thread: asynchronous work that may block only itself."""

from __future__ import annotations

import asyncio
import threading
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from fleetmon.errors import WorkerDiedError
from fleetmon.runtime.executors.base import portable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Errand:
    """One coroutine on its way through the private loop."""

    __slots__ = ("cancelling", "error", "future", "make", "result", "task")

    def __init__(self, make: Callable[[], Awaitable[Any]], future: asyncio.Future[Any]) -> None:
        """Keep how to make the coroutine, and who waits for it."""
        self.make = make
        self.future = future
        self.task: asyncio.Task[None] | None = None
        self.cancelling = False
        self.result: Any = None
        self.error: Exception | None = None


class LoopThread:
    """Runs coroutines of one agent on a loop of their own.

    Belongs to the loop in which it was made (the caller's); every public method is called there.
    """

    def __init__(self, name: str, leaked: Callable[[int], None]) -> None:
        """Start the thread."""
        self._name = name
        self._leaked = leaked
        self._home = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = self._home.create_future()
        self._ended = asyncio.Event()
        self._errands: set[Errand] = set()
        self._private: asyncio.AbstractEventLoop | None = None
        self._quit: asyncio.Event | None = None
        self._abandoned = False
        self._quitting = False
        threading.Thread(target=self._main, name=f"{name}-loop", daemon=True).start()

    async def run(self, make: Callable[[], Awaitable[Any]]) -> Any:
        """Call ``make`` on the private loop, await its coroutine there, return its result.

        Cancelling cancels the work there and waits until it has ended.

        Raises:
            WorkerDiedError: the thread was abandoned or is already stopped.
            Exception: what the work raised, made safe by :func:`portable`.
        """
        if self._private is None:
            await asyncio.shield(self._ready)
        if self._abandoned or self._ended.is_set() or self._private is None:
            raise WorkerDiedError(f"{self._name}: its loop has already ended")
        errand = Errand(make, self._home.create_future())
        self._errands.add(errand)
        self._private.call_soon_threadsafe(self._begin, errand, context=copy_context())
        try:
            return await errand.future
        except asyncio.CancelledError:
            if errand in self._errands:
                await self._cancel(errand)
            raise

    async def stop(self) -> None:
        """Cancel what is left, end the loop and wait for its thread."""
        self._ask_to_quit()
        await self._ended.wait()

    def kill(self) -> None:
        """Ask the loop to end and wait for nothing; the thread counts as leaked until it does."""
        if self._abandoned or self._ended.is_set():
            return
        self._abandoned = True
        self._leaked(1)
        for errand in list(self._errands):
            self._errands.discard(errand)
            if not errand.future.done():
                errand.future.set_exception(
                    WorkerDiedError(f"{self._name}: its loop was abandoned while it worked")
                )
        self._ask_to_quit()

    def _ask_to_quit(self) -> None:
        self._quitting = True
        if self._private is None or self._quit is None:
            return  # _up() will see to it
        try:
            self._private.call_soon_threadsafe(self._quit.set)
        except RuntimeError:  # it has ended meanwhile
            return

    async def _cancel(self, errand: Errand) -> None:
        errand.cancelling = True
        errand.future = self._home.create_future()
        try:
            if self._private is not None:
                self._private.call_soon_threadsafe(self._interrupt, errand)
        except RuntimeError:
            return
        while not errand.future.done():
            try:
                await asyncio.wait((errand.future,))
            except asyncio.CancelledError:  # told once already; the work decides when it ends
                continue
        errand.future.exception()  # looked at, so that asyncio does not complain

    def _main(self) -> None:
        try:
            asyncio.run(self._live())
        finally:
            self._tell(self._over)

    async def _live(self) -> None:
        self._quit = asyncio.Event()
        self._private = asyncio.get_running_loop()
        self._tell(self._up)
        await self._quit.wait()

    def _up(self) -> None:
        if not self._ready.done():
            self._ready.set_result(None)
        if self._quitting:  # asked to end before it had begun
            self._ask_to_quit()

    def _over(self) -> None:
        self._ended.set()
        if not self._ready.done():
            self._ready.set_result(None)
        for errand in list(self._errands):
            self._deliver(errand)
        if self._abandoned:
            self._leaked(-1)

    def _begin(self, errand: Errand) -> None:
        """In the private loop, in the caller's context."""
        errand.task = asyncio.get_running_loop().create_task(self._perform(errand))

    def _interrupt(self, errand: Errand) -> None:
        """In the private loop.

        One turn later: a task cancelled before its first step would end without a word.
        """
        if errand.task is not None:
            asyncio.get_running_loop().call_soon(errand.task.cancel)

    async def _perform(self, errand: Errand) -> None:
        """In the private loop: nothing escapes, not even what would end the loop."""
        try:
            errand.result = await errand.make()
        except BaseException as error:  # noqa: BLE001 - every kind is the work's own
            errand.error = portable(error)
        self._tell(self._deliver, errand)

    def _tell(self, function: Callable[..., None], *arguments: Any) -> None:
        try:
            self._home.call_soon_threadsafe(function, *arguments)
        except RuntimeError:  # the host's loop was closed: nobody waits
            return

    def _deliver(self, errand: Errand) -> None:
        self._errands.discard(errand)
        if errand.future.done():
            return
        if errand.error is not None:
            errand.future.set_exception(errand.error)
            errand.error = None
        else:
            errand.future.set_result(errand.result)
