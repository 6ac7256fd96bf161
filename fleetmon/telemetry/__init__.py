"""Tells: metrics, spans and logs. Public names are loaded when they are first asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fleetmon.telemetry.app import metrics_app
    from fleetmon.telemetry.export import TracingHandle, configure_tracing
    from fleetmon.telemetry.logformat import (
        JsonFormatter,
        LogHandle,
        configure_logging,
        processors,
    )
    from fleetmon.telemetry.logs import JsonLog
    from fleetmon.telemetry.server import MetricsServer
    from fleetmon.telemetry.standalone import LossCollector, registry_app, serve_metrics
    from fleetmon.telemetry.tracing import OTelTracer
    from fleetmon.telemetry.web import TraceIdHeader, instrument_fastapi, instrument_httpx

_WHERE = {
    "JsonFormatter": "logformat",
    "JsonLog": "logs",
    "LogHandle": "logformat",
    "LossCollector": "standalone",
    "MetricsServer": "server",
    "OTelTracer": "tracing",
    "TraceIdHeader": "web",
    "TracingHandle": "export",
    "configure_logging": "logformat",
    "configure_tracing": "export",
    "instrument_fastapi": "web",
    "instrument_httpx": "web",
    "metrics_app": "app",
    "processors": "logformat",
    "registry_app": "standalone",
    "serve_metrics": "standalone",
}

__all__ = [
    "JsonFormatter",
    "JsonLog",
    "LogHandle",
    "LossCollector",
    "MetricsServer",
    "OTelTracer",
    "TraceIdHeader",
    "TracingHandle",
    "configure_logging",
    "configure_tracing",
    "instrument_fastapi",
    "instrument_httpx",
    "metrics_app",
    "processors",
    "registry_app",
    "serve_metrics",
]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for (PEP 562)."""
    home = _WHERE.get(name)
    if home is None:
        message = f"module 'fleetmon.telemetry' has no attribute {name!r}"
        raise AttributeError(message)
    value = getattr(import_module(f"fleetmon.telemetry.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
