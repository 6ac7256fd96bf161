"""One trace with its log lines and its exemplars side by side: they hold the same two ids.

A planner hands a task to a writer, which says something on the way. Whoever sees a slow bucket on
a dashboard has the trace in its exemplar; whoever has the trace finds the log lines by its id.

Prints::

    trace 6513270e269e0d37f2a74de452e6b438
    span                    | log line                | exemplar
    0c5c7fd0 invoke PLANNER | INFO task succeeded     | agents_task_duration_seconds_bucket
    d23f0824 invoke WRITER  | WARNING no paper left   | agents_task_duration_seconds_bucket
                            | WARNING task failed     | agents_failures_total
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import random
import re
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator

from fleetmon import OTelTracer, Supervisor, configure_logging, configure_tracing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.trace import ReadableSpan


class Writer:
    """Fails at its work, and says why: as a result, it never raises."""

    def handle(self, task: Any) -> str:
        """Write."""
        logging.getLogger("writer").warning("no paper left")
        task.fail("returned_failure")
        return "nothing"


class Planner:
    """Has the work done by somebody else."""

    def __init__(self, fleet: Supervisor) -> None:
        """Know the fleet."""
        self.fleet = fleet

    async def handle(self, task: Any) -> str:
        """Hand it on."""
        found: str = await self.fleet.agent("WRITER").run("write", task.payload)
        return found


class Repeatable(IdGenerator):
    """Ids that are the same in each run of this example; yours are random."""

    def __init__(self) -> None:
        """Begin at the beginning."""
        self._random = random.Random(7)  # noqa: S311 - ids to be looked at

    def generate_trace_id(self) -> int:
        """Return the next trace id."""
        return self._random.getrandbits(128)

    def generate_span_id(self) -> int:
        """Return the next span id."""
        return self._random.getrandbits(64)


async def scrape(fleet: Supervisor) -> str:
    """Return what a Prometheus that asks for OpenMetrics gets from ``/metrics``."""
    parts: list[bytes] = []
    never = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await never.wait()
        return {}

    async def send(message: Any) -> None:
        parts.append(message.get("body", b""))

    accept = (b"accept", b"application/openmetrics-text")
    scope = {"type": "http", "method": "GET", "path": "/metrics", "headers": [accept]}
    await fleet.metrics_app()(scope, receive, send)
    return b"".join(parts).decode()


def columns(span: ReadableSpan, lines: list[dict[str, Any]], page: str) -> list[Sequence[str]]:
    """Return rows: the span, and beside it the log lines and the exemplars with its id."""
    span_id = f"{span.get_span_context().span_id:016x}"
    logged = [
        f"{line['level'].upper()} {line['message']}"
        for line in lines
        if line.get("span_id") == span_id
    ]
    marked = re.findall(rf'^(\w+){{.*# {{span_id="{span_id}"', page, re.MULTILINE)
    name = span.name.replace("invoke_agent", "invoke")
    rows = [[f"{span_id[:8]} {name}"], logged, marked]
    height = max(map(len, rows))
    return list(zip(*(column + [""] * (height - len(column)) for column in rows), strict=True))


async def main() -> None:
    """Run one task, then put its traces side by side."""
    spans, text = InMemorySpanExporter(), io.StringIO()
    tracing = configure_tracing("newsroom", ratio=1.0, exporter=spans)
    tracing.provider.id_generator = Repeatable()
    logs = configure_logging("newsroom", stream=text)
    async with Supervisor(tracer=OTelTracer(tracing), log=logs.log) as fleet:
        await fleet.add("WRITER", Writer)
        await fleet.add("PLANNER", lambda: Planner(fleet))
        await fleet.agent("PLANNER").run("plan", "a novel", timeout=5)
        page = await scrape(fleet)
    tracing.flush()
    logs.close()

    lines = [json.loads(line) for line in text.getvalue().splitlines()]
    planner, writer = reversed(spans.get_finished_spans())
    print(f"trace {planner.get_span_context().trace_id:032x}")
    table = [("span", "log line", "exemplar")]
    for span in (planner, writer):
        table += columns(span, lines, page)
    for first, second, third in table:
        print(f"{first:<23} | {second:<23} | {third}".rstrip())


if __name__ == "__main__":
    asyncio.run(main())
