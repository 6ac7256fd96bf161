"""``/metrics`` for a service without a supervisor: any registry, served off the host's loop.

Two lines are all that such a service needs::

    registry = CollectorRegistry()
    server = serve_metrics(registry, "127.0.0.1:9004")

What is served is what ``prometheus_client`` prints, family by family, from a thread of the server's
own; the address answers ``/healthz`` and ``/readyz`` as well.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from prometheus_client.exposition import generate_latest as _stock_text
from prometheus_client.metrics_core import CounterMetricFamily
from prometheus_client.openmetrics.exposition import generate_latest as _stock_openmetrics

from fleetmon.telemetry import families as f
from fleetmon.telemetry.app import App
from fleetmon.telemetry.collector import each
from fleetmon.telemetry.server import MetricsServer

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from prometheus_client.metrics_core import Metric

    from fleetmon.telemetry.app import ASGIApp
    from fleetmon.telemetry.export import TracingHandle
    from fleetmon.telemetry.logformat import LogHandle
    from fleetmon.telemetry.logs import JsonLog

_PAUSE = 0.00002  # seconds; sleep(0) takes the interpreter's lock back before others are awake

_log = logging.getLogger(__name__)


class RegistryRenderer:
    """Renders what is registered on a registry, with stock code.

    Any number of threads may render at once.
    """

    def __init__(self, registry: Any) -> None:
        """Render ``registry``, a ``prometheus_client.CollectorRegistry``."""
        self._registry = registry
        self._complained = False

    def render(
        self,
        openmetrics: bool = False,
        *,
        names: Collection[str] | None = None,
        encode: Callable[[Any], bytes] | None = None,
    ) -> Iterator[bytes]:
        """Yield the exposition; the first chunk, asked for, renders all of it.

        Args:
            openmetrics: OpenMetrics 1.0.0, or else text 0.0.4.
            names: sample names to restrict the output to, or ``None`` for all.
            encode: stock encoder; by default that of the format.

        Raises:
            Exception: whatever a collector raises; it is logged once.
        """
        registry = self._registry
        if names is not None:
            registry = registry.restricted_registry(names)
        if encode is None:
            encode = _stock_openmetrics if openmetrics else _stock_text
        chunks = []
        try:
            for text in each(registry, encode):
                chunks.append(text)
                time.sleep(_PAUSE)
        except Exception:
            if not self._complained:
                self._complained = True
                _log.exception("a collector raised: /metrics answers 500 until it does not")
            raise
        if openmetrics:
            chunks.append(b"# EOF\n")
        yield b"".join(chunks)


class LossCollector:
    """``fleetmon_log_drops_total`` and ``fleetmon_span_drops_total``, where no fleet tells them.

    ``registry.register(LossCollector(logs=configure_logging(), tracing=configure_tracing()))``.
    """

    def __init__(
        self, *, logs: LogHandle | JsonLog | None = None, tracing: TracingHandle | None = None
    ) -> None:
        """Read from ``logs`` and ``tracing`` at each scrape."""
        self._logs = logs
        self._tracing = tracing

    def describe(self) -> Iterator[Metric]:
        """Yield both families without samples."""
        yield from (_counter(name, label) for name, label in _LOSSES)

    def collect(self) -> Iterator[Metric]:
        """Yield both families; every cause is there from the first scrape."""
        found = (
            f.NO_LOG_DROPS | (self._logs.dropped if self._logs else {}),
            f.NO_SPAN_DROPS | (self._tracing.lost if self._tracing else {}),
        )
        for (name, label), losses in zip(_LOSSES, found, strict=True):
            metric = _counter(name, label)
            for cause, count in losses.items():
                metric.add_metric((cause,), count)
            yield metric


_LOSSES = (("fleetmon_log_drops_total", "kind"), ("fleetmon_span_drops_total", "cause"))


def _counter(name: str, label: str) -> CounterMetricFamily:
    (text,) = [family.help for family in f.FLEET_FAMILIES if family.name == name]
    return CounterMetricFamily(name, text, labels=(label,))


class _Service:
    """What answers ``/readyz`` where there is no fleet."""

    def __init__(self, name: str, ready: Callable[[], bool] | None) -> None:
        self.name = name
        self._ready = ready

    def ready(self) -> bool:
        return True if self._ready is None else bool(self._ready())


def registry_app(
    registry: Any,
    *,
    name: str = "service",
    ready: Callable[[], bool] | None = None,
    compression: int = 1,
) -> ASGIApp:
    """Return an ASGI application with ``/metrics``, ``/healthz`` and ``/readyz`` for a registry.

    It answers as :func:`fleetmon.telemetry.app.metrics_app` does: text or OpenMetrics (with
    exemplars) as ``Accept`` asks, gzip where it is accepted, ``name[]``. To be mounted in the
    service's own application; :func:`serve_metrics` gives it a port of its own.

    Args:
        registry: a ``CollectorRegistry``.
        name: of the service, for ``/readyz``.
        ready: whether the service is able to serve, called for each ``/readyz`` in the server's
            thread; always, when ``None``.
        compression: gzip level, 0 to 9; 0 turns gzip off.
    """
    return App(_Service(name, ready), RegistryRenderer(registry), compression)


def serve_metrics(
    registry: Any,
    listen: str = "127.0.0.1:9004",
    *,
    name: str = "service",
    ready: Callable[[], bool] | None = None,
) -> MetricsServer:
    """Serve a registry's metrics from a daemon thread, and return the server.

    Args:
        registry: a ``CollectorRegistry``.
        listen: ``HOST:PORT``; port 0 takes a free one, which the server's ``url`` tells.
        name: of the service, for ``/readyz``.
        ready: see :func:`registry_app`.

    Returns:
        A server that answers already. ``close()`` it, or use it in a ``with`` statement; a program
        that just ends needs neither.

    Raises:
        ListenError: ``listen`` is not an address, or cannot be listened on.
    """
    server = MetricsServer(registry_app(registry, name=name, ready=ready), listen)
    server.start()
    return server
