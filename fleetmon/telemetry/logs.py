"""JSON lines for tasks and events: :class:`JsonLog`, one tuple on the hot path and no more."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from fleetmon.events import EventKind
from fleetmon.telemetry.render import Renderer, type_of
from fleetmon.telemetry.sink import LineWriter

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetmon.events import Event
    from fleetmon.hooks import TaskView

_ERRORS = 1000  # exceptions that may wait whole: each keeps its frames, and what they hold, alive


class JsonLog:
    """A :class:`fleetmon.hooks.TaskLog` that writes one JSON object a line.

    Fields: ``timestamp``, ``level``, ``service``, ``trace_id`` and ``span_id`` (absent without
    tracing), ``message``, ``agent_id``, ``task_type``, ``task_id``, ``generation``, and under
    ``extra`` the rest. Payloads and results never appear; messages of exceptions only if asked for.

    A slow, closed or broken stream never blocks or raises into an agent: lines are dropped and
    counted in :attr:`dropped`.

    Attributes:
        service: field of every line.
    """

    def __init__(
        self,
        service: str = "fleetmon",
        *,
        stream: Any = None,
        flatten: bool = False,
        messages: bool = False,
        tracebacks: float = 10.0,
        limit: int = 65_536,
        interval: float = 0.25,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Prepare a log; its thread starts with the first line.

        Args:
            service: field of every line.
            stream: text or binary; ``None`` for ``sys.stdout``, whatever it is at each write.
            flatten: put the fields of ``extra`` beside the others.
            messages: write messages of exceptions, at most 500 characters each.
            tracebacks: written per second at most; others have type and place only.
            limit: lines that may wait; beyond it the newest are dropped.
            interval: seconds in which lines are gathered before they are written; each time the
                thread wakes costs as much CPU as a hundred lines.
            clock: the supervisor's clock, from which the times of tasks come.
            wall: seconds since the epoch.
        """
        self.service = service
        self._renderer = Renderer(
            service,
            flatten=flatten,
            messages=messages,
            tracebacks=tracebacks,
            clock=clock,
            wall=wall,
        )
        self._writer = LineWriter(self._renderer.render, stream, limit=limit, interval=interval)
        self._queue = self._writer.queue

    def ended(self, task: TaskView) -> None:
        """Note the end of a task: one tuple, appended."""
        queue = self._queue
        writer = self._writer
        if len(queue) >= writer.mark and not writer.room("task"):
            return
        facts: tuple[Any, ...] = (
            task.ended_at,
            task.started_at,
            task.agent_id,
            task.task_type,
            task.generation,
            task.attempt,
            task.id,
            task.ids,
        )
        outcome = task.outcome
        if outcome:
            error = task.error
            told = error if error is None or len(queue) < _ERRORS else type_of(error)
            facts = (*facts, outcome, task.error_type, told)
        queue.append(facts)

    def line(self, line: dict[str, Any] | str) -> None:
        """Note a line of the host's own: a dictionary that nobody changes any more, or JSON text.

        Never blocks; what there is no room for is dropped and counted as ``line``.
        """
        self._writer.put((line,), "line")

    def event(self, event: Event) -> None:
        """Note a change of state; a failed task has its line from :meth:`ended` already."""
        if event.kind is not EventKind.TASK_FAILED:
            self._writer.put((event,), "event")

    @property
    def dropped(self) -> dict[str, int]:
        """Lines lost so far, by kind: see :attr:`LineWriter.dropped`."""
        return dict(self._writer.dropped)

    @property
    def writer(self) -> LineWriter:
        """The queue and the thread, for others who write lines to the same stream."""
        return self._writer

    def flush(self, timeout: float = 2.0) -> bool:
        """Wait until every line so far has been written or lost; False after ``timeout`` s."""
        return self._writer.flush(timeout)

    def close(self, deadline: float = 2.0) -> bool:
        """Write what waits for at most ``deadline`` seconds; later lines are dropped and counted.

        Returns:
            Whether everything was written or lost in time.
        """
        return self._writer.close(deadline)
