"""Tracing set up for a host that has none: a provider, a bounded queue and an OTLP exporter.

The queue is our own because the SDK's leaves two promises open: its shutdown and flush wait for a
dead collector far beyond the time they are given, and spans that it loses are not counted.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Self

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

from fleetmon.errors import SpecError
from fleetmon.telemetry.otlp import Answer, ExporterMissingError, otlp_exporter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opentelemetry.sdk.trace import ReadableSpan

__all__ = ["ExporterMissingError", "SpanQueue", "TracingHandle", "configure_tracing", "lost_of"]

_SAMPLED = trace.TraceFlags.SAMPLED
_handles: weakref.WeakKeyDictionary[TracerProvider, TracingHandle] = weakref.WeakKeyDictionary()
_TIMEOUT = 2.0  # seconds a request may take, unless OTEL_EXPORTER_OTLP_*TIMEOUT says otherwise


def _env_int(name: str, default: int) -> int:
    try:
        value = int(os.environ.get(name, ""))
    except ValueError:
        return default
    return value if value > 0 else default


class SpanQueue(SpanProcessor):
    """Exports ended spans in batches from a daemon thread; loses them rather than wait.

    ``OTEL_BSP_MAX_QUEUE_SIZE``, ``OTEL_BSP_MAX_EXPORT_BATCH_SIZE`` and ``OTEL_BSP_SCHEDULE_DELAY``
    (ms) are honoured.

    Attributes:
        exported: spans that the exporter took.
        lost: spans lost, by cause: ``queue`` full, ``export`` failed, ``rejected`` by the
            collector, ``shutdown`` too short or over.
    """

    def __init__(
        self, exporter: SpanExporter, rejected: Callable[[int], int] = lambda _spans: 0
    ) -> None:
        """Prepare; the thread starts with the first span.

        Args:
            exporter: takes the batches.
            rejected: asked after each batch that was taken, with its size: how many of its spans
                the other side would not have.
        """
        self._exporter = exporter
        self._rejected = rejected
        self._limit = _env_int("OTEL_BSP_MAX_QUEUE_SIZE", 2048)
        self._batch = min(_env_int("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512), self._limit)
        self._delay = _env_int("OTEL_BSP_SCHEDULE_DELAY", 5000) / 1000
        self._queue: deque[ReadableSpan] = deque()
        self.exported = 0
        self.lost: Counter[str] = Counter()
        self._closing = False
        self._fresh()
        if hasattr(os, "register_at_fork"):
            method = weakref.WeakMethod(self._after_fork)

            def after() -> None:
                found = method()
                if found is not None:
                    found()

            os.register_at_fork(after_in_child=after)

    def _fresh(self) -> None:
        self._lock = threading.RLock()  # a finalizer may end a span while its thread counts
        self._wake = threading.Event()
        self._settled = threading.Condition()
        self._thread: threading.Thread | None = None
        self._busy = 0
        self._expired = False

    def _after_fork(self) -> None:
        self._queue.clear()  # the parent exports those
        self.lost.clear()
        self._fresh()

    def _lose(self, cause: str, spans: int = 1) -> None:
        with self._lock:
            self.lost[cause] += spans

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a sampled span; never blocks."""
        context = span.context
        if context is None or not context.trace_flags & _SAMPLED:
            return
        queue = self._queue
        if self._closing:
            self._lose("shutdown")
            return
        waiting = len(queue)
        if waiting >= self._limit:
            self._lose("queue")
            return
        queue.append(span)
        if waiting + 1 >= self._batch:
            self._wake.set()
        if self._thread is None:
            self._start()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="fleetmon-spans", daemon=True)
                self._thread = thread
                thread.start()

    def _run(self) -> None:
        # what the exporter does on the wire is not to be traced in its turn
        key = getattr(otel_context, "_SUPPRESS_INSTRUMENTATION_KEY", "suppress_instrumentation")
        otel_context.attach(otel_context.set_value(key, True))
        while not self._closing:
            self._wake.wait(self._delay)
            self._wake.clear()
            self._drain()
        self._drain()
        self._exporter.shutdown()

    def _drain(self) -> None:
        queue = self._queue
        while queue and not self._expired:
            batch: list[ReadableSpan] = []
            while queue and len(batch) < self._batch:
                batch.append(queue.popleft())
                self._busy = len(batch)
            try:
                done = self._exporter.export(batch) is SpanExportResult.SUCCESS
            except Exception:  # noqa: BLE001 - exporters raise what they like
                done = False
            if self._expired:
                return  # counted by who gave up on it
            if done:
                refused = self._rejected(len(batch))
                self.exported += len(batch) - refused
                if refused:
                    self._lose("rejected", refused)
            else:
                self._lose("export", len(batch))
            self._busy = 0
        with self._settled:
            self._settled.notify_all()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait until all spans so far were tried; False if that took longer."""
        if self._thread is None or self._closing:
            return not self._queue
        self._wake.set()
        with self._settled:
            return self._settled.wait_for(
                lambda: not self._queue and not self._busy, timeout_millis / 1000
            )

    def shutdown(self) -> None:
        """End as the SDK asks for it: see :meth:`close`."""
        self.close()

    def close(self, deadline: float = _TIMEOUT) -> bool:
        """Export what waits for at most ``deadline`` seconds; the rest is lost and counted.

        Returns:
            Whether everything was tried in time.
        """
        first, self._closing = not self._closing, True
        thread = self._thread
        if not first:
            return not self._queue
        if thread is None:
            self._exporter.shutdown()
            return True
        end = time.monotonic() + deadline
        self._wake.set()
        # Near the end the exporter is told to stop: it then breaks off its waits between retries.
        thread.join(deadline * 0.8)
        if thread.is_alive():
            threading.Thread(target=self._exporter.shutdown, daemon=True).start()
            thread.join(max(0.0, end - time.monotonic()))
        if not thread.is_alive():
            return True
        self._expired = True
        left = self._busy + len(self._queue)
        self._queue.clear()
        self._lose("shutdown", left)
        return False


class TracingHandle:
    """What :func:`configure_tracing` has set up.

    Attributes:
        provider: the tracer provider, to be given to instrumentations; ``OTelTracer`` takes the
            handle itself as well.
    """

    def __init__(self, provider: TracerProvider, queue: SpanQueue | None) -> None:
        """Keep both, and shut them down at exit at the latest."""
        self.provider = provider
        self._queue = queue
        _handles[provider] = self
        atexit.register(self.shutdown)

    def __enter__(self) -> Self:
        """Leave it as it is."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Shut down, as :meth:`shutdown` with its deadline."""
        self.shutdown()

    @property
    def lost(self) -> dict[str, int]:
        """Spans lost so far, by cause (``queue``, ``export``, ``rejected``, ``shutdown``)."""
        return {} if self._queue is None else dict(self._queue.lost)

    @property
    def exported(self) -> int:
        """Spans that were exported so far."""
        return 0 if self._queue is None else self._queue.exported

    def flush(self, timeout: float = _TIMEOUT) -> bool:
        """Wait until all spans so far were tried; False after ``timeout`` seconds."""
        return self._queue is None or self._queue.force_flush(int(timeout * 1000))

    def shutdown(self, deadline: float = _TIMEOUT) -> bool:
        """End tracing within ``deadline`` seconds; True if every span was tried by then."""
        atexit.unregister(self.shutdown)
        done = self._queue is None or self._queue.close(deadline)
        self.provider.shutdown()
        return done


def lost_of(provider: object) -> dict[str, int]:
    """Return what was lost of a provider's spans, if :func:`configure_tracing` has set it up."""
    handle = _handles.get(provider) if isinstance(provider, TracerProvider) else None
    return {} if handle is None else handle.lost


def configure_tracing(
    service_name: str | None = None,
    *,
    endpoint: str | None = None,
    ratio: float | None = None,
    protocol: str | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float | None = None,
    attributes: Mapping[str, str] | None = None,
    exporter: SpanExporter | None = None,
    set_global: bool = False,
) -> TracingHandle:
    """Set up tracing and return its handle; the global provider stays untouched unless asked.

    What is not given comes from the ``OTEL_*`` variables, and where those are silent from us.

    Args:
        service_name: resource attribute ``service.name``; ``OTEL_SERVICE_NAME``; ``fleetmon``.
        endpoint: collector; ``OTEL_EXPORTER_OTLP_*``; ``http://localhost:4318``.
        ratio: share of root spans that are sampled, 0 to 1, parents' decisions being kept;
            ``OTEL_TRACES_SAMPLER``; 0.1.
        protocol: ``http/protobuf`` or ``grpc``; ``OTEL_EXPORTER_OTLP_*PROTOCOL``; HTTP.
        headers: sent with each export.
        timeout: seconds an export may take; ``OTEL_EXPORTER_OTLP_*TIMEOUT``; 2.
        attributes: further resource attributes.
        exporter: one of the host's instead of OTLP.
        set_global: make it the global tracer provider.

    Raises:
        SpecError: a ratio out of range or an unknown protocol.
        ExporterMissingError: the extra ``otlp`` or ``otlp-grpc`` is not installed.
    """
    if ratio is not None and not 0 <= ratio <= 1:
        raise SpecError(
            f"ratio {ratio!r} is not between 0 and 1; 0.1 samples one task in ten",
            field="ratio",
            value=ratio,
        )
    env = os.environ
    sampler = None
    if ratio is not None or not env.get("OTEL_TRACES_SAMPLER"):
        sampler = ParentBased(TraceIdRatioBased(0.1 if ratio is None else ratio))
    named: dict[str, str] = dict(attributes or {})
    has_name = env.get("OTEL_SERVICE_NAME") or "service.name=" in env.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    )
    if service_name is not None or not has_name:
        named["service.name"] = service_name or "fleetmon"
    provider = TracerProvider(
        sampler=sampler, resource=Resource.create(named), shutdown_on_exit=False
    )
    queue = None
    if exporter is not None:
        queue = SpanQueue(exporter)
    elif env.get("OTEL_SDK_DISABLED", "").strip().lower() != "true":
        queue = _queue(endpoint, protocol, headers, timeout)
    if queue is not None:
        provider.add_span_processor(queue)
    if set_global:
        trace.set_tracer_provider(provider)
    return TracingHandle(provider, queue)


def _queue(
    endpoint: str | None,
    protocol: str | None,
    headers: Mapping[str, str] | None,
    timeout: float | None,
) -> SpanQueue | None:
    env = os.environ
    choice = env.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower()
    if endpoint is None and choice == "none":
        return None
    if endpoint is None and choice == "console":
        return SpanQueue(ConsoleSpanExporter())
    settings: dict[str, Any] = {}
    if headers is not None:
        settings["headers"] = dict(headers)
    known = env.get("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT") or env.get("OTEL_EXPORTER_OTLP_TIMEOUT")
    if timeout is not None or not known:
        settings["timeout"] = _TIMEOUT if timeout is None else timeout
    chosen = (
        protocol
        or env.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
        or env.get("OTEL_EXPORTER_OTLP_PROTOCOL")
        or "http/protobuf"
    )
    answer = Answer()
    return SpanQueue(otlp_exporter(chosen, endpoint, settings, answer), answer.take)
