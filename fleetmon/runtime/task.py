"""The boundary: the one place where work is measured, traced and logged.

``run``, ``submit``, ``watch`` and ``agent.task()`` are all made of :class:`Task`. It is a plain
and an asynchronous context manager, works in any thread, and nests.
"""

from __future__ import annotations

import asyncio
import sys
from bisect import bisect_left
from threading import get_ident
from typing import TYPE_CHECKING, Any, Self

from fleetmon import hooks
from fleetmon.errors import TaskCancelledError, TaskTimeoutError
from fleetmon.numbers import CANCELLED, FAILED, SUCCEEDED, TIMED_OUT
from fleetmon.readings import Exemplar, split
from fleetmon.runtime import judge
from fleetmon.runtime.phase import ENDED, RUNNING, WAITING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextvars import Context, ContextVar, Token
    from types import TracebackType

    from fleetmon.hooks import TaskTracer
    from fleetmon.numbers import TypeNumbers
    from fleetmon.policy.classify import Verdict
    from fleetmon.runtime.core import AgentCore
    from fleetmon.runtime.incarnation import Incarnation

CURRENT: ContextVar[Task | None] = hooks.CURRENT
current, make_current = CURRENT.get, CURRENT.set  # looked up once

_current_task = asyncio.current_task
# The same of a loop that is known to run in this thread; what CPython 3.11 has there is a function
# in Python around this dictionary.
_task_in: Callable[[asyncio.AbstractEventLoop], asyncio.Task[Any] | None] = _current_task
if sys.version_info < (3, 12):
    _task_in = vars(asyncio.tasks)["_current_tasks"].get


def running_aio_task() -> asyncio.Task[Any] | None:
    """Return the asyncio task that runs here, ``None`` outside any loop."""
    try:
        return _current_task()
    except RuntimeError:
        return None


class Task(hooks.Identified):
    """One piece of work of one agent.

    Attributes:
        id: unique within the supervisor.
        agent_id: whose work it is.
        task_type: as the caller named it.
        payload: what the agent is to work on; never leaves the process by itself.
        generation: incarnation that works on it.
        attempt: 1 for the first delivery.
        deadline: on the supervisor's clock, seconds; ``None`` for none.
        outcome: index into :data:`fleetmon.numbers.OUTCOMES` once ended.
        ids: where it stands in a trace, see :class:`fleetmon.hooks.Identified`.
    """

    # What the way of every task reads is set in the instance by new_task(); the rest are defaults
    # in the class, which cost nothing until they are touched: in instructions of CPython 3.11, an
    # attribute set costs 90, one read in the instance 80, one found in the class alone 280.
    core: AgentCore
    id: int
    agent_id: str
    task_type: str
    slot: TypeNumbers
    payload: Any = None
    generation: int
    attempt: int
    state: int
    cancel_reason = ""  # never empty on a task that is fenced
    timer: asyncio.TimerHandle | None = None
    origin: Any
    failure: tuple[str, BaseException | None] | None
    started_at = 0.0  # observers look at it on tasks, too, that ended while they waited
    parent: Task | None = None
    context: Context | None = None
    incarnation: Incarnation | None = None
    future: asyncio.Future[Any] | None = None
    aio: asyncio.Task[Any] | None = None
    thread = 0
    token: Token[Task | None] | None = None
    deadline: float | None = None
    cancel_at = 0.0
    cancel_live = 0.0
    fenced = False
    pulled = False
    successor: Task | None = None
    reported = ""
    note = ""
    blocked_before = 0.0
    ended_at = 0.0
    progress_at = 0.0
    outcome = SUCCEEDED
    error_type = ""
    error: BaseException | None = None
    sampled = False
    span: Any = None

    # -- what the work itself may say ------------------------------------------------------------

    def progress(self, note: str = "") -> None:
        """Say that the task gets on: refreshes the soft hang limit, never the hard one."""
        if self.fenced:
            self.core.fleet.late(self.core, self)
            return
        core = self.core
        self.note = note
        self.progress_at = core.now() - core.fleet.blocked_total
        if core.attention:
            core.fleet.post(judge.progressed, core, self.generation, self)

    @property
    def live_at(self) -> float:
        """When it began, on the clock of a loop that was never blocked."""
        return self.started_at - self.blocked_before

    def fail(
        self, error_type: str = "returned_failure", error: BaseException | None = None
    ) -> None:
        """Report failure without raising; the task ends as failed when its block ends.

        Args:
            error_type: label of ``agents_failures_total``; an undeclared one counts as
                ``exception``.
            error: the exception, if there is one, for log and span.
        """
        self.failure = (error_type, error)

    def done(self, result: Any = None) -> None:
        """End a task that was taken with ``agent.tasks()``, successfully and with ``result``."""
        incarnation = self.incarnation
        if incarnation is not None:
            from fleetmon.runtime import pull  # it imports this module

            pull.settle(self.core.work, incarnation, self, result, None)

    def remaining(self) -> float | None:
        """Return seconds until the deadline, ``None`` without one."""
        return None if self.deadline is None else self.deadline - self.core.now()

    # -- beginning and end; the runtime and the context manager call these -----------------------

    def count(self, *, queued: bool) -> None:
        """Book the beginning. ``queued``: it was accepted and counted before."""
        core = self.core
        self.state = RUNNING
        now = core.now
        self.started_at = now()
        self.blocked_before = core.fleet.blocked_total
        numbers = core.numbers
        if queued:
            numbers.begin_queued(self)
        else:
            number = self.id
            numbers.inflight[number] = self
            numbers.begun = number

    def enter(self, thread: int) -> None:
        """Make current and trace, in the context and thread that work on it."""
        fleet = self.core.fleet
        self.thread = thread
        if thread != fleet.thread:
            fleet.seen_elsewhere(self.aio)
        parent = CURRENT.get()
        if parent is not None:
            self.parent = parent
        self.token = CURRENT.set(self)
        tracer = fleet.tracer
        if tracer is not None:
            try:
                tracer.begin(self)
            except Exception:  # noqa: BLE001 - tracing must never fail a task
                fleet.bus.hook_errors += 1

    def end(self, outcome: int) -> None:
        """Count, end the span, write the log line; the caller has set ``error_type``."""
        core = self.core
        fleet = core.fleet
        clock = core.now  # called where it stands, it would be looked up as a method first
        now = self.ended_at = core.last_end = clock()
        self.state = ENDED
        self.outcome = outcome
        bucket = core.numbers.end(self, outcome, now)
        tracer = fleet.tracer
        if tracer is not None:
            try:
                if tracer.end(self):
                    seconds = now - self.started_at
                    core.numbers.mark(self.slot, bucket, (self.ids, seconds, fleet.wall()))
            except Exception:  # noqa: BLE001 - tracing must never fail a task
                fleet.bus.hook_errors += 1
        log = fleet.log
        if log is not None:
            try:
                log.ended(self)
            except Exception:  # noqa: BLE001 - logging must never fail a task
                fleet.bus.hook_errors += 1

    def capture(self, tracer: TaskTracer) -> None:
        """Keep the submitter's tracing context."""
        try:
            self.origin = tracer.capture()
        except Exception:  # noqa: BLE001 - tracing must never fail a task
            self.core.fleet.bus.hook_errors += 1

    @property
    def carrier(self) -> dict[str, str] | None:
        """The tracing context as headers, for work in another process; ``None`` without tracing."""
        fleet = self.core.fleet
        carry = getattr(fleet.tracer, "carry", None)  # tracers of hosts may be without
        if carry is None:
            return None
        try:
            return dict(carry(self))
        except Exception:  # noqa: BLE001 - tracing must never fail a task
            fleet.bus.hook_errors += 1
            return None

    def leave(self) -> None:
        """End this attempt's span without an outcome: the task is delivered again."""
        fleet = self.core.fleet
        self.ended_at = self.core.now()
        self.core.inflight.pop(self.id, None)
        self.outcome = FAILED
        if fleet.tracer is not None:
            try:
                fleet.tracer.end(self)
            except Exception:  # noqa: BLE001 - tracing must never fail a task
                fleet.bus.hook_errors += 1

    def again(self) -> Task:
        """Return the next attempt of this task: same id, same caller, same deadline."""
        task = new_task(self.core, self.task_type, self.payload, self.deadline)
        task.id = self.id
        task.attempt = self.attempt + 1
        task.future = self.future
        task.context = self.context
        task.parent = self.parent
        task.origin = self.origin
        task.timer, self.timer = self.timer, None
        self.successor = task
        return task

    def trace(self) -> dict[str, str]:
        """Return trace and span id for an event's data; empty without tracing."""
        if not self.ids:
            return {}
        trace_id, span_id = split(self.ids)
        return {"trace_id": trace_id, "span_id": span_id}

    def exemplar(self) -> Exemplar | None:
        """Return the task's identity for a metric, ``None`` unless its span is recorded."""
        if not self.sampled:
            return None
        seconds = (self.ended_at or self.core.now()) - self.started_at
        return Exemplar(*split(self.ids), seconds, self.core.fleet.wall())

    # -- around the host's own work --------------------------------------------------------------

    def __enter__(self) -> Self:
        """Begin, here and now."""
        if self.state:
            msg = f"task {self.id} of {self.agent_id!r} was begun before; make a new one"
            raise RuntimeError(msg)
        core = self.core
        fleet = core.fleet
        thread = self.thread = get_ident()
        if thread == fleet.thread:
            self.aio = _task_in(fleet.home)
        else:
            aio = self.aio = running_aio_task()
            fleet.seen_elsewhere(aio)
        # count() and enter(), in one piece: two calls a task saved
        self.state = RUNNING
        clock = core.now
        self.started_at = clock()
        self.blocked_before = fleet.blocked_total
        numbers = core.numbers
        number = self.id
        numbers.inflight[number] = self
        numbers.begun = number
        self.parent = current()
        make_current(self)
        tracer = fleet.tracer
        if tracer is not None:
            try:
                tracer.begin(self)
            except Exception:  # noqa: BLE001 - tracing must never fail a task
                fleet.bus.hook_errors += 1
        return self

    def __exit__(  # noqa: C901 - in one piece: each call a task is one too many
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End with what the block came to; an exception goes on unchanged."""
        # By name and not by token: half the price, and a block that ends in another context than it
        # began in leaves that one alone.
        if current() is self:
            make_current(self.parent)
        if error is not None or self.failure is not None:
            self.finish_observed(error)
            return
        # end() in one piece, without what only an attempt that did not succeed needs
        core = self.core
        fleet = core.fleet
        clock = core.now
        now = self.ended_at = core.last_end = clock()
        self.state = ENDED
        self.outcome = SUCCEEDED
        # AgentNumbers.end() in one piece
        numbers = core.numbers
        slot = self.slot
        started = self.started_at
        seconds = now - started
        bucket = 0 if seconds <= numbers.shortest else bisect_left(numbers.bounds, seconds)
        acquire, release = numbers.acquire, numbers.release
        acquire()
        try:
            trail = numbers.trail
            if started < trail.since or now >= trail.until:
                trail.note(started, now, numbers.ended_seconds())
            slot.outcomes[SUCCEEDED] += 1
            slot.buckets[bucket] += 1
            slot.seconds += seconds
            number = numbers.ended_last = self.id
            del numbers.inflight[number]
        except KeyError:  # not there any more: somebody else ended it
            pass
        finally:
            release()
        tracer = fleet.tracer
        if tracer is not None:
            try:
                if tracer.end(self):
                    numbers.mark(slot, bucket, (self.ids, seconds, fleet.wall()))
            except Exception:  # noqa: BLE001 - tracing must never fail a task
                fleet.bus.hook_errors += 1
        log = fleet.log
        if log is not None:
            try:
                log.ended(self)
            except Exception:  # noqa: BLE001 - logging must never fail a task
                fleet.bus.hook_errors += 1
        if core.attention:
            fleet.post(judge.succeeded, core, self)

    async def __aenter__(self) -> Self:
        """As ``with``."""
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """As ``with``."""
        self.__exit__(kind, error, traceback)

    def finish_observed(self, error: BaseException | None) -> None:
        """End a task of the host's own that did not simply succeed."""
        core = self.core
        if error is None:
            if self.failure is not None:
                error_type, cause = self.failure
                self.failed(cause, None, error_type)
        elif isinstance(error, TimeoutError) and self._deadline_passed(error):
            self.end(TIMED_OUT)
        elif isinstance(error, TaskCancelledError | GeneratorExit):
            self.end(CANCELLED)
        elif isinstance(error, asyncio.CancelledError) and self._asked_to_end():
            late = self.deadline is not None and core.now() >= self.deadline
            self.end(TIMED_OUT if late else CANCELLED)
        else:  # its own affair, a CancelledError that nobody had asked for included
            self.failed(error, core.fleet.classify(core, error))
        if core.attention:
            core.fleet.post(core.work.check_drained)

    def _asked_to_end(self) -> bool:
        aio = self.aio
        return aio is None or bool(aio.cancelling()) or aio.done()

    def _deadline_passed(self, error: TimeoutError) -> bool:
        if isinstance(error, TaskTimeoutError) and error.task_id == self.id:
            return True
        return self.deadline is not None and self.core.now() >= self.deadline

    def failed(
        self, error: BaseException | None, verdict: Verdict | None, error_type: str = ""
    ) -> None:
        """End as failed, counted by type, and tell the agent's health."""
        core = self.core
        self.error = error
        error_type = error_type or (verdict.error_type if verdict else "exception")
        # bounded before span and log see it; what it was is in ``error``
        self.error_type = error_type if error_type in core.numbers.failures else "exception"
        self.end(FAILED)
        core.numbers.fail(self.error_type, self.exemplar())
        core.fleet.post(judge.task_failed, core, self, verdict)

    # -- the caller's side of a submitted task ---------------------------------------------------

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait for the result of a submitted task; raises what the work raised."""
        if self.future is None:
            msg = f"task {self.id} was not submitted; only submit() gives a task to wait for"
            raise RuntimeError(msg)
        return asyncio.shield(self.future).__await__()

    def cancel(self) -> None:
        """Cancel a submitted task, from any thread; no harm when it has ended."""
        core = self.core
        core.fleet.post(core.work.cancel, self, "caller")


def new_task(
    core: AgentCore, task_type: str, payload: Any = None, deadline: float | None = None
) -> Task:
    """Return a task that is neither counted nor started.

    A function, since on CPython 3.11 a class with ``__init__`` costs 900 instructions more to call.
    """
    task = Task()
    task.core = core
    task.id = next(core.task_ids)
    task.agent_id = core.agent_id
    task.task_type = task_type
    try:
        task.slot = core.numbers.types[task_type]
    except (KeyError, TypeError):  # new, or no text at all
        task.slot = core.numbers.type(task_type)
    task.payload = payload
    task.state = WAITING
    task.attempt = 1
    task.generation = 0
    task.cancel_reason = ""
    task.origin = task.failure = task.timer = None
    if deadline is not None:
        task.deadline = deadline
    return task


def own_task(core: AgentCore, task_type: str) -> Task:
    """Return a task around work of the agent's present life, for ``with``."""
    task = new_task(core, task_type)
    task.generation = core.generation
    return task
