from __future__ import annotations

import copy

import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context.context import Context
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from fleetmon.telemetry.current import KEY, Here, base_of
from fleetmon.telemetry.mold import mold_of


def make_here(**fields):
    here = dict.__new__(Here)
    here.ids, here.outer = f"{0xA:032x}{0xB:016x}", Context()
    for name, value in fields.items():
        setattr(here, name, value)
    return here


READERS = {
    "getitem": lambda c: c[KEY],
    "get": lambda c: c.get(KEY),
    "copy": lambda c: c.copy()[KEY],
    "dict": lambda c: dict(c)[KEY],
    "stars": lambda c: {**c}[KEY],
    "or": lambda c: (c | {})[KEY],
    "ror": lambda c: ({} | c)[KEY],
    "update": lambda c: updated({}, c)[KEY],
    "items": lambda c: dict(c.items())[KEY],
    "values": lambda c: next(iter(c.values())),
    "keys": lambda c: c[next(iter(c.keys()))],
    "iter": lambda c: c[next(iter(c))],
    "reversed": lambda c: c[next(reversed(c))],
    "shallow": lambda c: copy.copy(dict(c))[KEY],
    "set_value": lambda c: otel_context.set_value("k", 1, c)[KEY],
    "current": trace.get_current_span,
}


def updated(target, source):
    target.update(source)
    return target


@pytest.mark.parametrize("reader", READERS)
def test_context_is_whole_whichever_way_it_is_read_first(reader):
    span = READERS[reader](make_here())
    assert span.get_span_context().trace_id == 0xA
    assert span.get_span_context().span_id == 0xB
    assert not span.get_span_context().trace_flags & 1
    assert not span.is_recording()


def test_length_truth_and_equality_are_those_of_the_whole_mapping():
    assert len(make_here()) == 1
    assert make_here()
    assert KEY in make_here()
    here = make_here(base=Context({"user": "u1"}))
    assert len(here) == 2
    assert here == dict(here)
    assert here != {}
    assert here["user"] == "u1"
    assert "NonRecordingSpan" in repr(here)
    with pytest.raises(ValueError):
        here["user"] = "u2"


def test_contexts_of_tasks_that_hand_on_work_make_no_chain():
    first = make_here(base=Context({"user": "u1"}))
    context = first
    for _ in range(5):
        context = make_here(base=base_of(context))
    assert context["user"] == "u1"
    assert context.base is first.base


def test_cast_span_equals_the_sdk_s_own_and_is_separate_from_every_other():
    provider = TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False)
    tracer = provider.get_tracer("fleetmon", "1")
    mold = mold_of(tracer)
    own = tracer.start_span("x", attributes={"a": 1}, start_time=1)
    cast = mold.cast("x", own.get_span_context(), None, {"a": 1})
    other = mold.cast("y", own.get_span_context(), None, {})
    cast.start(1)
    for span in (own, cast):
        span.set_attribute("b", "c")
        span.add_event("e", {"f": 1}, 2)
        span.add_link(own.get_span_context())
        span.set_status(trace.StatusCode.ERROR, "g")
        span.end(3)
    assert cast.to_json() == own.to_json()
    assert vars(cast).keys() == vars(own).keys()
    assert type(cast) is type(own)
    assert (dict(other.attributes), other.events, other.links) == ({}, (), ())


@pytest.mark.parametrize(
    "limits", [SpanLimits(max_span_attributes=3), SpanLimits(max_span_attribute_length=5)]
)
def test_limits_that_could_touch_our_attributes_are_left_to_the_sdk(limits):
    provider = TracerProvider(span_limits=limits, shutdown_on_exit=False)
    assert mold_of(provider.get_tracer("fleetmon")) is None
    assert mold_of(object()) is None
