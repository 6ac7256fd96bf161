"""Work in the host's own loop: the quickest place, for asynchronous agents."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal

from fleetmon.errors import SpecError
from fleetmon.runtime.executors.base import (
    SurfaceFacts,
    call_hook,
    passes,
    portable,
    run_on_loop,
)
from fleetmon.runtime.product import bind, build

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fleetmon.runtime.executors.base import ExecutorHost, Work
    from fleetmon.runtime.product import Surface, Terms


class InlineExecutor(SurfaceFacts):
    """Runs everything on the loop of its caller; synchronous handlers and hooks block it."""

    __slots__ = ("_factory", "_host", "_spec", "fast_call", "surface")

    kind: Literal["inline"] = "inline"

    def __init__(self, factory: Callable[[], Any], spec: Terms, host: ExecutorHost) -> None:
        """Keep what is needed; nothing runs before :meth:`start`."""
        self._factory = factory
        self._spec = spec
        self._host = host
        self.surface: Surface
        self.fast_call: Callable[[Any], Awaitable[Any]] | None = None

    async def start(self) -> None:
        """Build the product and run its ``start``.

        Raises:
            SpecError: the product cannot be used, or its ``serve`` is synchronous.
        """
        await self.adopt(bind(await build(self._factory), self._spec))

    async def adopt(self, surface: Surface) -> None:
        """Go on as :meth:`start` does, with a product that is already built."""
        if surface.serve_kind == "sync":
            raise SpecError(
                "serve is synchronous and would block the host's loop for ever; choose "
                'executor="thread" or make it a coroutine function',
                field="executor",
                value="inline",
            )
        self.surface = surface
        await call_hook(surface.start)
        if surface.kind == "async":
            self.fast_call = surface.call

    async def serve(self) -> None:
        """Run the body to its end."""
        if self.surface.serve is not None:
            await self.surface.serve(self._host.handle)

    async def call(self, task: Work) -> Any:
        """Run one task here; ``SystemExit`` arrives as a failure instead of ending the host."""
        surface = self.surface
        if surface.call is None:
            raise SpecError("the product has no handler; it only serves", field="handler")
        argument = task.payload if surface.takes_payload else task
        try:
            return await run_on_loop(
                surface.call,
                surface.kind,
                argument,
                lambda count: self._host.progress(task.id, f"item {count}"),
            )
        except SystemExit as error:
            raise portable(error) from error

    async def probe(self) -> bool:
        """Ask the product's own probe; without one, a turn of the loop is the proof."""
        if self.surface.probe is None:
            await asyncio.sleep(0)
            return True
        return passes(await call_hook(self.surface.probe))

    async def stop(self) -> None:
        """Run the product's ``stop``; nothing when it was never built."""
        surface = getattr(self, "surface", None)
        if surface is not None:
            await call_hook(surface.stop)

    async def blame(self) -> str:
        """Nothing to say: whoever watches the loop knows better."""
        return ""

    def kill(self) -> None:
        """Nothing to kill: the caller's own tasks are the work."""
