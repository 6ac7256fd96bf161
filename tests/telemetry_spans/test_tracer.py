from __future__ import annotations

import asyncio
import contextvars
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.baggage import get_baggage, set_baggage
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
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

from fleetmon.events import Event, EventKind
from fleetmon.hooks import Identified
from fleetmon.numbers import CANCELLED, FAILED, SUCCEEDED
from fleetmon.telemetry.propagation import adopt, adopted, carrier, extract, inject
from fleetmon.telemetry.sampling import ALWAYS, Bounds, bounds_of
from fleetmon.telemetry.tracing import OTelTracer

SECRET = "PAYLOAD-7f3a"


class FakeTask(SimpleNamespace, Identified):
    pass


def make_task(task_id=1, agent_id="APEX", **fields):
    base = {
        "id": task_id,
        "agent_id": agent_id,
        "task_type": "review",
        "generation": 3,
        "attempt": 1,
        "parent": None,
        "origin": None,
        "started_at": 1.0,
        "ended_at": 1.5,
        "outcome": SUCCEEDED,
        "error_type": "",
        "error": None,
        "sampled": False,
        "span": None,
    }
    return FakeTask(**(base | fields))


def rig(sampler=ALWAYS_ON, **options):
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False, **options)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider, exporter


def current():
    return trace.get_current_span().get_span_context()


def make_event(kind, *, agent_id="APEX", task_id=0, at=100.0, **data):
    return Event(1, at, 5.0, kind, agent_id, 3, task_id, data)


def failure(message):
    try:
        raise ValueError(message)  # noqa: TRY301 - to have a traceback
    except ValueError as error:
        return error


@pytest.fixture(autouse=True)
def clean_context():
    token = otel_context.attach(otel_context.Context())
    yield
    assert not otel_context.get_current(), "a test left a span current"
    otel_context.detach(token)


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


@pytest.mark.parametrize("flag", [0, 1])
@pytest.mark.parametrize("remote", [True, False])
def test_decision_and_ids_of_a_parent_are_kept(flag, remote):
    provider, exporter = rig(ParentBased(TraceIdRatioBased(0.5)))
    state = trace.TraceState([("vendor", "x")])
    parent = trace.SpanContext(0xABC, 0xDEF, remote, trace.TraceFlags(flag), state)
    origin = trace.set_span_in_context(trace.NonRecordingSpan(parent))
    origin = set_baggage("user", "u1", origin)
    tracer, task = OTelTracer(provider), make_task(origin=origin)
    tracer.begin(task)
    assert (task.trace_id, task.sampled) == (0xABC, bool(flag))
    assert current().trace_state == state
    assert current().trace_flags & 1 == flag
    assert get_baggage("user") == "u1"
    headers = {}
    inject(headers)
    assert headers["traceparent"] == f"00-{0xABC:032x}-{task.span_id:016x}-0{flag}"
    tracer.end(task)
    spans = exporter.get_finished_spans()
    assert len(spans) == flag
    assert all(span.parent == parent for span in spans)


@pytest.mark.parametrize(("ratio", "count"), [(0, 0), (1, 3)])
def test_tasks_of_agents_that_call_agents_share_a_trace_and_nest(ratio, count):
    provider, exporter = rig(ParentBased(TraceIdRatioBased(ratio)))
    tracer = OTelTracer(provider)
    outer, inner, again = make_task(1), make_task(2, "TENSOR"), make_task(3)
    tracer.begin(outer)
    tracer.begin(inner)
    tracer.begin(again)
    tracer.end(again)
    tracer.end(inner)
    assert current().span_id == outer.span_id
    tracer.end(outer)
    assert len({outer.trace_id, inner.trace_id, again.trace_id}) == 1
    assert len({outer.span_id, inner.span_id, again.span_id}) == 3
    spans = {span.context.span_id: span for span in exporter.get_finished_spans()}
    assert len(spans) == count
    if count:
        assert spans[again.span_id].parent.span_id == inner.span_id
        assert spans[inner.span_id].parent.span_id == outer.span_id


def test_host_span_is_the_parent_and_host_children_follow_an_unsampled_task():
    provider, exporter = rig(ParentBased(TraceIdRatioBased(0)))
    tracer, task, host = OTelTracer(provider), make_task(), provider.get_tracer("host")
    tracer.begin(task)
    with host.start_as_current_span("httpx") as child:
        assert child.get_span_context().trace_id == task.trace_id
        assert not child.is_recording()
    tracer.end(task)
    on, exporter_on = rig()
    with on.get_tracer("host").start_as_current_span("request") as request:
        tracer_on = OTelTracer(on)
        tracer_on.begin(task)
        tracer_on.end(task)
        assert trace.get_current_span() is request
    mine, _ = exporter_on.get_finished_spans()
    assert mine.parent == request.get_span_context()
    assert not exporter.get_finished_spans()


@pytest.mark.parametrize("sampler", [ALWAYS_ON, ALWAYS_OFF])
def test_enclosing_task_is_the_parent_in_a_thread_that_inherited_no_context(sampler):
    provider, _ = rig(ParentBased(sampler))
    tracer, outer = OTelTracer(provider), make_task(1)
    inner = make_task(2, parent=outer)
    tracer.begin(outer)

    def work():
        tracer.begin(inner)
        tracer.end(inner)

    thread = (
        threading.Thread(target=work, context=None)
        if sys.version_info >= (3, 14)
        else threading.Thread(target=work)
    )
    thread.start()
    thread.join()
    tracer.end(outer)
    assert inner.trace_id == outer.trace_id
    assert inner.span_id != outer.span_id


def test_mailbox_work_submitted_without_a_span_is_a_root_whatever_the_body_inherited():
    provider, exporter = rig()
    tracer = OTelTracer(provider)
    task = make_task(origin=tracer.capture())
    with provider.get_tracer("host").start_as_current_span("startup") as startup:
        tracer.begin(task)
        tracer.end(task)
        assert trace.get_current_span() is startup
    assert exporter.get_finished_spans()[0].parent is None


@pytest.mark.parametrize("sampler", [ALWAYS_ON, ALWAYS_OFF])
def test_ending_in_another_context_is_quiet_and_leaves_no_stale_parent(sampler, caplog):
    provider, exporter = rig(ParentBased(sampler))
    tracer, task, later = OTelTracer(provider), make_task(1), make_task(2)
    copied = contextvars.copy_context()
    copied.run(tracer.begin, task)
    inside = copied.run(contextvars.copy_context)
    thread = threading.Thread(target=tracer.end, args=(task,))
    thread.start()
    thread.join()
    tracer.end(task)  # twice does no harm
    copied.run(tracer.begin, later)
    copied.run(tracer.end, later)
    assert later.trace_id != task.trace_id
    inside.run(tracer.begin, later)
    inside.run(tracer.end, later)
    assert later.trace_id != task.trace_id
    assert not caplog.records
    for span in exporter.get_finished_spans():
        assert span.parent is None


@pytest.mark.parametrize("sampler", [ALWAYS_ON, ALWAYS_OFF])
def test_tasks_that_end_out_of_order_restore_the_outer_context(sampler, caplog):
    tracer = OTelTracer(rig(ParentBased(sampler))[0])
    first, second, third = make_task(1), make_task(2), make_task(3)
    tracer.begin(first)
    tracer.begin(second)
    tracer.end(first)
    assert current().span_id == second.span_id
    tracer.end(second)
    tracer.begin(third)
    assert third.trace_id != first.trace_id
    tracer.end(third)
    assert not caplog.records


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_tasks_in_concurrent_asyncio_tasks_do_not_see_each_other():
    provider, exporter = rig()
    tracer, gate = OTelTracer(provider), asyncio.Event()

    async def one(number):
        task = make_task(number)
        tracer.begin(task)
        await gate.wait()
        assert current().span_id == task.span_id
        tracer.end(task)
        assert not current().is_valid
        return task.trace_id

    work = [asyncio.create_task(one(n)) for n in range(20)]
    await asyncio.sleep(0)
    gate.set()
    assert len(set(await asyncio.gather(*work))) == 20
    assert len(exporter.get_finished_spans()) == 20


def test_failure_is_told_by_type_and_place_and_never_by_its_message():
    provider, exporter = rig()
    tracer = OTelTracer(provider)
    task = make_task(payload=SECRET, result=SECRET)
    tracer.begin(task)
    task.outcome, task.error_type, task.error = FAILED, "permanent", failure(SECRET)
    tracer.event(make_event(EventKind.LAPSED, reason="task", error=SECRET, error_type="crash"))
    tracer.end(task)
    tracer.event(make_event(EventKind.VERIFIED, by="probe"))
    span, recovery = exporter.get_finished_spans()
    assert SECRET not in span.to_json() + recovery.to_json()
    assert span.attributes["error.type"] == "permanent"
    assert span.attributes["fleetmon.outcome"] == "failed"
    assert span.status.status_code is trace.StatusCode.ERROR
    lapsed, exception = span.events
    assert lapsed.name == "lapsed"
    assert exception.attributes["exception.type"] == "ValueError"
    assert exception.attributes["code.function.name"] == "failure"

    switched_on = OTelTracer(provider, messages=True)
    switched_on.begin(task)
    task.error = failure("x" * 10_000)
    switched_on.end(task)
    message = exporter.get_finished_spans()[-1].events[0].attributes["exception.message"]
    assert 400 < len(message) <= 500


def test_cancelled_task_is_no_error():
    provider, exporter = rig()
    tracer, task = OTelTracer(provider), make_task(outcome=CANCELLED)
    tracer.begin(task)
    tracer.end(task)
    (span,) = exporter.get_finished_spans()
    assert span.attributes["fleetmon.outcome"] == "cancelled"
    assert span.status.status_code is trace.StatusCode.UNSET
    assert "error.type" not in span.attributes


def test_hang_and_recovery_are_span_events_and_spans_linked_to_the_task():
    provider, exporter = rig()
    tracer, task = OTelTracer(provider), make_task(7)
    tracer.begin(task)
    tracer.event(make_event(EventKind.TASK_HUNG, task_id=7, seconds=30.0, limit="hard"))
    tracer.end(task)
    tracer.event(make_event(EventKind.LAPSED, at=101.0, reason="hang"))
    for at, kind in enumerate((EventKind.BACKING_OFF, EventKind.STARTING, EventKind.STARTED), 102):
        tracer.event(make_event(kind, at=float(at)))
    tracer.event(make_event(EventKind.VERIFIED, at=105.0, by="probe"))
    hung, span, recovery = exporter.get_finished_spans()
    assert [event.name for event in span.events] == ["task_hung"]
    assert (hung.name, recovery.name) == ("task_hung APEX", "recover_agent APEX")
    assert (hung.start_time, hung.end_time) == (70 * 10**9, 100 * 10**9)
    assert (recovery.start_time, recovery.end_time) == (101 * 10**9, 105 * 10**9)
    assert [e.name for e in recovery.events] == ["backing_off", "starting", "started", "verified"]
    for own in (hung, recovery):
        assert own.links[0].context.span_id == task.span_id
        assert own.context.trace_id != task.trace_id
    assert recovery.status.status_code is trace.StatusCode.UNSET


def test_recovery_that_is_given_up_is_an_error_and_links_to_an_unsampled_task_as_well():
    class RecoveriesOnly(Sampler):
        def should_sample(self, parent_context, trace_id, name, *rest):
            keep = not name.startswith("invoke_agent")
            return SamplingResult(Decision.RECORD_AND_SAMPLE if keep else Decision.DROP)

        def get_description(self):
            return "recoveries only"

    provider, exporter = rig(RecoveriesOnly())
    tracer, task = OTelTracer(provider), make_task(9, outcome=FAILED)
    tracer.begin(task)
    assert not task.sampled
    tracer.end(task)
    assert tracer.ids("APEX", 9) == (task.trace_id, task.span_id)
    tracer.event(make_event(EventKind.LAPSED, task_id=9))
    tracer.event(make_event(EventKind.LAPSED, trace_id="ab", span_id="cd"))
    tracer.event(make_event(EventKind.QUARANTINED, reason="storm"))
    again, given_up = exporter.get_finished_spans()
    assert again.links[0].context.trace_id == task.trace_id
    assert given_up.links[0].context.trace_id == 0xAB
    assert given_up.status.description == "quarantined"
    assert again.status.status_code is trace.StatusCode.ERROR


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


def test_custom_spans_and_tools_are_children_and_blame_without_the_message():
    provider, exporter = rig()
    tracer, task = OTelTracer(provider), make_task()
    tracer.begin(task)
    with pytest.raises(ValueError), tracer.span("ryot_inference", model="m"):
        raise ValueError(SECRET)
    with tracer.tool("search") as tool:
        tool.set_attribute("hits", 3)
    tracer.end(task)
    custom, tool, _ = exporter.get_finished_spans()
    assert custom.parent.span_id == tool.parent.span_id == task.span_id
    assert custom.attributes == {"model": "m", "error.type": "ValueError"}
    assert tool.name == "execute_tool search"
    assert tool.attributes["gen_ai.tool.name"] == "search"
    assert SECRET not in custom.to_json()


def test_context_travels_by_headers_and_by_a_pickled_carrier():
    tracer = OTelTracer(rig()[0])
    task = make_task()
    tracer.begin(task)
    packed, headers = carrier(task), {}
    inject(headers)
    tracer.end(task)
    away = carrier(task)  # no longer current
    for context in (adopt(packed), adopt(away), extract({"Traceparent": headers["traceparent"]})):
        found = trace.get_current_span(context).get_span_context()
        assert (found.trace_id, found.span_id) == (task.trace_id, task.span_id)
        assert found.trace_flags & 1
        assert found.is_remote
    code = (
        "import sys; from fleetmon.telemetry.propagation import adopted\n"
        "from opentelemetry import trace\n"
        "with adopted(eval(sys.argv[1])):\n"
        "    print(trace.get_current_span().get_span_context().span_id)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, repr(packed)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) == task.span_id
    with adopted(packed):
        assert current().span_id == task.span_id
    assert (
        not trace.get_current_span(extract({"traceparent": "nonsense"})).get_span_context().is_valid
    )


def test_memory_of_failed_tasks_and_of_spans_in_flight_is_bounded(monkeypatch):
    monkeypatch.setattr("fleetmon.telemetry.incidents._AGENTS", 5)
    tracer = OTelTracer(rig()[0])
    for number in range(20):
        task = make_task(number, f"agent-{number}", outcome=FAILED)
        tracer.begin(task)
        tracer.end(task)
    assert len(tracer._incidents._failed) == 5
    assert not any(tracer._in_flight.values())
