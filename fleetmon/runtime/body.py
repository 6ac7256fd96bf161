"""The agent as its own body sees it: what ``serve(agent)`` is called with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetmon.runtime import pull
from fleetmon.runtime.task import new_task

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fleetmon.runtime.incarnation import Incarnation
    from fleetmon.runtime.task import Task


class Body:
    """Handle of one incarnation; what an older one says through it is fenced.

    Attributes:
        agent_id: the agent.
        generation: number of this incarnation.
    """

    __slots__ = ("_incarnation", "agent_id", "generation")

    agent_id: str
    generation: int

    def __init__(self, incarnation: Incarnation) -> None:
        """Belong to one incarnation."""
        self._incarnation = incarnation
        self.agent_id = incarnation.agent_id
        self.generation = incarnation.generation

    @property
    def stopping(self) -> bool:
        """Whether this incarnation has been asked to end."""
        return self._incarnation.ending

    def heartbeat(self, note: object = None) -> None:
        """Say that the body is alive and gets on; from any thread.

        Args:
            note: what it got to. The same note again and again counts as no progress.
        """
        self._incarnation.core.heartbeat(self.generation, note)

    def task(self, task_type: str) -> Task:
        """Measure a piece of the body's own work: ``with agent.task("refresh"): ...``."""
        task = new_task(self._incarnation.core, task_type)
        task.generation = self.generation  # what a zombie does is not the work of its successor
        return task

    def tasks(self) -> AsyncIterator[Task]:
        """Iterate over submitted tasks, one at a time; ends when the incarnation is to end.

        A task ends when :meth:`Task.done` or :meth:`Task.fail` says so, at the latest when the
        next one is asked for (then it has succeeded, with no result).
        """
        return _Pull(self._incarnation)


class _Pull:
    __slots__ = ("_incarnation", "_open")

    def __init__(self, incarnation: Incarnation) -> None:
        self._incarnation = incarnation
        self._open: Task | None = None

    def __aiter__(self) -> _Pull:
        return self

    async def __anext__(self) -> Task:
        work = self._incarnation.core.work
        task, self._open = self._open, None
        if task is not None:
            pull.settle(work, self._incarnation, task, None, None)
        following = await pull.take(work, self._incarnation)
        if following is None:
            raise StopAsyncIteration
        self._open = following
        return self._open
