"""A receiver of OTLP spans, over HTTP and gRPC, on the official protobuf schema and free ports."""

from __future__ import annotations

import gzip
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Kinds

SAMPLED = 1  # of a traceparent's flags; other bits may be set beside it
REMOTE_PARENT = 0x200  # of a span's flags on the wire, where stock Python exporters tell no more


@dataclass(frozen=True)
class Received:
    """One span as it came over the wire."""

    service: str
    resource: dict
    scope: str
    raw: object

    @property
    def name(self):
        return self.raw.name

    @property
    def kind(self):
        return Kinds.SpanKind.Name(self.raw.kind).removeprefix("SPAN_KIND_")

    @property
    def trace_id(self):
        return self.raw.trace_id.hex()

    @property
    def span_id(self):
        return self.raw.span_id.hex()

    @property
    def parent_id(self):
        return self.raw.parent_span_id.hex()

    @property
    def attributes(self):
        return plain(self.raw.attributes)

    @property
    def events(self):
        return [event.name for event in self.raw.events]

    @property
    def links(self):
        return [(link.trace_id.hex(), link.span_id.hex()) for link in self.raw.links]


def plain(pairs):
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


class Receiver:
    """What has arrived, over either transport."""

    def __init__(self):
        self.requests = []
        self.headers = []
        self._arrived = threading.Condition()

    def take(self, request, headers):
        with self._arrived:
            self.requests.append(request)
            self.headers.append({name.lower(): value for name, value in headers.items()})
            self._arrived.notify_all()

    @property
    def spans(self):
        return [
            Received(
                plain(resource.resource.attributes)["service.name"],
                plain(resource.resource.attributes),
                scope.scope.name,
                span,
            )
            for request in list(self.requests)
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def named(self, name):
        return [span for span in self.spans if span.name == name]

    def one(self, name):
        (span,) = self.named(name)
        return span

    def until(self, condition, within=20.0):
        """Wait until the spans that have arrived fulfil the condition; return them."""
        end = time.monotonic() + within
        with self._arrived:
            while not condition(self.spans):
                left = end - time.monotonic()
                assert left > 0, [span.name for span in self.spans]
                self._arrived.wait(left)
        return self.spans


@contextmanager
def http_server(take):
    """Serve POSTs: ``take(handler, body)`` answers."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            take(self, body)

        def log_message(self, *args):
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, request, client_address):
            pass  # a client that has left

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def reply(handler, body=b"", status=200, kind="application/x-protobuf", **headers):
    handler.send_response(status)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(body)))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


@contextmanager
def over_http(receiver):
    def take(handler, body):
        assert handler.path == "/v1/traces"
        receiver.take(ExportTraceServiceRequest.FromString(body), dict(handler.headers))
        reply(handler, ExportTraceServiceResponse().SerializeToString())

    with http_server(take) as endpoint:
        yield endpoint


@contextmanager
def grpc_server(export):
    """Serve the trace service: ``export(request, context)`` answers."""
    grpc = pytest.importorskip("grpc", reason="the extra otlp-grpc is not installed")
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as service

    servicer = service.TraceServiceServicer()
    servicer.Export = export
    server = grpc.server(ThreadPoolExecutor(2))
    service.add_TraceServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop(None).wait(5)


@contextmanager
def over_grpc(receiver):
    def export(request, context):
        receiver.take(request, dict(context.invocation_metadata()))
        return ExportTraceServiceResponse()

    with grpc_server(export) as endpoint:
        yield endpoint


TRANSPORTS = {"http/protobuf": over_http, "grpc": over_grpc}
