"""The mailbox of one agent: bounded, in order, and exact about what becomes of a task that waits.

Runs in the supervisor's loop only.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextvars import copy_context
from typing import TYPE_CHECKING

from fleetmon.errors import (
    DrainingError,
    NotAcceptingError,
    QueueFullError,
    SpecError,
    TaskCancelledError,
)
from fleetmon.numbers import CANCELLED, TIMED_OUT
from fleetmon.policy.transitions import Desired
from fleetmon.runtime.fate import error_of, settle, timeout_of
from fleetmon.runtime.phase import ENDED, WAITING
from fleetmon.runtime.task import current

if TYPE_CHECKING:
    from fleetmon.runtime.core import AgentCore
    from fleetmon.runtime.incarnation import Incarnation
    from fleetmon.runtime.task import Task

_SLACK = 2  # ended tasks that may lie among the waiting before they are swept out


class Mailbox:
    """Tasks of one agent that wait.

    Attributes:
        waiting: accepted and not begun; may hold ended ones, which are skipped.
        queued: how many in ``waiting`` still count.
        pullers: bodies that wait for a task.
    """

    __slots__ = ("_parked", "_room", "core", "pullers", "queued", "waiting")

    def __init__(self, core: AgentCore) -> None:
        """Start empty."""
        self.core = core
        self.waiting: deque[Task] = deque()
        self.queued = 0
        self.pullers: deque[asyncio.Future[None]] = deque()
        self._room: deque[asyncio.Future[None]] = deque()
        self._parked: dict[Task, Incarnation] = {}

    # -- in --------------------------------------------------------------------------------------

    def refuse(self) -> None:
        """Raise the reason why no task is taken now, if there is one."""
        core = self.core
        if core.accepting:
            return
        state = core.numbers.lifecycle
        if core.mode == "declared" or core.removed:
            raise NotAcceptingError(core.agent_id, "absent")
        if not core.fleet.accepting:
            raise DrainingError(core.agent_id, core.fleet.phase)
        if core.machine.desired is Desired.DRAINED:
            raise DrainingError(core.agent_id, state)
        if core.machine.desired is Desired.PAUSED:
            state = "paused"
        raise NotAcceptingError(core.agent_id, state)

    def let_wait(self, task: Task) -> None:
        """Accept a task that cannot begin at once.

        Raises:
            QueueFullError: no more may wait.
            SpecError: the agent is one whose work the host runs.
        """
        core = self.core
        if core.mode == "observed":
            msg = (
                f"{core.agent_id!r} is observed: the host runs its work; measure that with task() "
                "or watch(), or add() the agent to hand tasks in"
            )
            raise SpecError(msg, field="agent_id", value=core.agent_id)
        if self.queued >= core.spec.queue and not self.pullers:
            raise QueueFullError(core.agent_id, core.spec.queue)
        core.numbers.accept(task.slot)
        task.context = copy_context()
        task.parent = current()
        if core.fleet.tracer is not None:  # a body that takes it lives in another context
            task.capture(core.fleet.tracer)
        self._append(task)

    async def room(self) -> None:
        """Wait until there may be room in the queue."""
        future: asyncio.Future[None] = self.core.fleet.loop.create_future()
        self._room.append(future)
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self._make_room()  # the room that was meant for this one goes to the next
            raise

    def put_last(self, task: Task) -> None:
        """Let a task wait that was accepted in an earlier life, after all others."""
        self._append(task)

    def put_back(self, task: Task) -> None:
        """Let an accepted task wait again, before all others."""
        self._append(task, front=True)

    def _append(self, task: Task, *, front: bool = False) -> None:
        core = self.core
        task.state = WAITING
        task.progress_at = core.now() - core.fleet.blocked_total  # waiting since, in live time
        self.queued += 1
        if front:
            self.waiting.appendleft(task)
        else:
            self.waiting.append(task)

    def park(self, task: Task, incarnation: Incarnation) -> None:
        """Let an accepted task wait until what is left of an old life has really ended."""
        self._parked[task] = incarnation

    def take_next(self) -> Task | None:
        """Return the next task that still waits, no longer counted as queued here."""
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

    def _drop_waiting(self, task: Task, reason: str) -> None:
        if self._parked.pop(task, None) is None:
            self.queued -= 1
            self._make_room()
        self._end_waiting(task, reason)
        if len(self.waiting) > 2 * self.queued + _SLACK:  # those who gave up leave nothing behind
            self.waiting = deque(t for t in self.waiting if t.state == WAITING)

    def _end_waiting(self, task: Task, reason: str) -> None:
        core = self.core
        if reason == "timeout":
            settle(task, error=timeout_of(task))
            outcome = TIMED_OUT
        else:
            settle(
                task,
                error=error_of(
                    TaskCancelledError, task, f"was cancelled by {reason} before it began"
                ),
            )
            outcome = CANCELLED
        if task.timer is not None:
            task.timer.cancel()
            task.timer = None
        task.state = ENDED
        task.outcome = outcome
        task.payload = None
        task.ended_at = core.now()
        core.numbers.end_queued(task.slot, outcome)
        core.fleet.observers.never_began(task)
        if core.attention:
            core.work.check_drained()

    def cancel_waiting(self, reason: str) -> None:
        """Cancel everything that has not begun."""
        waiting = [*self.waiting, *self._parked]
        self.waiting.clear()
        self._parked.clear()
        self.queued = 0
        for task in waiting:
            if task.state == WAITING:
                self._end_waiting(task, reason)
        while self._room:
            self._make_room()
