"""Failures, hangs and recoveries in spans: by type and place, linked to their task."""

from __future__ import annotations

import pytest
from helpers_spans import SECRET, make_event, make_task, rig
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult

from fleetmon.events import EventKind
from fleetmon.numbers import CANCELLED, FAILED
from fleetmon.telemetry.tracing import OTelTracer

pytestmark = pytest.mark.usefixtures("clean_context")


def failure(message):
    try:
        raise ValueError(message)  # noqa: TRY301 - to have a traceback
    except ValueError as error:
        return error


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


def test_memory_of_failed_tasks_and_of_spans_in_flight_is_bounded(monkeypatch):
    monkeypatch.setattr("fleetmon.telemetry.incidents._AGENTS", 5)
    tracer = OTelTracer(rig()[0])
    for number in range(20):
        task = make_task(number, f"agent-{number}", outcome=FAILED)
        tracer.begin(task)
        tracer.end(task)
    assert len(tracer._incidents._failed) == 5
    assert not any(tracer._in_flight.values())
