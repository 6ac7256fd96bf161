"""Which span is the parent: of tasks, in threads and processes, and when one has ended."""

from __future__ import annotations

import asyncio
import contextvars
import subprocess
import sys
import threading

import pytest
from helpers_spans import SECRET, current, make_task, rig
from opentelemetry import trace
from opentelemetry.baggage import get_baggage, set_baggage
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, TraceIdRatioBased

from fleetmon.telemetry.propagation import adopt, adopted, carrier, extract, inject
from fleetmon.telemetry.tracing import OTelTracer

pytestmark = pytest.mark.usefixtures("clean_context")


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
