"""Spans beside those of tasks: the host's own within a task, and roots for incidents."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from opentelemetry.context.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode

from fleetmon.telemetry.conventions import ERROR_TYPE, EXECUTE_TOOL, OPERATION, TOOL_NAME
from fleetmon.telemetry.incidents import place
from fleetmon.telemetry.render import message_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.trace import Link, Tracer
    from opentelemetry.util.types import AttributeValue

    from fleetmon.telemetry.sampling import SdkSpans


class HostSpans:
    """Starts spans through a tracer, and says on them what went wrong.

    Attributes:
        messages: whether messages of exceptions are put into spans, at most 500 characters each.
    """

    messages: bool
    _tracer: Tracer
    _sdk: SdkSpans | None
    _void: bool

    @contextmanager
    def span(self, name: str, /, **attributes: AttributeValue) -> Iterator[Span]:
        """Trace a block as a child of the current task: ``with tracer.span("ryot_inference"):``.

        An exception marks the span as failed and goes on; a cancel does not mark it.
        """
        with self._tracer.start_as_current_span(
            name, attributes=attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield span
            except Exception as error:
                self._blame(span, type(error).__qualname__, error)
                raise

    @contextmanager
    def tool(self, name: str, /, **attributes: AttributeValue) -> Iterator[Span]:
        """Trace the call of a tool: a span ``execute_tool {name}``, otherwise as :meth:`span`."""
        conventions: dict[str, Any] = {OPERATION: EXECUTE_TOOL, TOOL_NAME: name}
        with self.span(f"{EXECUTE_TOOL} {name}", **conventions, **attributes) as span:
            yield span

    def _start_own(
        self, name: str, attributes: dict[str, Any], links: list[Link], start_time: int
    ) -> Span | None:
        """Start a root span beside the tasks; ``None`` if the sampler drops it."""
        context = Context()
        sdk = self._sdk
        if self._void:
            return None
        if sdk is None:
            return self._tracer.start_span(
                name, context, SpanKind.INTERNAL, attributes, links, start_time
            )
        trace_id = sdk.generator.generate_trace_id()
        result = sdk.decide(context, None, trace_id, name, attributes, links)
        if result.decision is sdk.dropped:
            return None
        span_id = sdk.generator.generate_span_id()
        return sdk.start(
            name, context, trace_id, span_id, result, links=links, start_time=start_time
        )

    def _blame(self, span: Span, error_type: str, error: BaseException | None) -> None:
        span.set_attribute(ERROR_TYPE, error_type)
        description = error_type
        if error is not None:
            event = place(error)
            if self.messages:
                event["exception.message"] = description = message_of(error)
            span.add_event("exception", event)
        span.set_status(StatusCode.ERROR, description)
