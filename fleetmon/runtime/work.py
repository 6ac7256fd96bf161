"""The work of one agent: each task is handed out, ends once, and is booked by how it ended.

There is no dispatcher: whoever ends a task starts the next. Runs in the supervisor's loop only.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from typing import TYPE_CHECKING, Any

from fleetmon.errors import TaskFailedError, WorkerDiedError
from fleetmon.numbers import SUCCEEDED
from fleetmon.policy.transitions import Actual, Desired
from fleetmon.runtime import judge, pull
from fleetmon.runtime.fate import conclude, error_of, settle, timeout_of
from fleetmon.runtime.mailbox import Mailbox
from fleetmon.runtime.phase import ENDED, RUNNING, WAITING
from fleetmon.runtime.task import current, make_current
from fleetmon.tables import values_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fleetmon.runtime.core import AgentCore
    from fleetmon.runtime.incarnation import Incarnation
    from fleetmon.runtime.task import Task


class Work(Mailbox):
    """Tasks of one agent, waiting and running.

    Attributes:
        running: tasks that an incarnation works on and that nobody has given up.
    """

    __slots__ = ("running",)

    def __init__(self, core: AgentCore) -> None:
        """Start empty."""
        super().__init__(core)
        self.running = 0

    def put(self, task: Task) -> None:
        """Accept a task: start it now, or let it wait.

        Raises:
            TaskRefusedError: paused, draining, stopped, quarantined, or the queue is full.
        """
        core = self.core
        if not core.open:
            self.refuse()
        incarnation = core.machine.incarnation
        if (
            not self.queued
            and incarnation is not None
            and incarnation.has_handle  # known once it is up
            and self.running < core.numbers.capacity
            and not incarnation.ending
        ):
            self._start(task, incarnation)  # type: ignore[arg-type]
            if core.journal is not None:
                core.fleet.observers.accepted(task)
            return
        self.let_wait(task)
        if core.journal is not None:
            core.fleet.observers.accepted(task)
        if self.pullers:
            pull.feed(self)

    def dispatch(self) -> None:
        """Start what waits, as far as capacity goes."""
        core = self.core
        incarnation = core.machine.incarnation
        if incarnation is None or not incarnation.started or incarnation.ending:
            return
        if incarnation.has_handle:
            capacity = core.spec.capacity
            while self.queued and self.running < capacity:
                task = self.take_next()
                if task is None:
                    break
                self._start(task, incarnation, queued=True)  # type: ignore[arg-type]
        if self.pullers:
            pull.feed(self)

    def _start(self, task: Task, incarnation: Incarnation, *, queued: bool = False) -> None:
        core = self.core
        fleet = core.fleet
        self.running += 1
        incarnation.busy += 1
        task.incarnation = incarnation
        task.generation = incarnation.generation
        # Task.count() in one piece: a call a task saved
        task.state = RUNNING
        clock = core.now
        task.started_at = clock()
        task.blocked_before = fleet.blocked_total
        numbers = core.numbers
        if queued:
            numbers.begin_queued(task)
        else:
            number = task.id
            numbers.inflight[number] = task
            numbers.begun = number
        call = incarnation.fast_call
        if call is not None:
            argument = task.payload if incarnation.takes_payload else task
        else:
            call, argument = incarnation.executor.call, task
        run = self._run(task, incarnation, call, argument)
        # A name of our own tells more than "Task-4711", which costs as much as a future to make.
        if queued and task.context is not None:
            task.aio = fleet.home.create_task(run, name=core.agent_id, context=task.context)
        elif fleet.stock and fleet.home._task_factory is None:  # noqa: SLF001 - saves a function
            task.aio = asyncio.Task(run, loop=fleet.home, name=core.agent_id)  # as it would
        else:
            task.aio = fleet.home.create_task(run, name=core.agent_id)

    async def _run(  # noqa: C901, PLR0912, PLR0915 - in one piece: each call a task is one too many
        self,
        task: Task,
        incarnation: Incarnation,
        call: Callable[[Any], Awaitable[Any]],
        argument: Any,
    ) -> None:
        # Task.enter() in one piece. Nothing is put back at the end: the context is this task's own.
        core = self.core
        fleet = core.fleet
        task.thread = fleet.thread
        parent = current()
        if parent is not None:
            task.parent = parent
        make_current(task)
        tracer = fleet.tracer
        if tracer is not None:
            try:
                tracer.begin(task)
            except Exception:  # noqa: BLE001 - tracing must never fail a task
                fleet.bus.hook_errors += 1
        try:
            if (
                incarnation.ending or task.cancel_reason
            ):  # it was asked to end between the handing out and now
                raise asyncio.CancelledError  # noqa: TRY301 - the same way out as a real one
            result = await call(argument)
        except BaseException as error:
            self.left(task, error)
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            return
        # returned() in one piece, as far as nobody waits and nothing is the matter
        if (
            task.cancel_reason
            or task.failure is not None
            or core.failing is not None
            or self.queued
            or self._room
            or core.attention
            or task.timer is not None
            or incarnation.ending
        ):
            self.returned(task, result)
            return
        # Task.end() in one piece, and AgentNumbers.end() in it
        clock = core.now
        now = task.ended_at = clock()  # not core.last_end: that matters while somebody waits
        task.state = ENDED
        task.outcome = SUCCEEDED
        numbers = core.numbers
        slot = task.slot
        started = task.started_at
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
            number = numbers.ended_last = task.id
            del numbers.inflight[number]
        except KeyError:  # not there any more: somebody else ended it
            pass
        finally:
            release()
        if tracer is not None:
            finish = fleet.finish
            try:
                if finish(task):
                    numbers.mark(slot, bucket, (task.ids, seconds, fleet.wall()))
            except Exception:  # noqa: BLE001 - tracing must never fail a task
                fleet.bus.hook_errors += 1
        log = fleet.log
        if log is not None:
            try:
                log.ended(task)
            except Exception:  # noqa: BLE001 - logging must never fail a task
                fleet.bus.hook_errors += 1
        future = task.future
        if future is not None and not future.done():
            future.set_result(result)
        task.aio = None
        self.running -= 1
        incarnation.busy -= 1

    def returned(self, task: Task, result: Any) -> None:
        """End a task with what it returned."""
        core = self.core
        if task.cancel_reason or task.failure is not None or core.failing is not None:
            self._judged(task, result)
            return
        task.end(SUCCEEDED)
        future = task.future
        if future is not None and not future.done():
            future.set_result(result)
        self.free(task)
        if core.attention:
            judge.succeeded(core, task)

    def _judged(self, task: Task, result: Any) -> None:
        core = self.core
        if task.fenced:
            self.late(task)
            return
        if task.cancel_reason in {"timeout", "caller", "hang"}:
            self.left(task, asyncio.CancelledError())
            return
        failure = task.failure
        if failure is None and core.failing is not None:
            try:
                failed = core.failing(result)
            except Exception as error:  # noqa: BLE001 - the host's predicate may raise
                self.left(task, error)
                return
            if failed:
                failure = ("returned_failure", None)
        task.cancel_reason = ""
        if failure is None:
            task.end(SUCCEEDED)
            settle(task, result=result)
            self.free(task)
            if core.attention:
                judge.succeeded(core, task)
            return
        error_type, cause = failure
        if cause is None and task.pulled:  # a body that takes its work has no result to give
            cause = error_of(TaskFailedError, task, f"failed: {error_type}")
        # who reported failure without raising gets its result, not an exception
        settle(task, result=result) if cause is None else settle(task, error=cause)
        task.failed(cause, None, error_type)
        self.free(task)

    def left(self, task: Task, error: BaseException) -> None:
        """End a task with what it raised."""
        core = self.core
        if task.fenced:
            self.late(task)
            return
        incarnation = task.incarnation
        if isinstance(error, WorkerDiedError) and incarnation is not None:
            core.machine.worker_died(incarnation, error)
            task.cancel_reason = task.cancel_reason or "lapse"
        if incarnation is not None and incarnation.ending and not task.cancel_reason:
            task.cancel_reason = incarnation.end_reason
        if task.cancel_reason:  # however it took its cancellation
            conclude(task, task.cancel_reason)
        elif isinstance(error, asyncio.CancelledError | GeneratorExit):
            aio = task.aio
            if aio is not None and aio.cancelling():
                conclude(task, "host")
            else:  # either would be taken for the caller's own
                name = type(error).__name__
                said = error_of(TaskFailedError, task, f"raised {name}, but nobody had ended it")
                said.__cause__ = error
                settle(task, error=said)
                task.failed(said, core.fleet.classify(core, error))
        else:
            settle(task, error=error)
            task.failed(error, core.fleet.classify(core, error))
        self.free(task)

    def unpark(self, incarnation: Incarnation) -> None:
        """The old attempts have really ended: hand their tasks out again."""
        for task, owner in reversed(tuple(self._parked.items())):
            if owner is incarnation:
                del self._parked[task]
                self.put_back(task)
        if self.core.machine.actual is Actual.STOPPED:
            self.cancel_waiting("stop")
        self.dispatch()

    def free(self, task: Task) -> None:
        """Give its slot back, and let the next one have it."""
        # Its asyncio task has a context in which it is current: a cycle, which nothing but the
        # garbage collector would undo.
        task.aio = None
        timer = task.timer
        if timer is not None:
            timer.cancel()
            task.timer = None
        incarnation = task.incarnation
        if incarnation is None:
            return
        incarnation.busy -= 1
        if not task.fenced or not incarnation.abandoned:
            self.running -= 1
        if self.queued:
            self.dispatch()
        elif self._room:
            self._make_room()
        if incarnation.ending:
            incarnation.check_gone()
        elif self.core.attention:
            self.check_drained()

    def late(self, task: Task) -> None:
        """Take the end of an attempt that was given up: its outcome is booked already."""
        core = self.core
        core.fleet.late(core, task)
        incarnation = task.incarnation
        if incarnation is not None:
            incarnation.busy -= 1
            incarnation.check_gone()

    # -- out, before the end ---------------------------------------------------------------------

    def cancel(self, task: Task, reason: str) -> None:
        """Cancel a task wherever it is: ``timeout`` and ``caller`` release its caller at once."""
        while task.successor is not None:
            task = task.successor
        if task.state == ENDED or task.fenced:
            return
        core = self.core
        if task.state == WAITING:
            self._drop_waiting(task, reason)
            return
        if task.cancel_reason:
            return
        task.cancel_reason = reason
        task.cancel_at = core.now()
        task.cancel_live = task.cancel_at - core.fleet.blocked_total
        if reason == "timeout":
            settle(task, error=timeout_of(task))
        # a body must outlive what it has taken; and what has not begun looks at its reason first
        if task.aio is not None and task.thread and not task.pulled:
            task.aio.cancel()

    def end_inflight(self, incarnation: Any, reason: str) -> None:
        """Cancel what an incarnation works on; ``lapse`` and ``restart`` go by policy."""
        incarnation.end_reason = reason
        now = self.core.now()
        for task in values_of(self.core.inflight):
            if task.incarnation is incarnation and not task.pulled:
                task.cancel_reason = task.cancel_reason or reason
                task.cancel_at = task.cancel_at or now
                task.cancel_live = task.cancel_live or now - self.core.fleet.blocked_total
                if task.aio is not None and task.thread:
                    task.aio.cancel()

    def abandon(self, task: Task) -> None:
        """Give up a task whose incarnation would not end; its late end will be fenced."""
        task.cancel_reason = task.cancel_reason or "stop"
        conclude(task, task.cancel_reason)
        task.fenced = True
        self.running -= 1
        if task.timer is not None:
            task.timer.cancel()

    # -- reviews ---------------------------------------------------------------------------------

    def check_drained(self) -> None:
        """Tell the machine once there is nothing left to finish."""
        core = self.core
        if (
            core.machine.desired is Desired.DRAINED
            and not self.queued
            and not self.running
            and not core.inflight
        ):
            core.machine.drained()

    def review_failing(self, *, failed: bool = False) -> None:
        """Raise or clear ``failing`` by the rate of failures over the window."""
        core = self.core
        ended, bad = core.numbers.ended()
        judge = core.failure_rate.note if failed else core.failure_rate.failing
        if judge(core.now(), ended, bad):
            rate = core.spec.health.failure_rate
            core.raise_condition("failing", f"at least {rate:.0%} of its recent tasks failed")
        else:
            core.clear_condition("failing")
