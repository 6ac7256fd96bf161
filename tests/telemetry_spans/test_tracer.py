"""A task becomes a span: its attributes, its ids, and whether it is sampled."""

from __future__ import annotations

import pytest
from helpers_spans import current, make_event, make_task, rig
from opentelemetry import trace
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)

from fleetmon.events import EventKind
from fleetmon.telemetry.sampling import ALWAYS, Bounds, bounds_of
from fleetmon.telemetry.tracing import OTelTracer

pytestmark = pytest.mark.usefixtures("clean_context")


def test_task_becomes_a_root_span_by_the_conventions_with_attributes_set_at_creation():
    seen = []

    class Spy(Sampler):
        def should_sample(self, *asked):
            attributes = asked[4]
            seen.append(asked)
            return SamplingResult(Decision.RECORD_AND_SAMPLE, {**attributes, "by": "spy"})

        def get_description(self):
            return "spy"

    provider, exporter = rig(Spy())
    tracer, task = OTelTracer(provider), make_task()
    tracer.begin(task)
    assert current().span_id == task.span_id
    tracer.end(task)
    (span,) = exporter.get_finished_spans()
    assert (span.name, span.kind, span.parent) == (
        "invoke_agent APEX",
        trace.SpanKind.INTERNAL,
        None,
    )
    assert dict(span.attributes) == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.provider.name": "fleetmon",
        "gen_ai.agent.id": "APEX",
        "gen_ai.agent.name": "APEX",
        "fleetmon.task_type": "review",
        "fleetmon.task_id": 1,
        "fleetmon.generation": 3,
        "fleetmon.attempt": 1,
        "by": "spy",
    }
    assert span.status.status_code is trace.StatusCode.UNSET
    ((context, trace_id, name, kind, attributes, _),) = seen  # asked once, with everything
    assert (trace_id, name, kind) == (task.trace_id, span.name, span.kind)
    assert attributes["fleetmon.task_id"] == 1
    assert context == {}
    assert (span.context.trace_id, span.context.span_id) == (task.trace_id, task.span_id)
    assert task.sampled
    assert span.context.trace_flags & 1
    assert span.instrumentation_scope.name == "fleetmon"


def test_one_in_ten_of_many_roots_is_sampled_and_every_task_has_ids_of_its_own():
    provider, exporter = rig(ParentBased(TraceIdRatioBased(0.1)))
    tracer, ids, sampled = OTelTracer(provider), set(), 0
    for _ in range(10_000):
        task = make_task()
        tracer.begin(task)
        assert bool(current().trace_flags & 1) == task.sampled
        assert (current().trace_id, current().span_id) == (task.trace_id, task.span_id)
        tracer.end(task)
        ids.add((task.trace_id, task.span_id))
        sampled += task.sampled
        below = task.trace_id & ((1 << 64) - 1) < TraceIdRatioBased(0.1).bound
        assert below == task.sampled
    assert len(ids) == 10_000
    assert all(trace_id and span_id for trace_id, span_id in ids)
    assert sampled == len(exporter.get_finished_spans())
    assert 880 <= sampled <= 1120


def test_custom_id_generator_is_used_for_sampled_and_unsampled_tasks():
    class Counting(RandomIdGenerator):
        trace_ids = 0

        def generate_trace_id(self):
            self.trace_ids += 1
            return (0xFACE << 64) | super().generate_trace_id() & (2**64 - 1)

        def is_trace_id_random(self):
            return False

    for sampler in (ALWAYS_ON, ALWAYS_OFF):
        generator = Counting()
        provider, _ = rig(sampler, id_generator=generator)
        tracer, task = OTelTracer(provider), make_task()
        tracer.begin(task)
        flags = current().trace_flags
        tracer.end(task)
        assert task.trace_id >> 64 == 0xFACE
        assert generator.trace_ids == 1
        assert flags == (1 if sampler is ALWAYS_ON else 0)


def test_record_only_spans_are_processed_yet_not_sampled():
    class RecordOnly(Sampler):
        def should_sample(self, *args, **kwargs):
            return SamplingResult(Decision.RECORD_ONLY)

        def get_description(self):
            return "record only"

    tracer, task = OTelTracer(rig(RecordOnly())[0]), make_task()
    tracer.begin(task)
    assert trace.get_current_span().is_recording()
    assert not task.sampled
    tracer.end(task)


def test_only_the_sdk_s_own_samplers_are_foreseen():
    class Mine(TraceIdRatioBased):
        pass

    half = TraceIdRatioBased(0.5).bound
    expected = Bounds(half, ALWAYS, 0, ALWAYS, 0)
    assert bounds_of(ParentBased(TraceIdRatioBased(0.5))) == expected
    assert bounds_of(ParentBased(ALWAYS_ON, local_parent_not_sampled=TraceIdRatioBased(0.5))) == (
        Bounds(ALWAYS, ALWAYS, 0, ALWAYS, half)
    )
    assert bounds_of(ALWAYS_OFF) == Bounds(0, 0, 0, 0, 0)
    assert bounds_of(Mine(0.5)) is None
    assert bounds_of(ParentBased(Mine(0.5))) is None


@pytest.mark.parametrize("provider", [trace.NoOpTracerProvider(), None])
def test_without_an_sdk_every_task_still_has_a_trace_id(provider):
    tracer, task, inner = OTelTracer(provider), make_task(), make_task(2)
    tracer.begin(task)
    tracer.begin(inner)
    assert current().span_id == inner.span_id
    tracer.event(make_event(EventKind.LAPSED))
    tracer.end(inner)
    tracer.end(task)
    assert task.trace_id
    assert inner.trace_id == task.trace_id
    assert not task.sampled


def test_provider_that_is_not_the_sdk_decides_by_itself():
    real, exporter = rig()

    class Foreign(trace.TracerProvider):
        def get_tracer(self, *args, **kwargs):
            inner = real.get_tracer("inner")

            class Tracer(trace.Tracer):
                start_span = staticmethod(inner.start_span)
                start_as_current_span = staticmethod(inner.start_as_current_span)

            return Tracer()

    tracer, task = OTelTracer(Foreign()), make_task()
    tracer.begin(task)
    tracer.end(task)
    (span,) = exporter.get_finished_spans()
    assert span.context.span_id == task.span_id
    assert task.sampled
