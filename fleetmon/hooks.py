"""The seam between the work and those who tell of it: spans and log lines for tasks.

The runtime calls the hooks on the hot path; a hook that is ``None`` costs one comparison. Hooks
must not block and must not raise; the runtime drops a hook's error and counts it.

A tracer or log that loses things may say so in an attribute ``dropped``, a mapping from cause to
count; ``/metrics`` shows it.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fleetmon.events import Event, EventKind
    from fleetmon.rows import AgentRow
    from fleetmon.snapshot import InterruptedTask, RecorderReading, Warnings

CURRENT: ContextVar[Any] = ContextVar("fleetmon_task", default=None)
"""The task that is worked on in this context, as the supervisor has it; ``None`` outside."""

REMOTE: ContextVar[Any] = ContextVar("fleetmon_worker_task", default=None)
"""The same in a worker process, as it arrived there."""


def current_facts() -> dict[str, Any]:
    """Return agent, type, id and generation of the task of this context; empty outside any.

    Keys are those of the log lines. Works in the supervisor's process and in its workers.
    """
    task = CURRENT.get() or REMOTE.get()
    if task is None:
        return {}
    return {
        "agent_id": task.agent_id,
        "task_type": task.task_type,
        "task_id": task.id,
        "generation": task.generation,
    }


class Identified:
    """Where a task stands in a trace, kept as the text that log lines show.

    Attributes:
        ids: 32 hex digits of the trace, then 16 of the span unless those are the first half of the
            trace's; empty without tracing. Written by the tracer.
    """

    ids: str = ""

    @property
    def trace_id(self) -> int:
        """128-bit number, 0 without tracing; a tracer that has numbers sets both ids here."""
        return int(self.ids[:32] or "0", 16)

    @trace_id.setter
    def trace_id(self, value: int) -> None:
        self.ids = f"{value:032x}{self.ids[32:]}" if value else ""

    @property
    def span_id(self) -> int:
        """64-bit number, 0 without tracing."""
        return int(self.ids[32:] or self.ids[:16] or "0", 16)

    @span_id.setter
    def span_id(self, value: int) -> None:
        self.ids = f"{self.ids[:32]:0>32}{value:016x}" if value else self.ids[:32]


class TypeLabel(Protocol):
    """A task type as the metrics have it."""

    @property
    def task_type(self) -> str:
        """The bounded label."""


class TaskView(Protocol):
    """What a hook may read of a task, and the tracing fields that it owns.

    Attributes:
        id: number of the task, unique within the supervisor.
        agent_id: whose work it is.
        task_type: as the caller named it (the bounded label is ``slot.task_type``).
        generation: the incarnation that works on it.
        attempt: 1 for the first delivery.
        origin: OpenTelemetry context of the submitter, captured by :meth:`TaskTracer.capture` when
            the task crossed a mailbox; ``None`` when the current context is the right parent.
        slot: the numbers of its type, with the bounded label.
        started_at: supervisor's clock in seconds.
        ended_at: the same, set before :meth:`TaskTracer.end`.
        outcome: index into :data:`fleetmon.numbers.OUTCOMES`, set before ``end``.
        error_type: bounded type of the failure, empty on success.
        error: the exception, if there was one.
        ids: trace and span as text, see :class:`Identified`; written by the tracer.
        trace_id: 128-bit number, 0 without tracing; another way to write the same.
        span_id: 64-bit number, 0 without tracing; another way to write the same.
        sampled: whether the span is recorded; written by the tracer.
        span: whatever the tracer wants to keep between ``begin`` and ``end``.
    """

    id: int
    agent_id: str
    task_type: str
    generation: int
    attempt: int
    payload: Any
    origin: Any
    started_at: float
    ended_at: float
    outcome: int
    error_type: str
    error: BaseException | None

    @property
    def slot(self) -> TypeLabel:
        """What knows the bounded label."""

    @property
    def parent(self) -> TaskView | None:
        """The enclosing task of another (or the same) agent, if any."""

    ids: str
    trace_id: int
    span_id: int
    sampled: bool
    span: Any


class TaskTracer(Protocol):
    """Turns tasks into spans.

    A tracer may have a method ``finish(task)`` as well: :meth:`end` for a task in whose context
    nothing else will begin, so that there is nothing to restore.
    """

    def capture(self) -> Any:
        """Return the submitter's context, an empty one too, to become ``task.origin``."""

    def begin(self, task: TaskView) -> None:
        """Give the task its ids, start a span if sampled, make its context current."""

    def end(self, task: TaskView) -> bool | None:
        """End the span and restore the context that was current before ``begin``.

        Returns:
            Whether the span is recorded, and so worth an exemplar.
        """

    def carry(self, task: TaskView) -> Mapping[str, str]:
        """Return the task's context as headers that pickle, for work in another process."""

    def event(self, event: Event) -> None:
        """Tell a change of state: a span event, or a span of its own linked to the task's."""


class EndObserver(Protocol):
    """Hears of every end of a task; see :meth:`Supervisor.observe`."""

    def ended(self, task: TaskView) -> None:
        """Note the end of a task; at most a tuple appended to a bounded buffer.

        A task that ended while it waited has generation 0.
        """


class TaskLog(EndObserver, Protocol):
    """Turns ends of tasks and events into log lines, off the hot path.

    Tasks that ended while they waited have no line, so a log does not hear of them.
    """

    def event(self, event: Event) -> None:
        """Note a change of state."""


class FleetView(Protocol):
    """What a recorder may see of a fleet, from a thread of its own.

    Attributes:
        name: of the fleet.
        epoch: tells two lives of a supervisor apart.
    """

    @property
    def name(self) -> str:
        """Name of the fleet."""

    @property
    def epoch(self) -> str:
        """What tells two lives of a supervisor apart."""

    @property
    def seq(self) -> int:
        """Number of the newest event."""

    def now(self) -> float:
        """Return the supervisor's clock, seconds."""

    def wall(self) -> float:
        """Return seconds since the epoch."""

    def running(self) -> Sequence[TaskView]:
        """Return the tasks that have begun and not ended."""

    def look(self, *, whole: bool) -> Iterable[AgentRow]:
        """Yield the rows of agents that may have changed since the last look, or of all."""

    def gone(self) -> Sequence[str]:
        """Return the agents that have gone since they were asked for last."""

    def facts(self) -> dict[str, Any]:
        """Return what there is to say about the whole fleet, as in a stream's ``fleet`` frame."""

    def warnings(self) -> Warnings:
        """Return what an operator should know."""

    def restarts(self) -> Mapping[str, tuple[int, tuple[float, ...]]]:
        """Return streak and times of lapses (supervisor's clock) of agents that have any."""

    def publish(self, kind: EventKind, agent_id: str, data: Mapping[str, Any]) -> None:
        """Publish an event."""


class FleetRecorder(Protocol):
    """Keeps a record of a fleet; :class:`fleetmon.Recorder` is one.

    The hooks are called on the hot path and must neither block nor raise.
    """

    def start(self, fleet: FleetView) -> None:
        """Begin; raises only where the host asked that nothing runs without a record."""

    def close(self) -> None:
        """Write what is left and end, bounded."""

    def ended(self, task: TaskView) -> None:
        """Note the end of a task."""

    def event(self, event: Event) -> None:
        """Note a change of state."""

    def accepted(self, task: TaskView) -> None:
        """Keep a task of an agent whose policy asks for another delivery after a crash."""

    def reading(self) -> RecorderReading:
        """Return the recorder's own numbers."""

    def interrupted(self) -> tuple[InterruptedTask, ...]:
        """Return the tasks that earlier lives have left."""

    def restarts_of(self, agent_id: str) -> tuple[int, tuple[float, ...]] | None:
        """Return streak and wall-clock times of lapses that an agent brings along; once."""

    def claim(
        self, agent_id: str, numbers: Mapping[InterruptedTask, int], limit: int
    ) -> Mapping[InterruptedTask, Any]:
        """Take pending tasks over for good, before they are delivered again; may block.

        Args:
            agent_id: whose they are.
            numbers: new task numbers.
            limit: deliveries; a task that has had as many is taken over as a dead letter.

        Returns:
            The payloads of those that could be taken over.
        """
