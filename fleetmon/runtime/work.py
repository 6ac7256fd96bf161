"""The mailbox of one agent: bounded, in order, and exact about what becomes of every task.

There is no dispatcher: whoever ends a task starts the next. Runs in the supervisor's loop only.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from fleetmon.errors import (
    DeadLetteredError,
    DrainingError,
    NotAcceptingError,
    QueueFullError,
    TaskCancelledError,
    TaskFailedError,
    TaskHungError,
    TaskTimeoutError,
    WorkerDiedError,
)
from fleetmon.events import EventKind
from fleetmon.numbers import CANCELLED, DEAD_LETTERED, FAILED, SUCCEEDED, TIMED_OUT
from fleetmon.policy.transitions import Desired
from fleetmon.runtime.task import CURRENT, ENDED, RUNNING, WAITING, Task

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fleetmon.runtime.core import AgentCore
    from fleetmon.runtime.incarnation import Incarnation


class Work:
    """Tasks of one agent, waiting and running.

    Attributes:
        waiting: accepted and not begun; may hold ended ones, which are skipped.
        queued: how many in ``waiting`` still count.
        running: tasks handed to the present incarnation's handler.
    """

    __slots__ = ("_pullers", "_room", "core", "queued", "running", "waiting")

    def __init__(self, core: AgentCore) -> None:
        """Start empty."""
        self.core = core
        self.waiting: deque[Task] = deque()
        self.queued = 0
        self.running = 0
        self._pullers: deque[asyncio.Future[None]] = deque()
        self._room: deque[asyncio.Future[None]] = deque()

    # -- in --------------------------------------------------------------------------------------

    def refuse(self) -> None:
        """Raise the reason why no task is taken now, if there is one."""
        core = self.core
        if core.accepting:
            return
        state = core.numbers.lifecycle
        if core.machine.desired is Desired.DRAINED or not core.fleet.accepting:
            raise DrainingError(core.agent_id, state)
        if core.machine.desired is Desired.PAUSED:
            state = "paused"
        raise NotAcceptingError(core.agent_id, state)

    def put(self, task: Task) -> None:
        """Accept a task: start it now, or let it wait.

        Raises:
            TaskRefusedError: paused, draining, stopped, quarantined, or the queue is full.
        """
        core = self.core
        if core.machine.desired is not Desired.RUN or not core.accepting:
            self.refuse()
        incarnation = core.machine.incarnation
        if (
            not self.queued
            and incarnation is not None
            and incarnation.started
            and incarnation.has_handle
            and self.running < core.spec.capacity
            and not incarnation.ending
        ):
            self._start(task, incarnation, queued=False)
            return
        if self.queued >= core.spec.queue and not self._pullers:
            raise QueueFullError(core.agent_id, core.spec.queue)
        core.numbers.accept(task.slot)
        task.context = copy_context()
        task.progress_at = core.now() - core.fleet.blocked_total  # waiting since, in live time
        self._append(task)
        self._feed_pullers()

    async def room(self) -> None:
        """Wait until there may be room in the queue."""
        future: asyncio.Future[None] = self.core.fleet.loop.create_future()
        self._room.append(future)
        await future

    def _append(self, task: Task, *, front: bool = False) -> None:
        task.state = WAITING
        self.queued += 1
        if front:
            self.waiting.appendleft(task)
        else:
            self.waiting.append(task)

    def _next(self) -> Task | None:
        while self.waiting:
            task = self.waiting.popleft()
            if task.state == WAITING:
                self.queued -= 1
                self._make_room()
                return task
        return None

    def _make_room(self) -> None:
        while self._room:
            future = self._room.popleft()
            if not future.done():
                future.set_result(None)
                return

    # -- through ---------------------------------------------------------------------------------

    def dispatch(self) -> None:
        """Start what waits, as far as capacity goes."""
        core = self.core
        incarnation = core.machine.incarnation
        if incarnation is None or not incarnation.started or incarnation.ending:
            return
        if incarnation.has_handle:
            capacity = core.spec.capacity
            while self.queued and self.running < capacity:
                task = self._next()
                if task is None:
                    break
                self._start(task, incarnation, queued=True)
        self._feed_pullers()

    def _start(self, task: Task, incarnation: Incarnation, *, queued: bool) -> None:
        self.running += 1
        incarnation.busy += 1
        task.incarnation = incarnation
        task.state = RUNNING
        call = incarnation.fast_call
        if call is not None:
            argument = task.payload if incarnation.takes_payload else task
        else:
            call, argument = incarnation.executor.call, task
        task.aio = self.core.fleet.loop.create_task(
            self._run(task, call, argument, queued), context=task.context
        )

    async def _run(
        self, task: Task, call: Callable[[Any], Awaitable[Any]], argument: Any, queued: bool
    ) -> None:
        task.begin(queued=queued, aio=task.aio)
        try:
            if task.incarnation.ending:  # type: ignore[union-attr]
                raise asyncio.CancelledError
            result = await call(argument)
        except BaseException as error:  # noqa: BLE001 - the agent may raise whatever it likes
            self._left(task, error)
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
        else:
            self._returned(task, result)

    def _returned(self, task: Task, result: Any) -> None:
        if task.fenced or task.cancel_reason or task.failure is not None or self.core.failing:
            self._returned_oddly(task, result)
            return
        task.end(SUCCEEDED)
        future = task.future
        if future is not None and not future.done():
            future.set_result(result)
        self._free(task)
        core = self.core
        if core.attention:
            core.machine.succeeded(task)

    def _returned_oddly(self, task: Task, result: Any) -> None:
        core = self.core
        if task.fenced:
            self._late(task)
            return
        if task.cancel_reason in {"timeout", "caller", "hang"}:
            self._left(task, asyncio.CancelledError())
            return
        failure = task.failure
        if failure is None and core.failing is not None:
            try:
                failed = core.failing(result)
            except Exception as error:  # noqa: BLE001 - the host's predicate may raise
                self._left(task, error)
                return
            if failed:
                failure = ("returned_failure", None)
        task.cancel_reason = ""
        if failure is None:
            task.end(SUCCEEDED)
            self._settle(task, result=result)
            self._free(task)
            if core.attention:
                core.machine.succeeded(task)
            return
        error_type, cause = failure
        # who reported failure without raising gets its result, not an exception
        self._settle(task, result=result) if cause is None else self._settle(task, error=cause)
        task.failed(cause, None, error_type)
        self._free(task)

    def _left(self, task: Task, error: BaseException) -> None:  # noqa: C901 - one branch a reason
        core = self.core
        if task.fenced:
            self._late(task)
            return
        if isinstance(error, WorkerDiedError) and task.incarnation is not None:
            core.machine.worker_died(task.incarnation, error)
            task.cancel_reason = task.cancel_reason or "lapse"
        if task.incarnation is not None and task.incarnation.ending and not task.cancel_reason:
            task.cancel_reason = "lapse" if core.machine.fault else "stop"
        reason = task.cancel_reason
        if reason and (isinstance(error, asyncio.CancelledError | WorkerDiedError)):
            self._conclude(task, reason)
        elif isinstance(error, asyncio.CancelledError):
            aio = task.aio
            if aio is not None and aio.cancelling():
                self._conclude(task, "host")
            else:
                said = TaskFailedError(
                    f"task {task.id} of {core.agent_id!r} raised CancelledError by itself; "
                    "nobody had cancelled it",
                    agent_id=core.agent_id,
                    task_id=task.id,
                )
                said.__cause__ = error
                self._settle(task, error=said)
                task.failed(said, core.fleet.classify(core, error))
        else:
            self._settle(task, error=error)
            task.failed(error, core.fleet.classify(core, error))
        self._free(task)

    def _conclude(self, task: Task, reason: str) -> None:
        # the end of a task that somebody other than the task wanted to end
        core = self.core
        where = {"agent_id": core.agent_id, "task_id": task.id}
        name = f"task {task.id} of {core.agent_id!r}"
        if reason == "timeout":
            task.error_type = ""
            task.end(TIMED_OUT)
        elif reason == "hang":
            self._settle(
                task, error=TaskHungError(f"{name} ran beyond its hard hang limit", **where)
            )
            task.failed(task.error, None, "hang")
        elif reason == "lapse":
            self._fate(task)
        elif reason == "restart" and core.spec.in_flight == "requeue":
            self._requeue(task)
        else:
            self._settle(
                task,
                error=TaskCancelledError(f"{name} was cancelled by {reason}", **where),
            )
            task.end(CANCELLED)

    def _fate(self, task: Task) -> None:
        # exactly one of: requeue, dead letter, fail
        core = self.core
        spec = core.spec
        where = {"agent_id": core.agent_id, "task_id": task.id}
        name = f"task {task.id} of {core.agent_id!r}"
        why = ""
        if spec.in_flight == "requeue":
            if task.attempt >= spec.max_deliveries:
                why = f"its agent went down under it {task.attempt} times"
            elif not core.fleet.redeliveries.spend(core.now()):
                why = "the fleet's budget of redeliveries is spent"
            else:
                self._requeue(task)
                return
        elif spec.in_flight == "dead_letter":
            why = "its agent went down under it"
        if why:
            task.error_type = "crash"
            task.end(DEAD_LETTERED)
            core.fleet.bury_task(task, why)
            self._settle(task, error=DeadLetteredError(f"{name}: {why}", **where))
            return
        self._settle(task, error=TaskFailedError(f"{name}: its agent went down under it", **where))
        task.error_type = "crash"
        task.end(FAILED)

    def _requeue(self, task: Task) -> None:
        core = self.core
        core.numbers.requeue(core.now())
        task.error_type = "crash"
        task.leave()
        task.fenced = True
        again = task.again()
        incarnation = task.incarnation
        core.event(
            EventKind.TASK_REDELIVERED,
            {"task_type": task.slot.task_type, "attempt": again.attempt},
            task.id,
        )
        if (
            incarnation is not None
            and not core.spec.at_least_once
            and (incarnation.abandoned or incarnation.leaks)
        ):
            incarnation.parked.append(again)  # until the old attempt has really ended
        else:
            self._append(again, front=True)
            self.dispatch()

    def unpark(self, incarnation: Incarnation) -> None:
        """The old attempts have really ended: hand their tasks out again."""
        parked, incarnation.parked = incarnation.parked, []
        for task in reversed(parked):
            if task.state == WAITING:
                if self.core.accepting or self.core.machine.desired is Desired.PAUSED:
                    self._append(task, front=True)
                else:
                    self._end_waiting(task, "stop")
        self.dispatch()

    def _settle(
        self, task: Task, *, result: Any = None, error: BaseException | None = None
    ) -> None:
        if error is not None:
            task.error = error
        future = task.future
        if future is None or future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
            future.exception()  # nobody has to fetch it: the books have it

    def _free(self, task: Task) -> None:
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
        if incarnation.ending:
            incarnation.check_gone()
        elif self.core.attention:
            self.check_drained()

    def _late(self, task: Task) -> None:
        # the end of an attempt that was given up: its outcome is booked already
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
            self._settle(task, error=_timeout(task))
        if task.aio is not None:
            task.aio.cancel()

    def _drop_waiting(self, task: Task, reason: str) -> None:
        if task in self.waiting:
            self.queued -= 1
            self._make_room()
        self._end_waiting(task, reason)

    def _end_waiting(self, task: Task, reason: str) -> None:
        core = self.core
        if reason == "timeout":
            self._settle(task, error=_timeout(task))
            outcome = TIMED_OUT
        else:
            self._settle(
                task,
                error=TaskCancelledError(
                    f"task {task.id} of {core.agent_id!r} was cancelled by {reason} before it began",
                    agent_id=core.agent_id,
                    task_id=task.id,
                ),
            )
            outcome = CANCELLED
        if task.timer is not None:
            task.timer.cancel()
            task.timer = None
        task.state = ENDED
        task.outcome = outcome
        core.numbers.end_queued(task.slot, outcome)
        if core.attention:
            self.check_drained()

    def cancel_waiting(self, reason: str) -> None:
        """Cancel everything that has not begun."""
        waiting, self.waiting = self.waiting, deque()
        self.queued = 0
        for task in waiting:
            if task.state == WAITING:
                self._end_waiting(task, reason)
        while self._room:
            self._make_room()

    def end_inflight(self, incarnation: Any, reason: str) -> None:
        """Cancel what an incarnation works on; ``lapse`` and ``restart`` go by policy."""
        now = self.core.now()
        for task in tuple(self.core.inflight.values()):
            if task.incarnation is incarnation and task.id not in incarnation.pulled:
                task.cancel_reason = task.cancel_reason or reason
                task.cancel_at = task.cancel_at or now
                task.cancel_live = task.cancel_live or now - self.core.fleet.blocked_total
                if task.aio is not None:
                    task.aio.cancel()

    def abandon(self, task: Task) -> None:
        """Give up a task whose incarnation would not end; its late end will be fenced."""
        self._conclude(task, task.cancel_reason or "stop")
        task.fenced = True
        self.running -= 1
        if task.timer is not None:
            task.timer.cancel()

    # -- for bodies that pull --------------------------------------------------------------------

    async def pull(self, incarnation: Incarnation) -> Task | None:
        """Return the next task, begun; ``None`` when the incarnation is to end."""
        while True:
            task = None
            if not incarnation.ending:
                task = self._next()
            elif self.core.machine.desired is Desired.DRAINED and incarnation is (
                self.core.machine.incarnation
            ):
                task = self._next()
            if task is not None:
                task.incarnation = incarnation
                incarnation.busy += 1
                incarnation.pulled[task.id] = task
                task.begin(queued=True, aio=asyncio.current_task())
                return task
            if incarnation.ending:
                return None
            waiter: asyncio.Future[None] = self.core.fleet.loop.create_future()
            self._pullers.append(waiter)
            try:
                await waiter
            finally:
                if waiter in self._pullers:
                    self._pullers.remove(waiter)

    def wake_pullers(self, incarnation: Incarnation) -> bool:  # noqa: ARG002 - one lives at a time
        """Let bodies that wait for work go; returns whether there were any."""
        found = bool(self._pullers)
        for waiter in self._pullers:
            if not waiter.done():
                waiter.set_result(None)
        self._pullers.clear()
        return found

    def _feed_pullers(self) -> None:
        ready = self.queued
        while ready and self._pullers:
            waiter = self._pullers.popleft()
            if not waiter.done():
                waiter.set_result(None)
                ready -= 1

    def settle_pulled(
        self, incarnation: Incarnation, task: Task, result: Any, error: BaseException | None
    ) -> None:
        """End a task that a body had taken."""
        if task.state == ENDED or incarnation.pulled.pop(task.id, None) is None:
            return
        if task.token is not None:
            try:
                CURRENT.reset(task.token)
            except ValueError:
                pass
        self.running += 1  # given back by _free
        if error is None:
            self._returned_oddly(task, result)
        else:
            self._left(task, error)

    def give_back(self, incarnation: Incarnation, task: Task, *, lapse: bool) -> None:
        """The body ended with this task open."""
        if incarnation.pulled.pop(task.id, None) is None:
            return
        self.running += 1
        reason = "lapse" if lapse or self.core.machine.fault else "stop"
        self._conclude(task, task.cancel_reason or reason)
        self._free(task)

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


def _timeout(task: Task) -> TaskTimeoutError:
    return TaskTimeoutError(
        f"task {task.id} of {task.agent_id!r} did not end within its timeout, queueing included",
        agent_id=task.agent_id,
        task_id=task.id,
    )
