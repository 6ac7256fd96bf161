"""Collectors that are dead, slow or lie: agents go on, losses are counted, the end is in time."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from otlp_receiver import grpc_server, http_server, reply

from fleetmon import OTelTracer, Supervisor, configure_tracing

pytestmark = pytest.mark.anyio

TASKS = 300
DEADLINE = 0.5  # seconds that a shutdown may take
SLACK = 1.5  # on a machine that others keep busy


def some_rejected(rejected):
    said = ExportTraceServiceResponse()
    said.partial_success.rejected_spans = rejected
    said.partial_success.error_message = "over quota"
    return said


def of_http(answer):
    """A collector over HTTP that answers in its own way."""

    @contextmanager
    def collector(gate):
        with http_server(lambda handler, body: answer(handler, body, gate)) as endpoint:
            yield endpoint, "http/protobuf"

    return collector


def of_grpc(answer):
    @contextmanager
    def collector(gate):
        with grpc_server(lambda request, context: answer(request, context, gate)) as endpoint:
            yield endpoint, "grpc"

    return collector


def dead(protocol):
    @contextmanager
    def collector(gate):
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        yield f"http://127.0.0.1:{port}", protocol

    return collector


def silent(protocol):
    @contextmanager
    def collector(gate):
        with socket.create_server(("127.0.0.1", 0)) as server:  # accepts and says nothing
            yield f"http://127.0.0.1:{server.getsockname()[1]}", protocol

    return collector


def drips(handler, _body, gate):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    while not gate.wait(0.05):  # each byte in time for any time-out of a read
        handler.wfile.write(b"x")
        handler.wfile.flush()


def hangs_up(handler, _body, _gate):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.close_connection = True


ODD = []  # batches of an odd size, whose greater half was taken: how many there are, time decides


def half(request):
    rejected, odd = divmod(len(request.resource_spans[0].scope_spans[0].spans), 2)
    ODD.extend([1] * odd)
    return some_rejected(rejected)


def rejects_half(handler, body, _gate):
    reply(handler, half(ExportTraceServiceRequest.FromString(body)).SerializeToString())


def grpc_rejects_half(request, _context, _gate):
    return half(request)


def grpc_refuses(_request, context, _gate):
    import grpc

    context.abort(grpc.StatusCode.UNIMPLEMENTED, "no such service")


def grpc_hangs(_request, _context, gate):
    gate.wait(20)
    return ExportTraceServiceResponse()


# what it is, and what becomes of the spans: lost as a whole, or how many are said to be taken
COLLECTORS = {
    "dead": (dead("http/protobuf"), 0),
    "silent": (silent("http/protobuf"), 0),
    "an answer that never ends": (of_http(drips), 0),
    "hangs up": (of_http(hangs_up), 0),
    "500": (of_http(lambda h, *_: reply(h, b"oops", 500)), 0),
    "come back tomorrow": (of_http(lambda h, *_: reply(h, status=503, Retry_After="86400")), 0),
    "redirects": (of_http(lambda h, *_: reply(h, status=302, Location="http://127.0.0.1/")), 0),
    "a web page": (of_http(lambda h, *_: reply(h, b"<html>Welcome", kind="text/html")), 0),
    "garbage": (of_http(lambda h, *_: reply(h, b"\xff\xff\xff\xff")), 0),
    "rejects half": (of_http(rejects_half), TASKS / 2),
    "rejects more than there was": (
        of_http(lambda h, *_: reply(h, some_rejected(10**9).SerializeToString())),
        0,
    ),
    "rejects in JSON": (
        of_http(
            lambda h, *_: reply(
                h, b'{"partialSuccess":{"rejectedSpans":"1000"}}', kind="application/json"
            )
        ),
        0,
    ),
    "says nothing but yes": (of_http(lambda h, *_: reply(h)), TASKS),
    "gRPC: dead": (dead("grpc"), 0),
    "gRPC: silent": (silent("grpc"), 0),
    "gRPC: hangs": (of_grpc(grpc_hangs), 0),
    "gRPC: refuses": (of_grpc(grpc_refuses), 0),
    "gRPC: rejects half": (of_grpc(grpc_rejects_half), TASKS / 2),
}


@pytest.mark.parametrize("kind", COLLECTORS)
async def test_agents_go_on_losses_are_counted_and_the_shutdown_keeps_its_deadline(kind):
    collector, taken = COLLECTORS[kind]
    ODD.clear()
    gate = threading.Event()
    with collector(gate) as (endpoint, protocol):
        tracing = configure_tracing(endpoint=endpoint, protocol=protocol, ratio=1.0)
        async with Supervisor(tracer=OTelTracer(tracing)) as fleet:
            agent = fleet.attach("A")
            slowest = 0.0
            for _ in range(TASKS):
                began = time.monotonic()
                with agent.task("t"):
                    pass
                slowest = max(slowest, time.monotonic() - began)
            assert slowest < SLACK  # the exporter's thread may have the interpreter, no more
            assert agent.snapshot().succeeded == TASKS
            began = time.monotonic()
            deadline = 20 if taken else DEADLINE  # who answers well is given the time
            tracing.shutdown(deadline)
            assert time.monotonic() - began < deadline + SLACK
            # each span is accounted for, once, and /metrics says so
            lost = sum(tracing.lost.values())
            assert fleet.snapshot().fleet.span_drops == tracing.lost
        gate.set()
    assert tracing.exported + lost == TASKS
    assert tracing.exported == taken + len(ODD) / 2


async def test_a_queue_that_a_slow_collector_fills_drops_and_the_agents_do_not_wait(monkeypatch):
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "64")
    gate = threading.Event()

    def slow(handler, _body):
        gate.wait(20)
        reply(handler)

    with http_server(slow) as endpoint:
        tracing = configure_tracing(endpoint=endpoint, ratio=1.0, timeout=20)
        async with Supervisor(tracer=OTelTracer(tracing)) as fleet:
            agent = fleet.attach("A")
            began = time.monotonic()
            for _ in range(1000):
                with agent.task("t"):
                    pass
            assert time.monotonic() - began < 10  # none of them waited for the collector
            assert fleet.snapshot().fleet.span_drops["queue"] >= 1000 - 2 * 64
        gate.set()
        assert tracing.shutdown(20)
    assert tracing.exported + tracing.lost["queue"] == 1000
