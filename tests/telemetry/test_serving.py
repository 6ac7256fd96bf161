"""/metrics, /healthz and /readyz over real sockets, and what a host or a client may do to them."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import logging
import os
import socket
import threading
import time
import warnings
from urllib.parse import urlsplit

import anyio
import pytest
from prometheus_client import (
    CollectorRegistry,
    Counter,
    disable_created_metrics,
    enable_created_metrics,
)
from prometheus_client.exposition import generate_latest
from starlette.applications import Starlette
from starlette.routing import Mount

from fleetmon.errors import FleetmonError, ListenError
from fleetmon.numbers import AgentNumbers
from fleetmon.snapshot import FleetReading
from fleetmon.telemetry.app import metrics_app
from fleetmon.telemetry.collector import FleetCollector
from fleetmon.telemetry.exposition import Renderer
from fleetmon.telemetry.server import MetricsServer

OPENMETRICS = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2"


class Source:
    name = "test"

    def __init__(self, agents=2):
        self.numbers = [AgentNumbers(f"a{i}", now=0.0, task_types=["t"]) for i in range(agents)]
        self.is_ready = True

    def agents(self):
        return self.numbers

    def now(self):
        return 1.0

    def fleet(self):
        return FleetReading(0, 0, 0, 0, {}, 0, 0, 0, 0, 0, 0, False)

    def ready(self):
        return self.is_ready


@pytest.fixture
def source():
    return Source()


@pytest.fixture
def server(source):
    server = MetricsServer(metrics_app(source), "127.0.0.1:0")
    server.start()
    yield server
    server.close()


def fetch(url, path, method="GET", **headers):
    parts = urlsplit(url)
    with contextlib.closing(
        http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
    ) as connection:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, headers=named)
        response = connection.getresponse()
        return response.status, dict(response.headers), response.read()


def expected(source, names=None):
    return b"".join(Renderer(source).render(names=names))


def test_serves_text_openmetrics_and_gzip_as_asked(server, source):
    status, headers, body = fetch(server.url, "/metrics")
    assert (status, body) == (200, expected(source))
    assert headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    status, headers, body = fetch(server.url, "/metrics", accept=OPENMETRICS)
    assert headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert body.endswith(b"# EOF\n")
    status, headers, body = fetch(server.url, "/metrics", accept_encoding="deflate, gzip;q=0.5")
    assert headers["content-encoding"] == "gzip"
    assert gzip.decompress(body) == expected(source)


@pytest.mark.parametrize("accept", ["application/openmetrics-text;version=x", "", "*/*"])
def test_an_accept_header_that_means_nothing_gets_plain_text(server, source, accept):
    status, headers, body = fetch(server.url, "/metrics", accept=accept)
    assert (status, body) == (200, expected(source))
    assert headers["content-type"].startswith("text/plain")


def test_head_has_the_headers_and_no_body(server):
    for path in ("/metrics", "/healthz", "/readyz"):
        status, headers, body = fetch(server.url, path, "HEAD")
        assert (status, body) == (200, b"")
        assert headers["content-type"].startswith("text/plain")


def test_other_paths_and_methods_are_refused(server):
    assert fetch(server.url, "/")[0] == 404
    assert fetch(server.url, "/metrics/x")[0] == 404
    status, headers, _ = fetch(server.url, "/metrics", "POST")
    assert (status, headers["allow"]) == (405, "GET, HEAD")


def test_readyz_follows_the_fleet_and_healthz_does_not(server, source):
    assert fetch(server.url, "/readyz")[::2] == (200, b"test: ready\n")
    source.is_ready = False
    assert fetch(server.url, "/readyz")[::2] == (503, b"test: not ready\n")
    assert fetch(server.url, "/healthz")[0] == 200


def test_names_in_the_query_restrict_the_answer(server, source):
    _, _, body = fetch(server.url, "/metrics?name[]=agents_health_status")
    assert body == expected(source, {"agents_health_status"})
    assert body.count(b"# TYPE") == 1
    many = "&".join(f"name[]=x{i}" for i in range(200))
    assert fetch(server.url, f"/metrics?{many}")[2] == expected(source)


def test_a_failure_to_render_is_a_500_and_the_next_scrape_works(server, source):
    agents, source.agents = source.agents, None
    assert fetch(server.url, "/metrics")[0] == 500
    source.agents = agents
    assert fetch(server.url, "/metrics")[0] == 200


def test_other_families_of_the_registry_follow_ours(source):
    registry = CollectorRegistry()
    registry.register(FleetCollector(source))
    Counter("host_requests", "Requests.", registry=registry).inc()
    disable_created_metrics()  # served without them, whatever the process has set
    try:
        stock = generate_latest(registry)
    finally:
        enable_created_metrics()
    server = MetricsServer(metrics_app(source, registry), "127.0.0.1:0")
    server.start()
    try:
        assert fetch(server.url, "/metrics")[2] == stock
        assert (
            b"host_requests_total 1.0\n"
            in fetch(server.url, "/metrics?name[]=host_requests_total", accept=OPENMETRICS)[2]
        )
    finally:
        server.close()


def test_a_port_in_use_raises_in_the_caller_at_once(server):
    address = server.url.removeprefix("http://")
    with pytest.raises(ListenError, match="choose another port") as caught:
        MetricsServer(metrics_app(Source()), address).start()
    assert caught.value.address == address
    assert isinstance(caught.value, FleetmonError)


@pytest.mark.parametrize(
    "listen", ["9003", ":9003", "host:port", "127.0.0.1:70000", "no.invalid:1"]
)
def test_what_is_no_address_is_refused_by_name(listen):
    with pytest.raises(ListenError) as caught:
        MetricsServer(metrics_app(Source()), listen).start()
    assert listen in str(caught.value)


def test_ipv6_is_served():
    server = MetricsServer(metrics_app(Source()), "[::1]:0")
    try:
        server.start()
    except ListenError as error:
        pytest.skip(f"no IPv6 here: {error}")
    try:
        assert server.url.startswith("http://[::1]:")
        assert fetch(server.url, "/healthz")[0] == 200
    finally:
        server.close()


def test_start_and_close_are_idempotent_and_the_port_is_free_afterwards(source):
    server = MetricsServer(metrics_app(source), "127.0.0.1:0")
    assert server.url == ""
    server.start()
    url = server.url
    server.start()
    assert server.url == url
    idle = socket.create_connection((urlsplit(url).hostname, urlsplit(url).port), timeout=10)
    server.close()
    server.close()
    assert server.url == ""
    with contextlib.suppress(ConnectionResetError):
        assert idle.recv(1) == b""
    idle.close()
    again = MetricsServer(metrics_app(source), url.removeprefix("http://"))
    again.start()
    again.close()
    assert not [t for t in threading.enumerate() if t.name == "fleetmon-metrics"]


@pytest.mark.anyio
async def test_answers_while_the_loop_of_the_host_is_blocked(server, source):
    answers = []
    scraper = threading.Thread(target=lambda: answers.append(fetch(server.url, "/metrics")))
    scraper.start()
    scraper.join(10)  # blocks this loop until the answer is there
    assert answers[0][::2] == (200, expected(source))


@pytest.mark.anyio
async def test_mounted_in_an_application_it_answers_below_its_path(source):
    app = metrics_app(source)
    host = Starlette(routes=[Mount("/metrics", app), Mount("/fleet", app)])
    assert (await call(host, "/metrics/"))[0] == 200
    assert await call(host, "/fleet/metrics") == (200, expected(source))
    assert await call(host, "/fleet/readyz") == (200, b"test: ready\n")
    assert (await call(host, "/fleet/"))[0] == 404


async def call(app, path, gone=None, sent=None):
    messages = [] if sent is None else sent

    async def receive():
        if gone is None:
            await anyio.sleep_forever()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        messages.append(message)
        if gone is not None and message.get("more_body"):
            gone.set()
        await anyio.lowlevel.checkpoint()

    await app(
        {
            "type": "http",
            "path": path,
            "root_path": "",
            "method": "GET",
            "headers": [],
            "query_string": b"",
        },
        receive,
        send,
    )
    return messages[0]["status"], b"".join(m.get("body", b"") for m in messages[1:])


@pytest.mark.anyio
async def test_a_client_that_left_is_rendered_for_no_longer():
    app = metrics_app(Source(agents=2000))
    gone = anyio.Event()
    sent = []
    await call(app, "/metrics", gone, sent)
    assert len(sent) < 5
    assert all(message.get("more_body", True) for message in sent)


def test_clients_that_do_not_send_or_do_not_take_are_cut(caplog):
    source = Source(agents=4000)  # far more text than a socket's buffers hold
    server = MetricsServer(metrics_app(source), "127.0.0.1:0", patience=0.2)
    server.start()
    try:
        address = (urlsplit(server.url).hostname, urlsplit(server.url).port)
        silent, partial = (socket.create_connection(address, timeout=10) for _ in range(2))
        partial.sendall(b"GET /metrics HT")
        stuck = socket.socket()
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.connect(address)
        stuck.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        for client in (silent, partial):
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(1) == b""
            client.close()
        (state,) = server._thread._states
        deadline = time.monotonic() + 10
        while (state.connections or state.tasks) and time.monotonic() < deadline:
            fetch(server.url, "/healthz", connection="close")
        assert not state.tasks
        stuck.close()
    finally:
        server.close()
    assert not caplog.records


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_has_neither_the_port_nor_the_connections(server, source):
    address = (urlsplit(server.url).hostname, urlsplit(server.url).port)
    open_client = http.client.HTTPConnection(*address, timeout=10)
    open_client.request("GET", "/healthz")
    open_client.getresponse().read()
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns of forks beside threads
        child = os.fork()
    if child == 0:  # only writes what it sees and leaves: the test's own machinery is not its
        try:
            held = 0
            for number in range(1024):
                with contextlib.suppress(OSError):
                    end = socket.socket(fileno=os.dup(number))
                    held += end.getsockname()[:2] == address
            fresh = MetricsServer(metrics_app(source), "127.0.0.1:0")
            fresh.start()
            status = fetch(fresh.url, "/healthz")[0]
            fresh.close()
            os.write(write, f"{server.url!r} {held} {status}".encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 100) == b"'' 0 200"
    os.close(read)
    os.close(write)
    open_client.close()
    assert fetch(server.url, "/metrics")[::2] == (200, expected(source))


def test_logging_of_the_host_is_left_alone(source, caplog):
    access = logging.getLogger("uvicorn.access")
    before = (access.handlers[:], access.propagate, access.level)
    caplog.set_level(logging.DEBUG)
    server = MetricsServer(metrics_app(source), "127.0.0.1:0")
    server.start()
    fetch(server.url, "/metrics")
    server.close()
    assert (access.handlers, access.propagate, access.level) == before
    assert not [r for r in caplog.records if r.name.startswith("uvicorn")]


@pytest.mark.parametrize(("ends", "told"), [(True, 0), (False, 1)])
def test_an_accept_that_waited_for_descriptors_says_nothing_of_a_server_that_has_ended(
    source, caplog, ends, told
):
    server = MetricsServer(metrics_app(source), "127.0.0.1:0")
    server.start()
    thread, done = server._thread, threading.Event()
    gone = socket.socket()
    gone.close()

    def a_second_later():  # this is what asyncio does with a listener for which there was none
        if ends:
            thread._stop.set()
        thread._loop.call_soon(thread._loop._start_serving, None, gone)
        thread._loop.call_soon(done.set)

    thread.call_soon(a_second_later)
    assert done.wait(20)
    server.close()
    assert len([r for r in caplog.records if "_start_serving" in r.getMessage()]) == told
