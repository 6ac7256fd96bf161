"""What becomes of a task that somebody else wanted to end: exactly one fate.

Requeue, fail, dead letter, cancel or time out: booked once, and the caller hears of it once.
Functions over a task; they run in the supervisor's loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fleetmon.errors import (
    DeadLetteredError,
    TaskCancelledError,
    TaskError,
    TaskFailedError,
    TaskHungError,
    TaskTimeoutError,
)
from fleetmon.events import EventKind
from fleetmon.numbers import CANCELLED, DEAD_LETTERED, FAILED, TIMED_OUT

if TYPE_CHECKING:
    from fleetmon.runtime.task import Task


def settle(task: Task, *, result: Any = None, error: BaseException | None = None) -> None:
    """Tell the caller, unless it has been told or has gone."""
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


def conclude(task: Task, reason: str) -> None:
    """End a task that somebody other than the task itself wanted to end.

    Args:
        task: in flight.
        reason: ``timeout``, ``hang``, ``lapse``, ``restart``, ``stop``, ``caller`` or ``host``.
    """
    core = task.core
    if reason == "timeout":
        task.error_type = ""
        task.end(TIMED_OUT)
    elif reason == "hang":
        settle(task, error=error_of(TaskHungError, task, "ran beyond its hard hang limit"))
        task.failed(task.error, None, "hang")
    elif reason == "lapse":
        _fate(task)
    elif reason == "restart" and core.spec.in_flight == "requeue":
        _requeue(task)
    else:
        settle(task, error=error_of(TaskCancelledError, task, f"was cancelled by {reason}"))
        task.end(CANCELLED)


def _fate(task: Task) -> None:
    # exactly one of: requeue, dead letter, fail
    core = task.core
    spec = core.spec
    why = ""
    if spec.in_flight == "requeue":
        if task.attempt >= spec.max_deliveries:
            why = f"its agent went down under it {task.attempt} times"
        elif not core.fleet.redeliveries.spend(core.now()):
            why = "the fleet's budget of redeliveries is spent"
        else:
            _requeue(task)
            return
    elif spec.in_flight == "dead_letter":
        why = "its agent went down under it"
    if why:
        task.error_type = "crash"
        task.end(DEAD_LETTERED)
        core.fleet.bury_task(task, why)
        settle(task, error=error_of(DeadLetteredError, task, f"is a dead letter: {why}"))
        return
    settle(task, error=_because(task, TaskFailedError, "failed: its agent went down under it"))
    task.error_type = "crash"
    task.end(FAILED)


def _requeue(task: Task) -> None:
    core = task.core
    core.numbers.requeue(task, core.now())
    task.error_type = "crash"
    task.leave()
    task.fenced = True
    task.cancel_reason = task.cancel_reason or "lapse"
    again = task.again()
    incarnation = task.incarnation
    core.event(
        EventKind.TASK_REDELIVERED,
        {"task_type": task.slot.task_type, "attempt": again.attempt, **task.trace()},
        task.id,
    )
    if (
        incarnation is not None
        and not core.spec.at_least_once
        and (incarnation.abandoned or incarnation.leaks)
    ):
        core.work.park(again, incarnation)  # until the old attempt has really ended
    else:
        core.work.put_back(again)
        core.work.dispatch()


def _because(task: Task, kind: type[TaskError], what: str) -> TaskError:
    # with the reason of the lapse, and its error as the cause
    lapse = task.core.last_lapse
    error = error_of(kind, task, f"{what} ({lapse.reason})" if lapse is not None else what)
    error.__cause__ = task.core.machine.lapse_error
    return error


def timeout_of(task: Task) -> TaskError:
    """Return the error that a caller gets whose deadline has passed."""
    return error_of(TaskTimeoutError, task, "did not end within its timeout, queueing included")


def error_of(kind: type[TaskError], task: Task, what: str) -> TaskError:
    """Return an error about a task that names it."""
    return kind(
        f"task {task.id} of {task.agent_id!r} {what}", agent_id=task.agent_id, task_id=task.id
    )
