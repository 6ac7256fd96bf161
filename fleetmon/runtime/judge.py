"""What the ends of tasks and the signs of life mean for their agent.

A failed task is not a crash: it moves health through the failure rate only. A fatal error, a run of
failures and a hang that survives its cancellation are lapses. All functions run in the
supervisor's loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetmon.events import EventKind
from fleetmon.policy.classify import class_of
from fleetmon.policy.transitions import Actual, Desired
from fleetmon.runtime.phase import ENDED

if TYPE_CHECKING:
    from fleetmon.policy.classify import Verdict
    from fleetmon.runtime.core import AgentCore
    from fleetmon.runtime.task import Task

# Members by name: on Python 3.11 looking one up on its class costs a call.
_QUARANTINED = Actual.QUARANTINED
_RECOVERING = Actual.RECOVERING
_RUNNING = Actual.RUNNING
_D_RUN = Desired.RUN
_E_TASK_FAILED = EventKind.TASK_FAILED
_E_TASK_HUNG = EventKind.TASK_HUNG

_ALIVE = frozenset((Actual.STARTING, Actual.RECOVERING, Actual.RUNNING, Actual.PROBING))
_FROM_PROGRESS = ("suspect", "stalled", "throttled")  # blocked_loop is the watchdog's alone


def progressed(core: AgentCore, generation: int, task: Task | None) -> None:
    """Take progress: it verifies a recovery and clears what only lack of progress raised."""
    machine = core.machine
    if generation != core.generation:
        return
    if task is None or task.state == ENDED:
        core.clear_condition("stalled")
    if task is not None and core.beats is not None:
        core.beats.progress()
    core.clear_condition("suspect")
    if machine.actual is _RECOVERING and machine.incarnation and machine.incarnation.started:
        machine.verified("progress")
    elif machine.unproven and machine.actual is _RUNNING:
        machine.proven("progress")
    elif (
        machine.actual is _QUARANTINED
        and machine.desired is _D_RUN
        and core.mode == "observed"
        and task is not None
    ):
        machine.self_recovered()
    machine.attend()


def succeeded(core: AgentCore, task: Task) -> None:
    """A task succeeded while that mattered."""
    core.work.check_drained()
    if task.generation != core.generation:
        return
    core.failures_in_row = 0
    core.clear_condition(*_FROM_PROGRESS)
    if core.condition("failing") is not None:
        core.work.review_failing()
    progressed(core, task.generation, task)


def task_failed(core: AgentCore, task: Task, verdict: Verdict | None) -> None:
    """A task failed: booked already; here it may colour the agent or be a lapse."""
    machine = core.machine
    name = class_of(task.error) if task.error is not None else ""
    said = name or task.error_type
    core.event(
        _E_TASK_FAILED,
        {
            "task_type": task.slot.task_type,
            "error_type": task.error_type,
            "error": name,
            **task.trace(),
        },
        task.id,
    )
    core.work.check_drained()
    if task.generation != core.generation or machine.actual not in _ALIVE:
        return
    core.work.review_failing(failed=True)
    if verdict is not None and verdict.fatal:
        machine.lapse(f"fatal error: {said}", task.error_type, task.error, verdict)
        return
    if verdict is not None and verdict.kind == "throttled":
        core.throttled_until = core.now() + max(5.0, verdict.retry_after)
        core.raise_condition("throttled", f"asked to slow down: {said}")
        return
    if verdict is not None and verdict.kind == "permanent":
        return  # the task is at fault, not the agent
    core.failures_in_row += 1
    core.attention = True
    limit = core.spec.max_consecutive_failures
    if limit is not None and core.failures_in_row >= limit:
        machine.lapse(f"{limit} failures in a row, last: {said}", task.error_type, task.error)


def hung(core: AgentCore, task: Task, limit: str) -> None:
    """A task crossed its soft or its hard limit, or survived its cancellation."""
    machine = core.machine
    if task.state == ENDED or task.fenced or task.generation != core.generation:
        return
    seconds = core.now() - task.started_at
    name = f"task {task.id} ({task.slot.task_type})"
    core.event(
        _E_TASK_HUNG,
        {
            "task_type": task.slot.task_type,
            "seconds": round(seconds, 3),
            "limit": limit,
            **task.trace(),
        },
        task.id,
    )
    if limit == "soft":
        core.raise_condition("suspect", f"{name}: no progress for a while")
    elif limit == "survived":
        machine.lapse(f"{name} survived its cancellation", "hang")
    elif core.mode == "owned" and task.incarnation is not None and task.aio is not None:
        core.work.cancel(task, "hang")
    else:
        core.numbers.fail("hang", task.exemplar())
        machine.lapse(f"{name} ran for {seconds:.0f} s, beyond its hard limit", "hang")
