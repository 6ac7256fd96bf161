"""What an agent sees in a worker process: its tasks, and a handle for its body."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from fleetmon import hooks

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import ContextVar
    from types import TracebackType

CURRENT: ContextVar[WorkerTask | None] = hooks.REMOTE


def current_task() -> WorkerTask | None:
    """Give the task that this worker process runs in the current context, if any."""
    return CURRENT.get()


class WorkerTask:
    """A task as it arrives in a worker process.

    Attributes:
        id: number of the task, unique within the supervisor.
        agent_id: whose work it is.
        generation: the incarnation that works on it.
        payload: what the caller handed in.
        task_type: as the caller named it.
        attempt: 1 for the first delivery.
        deadline: on this process's :func:`time.monotonic`, or ``None``.
        carrier: W3C trace headers of the task's span, or ``None``; the context that they stand for
            is current while the task is worked on.
        cancelled: the supervisor has asked for the end; synchronous work looks at it.
    """

    __slots__ = (
        "_progress",
        "_settle",
        "_was",
        "agent_id",
        "attempt",
        "cancelled",
        "carrier",
        "deadline",
        "generation",
        "id",
        "payload",
        "task_type",
    )

    def __init__(
        self,
        facts: tuple[int, str, int, float | None, dict[str, str] | None, Any],
        *,
        now: float,
        progress: Callable[[int, str], None],
        agent_id: str = "",
        generation: int = 0,
        settle: Callable[[int, Any, BaseException | None], None] | None = None,
    ) -> None:
        """Take the facts as :func:`pack_task` orders them; ``now`` is this clock's."""
        self.id, self.task_type, self.attempt, left, self.carrier, self.payload = facts
        self.agent_id = agent_id
        self.generation = generation
        self.deadline = None if left is None else now + left
        self.cancelled = False
        self._progress = progress
        self._settle = settle
        self._was: tuple[WorkerTask | None, Any] | None = None

    def enter(self) -> None:
        """Make the task and its tracing context current in this context."""
        outer = None
        if self.carrier:
            from opentelemetry import context, propagate

            outer = context.get_current()
            context.attach(propagate.extract(self.carrier, context=context.Context()))
        self._was = (CURRENT.get(), outer)
        CURRENT.set(self)

    def leave(self) -> None:
        """Restore what was current before :meth:`enter`, where that is still in place."""
        was, self._was = self._was, None
        if was is None or CURRENT.get() is not self:
            return
        before, outer = was
        CURRENT.set(before)
        if outer is not None:
            from opentelemetry import context

            context.attach(outer)

    def progress(self, note: str = "") -> None:
        """Tell the supervisor that the task moves on."""
        self._progress(self.id, note)

    def done(self, result: Any = None) -> None:
        """Book a task pulled by ``agent.tasks()`` as succeeded; the first outcome counts."""
        self._end(result, None)

    def fail(self, error: BaseException) -> None:
        """Book a task pulled by ``agent.tasks()`` as failed; the first outcome counts."""
        self._end(None, error)

    def _end(self, result: Any, error: BaseException | None) -> None:
        self.leave()
        settle, self._settle = self._settle, None
        if settle is not None:
            settle(self.id, result, error)

    def __enter__(self) -> Self:
        """Begin the work; leaving books its outcome."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Book success, or the exception that goes on through."""
        self._end(None, error)

    async def __aenter__(self) -> Self:
        """Begin the work; leaving books its outcome."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Book success, or the exception that goes on through."""
        self._end(None, error)


def pack_task(task: Any, now: float) -> tuple[Any, ...]:
    """Order what :class:`WorkerTask` needs; deadlines travel as seconds left."""
    deadline = task.deadline
    return (
        task.id,
        task.task_type,
        task.attempt,
        None if deadline is None else deadline - now,
        getattr(task, "carrier", None),
        task.payload,
    )


def answer(future: Future[WorkerTask | None], task: WorkerTask | None) -> None:
    """Set the result unless another thread was first: asking whether it is done does not help."""
    with suppress(InvalidStateError):
        future.set_result(task)


class WorkerAgent:
    """The handle that ``serve(agent)`` gets in a worker process; usable from any thread.

    Attributes:
        agent_id: whose incarnation this is.
        generation: its number.
        stopping: the supervisor has asked the body to end.
    """

    def __init__(
        self,
        agent_id: str,
        generation: int,
        *,
        beat: Callable[[str | None], None],
        ask: Callable[[], tuple[int, Future[WorkerTask | None]]],
        take_back: Callable[[int], None],
    ) -> None:
        """Wire the handle to the worker's link."""
        self.agent_id = agent_id
        self.generation = generation
        self.stopping = False
        self._beat = beat
        self._ask = ask
        self._take_back = take_back
        self._leftover: list[WorkerTask] = []
        self._waiting: set[Future[WorkerTask | None]] = set()

    def heartbeat(self, note: str | None = None) -> None:
        """Tell the supervisor that the body is alive."""
        self._beat(note)

    def tasks(self) -> TaskPull:
        """Pull work with ``async for`` or, in a synchronous body, ``for``.

        A task ends by ``task.done(result)``, ``task.fail(error)`` or at the end of ``with task:``,
        at the latest when this iterator is asked for the next one (then it has succeeded, with no
        result). The iteration ends when the incarnation is to end.
        """
        return TaskPull(self)

    def end(self) -> None:
        """Ask the body to end: every wait for a task ends the iteration."""
        self.stopping = True
        for future in list(self._waiting):
            answer(future, None)

    def _pull(self) -> tuple[int, Future[WorkerTask | None]]:
        future: Future[WorkerTask | None]
        if self._leftover or self.stopping:
            future = Future()
            future.set_result(None if self.stopping else self._leftover.pop(0))
            return 0, future
        number, future = self._ask()
        self._waiting.add(future)
        future.add_done_callback(self._waiting.discard)
        if self.stopping:  # end() ran in another thread after the look above, and missed this one
            answer(future, None)
        return number, future

    def _give_up(self, number: int, future: Future[WorkerTask | None]) -> None:
        """Stop waiting; a task that arrives all the same goes to the next pull."""
        self._take_back(number)
        future.add_done_callback(self._keep)

    def _keep(self, future: Future[WorkerTask | None]) -> None:
        task = None if future.cancelled() or future.exception() else future.result()
        if task is not None:
            self._leftover.append(task)


class TaskPull:
    """Both kinds of iterator over an agent's tasks."""

    def __init__(self, agent: WorkerAgent) -> None:
        """Pull for ``agent``."""
        self._agent = agent
        self._open: WorkerTask | None = None

    def _finish(self) -> None:
        task, self._open = self._open, None
        if task is not None:
            task.done()

    def __iter__(self) -> Self:
        """Iterate in a synchronous body."""
        return self

    def __next__(self) -> WorkerTask:
        """Block until there is a task."""
        self._finish()
        task = self._open = self._agent._pull()[1].result()  # noqa: SLF001 - the two are one
        if task is None:
            raise StopIteration
        task.enter()
        return task

    def __aiter__(self) -> Self:
        """Iterate in an asynchronous body."""
        return self

    async def __anext__(self) -> WorkerTask:
        """Wait for a task."""
        self._finish()
        number, future = self._agent._pull()  # noqa: SLF001 - the two are one
        # Shielded: a cancelled wait must not cancel the request, whose answer may be on its way.
        try:
            task = await asyncio.shield(asyncio.wrap_future(future))
        except asyncio.CancelledError:
            self._agent._give_up(number, future)  # noqa: SLF001 - the two are one
            raise
        if task is None:
            raise StopAsyncIteration
        self._open = task
        task.enter()
        return task
