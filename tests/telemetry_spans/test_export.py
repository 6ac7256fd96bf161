from __future__ import annotations

import gzip
import os
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from fleetmon.errors import SpecError
from fleetmon.telemetry.export import ExporterMissingError, configure_tracing
from fleetmon.telemetry.tracing import OTelTracer


@pytest.fixture(autouse=True)
def no_otel_variables(monkeypatch):
    for name in list(os.environ):
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)


@pytest.fixture
def collector():
    requests, paths = [], []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            paths.append(self.path)
            requests.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", requests, paths
    server.shutdown()
    thread.join()
    server.server_close()


def run_spans(handle, count):
    tracer = handle.provider.get_tracer("test")
    for _ in range(count):
        tracer.start_span("x").end()


def test_spans_arrive_as_official_protobuf_and_are_counted(collector):
    endpoint, requests, paths = collector
    handle = configure_tracing("svc", endpoint=endpoint, ratio=1.0, headers={"k": "v"})
    run_spans(handle, 3)
    assert handle.flush(10)
    assert handle.shutdown(10)
    resource = requests[0].resource_spans[0]
    names = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
    assert names["service.name"] == "svc"
    spans = [span for r in requests for span in r.resource_spans[0].scope_spans[0].spans]
    assert len(spans) == handle.exported == 3
    assert all(len(span.trace_id) == 16 and len(span.span_id) == 8 for span in spans)
    assert set(paths) == {"/v1/traces"}
    assert handle.lost == {}
    run_spans(handle, 2)
    assert handle.lost == {"shutdown": 2}


def test_environment_is_honoured_and_arguments_win(collector, monkeypatch):
    endpoint, requests, _ = collector
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "from-env")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_on")
    handle = configure_tracing()
    run_spans(handle, 1)
    assert handle.shutdown(10)
    assert handle.exported == len(requests) == 1
    assert handle.provider.resource.attributes["service.name"] == "from-env"
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    quiet = configure_tracing("mine", ratio=0.25)
    assert quiet.provider.resource.attributes["service.name"] == "mine"
    assert "0.25" in quiet.provider.sampler.get_description()
    assert quiet.shutdown()
    monkeypatch.delenv("OTEL_TRACES_SAMPLER")
    default = configure_tracing()
    assert "root:TraceIdRatioBased{0.1}" in default.provider.sampler.get_description()
    default.shutdown()


def test_global_provider_is_left_alone_and_the_disabled_sdk_still_gives_ids(monkeypatch):
    before = trace.get_tracer_provider()
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    handle = configure_tracing()
    assert trace.get_tracer_provider() is before
    assert type(OTelTracer(handle.provider)._tracer) is trace.NoOpTracer
    handle.shutdown()


def test_dead_collector_does_not_hold_up_a_shutdown_beyond_its_deadline():
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts and never answers
        port = silent.getsockname()[1]
        handle = configure_tracing(endpoint=f"http://127.0.0.1:{port}", ratio=1.0, timeout=30)
        run_spans(handle, 5)
        assert not handle.flush(0.05)
        started = time.monotonic()
        assert not handle.shutdown(0.3)
        assert time.monotonic() - started < 1.0
        assert handle.lost == {"shutdown": 5}
        assert handle.exported == 0


def test_refused_connections_count_as_failed_exports_within_the_deadline(caplog):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    handle = configure_tracing(endpoint=f"http://127.0.0.1:{port}", ratio=1.0)
    run_spans(handle, 5)
    started = time.monotonic()
    handle.shutdown(0.5)
    assert time.monotonic() - started < 1.5
    assert sum(handle.lost.values()) == 5


def test_full_queue_drops_and_counts_without_blocking(monkeypatch):
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "4")
    gate, seen = threading.Event(), []

    class Slow(SpanExporter):
        def export(self, spans):
            gate.wait(10)
            seen.extend(spans)
            return SpanExportResult.SUCCESS

        def shutdown(self):
            pass

    handle = configure_tracing(ratio=1.0, exporter=Slow())
    run_spans(handle, 100)
    assert handle.lost["queue"] >= 90
    gate.set()
    assert handle.shutdown(10)
    assert len(seen) + handle.lost["queue"] == 100


def test_exporter_that_raises_loses_its_batch_and_lives_on():
    class Broken(SpanExporter):
        def export(self, spans):
            raise RuntimeError

        def shutdown(self):
            pass

    handle = configure_tracing(ratio=1.0, exporter=Broken())
    run_spans(handle, 3)
    assert handle.flush(10)
    run_spans(handle, 2)
    assert handle.shutdown(10)
    assert handle.lost == {"export": 5}


def test_wrong_settings_and_missing_extras_name_the_fix(monkeypatch):
    with pytest.raises(SpecError, match=r"ratio 1\.5 is not between 0 and 1"):
        configure_tracing(ratio=1.5)
    with pytest.raises(SpecError, match="http/protobuf"):
        configure_tracing(protocol="carrier-pigeon")
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.exporter.otlp.proto.http", None)
    monkeypatch.delitem(
        __import__("sys").modules,
        "opentelemetry.exporter.otlp.proto.http.trace_exporter",
        raising=False,
    )
    with pytest.raises(ExporterMissingError, match=r"pip install 'fleetmon\[otlp\]'"):
        configure_tracing()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_forked_child_exports_its_own_spans_only():
    gate = threading.Event()

    class Counting(SpanExporter):
        seen = 0

        def export(self, spans):
            gate.wait(10)
            self.seen += len(spans)
            return SpanExportResult.SUCCESS

        def shutdown(self):
            pass

    exporter = Counting()
    handle = configure_tracing(ratio=1.0, exporter=exporter)
    run_spans(handle, 3)
    child = os.fork()
    if child == 0:
        gate.set()
        run_spans(handle, 2)
        done = handle.shutdown(5) and exporter.seen == 2
        os._exit(0 if done else 1)
    gate.set()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert handle.shutdown(10)
    assert exporter.seen == 3
