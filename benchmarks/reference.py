"""The plain reference: what a careful team writes when it puts telemetry around a task by hand.

Stock parts used in the stock way: ``prometheus_client`` children looked up with ``.labels()``,
``tracer.start_as_current_span`` under ``ParentBased(TraceIdRatioBased(0.1))`` with a batch
processor, and structlog writing one JSON line a task. It is the yardstick of the instruction goal
and therefore frozen: a change here moves every ratio, so it is tuned in neither direction.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

import structlog
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind, Status, StatusCode, format_span_id, format_trace_id
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

T = TypeVar("T")

BUCKETS = (0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class NullExporter(SpanExporter):
    """Takes the batches and drops them: the price of a network is not part of the yardstick."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Report success."""
        del spans
        return SpanExportResult.SUCCESS


class Reference:
    """Metrics, a span and a log line around an awaitable; close it, or use it in ``with``."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        by_task = ("agent_id", "task_type")
        self.assigned = Counter(
            "agents_tasks_assigned", "Tasks assigned.", by_task, registry=self.registry
        )
        self.in_flight = Gauge(
            "agents_tasks_in_flight", "Tasks running now.", ("agent_id",), registry=self.registry
        )
        self.duration = Histogram(
            "agents_task_duration_seconds",
            "Duration of tasks.",
            by_task,
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.completed = Counter(
            "agents_tasks_completed",
            "Tasks ended, by outcome.",
            (*by_task, "outcome"),
            registry=self.registry,
        )
        self.failures = Counter(
            "agents_failures",
            "Failures, by type.",
            ("agent_id", "error_type"),
            registry=self.registry,
        )
        # Batches leave by size or at the end, never by the clock: a timer would make the number of
        # instructions depend on how fast the machine is.
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(0.1)), shutdown_on_exit=False
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(
                NullExporter(),
                max_queue_size=65_536,
                max_export_batch_size=512,
                schedule_delay_millis=3_600_000,
            )
        )
        self.tracer = self._provider.get_tracer("benchmarks.reference")
        self._sink = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - see close()
        self.log = structlog.wrap_logger(
            structlog.PrintLogger(self._sink),
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.EventRenamer("message"),
                structlog.processors.JSONRenderer(),
            ],
            wrapper_class=structlog.make_filtering_bound_logger(20),
            cache_logger_on_first_use=True,
        )

    async def run(
        self, agent_id: str, task_type: str, task_id: str, work: Callable[[], Awaitable[T]]
    ) -> T:
        """Await ``work()`` inside the telemetry of one task and return its result."""
        self.assigned.labels(agent_id=agent_id, task_type=task_type).inc()
        self.in_flight.labels(agent_id=agent_id).inc()
        began = time.perf_counter()
        outcome = "succeeded"
        with self.tracer.start_as_current_span(
            f"invoke_agent {agent_id}",
            kind=SpanKind.INTERNAL,
            attributes={
                "gen_ai.operation.name": "invoke_agent",
                "gen_ai.provider.name": "fleetmon",
                "gen_ai.agent.id": agent_id,
                "gen_ai.agent.name": agent_id,
            },
        ) as span:
            try:
                return await work()
            except Exception as error:
                outcome = "failed"
                self.failures.labels(agent_id=agent_id, error_type="exception").inc()
                span.set_status(Status(StatusCode.ERROR, str(error)))
                raise
            finally:
                seconds = time.perf_counter() - began
                self.in_flight.labels(agent_id=agent_id).dec()
                self.duration.labels(agent_id=agent_id, task_type=task_type).observe(seconds)
                self.completed.labels(agent_id=agent_id, task_type=task_type, outcome=outcome).inc()
                context = span.get_span_context()
                self.log.info(
                    "task ended",
                    service="reference",
                    agent_id=agent_id,
                    task_type=task_type,
                    task_id=task_id,
                    outcome=outcome,
                    duration=seconds,
                    trace_id=format_trace_id(context.trace_id),
                    span_id=format_span_id(context.span_id),
                )

    def close(self) -> None:
        """Export what is left and close the sink."""
        self._provider.shutdown()
        self._sink.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()
