"""Recorded spans cast from one that the SDK made, at a fraction of the cost of making each anew.

Of the SDK's price for a span, most goes into working out again what is the same for every span of
a tracer, and into checking attributes that we know to be plain strings and numbers. A mold copies
the fields of a specimen and replaces those that belong to one span alone. That is private
territory, so :func:`mold_of` first checks that the specimen consists of exactly the fields that
this was written for and that a cast equals an original; if not, it returns ``None`` and spans are
started in the SDK's ordinary way.

There are two casts: a span that is to be started, for a task whose span somebody asks for, and the
record of a span that has ended, which is all that processors get in the end.
"""

from __future__ import annotations

import copy
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SynchronousMultiSpanProcessor, Tracer
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import SpanContext, SpanKind

if TYPE_CHECKING:
    from fleetmon.telemetry.current import Sampled

_new = object.__new__
# Fields of one span alone; every other field of the specimen is shared.
_OWN = frozenset({"_name", "_context", "_parent", "_attributes", "_events", "_links", "_lock"})
_SHARED = frozenset(
    {
        "_kind",
        "_instrumentation_info",
        "_instrumentation_scope",
        "_start_time",
        "_end_time",
        "_resource",
        "_status",
        "_sampler",
        "_trace_config",
        "_record_exception",
        "_set_status_on_exception",
        "_span_processor",
        "_limits",
        "_record_end_metrics",
    }
)
# The same of the record of an ended span.
_TOLD_OWN = frozenset({"_name", "_context", "_parent", "_attributes", "_start_time", "_end_time"})
_TOLD_SHARED = frozenset(
    {
        "_kind",
        "_instrumentation_info",
        "_instrumentation_scope",
        "_events",
        "_links",
        "_resource",
        "_status",
    }
)
_ATTRIBUTES = frozenset({"_dict", "maxlen", "dropped", "max_value_len", "_lock", "_immutable"})
_ROOM = 16  # attributes that a span must be allowed for none of ours to be dropped


class Mold:
    """Casts spans for one tracer."""

    def __init__(self, specimen: Span, told: ReadableSpan, tracer: Tracer) -> None:
        self._class = type(specimen)
        fields = vars(specimen)
        self._told = dict(vars(told))
        self._told["_events"] = self._told["_links"] = ()  # nobody has asked, so nobody has added
        self._fields = {name: fields[name] for name in _SHARED}
        self._fields["_sampler"] = tracer.sampler
        self._fields["_span_processor"] = tracer.span_processor
        limits = fields["_limits"]
        self._events = limits.max_events
        self._links = limits.max_links
        attributes = vars(fields["_attributes"])
        self._attributes = {n: attributes[n] for n in ("maxlen", "dropped", "max_value_len")}

    def cast(
        self,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        attributes: dict[str, Any],
    ) -> Span:
        """Return a span that is not started yet; the caller gives ``attributes`` away."""
        kept = _new(BoundedAttributes)
        kept.__dict__ = {
            **self._attributes,
            "_dict": attributes,
            "_lock": threading.Lock(),
            "_immutable": False,
        }
        span: Span = _new(self._class)
        span.__dict__ = {
            **self._fields,
            "_name": name,
            "_context": context,
            "_parent": parent,
            "_attributes": kept,
            "_events": BoundedList(self._events),
            "_links": BoundedList(self._links),
            "_lock": threading.Lock(),
        }
        return span

    def tell(
        self, name: str, context: SpanContext, here: Sampled, ended: int | None
    ) -> ReadableSpan:
        """Return the record of a span that began as ``here`` says and has ended by now."""
        told: ReadableSpan = _new(ReadableSpan)
        # A copy of a whole dictionary is one of memory; one that is put together hashes every key.
        told.__dict__ = fields = self._told.copy()
        fields["_name"] = name
        fields["_context"] = context
        fields["_parent"] = here.parent
        fields["_attributes"] = here.attributes
        fields["_start_time"] = here.began
        fields["_end_time"] = ended
        return told


def context_of(trace_id: int, span_id: int, flags: Any, state: Any) -> SpanContext:
    """Return a valid local span context, without the checks that its constructor makes."""
    return tuple.__new__(SpanContext, (trace_id, span_id, False, flags, state, True))


def mold_of(tracer: Tracer) -> Mold | None:
    """Return a mold for the spans of ``tracer``, or ``None`` where casting would not be faithful.

    Besides an SDK of another build, these are limits that could touch our attributes, a scope that
    is switched off, and the SDK's metrics about itself, which count at every start.
    """
    try:
        return _mold(tracer)
    except Exception:  # noqa: BLE001 - whatever has changed in the SDK, its ordinary way is there
        return None


def _mold(tracer: Tracer) -> Mold | None:
    if type(vars(tracer)["_tracer_metrics"]).__name__ != "NoOpTracerMetrics":
        return None
    workshop = copy.copy(tracer)
    workshop.sampler = ALWAYS_ON
    workshop.id_generator = RandomIdGenerator()
    workshop.span_processor = SynchronousMultiSpanProcessor()  # type: ignore[no-untyped-call] # of nobody
    attributes: dict[str, Any] = {"text": "b", "number": 1}
    specimen = workshop.start_span("x", Context(), SpanKind.INTERNAL, attributes, start_time=1)
    if not isinstance(specimen, Span):  # the scope is switched off
        return None
    fields = vars(specimen)
    kept = fields["_attributes"]
    told = specimen._readable_span()  # noqa: SLF001 - as above
    own = specimen.get_span_context()
    if (
        fields.keys() != _OWN | _SHARED
        or vars(kept).keys() != _ATTRIBUTES
        or vars(told).keys() != _TOLD_OWN | _TOLD_SHARED
        or context_of(own.trace_id, own.span_id, own.trace_flags, own.trace_state) != own
    ):
        return None
    if kept.max_value_len is not None or not (kept.maxlen is None or kept.maxlen >= _ROOM):
        return None
    fields["_start_time"] = None
    mold = Mold(specimen, told, tracer)
    here = _Like(None, attributes, 1)
    if mold.tell("x", own, here, None).to_json() != told.to_json():  # type: ignore[arg-type]
        return None
    cast = mold.cast("x", specimen.get_span_context(), None, attributes)
    cast.start(1)
    specimen.start(1)
    for span in (cast, specimen):
        span.add_event("e", {"k": "v"}, 2)
        span.set_attribute("late", 1)
    same = cast.to_json() == specimen.to_json() and vars(cast).keys() == fields.keys()
    return mold if same else None


class _Like(NamedTuple):
    parent: None
    attributes: dict[str, Any]
    began: int
