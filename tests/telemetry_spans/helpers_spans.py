"""Tasks and events as the tracer sees them, and a provider whose spans a test reads."""

from __future__ import annotations

from types import SimpleNamespace

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from fleetmon.events import Event
from fleetmon.hooks import Identified
from fleetmon.numbers import SUCCEEDED

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
