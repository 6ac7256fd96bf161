"""FastAPI and httpx instrumented in one line each: what is traced, what is not, what is told."""

from __future__ import annotations

import contextlib

import anyio
import pytest

from fleetmon import Supervisor
from fleetmon.telemetry import instrument_fastapi, instrument_httpx
from fleetmon.telemetry.web import InstrumentationMissingError
from fleetmon.testing import SpanCapture

fastapi = pytest.importorskip("fastapi", reason="the extra fastapi is not installed")
httpx = pytest.importorskip("httpx", reason="the extra fastapi is not installed")
pytest.importorskip("opentelemetry.instrumentation.fastapi", reason="the extra is not installed")

pytestmark = pytest.mark.anyio

SECRET = "MARKER-web-51c2"
PARENT = f"00-{'ab' * 16}-{'cd' * 8}-"


@pytest.fixture
def spans():
    return SpanCapture()


def app_of(spans, **options):
    app = fastapi.FastAPI()

    @app.get("/metrics")
    @app.get("/fine")
    async def fine():
        return {"fine": True}

    @app.get("/fails")
    async def fails():
        raise RuntimeError(SECRET)

    @app.get("/later")
    async def later(tasks: fastapi.BackgroundTasks):
        tasks.add_task(lambda: None)

    instrument_fastapi(app, spans.provider, **options)
    return app


@contextlib.asynccontextmanager
async def client_of(app):
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


@pytest.mark.parametrize("flags", ["00", "01", "02", "03"])
async def test_every_answer_names_its_trace_sampled_or_not(spans, flags):
    async with client_of(app_of(spans)) as client:
        for path, status in (("/fine", 200), ("/nowhere", 404), ("/fails", 500)):
            answer = await client.get(path, headers={"traceparent": PARENT + flags})
            assert (answer.status_code, answer.headers["x-trace-id"]) == (status, "ab" * 16)
    assert len(spans.spans) == (3 if int(flags, 16) & 1 else 0)


async def test_requests_are_measured_where_the_host_wants_it(spans):
    exporter = pytest.importorskip("opentelemetry.exporter.prometheus")
    from opentelemetry.sdk.metrics import MeterProvider
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry()
    meters = MeterProvider([exporter.PrometheusMetricReader(registry=registry)])
    async with client_of(app_of(spans, meters=meters)) as client:
        for path in ("/fine", "/fine", "/fails", "/metrics"):
            await client.get(path)
    counts = [
        line
        for line in generate_latest(registry).decode().splitlines()
        # with OTEL_SEMCONV_STABILITY_OPT_IN=http: http_server_request_duration_seconds
        if line.startswith(("http_server_duration_milliseconds_count", "http_server_request_dur"))
        and "_count{" in line
    ]
    assert sorted(line.rsplit(" ", 1)[1] for line in counts) == ["1.0", "2.0"]
    meters.shutdown()


async def test_a_request_counts_once_although_fastapi_would_measure_it_by_itself(
    spans, monkeypatch
):
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    reader = InMemoryMetricReader()
    meters = MeterProvider([reader])
    monkeypatch.setattr("opentelemetry.metrics.get_meter_provider", lambda: meters)
    monkeypatch.setattr("opentelemetry.trace.get_tracer_provider", lambda: spans.provider)
    async with client_of(app_of(spans, meters=meters)) as client:
        await client.get("/fine")
        await client.get("/metrics")
    assert [span.name for span in spans.spans] == ["GET /fine"]
    counted = [
        (metric.name, point.count)
        for resource in reader.get_metrics_data().resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if "duration" in metric.name
        for point in metric.data.data_points
    ]
    assert [count for _, count in counted] == [1], counted


async def test_a_request_is_one_span_and_probes_and_scrapes_are_none(spans):
    async with client_of(app_of(spans, header="x-request")) as client:
        assert "x-request" not in (await client.get("/metrics?name[]=x")).headers
        answer = await client.get("/fine")
        await client.get("/later")
    assert [span.name for span in spans.spans] == ["GET /fine", "GET /later"]
    assert answer.headers["x-request"] == f"{spans.spans[0].context.trace_id:032x}"


@pytest.mark.parametrize("messages", [False, True])
async def test_an_exception_is_told_by_type_and_place_and_quoted_only_if_asked(spans, messages):
    async with client_of(app_of(spans, messages=messages)) as client:
        assert (await client.get("/fails")).status_code == 500
    (span,) = spans.spans
    assert span.attributes["error.type"] == "RuntimeError"
    (event,) = span.events
    assert event.attributes["exception.type"] == "RuntimeError"
    assert event.attributes["code.function.name"].endswith("fails")
    assert (SECRET in span.to_json()) == messages


@pytest.mark.parametrize("messages", [False, True])
@pytest.mark.parametrize("names", ["", "http"])
async def test_query_strings_stay_out_of_spans_unless_asked(spans, monkeypatch, messages, names):
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", names)
    from opentelemetry.instrumentation import _semconv

    stability = _semconv._OpenTelemetrySemanticConventionStability
    monkeypatch.setattr(stability, "_initialized", False)
    monkeypatch.setattr(stability, "_OTEL_SEMCONV_STABILITY_SIGNAL_MAPPING", {})
    app = app_of(spans, messages=messages)
    async with client_of(app) as client:
        instrument_httpx(client, spans.provider, messages=messages)
        await client.get(f"/fine?prompt={SECRET}")
    server, request = (span.to_json() for span in spans.spans)
    for text in (server, request):
        assert (SECRET in text) == messages
        assert "/fine" in text


def test_a_synchronous_client_is_as_discreet(spans):
    transport = httpx.MockTransport(lambda _request: httpx.Response(200))
    with httpx.Client(transport=transport, base_url="http://test") as client:
        instrument_httpx(client, spans.provider)
        client.get("/", params={"prompt": SECRET})
    (span,) = spans.spans
    assert SECRET not in span.to_json()


async def test_what_is_instrumented_is_the_application_and_not_the_process(spans):
    from starlette.background import BackgroundTask

    before = BackgroundTask.__call__
    app_of(spans)
    assert BackgroundTask.__call__ is before
    async with client_of(fastapi.FastAPI()) as client:
        assert "x-trace-id" not in (await client.get("/fine")).headers
    assert spans.spans == ()


async def test_agents_behind_a_route_and_a_service_behind_an_agent_are_one_trace(spans):
    async with Supervisor(tracer=spans.tracer) as fleet:
        inner, outer = app_of(spans), fastapi.FastAPI()
        agent = fleet.attach("A")
        async with client_of(inner) as below:
            instrument_httpx(below, spans.provider)

            @outer.get("/outer")
            async def ask():
                with agent.task("ask"):
                    return (await below.get("/fine")).json()

            instrument_fastapi(outer, spans.provider)
            async with client_of(outer) as client:
                assert (await client.get("/outer")).json() == {"fine": True}
    chain = [span.name for span in spans.spans]
    assert chain == ["GET /fine", "GET", "invoke_agent A", "GET /outer"]
    parents = [span.parent.span_id for span in spans.spans[:3]]
    assert parents == [span.context.span_id for span in spans.spans[1:]]
    assert len({span.context.trace_id for span in spans.spans}) == 1


async def test_concurrent_requests_keep_their_traces_apart(spans):
    ids = []

    async def ask(client):
        ids.append((await client.get("/fine")).headers["x-trace-id"])

    async with client_of(app_of(spans)) as client, anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(ask, client)
    assert len(set(ids)) == 20


def test_without_the_extra_the_error_names_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.instrumentation.fastapi", None)
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.instrumentation.httpx", None)
    with pytest.raises(InstrumentationMissingError, match=r"fleetmon\[fastapi\]"):
        instrument_fastapi(None)
    with pytest.raises(InstrumentationMissingError, match=r"fleetmon\[fastapi\]"):
        instrument_httpx()
