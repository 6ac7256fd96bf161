"""What a supervisor logs and traces, at hand as data: for tests of agents and of whole fleets."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider

    from fleetmon.telemetry.logs import JsonLog
    from fleetmon.telemetry.tracing import OTelTracer

_WAIT = 10.0  # seconds for the log's thread to write a line


class LogCapture:
    """A log whose lines are kept: ``Supervisor(log=capture.log)``.

    Attributes:
        log: to be given to a supervisor, or to ``configure_logging(log=...)`` for the lines of the
            host's own.
    """

    log: JsonLog

    def __init__(
        self, service: str = "test", *, clock: Callable[[], float] | None = None, **options: Any
    ) -> None:
        """Capture.

        Args:
            service: field of every line.
            clock: the supervisor's, when it is not :func:`time.monotonic`: on virtual time
                ``current_clock().monotonic``.
            options: further arguments of :class:`fleetmon.JsonLog`.
        """
        from fleetmon import JsonLog

        if clock is not None:
            options["clock"] = clock
        self._text = io.StringIO()
        self.log = JsonLog(service, stream=self._text, interval=0.001, **options)

    @property
    def text(self) -> str:
        """Everything written so far."""
        if not self.log.flush(_WAIT):
            msg = f"the log has not written its lines within {_WAIT} s"
            raise TimeoutError(msg)
        return self._text.getvalue()

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The lines so far, parsed, oldest first."""
        return [json.loads(line) for line in self.text.splitlines()]

    def of(self, **fields: Any) -> list[dict[str, Any]]:
        """Return the lines with these values, be they fields of the line or of its ``extra``."""
        return [
            line
            for line in self.lines
            if all({**line.get("extra", {}), **line}.get(k) == v for k, v in fields.items())
        ]

    def close(self) -> None:
        """End the log's thread."""
        self.log.close()

    def __enter__(self) -> Self:
        """Leave it as it is."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Close."""
        self.close()


class SpanCapture:
    """A tracer whose ended spans are kept: ``Supervisor(tracer=capture.tracer)``.

    The global tracer provider is not touched.

    Attributes:
        provider: a tracer provider of the SDK, for instrumentations under test.
        tracer: to be given to a supervisor.
    """

    provider: TracerProvider
    tracer: OTelTracer

    def __init__(self, ratio: float = 1.0, **options: Any) -> None:
        """Capture.

        Args:
            ratio: share of the root spans that are sampled; parents' decisions are kept.
            options: further arguments of :class:`fleetmon.OTelTracer`.
        """
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

        from fleetmon import OTelTracer

        self._kept = InMemorySpanExporter()
        self.provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(ratio)), shutdown_on_exit=False
        )
        self.provider.add_span_processor(SimpleSpanProcessor(self._kept))
        self.tracer = OTelTracer(self.provider, **options)

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """The spans that have ended, in the order of their ends."""
        return self._kept.get_finished_spans()

    def named(self, name: str) -> list[ReadableSpan]:
        """Return the ended spans of one name."""
        return [span for span in self.spans if span.name == name]

    def clear(self) -> None:
        """Forget the spans so far."""
        self._kept.clear()
