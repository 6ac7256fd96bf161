"""OTLP exporters of OpenTelemetry's own, listened to: what a collector does not take is counted.

The stock exporters look at the status alone: spans that a collector says it has rejected pass for
exported, and so do those that some web server answers with a page. :class:`Answer`
reads what comes back.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fleetmon.errors import FleetmonError, SpecError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

_ALL = 1 << 62
_FINE = range(200, 300)
_PROTOBUF = "application/x-protobuf"
_JSON = "application/json"


class ExporterMissingError(FleetmonError, ImportError):
    """The OTLP exporter is not installed.

    Attributes:
        extra: what to install.
    """

    def __init__(self, protocol: str, extra: str) -> None:
        """Name the extra that brings it."""
        super().__init__(
            f"no exporter for OTLP over {protocol!r} is installed; pip install 'fleetmon[{extra}]'"
        )
        self.extra = extra


class Answer:
    """What the collector said to the latest request; used by the exporting thread alone."""

    def __init__(self) -> None:
        """Start with nothing rejected."""
        self._rejected = 0

    def take(self, spans: int) -> int:
        """Return how many of ``spans`` the latest answer rejected, and forget it."""
        rejected, self._rejected = self._rejected, 0
        return min(spans, rejected)

    def over_http(self, response: Any, *_args: Any, **_kwargs: Any) -> None:
        """Note an answer; a hook of ``requests``, called for each response."""
        self._rejected = _rejected(response)

    def over_grpc(self, message: Any) -> None:
        """Note an ``ExportTraceServiceResponse``."""
        self._rejected = max(0, int(message.partial_success.rejected_spans))


def _rejected(response: Any) -> int:
    if response.status_code not in _FINE:
        return _ALL  # a redirect, which passes for success; errors do not ask for this number
    body = response.content
    if not body:
        return 0
    kind = str(response.headers.get("content-type", "")).partition(";")[0].strip().lower()
    try:
        if kind == _PROTOBUF:
            from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
                ExportTraceServiceResponse,
            )

            said = ExportTraceServiceResponse.FromString(body)
            return max(0, int(said.partial_success.rejected_spans))
        if kind == _JSON:
            partial = json.loads(body).get("partialSuccess") or {}
            return max(0, int(partial.get("rejectedSpans", 0)))
    except Exception:  # noqa: BLE001 - parsers raise what they like at nonsense
        return _ALL
    return _ALL if kind else 0  # whoever answers with a page is no collector


def otlp_exporter(
    protocol: str, endpoint: str | None, settings: dict[str, Any], answer: Answer
) -> SpanExporter:
    """Return an exporter that tells ``answer`` what the collector said.

    Args:
        protocol: ``http/protobuf`` or ``grpc``.
        endpoint: collector; ``None`` for what the ``OTEL_*`` variables say.
        settings: further arguments of the stock exporter.
        answer: hears of every answer.

    Raises:
        SpecError: unknown protocol.
        ExporterMissingError: the extra is not installed.
    """
    if protocol == "grpc":
        return _grpc(endpoint, settings, answer)
    if protocol != "http/protobuf":
        raise SpecError(
            f"unknown OTLP protocol {protocol!r}; use 'http/protobuf' or 'grpc'",
            field="protocol",
            value=protocol,
        )
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise ExporterMissingError(protocol, "otlp") from error
    if endpoint is not None and endpoint.count("/") <= 2 + endpoint.endswith("/"):
        endpoint = endpoint.rstrip("/") + "/v1/traces"  # given as the base, as OTEL_* has it
    try:
        import requests
    except ImportError:  # the exporter can do without, and then nobody listens
        return OTLPSpanExporter(endpoint=endpoint, **settings)
    exporter = OTLPSpanExporter(endpoint=endpoint, **settings)
    transport = getattr(getattr(exporter, "_client", None), "_transport", None)
    session = getattr(transport, "_session", None)
    if isinstance(session, requests.Session):  # a credential provider's own, perhaps
        session.hooks["response"].append(answer.over_http)
    return exporter


def _grpc(endpoint: str | None, settings: dict[str, Any], answer: Answer) -> SpanExporter:
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise ExporterMissingError("grpc", "otlp-grpc") from error

    class Listening(OTLPSpanExporter):
        """Puts a listener before the stub, also when the channel is made anew after an error."""

        def _initialize_channel_and_stub(self) -> None:
            super()._initialize_channel_and_stub()  # type: ignore[no-untyped-call, unused-ignore]
            self._client: Any = _Listener(self._client, answer)

    exporter: SpanExporter = Listening(endpoint=endpoint, **settings)
    return exporter


class _Listener:
    """A stub that passes calls on and notes the answers."""

    def __init__(self, stub: Any, answer: Answer) -> None:
        self._stub = stub
        self._answer = answer

    def Export(self, *args: Any, **kwargs: Any) -> Any:  # noqa: N802 - the name is the service's
        message = self._stub.Export(*args, **kwargs)
        self._answer.over_grpc(message)
        return message
