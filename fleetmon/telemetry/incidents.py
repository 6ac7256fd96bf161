"""Restarts, hangs and recoveries as spans: beside the tasks, and linked to the one that failed.

A lapse opens a span ``recover_agent {agent_id}`` that ends when the agent is verified, given up or
stopped; what happens in between are its events. A start by command is ``start_agent``, a hang
``task_hung``, backdated to when the task began to hang. The spans of sampled tasks that the agent
has in flight get the same facts as span events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.trace import Link, Span, SpanContext, StatusCode, TraceFlags

from fleetmon.events import EventKind
from fleetmon.tables import values_of
from fleetmon.telemetry.conventions import AGENT_ID, ERROR_TYPE, GENERATION, TASK_ID
from fleetmon.telemetry.render import type_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opentelemetry.util.types import AttributeValue

    from fleetmon.events import Event
    from fleetmon.hooks import TaskView
    from fleetmon.telemetry.current import Here

    StartSpan = Callable[[str, dict[str, Any], list[Link], int], Span | None]

_AGENTS = 10_000  # of which the last failed task is remembered
_TEXT = 256
# What an event may carry into a span; messages of exceptions only if they are switched on.
_FACTS = frozenset(
    {
        "after",
        "agents",
        "attempt",
        "attempts",
        "before",
        "by",
        "cause",
        "command",
        "condition",
        "count",
        "delay_seconds",
        "error_type",
        "file",
        "function",
        "limit",
        "line",
        "reason",
        "seconds",
        "streak",
        "task_type",
        "verdict",
        "where",
    }
)
_MESSAGES = frozenset({"error", "detail"})
_ON_TASKS = frozenset(
    {
        EventKind.LAPSED,
        EventKind.RECOVERING,
        EventKind.QUARANTINED,
        EventKind.ZOMBIE,
        EventKind.HEALTH_CHANGED,
        EventKind.LOOP_BLOCKED,
        EventKind.LOOP_FREED,
        EventKind.STOPPING,
    }
)
_IN_RECOVERY = frozenset(
    {
        EventKind.BACKING_OFF,
        EventKind.RECOVERING,
        EventKind.STARTING,
        EventKind.STARTED,
        EventKind.START_FAILED,
        EventKind.VERIFY_FAILED,
        EventKind.PROBING,
        EventKind.PROBE_FAILED,
        EventKind.ZOMBIE,
    }
)
_GIVEN_UP = frozenset({EventKind.QUARANTINED, EventKind.STOPPED, EventKind.AGENT_REMOVED})


class Incidents:
    """Turns events into span events and into spans of their own.

    Attributes:
        in_flight: contexts of sampled tasks, by agent and task; kept by the tracer.
    """

    def __init__(self, start: StartSpan, *, messages: bool) -> None:
        self._start = start
        self._messages = messages
        self.in_flight: dict[str, dict[int, Here]] = {}
        self._failed: dict[str, tuple[int, SpanContext]] = {}
        self._open: dict[str, Span] = {}

    def failed(self, task: TaskView, context: SpanContext) -> None:
        """Remember the task as the last of its agent that failed."""
        failed = self._failed
        if len(failed) >= _AGENTS and task.agent_id not in failed:
            failed.pop(next(iter(failed), ""), None)
        failed[task.agent_id] = (task.id, context)

    def context_of(self, agent_id: str, task_id: int) -> SpanContext | None:
        """Return the span context of a task in flight or of the last failed one, if known."""
        here = self.in_flight.get(agent_id, {}).get(task_id)
        if here is not None:
            return here.span_context()
        last, context = self._failed.get(agent_id, (0, None))
        return context if task_id in (0, last) else None

    def event(self, event: Event) -> None:
        """Tell one change of state."""
        kind, agent_id = event.kind, event.agent_id
        at = int(event.at * 1e9)
        open_ = self._open.get(agent_id)
        spans = self._concerned(event)
        if kind is EventKind.AGENT_REMOVED:
            self._failed.pop(agent_id, None)
        if not spans and open_ is None and kind not in _OPENING:
            return
        facts = self._facts(event)
        for span in spans:
            span.add_event(kind.value, facts, at)
        if kind is EventKind.LAPSED:
            if open_ is not None:
                self._close(agent_id, open_, at, "lapsed")
            self._begin(f"recover_agent {agent_id}", event, facts, at)
        elif kind is EventKind.TASK_HUNG:
            self._hang(event, facts, at)
        elif open_ is not None:
            self._go_on(open_, event, facts, at)
        elif kind is EventKind.STARTING and event.data.get("cause") == "command":
            self._begin(f"start_agent {agent_id}", event, facts, at)

    def _go_on(self, span: Span, event: Event, facts: dict[str, AttributeValue], at: int) -> None:
        kind = event.kind
        if kind in _IN_RECOVERY:
            span.add_event(kind.value, facts, at)
        elif kind is EventKind.VERIFIED:
            span.add_event(kind.value, facts, at)
            self._close(event.agent_id, span, at)
        elif kind in _GIVEN_UP:
            span.add_event(kind.value, facts, at)
            self._close(event.agent_id, span, at, kind.value)

    def _concerned(self, event: Event) -> tuple[Span, ...]:
        mine = self.in_flight.get(event.agent_id)
        if not mine:
            return ()
        if event.task_id:
            here = mine.get(event.task_id)
            return () if here is None else (here.spanned(),)
        if event.kind not in _ON_TASKS:
            return ()
        return tuple([here.spanned() for here in values_of(mine)])

    def _facts(self, event: Event) -> dict[str, AttributeValue]:
        facts: dict[str, AttributeValue] = {AGENT_ID: event.agent_id}
        if event.generation:
            facts[GENERATION] = event.generation
        if event.task_id:
            facts[TASK_ID] = event.task_id
        for key, value in event.data.items():
            if key not in _FACTS and not (self._messages and key in _MESSAGES):
                continue
            name = ERROR_TYPE if key == "error_type" else f"fleetmon.{key}"
            if isinstance(value, str):
                facts[name] = value[:_TEXT]
            elif isinstance(value, bool | int | float):
                facts[name] = value
            elif value is not None:
                facts[name] = str(value)[:_TEXT]
        return facts

    def _begin(
        self, name: str, event: Event, facts: dict[str, AttributeValue], at: int
    ) -> Span | None:
        span = self._start(name, facts, self._links(event), at)
        if span is not None and span.is_recording():
            self._open[event.agent_id] = span
        return span

    def _hang(self, event: Event, facts: dict[str, AttributeValue], at: int) -> None:
        hung = self.in_flight.get(event.agent_id, {}).get(event.task_id)
        if hung is not None:  # it may be abandoned, and then the recovery comes before its end
            self._failed[event.agent_id] = (event.task_id, hung.span_context())
        seconds = event.data.get("seconds")
        since = at - int(seconds * 1e9) if isinstance(seconds, int | float) else at
        span = self._start(f"task_hung {event.agent_id}", facts, self._links(event), since)
        if span is not None and span.is_recording():
            span.set_attribute(ERROR_TYPE, "hang")
            span.set_status(StatusCode.ERROR, "hang")
            span.end(at)

    def _links(self, event: Event) -> list[Link]:
        found = linked(event.data) or self.context_of(event.agent_id, event.task_id)
        return [] if found is None else [Link(found)]

    def _close(self, agent_id: str, span: Span, at: int, error: str = "") -> None:
        self._open.pop(agent_id, None)
        if error:
            span.set_status(StatusCode.ERROR, error)
        span.end(at)


_OPENING = frozenset({EventKind.LAPSED, EventKind.STARTING, EventKind.TASK_HUNG})


def linked(data: Mapping[str, Any]) -> SpanContext | None:
    """Return the context that an event names itself, in ``trace_id`` and ``span_id`` (hex)."""
    try:
        trace_id, span_id = int(data["trace_id"], 16), int(data["span_id"], 16)
    except (KeyError, TypeError, ValueError):
        return None
    flags = TraceFlags(TraceFlags.SAMPLED if data.get("sampled") else TraceFlags.DEFAULT)
    found = SpanContext(trace_id, span_id, is_remote=False, trace_flags=flags)
    return found if found.is_valid else None


def place(error: BaseException) -> dict[str, AttributeValue]:
    """Return type and innermost place of an exception: nothing that could quote a payload."""
    facts: dict[str, AttributeValue] = {"exception.type": type_of(error)[:_TEXT]}
    step = error.__traceback__
    if step is not None:
        while step.tb_next is not None:
            step = step.tb_next
        code = step.tb_frame.f_code
        facts["code.file.path"] = code.co_filename
        facts["code.line.number"] = step.tb_lineno
        facts["code.function.name"] = code.co_qualname
    return facts
