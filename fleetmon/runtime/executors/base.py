"""The seam between supervision and the place where work runs."""

from __future__ import annotations

import asyncio
import inspect
import traceback
from typing import TYPE_CHECKING, Any, Literal, Protocol

from fleetmon.errors import RemoteError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fleetmon.errors import WorkerDiedError
    from fleetmon.relay import News
    from fleetmon.runtime.product import Kind, Surface

ExecutorKind = Literal["inline", "thread", "process"]


class Work(Protocol):
    """What an executor reads of a task. ``carrier``, where a task has it, travels along."""

    @property
    def id(self) -> int:
        """Number of the task, unique within the supervisor."""

    @property
    def payload(self) -> Any:
        """What the caller handed in."""

    @property
    def task_type(self) -> str:
        """As the caller named it."""

    @property
    def attempt(self) -> int:
        """1 for the first delivery."""

    @property
    def deadline(self) -> float | None:
        """On :func:`time.monotonic`, or ``None``."""


class ExecutorHost(Protocol):
    """Whom an executor reports to. Every method is called in the loop that ran ``start()``."""

    @property
    def agent_id(self) -> str:
        """Whose work it is."""

    @property
    def generation(self) -> int:
        """Number of the incarnation."""

    @property
    def handle(self) -> Any:
        """Object passed to ``serve(agent)`` by the inline and thread executors.

        A synchronous body uses it from a thread of its own.
        """

    def heartbeat(self, note: str | None = None) -> None:
        """Note that a body in a worker process is alive."""

    def progress(self, task_id: int, note: str) -> None:
        """Note progress of a task, such as an item of a generator."""

    def next_task(self) -> Awaitable[Work | None]:
        """Wait for the next task of a body in a worker process; ``None`` when it is to end."""

    def settle(self, task: Work, result: Any, error: BaseException | None) -> None:
        """Take the outcome of a task that a body in a worker process got by ``next_task``."""

    def died(self, error: WorkerDiedError) -> None:
        """Take note, once, that a started worker ended without having been asked to."""

    def counted(self, news: list[News]) -> None:
        """Take what exporters counted in a worker process."""

    def leaked(self, threads: int) -> None:
        """Take note that ``threads`` more (or, below 0, fewer) threads run abandoned work."""


class Executor(Protocol):
    """One incarnation's place of work. All coroutines belong to the loop that ran ``start()``.

    Attributes after ``start()``:
        kind: where it runs.
        has_serve: the product has a body.
        has_handle: the product takes tasks.
        has_probe: the product has a probe of its own.
        takes_payload: ``fast_call`` wants ``task.payload`` instead of the task.
        fast_call: the handler itself when it is a coroutine function on this loop, else ``None``.
    """

    @property
    def kind(self) -> ExecutorKind: ...  # noqa: D102 - see above
    @property
    def has_serve(self) -> bool: ...  # noqa: D102 - see above
    @property
    def has_handle(self) -> bool: ...  # noqa: D102 - see above
    @property
    def has_probe(self) -> bool: ...  # noqa: D102 - see above
    @property
    def takes_payload(self) -> bool: ...  # noqa: D102 - see above
    @property
    def fast_call(self) -> Callable[[Any], Awaitable[Any]] | None: ...  # noqa: D102 - see above

    async def start(self) -> None:
        """Build the product where it will work and run its ``start``; raises what they raise."""

    async def serve(self) -> None:
        """Run the product's body to its end."""

    async def call(self, task: Work) -> Any:
        """Run one task and return its result; a generator's result is the list of its items.

        Cancelling the awaiting coroutine cancels the work. Asynchronous work, and any work in a
        process, is then waited for; a synchronous call in a thread is left behind and counted by
        :meth:`ExecutorHost.leaked` until it ends.
        """

    async def probe(self) -> bool:
        """Ask the product's ``probe`` (``None`` and true pass), else go through the worker."""

    async def stop(self) -> None:
        """Run the product's ``stop``, then release everything. The caller bounds it."""

    async def blame(self) -> str:
        """Say where the worker is, as ``file:line in function``; empty when unknown."""

    def kill(self) -> None:
        """End the work now, without asking the product; threads are abandoned and counted."""


def portable(error: BaseException) -> Exception:
    """Give an error that may be raised in any loop and coroutine.

    Errors that would end a loop (``SystemExit``), look like the caller's own cancellation or
    become something else on the way (``StopIteration``) come back as :class:`RemoteError`.
    """
    if isinstance(error, Exception) and not isinstance(error, (StopIteration, StopAsyncIteration)):
        return error
    kind = type(error)
    told = RemoteError(
        str(error),
        type_name=kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}",
        traceback="".join(traceback.format_exception(error)),
    )
    told.__cause__ = error
    return told


def passes(answer: Any) -> bool:
    """Read a probe's answer: a probe that returns nothing and does not raise has passed."""
    return answer is None or bool(answer)


async def call_hook(hook: Callable[[], Any] | None) -> Any:
    """Call a hook here and await what it gives, if that can be awaited."""
    if hook is None:
        return None
    answer = hook()
    return await answer if inspect.isawaitable(answer) else answer


async def run_on_loop(
    call: Callable[[Any], Any], kind: Kind, argument: Any, item: Callable[[int], None]
) -> Any:
    """Run a handler of any kind on the current loop.

    Args:
        call: the handler.
        kind: what calling it gives.
        argument: task or payload.
        item: called with the number of items so far, after each item of a generator.
    """
    if kind == "async":
        return await call(argument)
    items: list[Any] = []
    if kind == "asyncgen":
        stream = call(argument)
        try:
            async for value in stream:
                items.append(value)
                item(len(items))
        finally:
            await stream.aclose()
        return items
    if kind == "gen":
        steps = call(argument)
        try:
            for value in steps:
                items.append(value)
                item(len(items))
                await asyncio.sleep(0)  # others get their turn, and a cancel arrives
        finally:
            steps.close()
        return items
    result = call(argument)
    return await result if inspect.isawaitable(result) else result


class SurfaceFacts:
    """The attributes of :class:`Executor` that follow from a bound product."""

    __slots__ = ()

    surface: Surface

    @property
    def has_serve(self) -> bool:
        """Whether the product has a body."""
        return self.surface.serve is not None

    @property
    def has_handle(self) -> bool:
        """Whether the product takes tasks."""
        return self.surface.call is not None

    @property
    def has_probe(self) -> bool:
        """Whether the product has a probe of its own."""
        return self.surface.probe is not None

    @property
    def takes_payload(self) -> bool:
        """Whether the handler wants the payload instead of the task."""
        return self.surface.takes_payload
