"""For bodies that take their work themselves, with ``async for task in agent.tasks()``.

Functions over an agent's :class:`~fleetmon.runtime.work.Work`; they run in the supervisor's loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from fleetmon.policy.transitions import Desired
from fleetmon.runtime.fate import conclude
from fleetmon.runtime.phase import ENDED
from fleetmon.runtime.task import CURRENT
from fleetmon.tables import values_of

if TYPE_CHECKING:
    from fleetmon.runtime.incarnation import Incarnation
    from fleetmon.runtime.task import Task
    from fleetmon.runtime.work import Work


async def take(work: Work, incarnation: Incarnation) -> Task | None:
    """Return the next task, begun; ``None`` when the incarnation is to end."""
    machine = work.core.machine
    while True:
        task = None
        if not incarnation.ending or (
            machine.desired is Desired.DRAINED and incarnation is machine.incarnation
        ):
            task = work.take_next()
        if task is not None:
            task.incarnation = incarnation
            incarnation.busy += 1
            work.running += 1
            incarnation.pulled[task.id] = task
            task.pulled = True
            task.aio = asyncio.current_task()
            task.generation = incarnation.generation
            task.count(queued=True)
            task.enter(work.core.fleet.thread)
            return task
        if incarnation.ending:
            return None
        waiter: asyncio.Future[None] = work.core.fleet.loop.create_future()
        work.pullers.append(waiter)
        try:
            await waiter
        finally:
            with contextlib.suppress(ValueError):  # woken ones have left the queue
                work.pullers.remove(waiter)


def wake(work: Work) -> bool:
    """Let bodies that wait for work go; returns whether there were any."""
    found = bool(work.pullers)
    for waiter in work.pullers:
        if not waiter.done():
            waiter.set_result(None)
    work.pullers.clear()
    return found


def feed(work: Work) -> None:
    """Wake as many waiting bodies as there are tasks."""
    ready = work.queued
    while ready and work.pullers:
        waiter = work.pullers.popleft()
        if not waiter.done():
            waiter.set_result(None)
            ready -= 1


def settle(
    work: Work, incarnation: Incarnation, task: Task, result: Any, error: BaseException | None
) -> None:
    """End a task that a body had taken; a second end of the same task does nothing."""
    if task.state == ENDED or incarnation.pulled.pop(task.id, None) is None:
        return
    _leave_context(task)
    if error is None:
        work.returned(task, result)
    else:
        work.left(task, error)


def give_back(work: Work, incarnation: Incarnation, *, lapse: bool) -> None:
    """The body has ended: what it had taken and not finished goes by policy."""
    reason = incarnation.end_reason or ("lapse" if lapse else "stop")
    if lapse:
        work.core.struck = incarnation.generation, work.core.exemplar()
    for task in values_of(incarnation.pulled):
        del incarnation.pulled[task.id]
        _leave_context(task)
        if task.fenced:
            work.late(task)
        else:
            conclude(task, task.cancel_reason or reason)
            work.free(task)


def _leave_context(task: Task) -> None:
    if task.token is not None:
        with contextlib.suppress(ValueError):  # ended in another context than it began in
            CURRENT.reset(task.token)
        task.token = None
