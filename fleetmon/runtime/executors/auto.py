"""The choice of a place: asynchronous work inline, synchronous work in threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fleetmon.runtime.executors.inline import InlineExecutor
from fleetmon.runtime.product import bind, build, peek

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fleetmon.runtime.executors.base import Executor, ExecutorHost, ExecutorKind, Work
    from fleetmon.runtime.product import Terms


def make_executor(
    kind: str, factory: Callable[[], Any], spec: Terms, host: ExecutorHost
) -> Executor:
    """Make the executor for one incarnation; nothing runs before its ``start()``.

    Args:
        kind: ``AgentSpec.executor``: ``"auto"``, ``"inline"``, ``"thread"`` or ``"process"``.
        factory: called without arguments where the work will run.
        spec: names the handler and the capacity.
        host: whom to report to.
    """
    if kind == "inline":
        return InlineExecutor(factory, spec, host)
    if kind == "thread":
        from fleetmon.runtime.executors.thread import ThreadExecutor

        return ThreadExecutor(factory, spec, host)
    if kind == "process":
        from fleetmon.runtime.executors.process import ProcessExecutor

        return ProcessExecutor(factory, spec, host)
    return AutoExecutor(factory, spec, host)


class AutoExecutor:
    """Decides at ``start()`` and then stands before its choice (``chosen``).

    A class tells by its methods, before anything is built. What any other factory gives is
    known only once it is built: that happens on the caller's loop, and a product with synchronous
    work then moves to threads.
    """

    __slots__ = ("_detach", "_factory", "_host", "_spec", "chosen")

    def __init__(
        self,
        factory: Callable[[], Any],
        spec: Terms,
        host: ExecutorHost,
        *,
        detach: bool = True,
    ) -> None:
        """Keep what is needed. ``detach`` goes to :class:`ThreadExecutor`."""
        self._factory = factory
        self._spec = spec
        self._host = host
        self._detach = detach
        self.chosen: Executor = InlineExecutor(factory, spec, host)

    async def start(self) -> None:
        """Choose, build and start; raises what the factory or the product raises."""
        told = peek(self._factory, self._spec)
        surface = None
        if told is None:
            surface = bind(await build(self._factory), self._spec)
            told = surface.is_async
        if told:
            inline = InlineExecutor(self._factory, self._spec, self._host)
            self.chosen = inline
            await (inline.start() if surface is None else inline.adopt(surface))
            return
        from fleetmon.runtime.executors.thread import ThreadExecutor

        self.chosen = ThreadExecutor(
            self._factory, self._spec, self._host, detach=self._detach, surface=surface
        )
        await self.chosen.start()

    @property
    def kind(self) -> ExecutorKind:
        """Where the work runs."""
        return self.chosen.kind

    @property
    def has_serve(self) -> bool:
        """Whether the product has a body."""
        return self.chosen.has_serve

    @property
    def has_handle(self) -> bool:
        """Whether the product takes tasks."""
        return self.chosen.has_handle

    @property
    def has_probe(self) -> bool:
        """Whether the product has a probe of its own."""
        return self.chosen.has_probe

    @property
    def takes_payload(self) -> bool:
        """Whether ``fast_call`` wants the payload."""
        return self.chosen.takes_payload

    @property
    def fast_call(self) -> Callable[[Any], Awaitable[Any]] | None:
        """The handler itself, when it is a coroutine function on this loop."""
        return self.chosen.fast_call

    async def serve(self) -> None:
        """Run the body to its end."""
        await self.chosen.serve()

    async def call(self, task: Work) -> Any:
        """Run one task."""
        return await self.chosen.call(task)

    async def probe(self) -> bool:
        """Ask whether the product is well."""
        return await self.chosen.probe()

    async def stop(self) -> None:
        """Stop the product and release everything."""
        await self.chosen.stop()

    async def blame(self) -> str:
        """Say where the worker is."""
        return await self.chosen.blame()

    def kill(self) -> None:
        """End the work now."""
        self.chosen.kill()
