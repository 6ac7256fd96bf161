"""Trace context across HTTP headers, threads and processes.

The host's propagator is used, which is W3C trace context and baggage unless ``OTEL_PROPAGATORS``
or the host says otherwise. Inside one process a context needs no carrier: ``OTelTracer.capture``
returns it as it is.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry import context as otel_context
from opentelemetry import propagate, trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, MutableMapping

    from opentelemetry.context import Context

    from fleetmon.hooks import TaskView

_W3C = TraceContextTextMapPropagator()


def inject(headers: MutableMapping[str, str], context: Context | None = None) -> None:
    """Write ``context`` (the current one by default) into the headers of a request."""
    propagate.inject(headers, context=context)


def extract(headers: Mapping[str, str]) -> Context:
    """Return the context that a caller sent in the headers of a request.

    Names are matched without regard to case, as HTTP has it. Headers that are missing or malformed
    give a context without a span, never an error.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    return propagate.extract(lower, context=otel_context.Context())


def carrier(task: TaskView | None = None) -> dict[str, str]:
    """Return a plain dictionary that pickles, to be given to :func:`adopt` in another process.

    Args:
        task: whose context is to travel; the current context when ``None``, or when the task has
            no ids.
    """
    packed: dict[str, str] = {}
    context = otel_context.get_current()
    if task is not None and task.trace_id:
        current = trace.get_current_span(context).get_span_context()
        if current.span_id != task.span_id:
            flags = trace.TraceFlags(trace.TraceFlags.SAMPLED if task.sampled else 0)
            span_context = trace.SpanContext(
                task.trace_id, task.span_id, is_remote=False, trace_flags=flags
            )
            context = trace.set_span_in_context(trace.NonRecordingSpan(span_context), context)
    _W3C.inject(packed, context=context)  # between our own two ends the format is ours to choose
    others: dict[str, str] = {}
    propagate.inject(others, context=context)
    return others | packed


def adopt(packed: Mapping[str, str]) -> Context:
    """Return the context packed by :func:`carrier`: an origin for tasks, or one to attach."""
    context = propagate.extract(packed, context=otel_context.Context())
    return _W3C.extract(packed, context=context)


@contextmanager
def adopted(packed: Mapping[str, str]) -> Iterator[Context]:
    """Make the context packed by :func:`carrier` current within the block."""
    context = adopt(packed)
    token = otel_context.attach(context)
    try:
        yield context
    finally:
        otel_context.detach(token)
