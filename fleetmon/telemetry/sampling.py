"""What a sampler of the OpenTelemetry SDK will say, worked out once instead of at every task.

The two samplers that nearly everybody uses, a ratio and a fixed answer, bare or below
``ParentBased``, decide by one comparison of the trace id with a bound. :func:`bounds_of` finds
those bounds; for anything else, subclasses included, it returns ``None`` and the sampler has to be
asked each time with everything it may want to know.
"""

from __future__ import annotations

import copy
import threading
from time import time_ns
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from opentelemetry.sdk.trace import SpanProcessor, SynchronousMultiSpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import (
    Decision,
    ParentBased,
    ParentBasedTraceIdRatio,
    Sampler,
    SamplingResult,
    StaticSampler,
    TraceIdRatioBased,
)
from opentelemetry.trace import SpanKind, TraceFlags, TraceState

from fleetmon.telemetry.conventions import AGENT_ID
from fleetmon.telemetry.mold import context_of, mold_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import Tracer
    from opentelemetry.trace import Link, Span, SpanContext
    from opentelemetry.util.types import Attributes

    from fleetmon.telemetry.current import Sampled

_ROOT = 32  # hex digits of the ids of a task that is its trace's root
LOW64 = (1 << 64) - 1
ALWAYS = 1 << 64
NO_STATE = TraceState.get_default()

_RATIO = TraceIdRatioBased.should_sample
_STATIC = StaticSampler.should_sample
_PARENT = ParentBased.should_sample
_DRAW_TRACE = RandomIdGenerator.generate_trace_id
_DRAW_SPAN = RandomIdGenerator.generate_span_id


# What it says on this build, so that the check of a flag that is set anyway can be left out.
_EMITS = BatchSpanProcessor.on_end.__code__.co_names == (
    "context",
    "trace_flags",
    "sampled",
    "_batch_processor",
    "emit",
)
_BATCH_ON_END = BatchSpanProcessor.on_end

_ON_START = {SpanProcessor.on_start, BatchSpanProcessor.on_start, SimpleSpanProcessor.on_start}
_ON_ENDING = {kind._on_ending for kind in (SpanProcessor, BatchSpanProcessor, SimpleSpanProcessor)}  # noqa: SLF001 - to see whether one is there


def _quiet(multi: object, processors: object) -> bool:
    if type(multi) is not SynchronousMultiSpanProcessor or not isinstance(processors, tuple):
        return False
    for processor in processors:
        kind = type(processor)
        if kind.on_start not in _ON_START or getattr(kind, "_on_ending", None) not in _ON_ENDING:
            return False
        if vars(processor).keys() & {"on_start", "_on_ending", "on_end"}:
            return False
    return True


def _taker(processor: Any) -> Callable[[Any], object]:
    """Return what a processor does with a span that ended and is sampled."""
    kind = type(processor)
    if kind is BatchSpanProcessor and kind.on_end is _BATCH_ON_END and _EMITS:
        return processor._batch_processor.emit  # type: ignore[no-any-return] # noqa: SLF001 - looked at above
    return processor.on_end  # type: ignore[no-any-return]


def _name(here: Sampled) -> str:
    return f"invoke_agent {here.attributes[AGENT_ID]}"


class Bounds(NamedTuple):
    """A trace is sampled when the low 64 bits of its id are below the bound for its parent.

    ``ALWAYS`` is above every id, 0 below: those are the fixed answers.
    """

    root: int
    remote_sampled: int
    remote_unsampled: int
    local_sampled: int
    local_unsampled: int


def bounds_of(sampler: object) -> Bounds | None:
    """Return the bounds by which ``sampler`` decides, or ``None`` if it has to be asked.

    Only the SDK's own classes count, exactly and unpatched: a subclass may decide otherwise.
    """
    kind = type(sampler)
    if kind in (ParentBased, ParentBasedTraceIdRatio) and kind.should_sample is _PARENT:
        # The SDK keeps the delegates private; a missing one only means that we ask every time.
        found = [
            _bound(getattr(sampler, name, None))
            for name in (
                "_root",
                "_remote_parent_sampled",
                "_remote_parent_not_sampled",
                "_local_parent_sampled",
                "_local_parent_not_sampled",
            )
        ]
        if None in found:
            return None
        return Bounds(*cast("list[int]", found))
    bound = _bound(sampler)
    return None if bound is None else Bounds(bound, bound, bound, bound, bound)


def _bound(sampler: object) -> int | None:
    kind = type(sampler)
    if kind is TraceIdRatioBased and kind.should_sample is _RATIO:
        ratio = cast("TraceIdRatioBased", sampler)
        return ratio.bound if ratio.TRACE_ID_LIMIT == LOW64 else None
    if kind is StaticSampler and kind.should_sample is _STATIC:
        decision = getattr(sampler, "_decision", None)
        if decision is Decision.DROP:
            return 0
        if decision is Decision.RECORD_AND_SAMPLE:
            return ALWAYS
    return None


class Decided(threading.local):
    """What was decided for the span that this thread is about to start."""

    trace_id: int = 0
    span_id: int = 0
    result: SamplingResult | None = None


class GivenIds(IdGenerator):
    """Hands the SDK the ids that the task already has."""

    def __init__(self, decided: Decided, *, random: bool) -> None:
        self._decided = decided
        self._random = random

    def generate_trace_id(self) -> int:
        """Return the id that was drawn for the sampling decision."""
        return self._decided.trace_id

    def generate_span_id(self) -> int:
        """Return the id that the task was given."""
        return self._decided.span_id

    def is_trace_id_random(self) -> bool:
        """Say what the provider's own generator says."""
        return self._random


class GivenDecision(Sampler):
    """Repeats a decision, so that the host's sampler is asked once a span and not twice."""

    def __init__(self, decided: Decided, sampler: Sampler) -> None:
        self._decided = decided
        self._sampler = sampler

    def should_sample(  # noqa: D102, PLR0917 - the signature is the SDK's
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        result, self._decided.result = self._decided.result, None
        if result is not None:
            return result
        return self._sampler.should_sample(
            parent_context, trace_id, name, kind, attributes, links, trace_state
        )

    def get_description(self) -> str:
        """Describe the host's sampler, which took the decision."""
        return self._sampler.get_description()


class SdkSpans:
    """Starts spans through a tracer of the SDK with ids and a decision that are already there.

    A copy of the host's tracer does it, with its public ``sampler`` and ``id_generator`` replaced
    by ones that repeat what was decided; resource, limits and processors stay the host's own.

    Attributes:
        bounds: see :func:`bounds_of`.
        generator: the provider's generator of ids.
        fast_ids: whether that is the SDK's own one, which draws from :mod:`random`.
        random: whether trace ids are random in the sense of the W3C's ``random-trace-id`` flag.
    """

    dropped = Decision.DROP

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self.bounds = bounds_of(tracer.sampler)
        self.generator = tracer.id_generator
        self.random = self.generator.is_trace_id_random()
        self.fast_ids = (
            type(self.generator) is RandomIdGenerator
            and RandomIdGenerator.generate_trace_id is _DRAW_TRACE
            and RandomIdGenerator.generate_span_id is _DRAW_SPAN
        )
        self._decided = Decided()
        self._copy()

    def _copy(self) -> None:
        ours = copy.copy(self._tracer)
        ours.sampler = GivenDecision(self._decided, self._tracer.sampler)
        ours.id_generator = GivenIds(self._decided, random=self.random)
        self._resource = self._tracer.resource
        self._processors: Any = None
        self._takers: list[Callable[[Any], object]] = []
        self._quiet = False
        self._mold = mold_of(self._tracer)
        self._start = ours.start_span

    def decide(  # noqa: PLR0917 - the order of should_sample
        self,
        context: Context,
        parent: SpanContext | None,
        trace_id: int,
        name: str,
        attributes: Attributes,
        links: Sequence[Link] | None = None,
    ) -> SamplingResult:
        """Return the sampler's decision, from the bounds where there are any."""
        bound = self.bound(parent)
        if bound is None:
            return self._tracer.sampler.should_sample(
                context, trace_id, name, SpanKind.INTERNAL, attributes, links
            )
        state = None if parent is None else parent.trace_state
        if trace_id & LOW64 < bound:
            return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes, state)
        return SamplingResult(Decision.DROP, None, state)

    def bound(self, parent: SpanContext | None) -> int | None:
        """Return the bound below which the low half of a trace id is sampled, if there is one."""
        bounds = self.bounds
        if bounds is None:
            return None
        if parent is None:
            return bounds.root
        flags = parent.trace_flags & TraceFlags.SAMPLED
        return bounds[(1 if flags else 2) if parent.is_remote else (3 if flags else 4)]

    def deferring(self) -> bool:
        """Whether a span may be made after its task has begun: nobody looks at it while it starts.

        That is so while every processor of the provider has the SDK's own ``on_start``, which do
        nothing. One may be added at any time, so this is to be asked for each span.
        """
        if self._tracer.resource is not self._resource:  # the SDK swaps it after a fork
            self._copy()
        if self._mold is None:
            return False
        processors = getattr(self._tracer.span_processor, "_span_processors", None)
        if processors is not self._processors:
            self._quiet = _quiet(self._tracer.span_processor, processors)
            self._processors = processors
            self._takers = [_taker(each) for each in processors or ()] if self._quiet else []
        return self._quiet

    def make(self, here: Sampled) -> Span:
        """Make the span of a task that has begun."""
        assert self._mold is not None  # noqa: S101 - or nothing would have been deferred
        span = self._mold.cast(
            _name(here), here.span_context(), here.parent, here.attributes.copy()
        )
        span.start(here.began, here.base)
        return span

    def tell(self, here: Sampled) -> None:
        """Hand the processors the record of a span that ends now and was never made."""
        assert self._mold is not None  # noqa: S101 - or nothing would have been deferred
        ids = here.ids
        if len(ids) == _ROOT:  # the first half is the span's as well
            trace_id = int(ids, 16)
            span_id = trace_id >> 64
        else:
            trace_id, span_id = int(ids[:32], 16), int(ids[32:], 16)
        own = context_of(trace_id, span_id, here.flags, here.state or NO_STATE)
        told = self._mold.tell(_name(here), own, here, time_ns())
        for take in self._takers:
            take(told)

    def start(
        self,
        name: str,
        context: Context,
        trace_id: int,
        span_id: int,
        result: SamplingResult,
        *,
        links: Sequence[Link] = (),
        start_time: int | None = None,
    ) -> Span:
        """Start a span for which ``result`` says that it is recorded."""
        if self._tracer.resource is not self._resource:  # the SDK swaps it after a fork
            self._copy()
        decided = self._decided
        decided.trace_id, decided.span_id, decided.result = trace_id, span_id, result
        return self._start(name, context, SpanKind.INTERNAL, result.attributes, links, start_time)
