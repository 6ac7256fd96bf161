"""Hands tasks out again that a crash of the whole process has cut off.

They come from the record, have no caller any more, and are counted in this life's books like any
other: accepted once, delivered again, one outcome.
"""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import TYPE_CHECKING

from fleetmon.events import EventKind
from fleetmon.numbers import DEAD_LETTERED
from fleetmon.policy.transitions import Actual
from fleetmon.runtime.phase import ENDED
from fleetmon.runtime.task import new_task

if TYPE_CHECKING:
    from fleetmon.runtime.core import AgentCore
    from fleetmon.runtime.task import Task
    from fleetmon.snapshot import InterruptedTask


async def hand_over(core: AgentCore) -> int:
    """Deliver once more what an earlier life has left of this agent's tasks; returns how many.

    A task is taken over in the record first, so that one which brings the process down is never
    delivered more often than ``max_deliveries``; one that has been is a dead letter. The budget of
    redeliveries is not asked: each crash delivers each task at most once.
    """
    recorder = core.journal
    if recorder is None:
        return 0
    pending = [
        task
        for task in recorder.interrupted()
        if task.agent_id == core.agent_id and task.fate == "pending"
    ]
    if not pending:
        return 0
    numbers = {task: next(core.task_ids) for task in pending}
    payloads = await asyncio.to_thread(
        recorder.claim, core.agent_id, numbers, core.spec.max_deliveries
    )
    delivered = 0
    for old, payload in payloads.items():
        task = new_task(core, old.task_type, payload)
        task.id = numbers[old]
        task.context = Context()  # its caller's has gone with the process
        task.progress_at = core.now() - core.fleet.blocked_total
        core.numbers.accept(task.slot)
        if old.attempt >= core.spec.max_deliveries:
            task.attempt = old.attempt
            _bury(task, old)
            continue
        task.attempt = old.attempt + 1
        core.numbers.deliver_again()
        core.event(
            EventKind.TASK_REDELIVERED,
            {"task_type": task.slot.task_type, "attempt": task.attempt, "epoch": old.epoch},
            task.id,
        )
        core.work.put_last(task)
        delivered += 1
    if core.machine.actual is Actual.STOPPED:  # while the record was asked
        core.work.cancel_waiting("stop")
    core.work.dispatch()
    return delivered


def _bury(task: Task, old: InterruptedTask) -> None:
    core = task.core
    task.state = ENDED
    task.outcome = DEAD_LETTERED
    task.error_type = "crash"
    task.ended_at = core.now()
    core.numbers.end_queued(task.slot, DEAD_LETTERED)
    core.fleet.bury_task(task, f"the process went down under it {old.attempt} times")
    core.fleet.observers.never_began(task)
