"""A service without a supervisor: any registry, served in both formats off the host's loop."""

from __future__ import annotations

import gzip
import socket
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    enable_created_metrics,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics_latest

from fleetmon import JsonLog, ListenError, configure_tracing, serve_metrics
from fleetmon.numbers import AgentNumbers
from fleetmon.snapshot import FleetReading
from fleetmon.telemetry import LossCollector
from fleetmon.telemetry.collector import FleetCollector

OPENMETRICS = "application/openmetrics-text;version=1.0.0"


@pytest.fixture(autouse=True)
def stock_without_created():
    disable_created_metrics()
    yield
    enable_created_metrics()


@pytest.fixture
def registry():
    registry = CollectorRegistry()
    Counter("calls", "Calls.", ["status"], registry=registry).labels("success").inc(3)
    seconds = Histogram("call_seconds", "Time.", buckets=(0.1, 1), registry=registry)
    seconds.observe(0.5, {"trace_id": "0" * 31 + "1", "span_id": "0" * 15 + "1"})
    return registry


def fetch(url, **headers):
    request = Request(url, headers={k.replace("_", "-"): v for k, v in headers.items()})
    with urlopen(request, timeout=10) as answer:
        return answer.headers, answer.read()


def test_two_lines_serve_a_registry_in_text_openmetrics_and_gzip(registry):
    with serve_metrics(registry, "127.0.0.1:0") as server:
        page = f"{server.url}/metrics"
        headers, body = fetch(page)
        assert body == generate_latest(registry)
        assert headers["content-type"].startswith("text/plain; version=0.0.4")
        headers, body = fetch(page, accept=OPENMETRICS)
        assert body == openmetrics_latest(registry)
        assert body.count(b' # {span_id="0000000000000001",trace_id="00000000') == 1
        headers, body = fetch(page, accept_encoding="gzip")
        assert gzip.decompress(body) == generate_latest(registry)
        _, body = fetch(f"{page}?name[]=calls_total")
        assert b"call_seconds" not in body
        assert b'calls_total{status="success"} 3.0' in body
    with pytest.raises(OSError):
        fetch(page)


def test_probes_answer_for_a_service_of_any_name(registry):
    well = True
    with serve_metrics(registry, "127.0.0.1:0", name="ryot", ready=lambda: well) as server:
        assert fetch(f"{server.url}/readyz")[1] == b"ryot: ready\n"
        well = False
        with pytest.raises(HTTPError, match="503"):
            fetch(f"{server.url}/readyz")
        assert fetch(f"{server.url}/healthz")[1] == b"alive\n"


def test_a_fleet_on_the_served_registry_is_not_left_out(registry):
    class Source:
        name = "fleet"

        def agents(self):
            return [AgentNumbers("A", now=0.0)]

        def now(self):
            return 1.0

        def fleet(self):
            return FleetReading(0, 0, 0, 0, {}, 0, 0, 0, 0, 0, 0, False)

    registry.register(FleetCollector(Source()))
    with serve_metrics(registry, "127.0.0.1:0") as server:
        assert b'agents_health_status{agent_id="A"} 0.0' in fetch(f"{server.url}/metrics")[1]


def test_a_collector_that_raises_fails_the_scrape_and_is_logged_once(registry, caplog):
    class Broken:
        on = True

        def describe(self):
            return ()

        def collect(self):
            if self.on:
                raise RuntimeError("no such device")
            return ()

    broken = Broken()
    registry.register(broken)
    with serve_metrics(registry, "127.0.0.1:0") as server:
        for _ in range(2):
            with pytest.raises(HTTPError, match="500"):
                fetch(f"{server.url}/metrics")
        assert [record.exc_info[0] for record in caplog.records] == [RuntimeError]
        broken.on = False
        assert fetch(f"{server.url}/metrics")[1] == generate_latest(registry)


def test_an_address_in_use_is_the_callers_error(registry):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ListenError, match=f"127.0.0.1:{port}"):
            serve_metrics(registry, f"127.0.0.1:{port}")


def test_creation_times_are_left_out_whatever_the_process_has_set(registry):
    enable_created_metrics()
    Counter("later", "Made while they are on.", registry=registry).inc()
    with serve_metrics(registry, "127.0.0.1:0") as server:
        for accept in ("text/plain", OPENMETRICS):
            body = fetch(f"{server.url}/metrics", accept=accept)[1]
            assert b"later_total 1.0" in body
            assert b"_created" not in body


def test_losses_of_lines_and_spans_are_told_without_a_supervisor(registry):
    tracing = configure_tracing(endpoint="http://127.0.0.1:9", ratio=1.0)
    log = JsonLog()
    registry.register(LossCollector(logs=log, tracing=tracing))
    with serve_metrics(registry, "127.0.0.1:0") as server:
        before = fetch(f"{server.url}/metrics")[1]
        log.close()
        tracing.shutdown()
        log.line("too late")
        tracing.provider.get_tracer("t").start_span("too late").end()
        after = fetch(f"{server.url}/metrics")[1]
    for line in (
        b'fleetmon_log_drops_total{kind="closed"}',
        b'_span_drops_total{cause="shutdown"}',
    ):
        assert line + b" 0.0" in before
        assert line + b" 1.0" in after
