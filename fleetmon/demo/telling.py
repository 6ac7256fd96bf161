"""What the demo tells beside its metrics, where asked: JSON lines, and spans to a collector."""

from __future__ import annotations

import logging
import os
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fleetmon import OTelTracer, configure_logging, configure_tracing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleetmon import JsonLog
    from fleetmon.demo.console import Console
    from fleetmon.telemetry import LogHandle, TracingHandle

STDOUT = "-"
_SERVICE = "fleetmon-demo"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class Told(NamedTuple):
    """What a supervisor is given."""

    tracer: OTelTracer | None
    log: JsonLog | None


@contextmanager
def telling(log: str | None, trace: str | None, console: Console) -> Iterator[Told]:
    """Tell for the length of the block; on leaving, say what was lost.

    Args:
        log: file to append JSON lines to; ``-``: standard output; ``None``: no lines.
        trace: collector that takes OTLP; empty: the one that ``OTEL_*`` variables name, or the
            default one; ``None``: the one that they name, or no spans.
        console: who hears what was lost.

    Raises:
        ExporterMissingError: spans are asked for, and the extra ``otlp`` is not installed.
        OSError: the file cannot be written.
    """
    with ExitStack() as stack:
        logs: LogHandle | None = None
        tracing: TracingHandle | None = None
        tracer: OTelTracer | None = None
        if trace is not None or any(map(os.environ.get, _ENDPOINTS)):
            # a collector that is away is counted, and no reason to write all over the screen
            logging.getLogger("opentelemetry").addHandler(logging.NullHandler())
            service = None if os.environ.get("OTEL_SERVICE_NAME") else _SERVICE
            tracing = configure_tracing(service, endpoint=trace or None)
            stack.callback(_spans, console, tracing)
            tracer = OTelTracer(tracing)
        elif log is not None:
            tracer = OTelTracer(_ids_alone())
        if log is not None:
            file = None
            if log != STDOUT:
                file = stack.enter_context(Path(log).open("a", encoding="utf-8"))
            logs = configure_logging(_SERVICE, stream=file)
            stack.callback(_lines, console, logs)
        yield Told(tracer, None if logs is None else logs.log)


def _ids_alone() -> TracingHandle:
    """Return what gives every task a trace id, for its lines, and makes no spans."""
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    class Nowhere(SpanExporter):
        def export(self, _spans: object) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    return configure_tracing(_SERVICE, ratio=0.0, exporter=Nowhere())


def _spans(console: Console, tracing: TracingHandle) -> None:
    tracing.shutdown()
    lost = ", ".join(f"{spans} lost ({cause})" for cause, spans in tracing.lost.items())
    console.say(f"spans:   {tracing.exported} exported, {lost or 'none lost'}")


def _lines(console: Console, logs: LogHandle) -> None:
    logs.close()
    dropped = ", ".join(f"{lines} {kind}" for kind, lines in logs.dropped.items())
    if dropped:
        console.say(f"lines lost: {dropped}")
