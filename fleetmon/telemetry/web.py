"""Traces in and out over HTTP: FastAPI services and httpx clients, by OpenTelemetry's own means.

A request that comes in goes on with its caller's trace, the tasks that it leads to are part of it,
and so is what they ask of other services. The answer names the trace in a header. Needs the extra
``fastapi``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, Span, StatusCode

from fleetmon.errors import FleetmonError
from fleetmon.telemetry.incidents import place
from fleetmon.telemetry.render import message_of, type_of

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from fleetmon.telemetry.app import ASGIApp, Message, Receive, Send
    from fleetmon.telemetry.export import TracingHandle

HEADER = "x-trace-id"
"""Header of an answer that holds the trace id, 32 hex digits."""

_URLS = ("http.url", "http.target", "url.full")
_QUERY = "url.query"

EXCLUDED = "/(metrics|healthz|readyz|livez)/?$"
"""URLs of probes and scrapes: nobody wants a span of each."""


class InstrumentationMissingError(FleetmonError, ImportError):
    """What instruments a library is not installed.

    Attributes:
        library: to be instrumented.
    """

    def __init__(self, library: str) -> None:
        """Name the extra that brings it."""
        super().__init__(
            f"nothing that instruments {library} is installed; pip install 'fleetmon[fastapi]'"
        )
        self.library = library


class TraceIdHeader:
    """ASGI middleware: names the trace of a request in its answer, sampled or not.

    Has to run where the request's span is current: :func:`instrument_fastapi` takes care of that.
    """

    def __init__(self, app: ASGIApp, header: str = HEADER) -> None:
        """Wrap ``app``; ``header`` gets the trace id."""
        # Of this name, so that it can be seen what is wrapped: FastAPI 0.165 and later trace and
        # measure by themselves where there are global providers, and leave that to the stock
        # instrumentation only if they find it below the outermost middleware.
        self.app = app
        self._header = header.lower().encode("latin-1")

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                found = trace.get_current_span().get_span_context()
                if found.is_valid:
                    own = (self._header, trace.format_trace_id(found.trace_id).encode())
                    message = {**message, "headers": [*message.get("headers", ()), own]}
            await send(message)

        await self.app(scope, receive, named)


class _Discreet:
    """Tells of an exception by type and place, before the instrumentation quotes its message."""

    def __init__(self, app: ASGIApp, *, messages: bool) -> None:
        self._app = app
        self._messages = messages

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        span = trace.get_current_span()  # the server's
        try:
            await self._app(scope, receive, send)
        except Exception as error:
            if span.is_recording():
                facts = place(error)
                kind = type_of(error)
                if self._messages:
                    facts["exception.message"] = message_of(error)
                span.add_event("exception", facts)
                span.set_attribute("error.type", kind)
                span.set_status(StatusCode.ERROR, message_of(error) if self._messages else kind)
                # The instrumentation writes into the current span if that is recording. The ids
                # stay; the server's own context is restored further out.
                silent = NonRecordingSpan(span.get_span_context())
                otel_context.attach(trace.set_span_in_context(silent))
            raise


def _without_query(span: Span, *_facts: Any) -> None:
    # stock instrumentation writes the whole URL, and a query may well be a prompt
    if not span.is_recording():
        return
    attributes = getattr(span, "attributes", None) or {}
    for name in _URLS:
        address = attributes.get(name)
        if isinstance(address, str) and "?" in address:
            span.set_attribute(name, address.partition("?")[0])
    if attributes.get(_QUERY):
        span.set_attribute(_QUERY, "")


async def _later_without_query(span: Span, *facts: Any) -> None:
    _without_query(span, *facts)


def _provider(tracing: TracerProvider | TracingHandle | None) -> Any:
    return getattr(tracing, "provider", tracing)


def instrument_fastapi(
    app: Any,
    tracing: TracerProvider | TracingHandle | None = None,
    *,
    meters: MeterProvider | None = None,
    header: str = HEADER,
    excluded: str = EXCLUDED,
    messages: bool = False,
) -> None:
    """Trace and measure a FastAPI application's requests; call it once, before the first of them.

    Each request is one span, a child of its caller's by the headers; the spans that the stock
    instrumentation makes of every ``send`` and ``receive`` are left out. What FastAPI 0.165 and
    later do by themselves where there are global providers (spans, metrics and log records of
    requests) does not happen for this application any more, or each request would count twice.

    Args:
        app: a ``fastapi.FastAPI``.
        tracing: the host's provider, or what ``configure_tracing`` returned; ``None`` for the
            global provider.
        meters: where rate, errors and duration of the requests are measured; ``None`` for the
            global provider. ``OTEL_SEMCONV_STABILITY_OPT_IN=http`` in the environment makes it
            ``http.server.request.duration``.
        header: of every answer, with the trace id; empty for none.
        excluded: regular expressions, separated by commas, of URLs that are not traced.
        messages: put messages of exceptions and query strings into spans, which may quote what
            was asked.

    Raises:
        InstrumentationMissingError: the extra ``fastapi`` is not installed.
    """
    try:
        from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
        from starlette.background import BackgroundTask
    except ImportError as error:
        raise InstrumentationMissingError("FastAPI") from error
    app.add_middleware(_Discreet, messages=messages)
    untouched = "_otel_original_call" not in vars(BackgroundTask)
    FastAPIInstrumentor.instrument_app(
        app,
        tracer_provider=_provider(tracing),
        meter_provider=meters,
        server_request_hook=None if messages else _without_query,
        excluded_urls=excluded,
        exclude_spans=["send", "receive"],
    )
    if untouched and "_otel_original_call" in vars(BackgroundTask):
        # It wraps a class of Starlette's for the whole process, in spans that quote exceptions.
        BackgroundTask.__call__ = BackgroundTask._otel_original_call  # type: ignore[method-assign,attr-defined] # noqa: SLF001 - see above
        del BackgroundTask._otel_original_call  # type: ignore[attr-defined]  # noqa: SLF001 - see above
    if header:
        traced = app.build_middleware_stack
        # outermost, so that the answer to an unforeseen error has it as well
        app.build_middleware_stack = lambda: TraceIdHeader(traced(), header)


def instrument_httpx(
    client: Any = None,
    tracing: TracerProvider | TracingHandle | None = None,
    *,
    messages: bool = False,
) -> None:
    """Trace the requests of an httpx client, and send the trace along in their headers.

    Args:
        client: an ``httpx.Client`` or ``AsyncClient``; ``None`` for all that are made from now on.
        tracing: as of :func:`instrument_fastapi`.
        messages: put query strings into spans.

    Raises:
        InstrumentationMissingError: the extra ``fastapi`` is not installed.
    """
    try:
        import httpx
        from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
    except ImportError as error:
        raise InstrumentationMissingError("httpx") from error
    hook, later = (None, None) if messages else (_without_query, _later_without_query)
    provider = _provider(tracing)
    if client is None:
        HTTPXClientInstrumentor().instrument(
            tracer_provider=provider, request_hook=hook, async_request_hook=later
        )
    else:
        HTTPXClientInstrumentor.instrument_client(
            client,
            tracer_provider=provider,
            request_hook=later if isinstance(client, httpx.AsyncClient) else hook,
        )
