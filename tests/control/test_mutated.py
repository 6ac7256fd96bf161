"""Random and mutated requests, on the socket and straight into the application: never a 5xx.

Some thousands in the ordinary run, hundreds of thousands with ``make fuzz``.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket

import pytest
from fuzz_host import NAMES, WEBHOOK
from helpers_control import Echo
from helpers_fuzz import FUZZ, GROWTH, report
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetmon import Supervisor, SupervisorSettings
from fleetmon.control.app import ControlPlane
from fleetmon.control.client import order, retry
from fleetmon.control.secrets import Token
from fleetmon.settings import AlertWebhook

TIMES = max(1, FUZZ)

ALERT = {
    "version": "4",
    "alerts": [
        {
            "status": "firing", "labels": {"agent_id": "APEX", "fleetmon_command": "reset"},
            "annotations": {}, "startsAt": "2026-01-01T00:00:00Z", "fingerprint": "f1",
        }
    ],
}  # fmt: skip

# method, target, body
BASES = [
    ("GET", "/v1/hello", b""),
    ("GET", "/v1/snapshot", b""),
    ("GET", "/v1/snapshot?view=brief", b""),
    ("GET", "/v1/agents/APEX", b""),
    ("GET", "/v1/agents/%41PEX?x=%00", b""),
    ("GET", "/v1/events?since=3&follow=0&agent=APEX&kind=command", b""),
    ("GET", "/v1/events?since=0&epoch=abc&follow=1", b""),
    ("GET", "/v1/stream?since=1&epoch=abc&events=1&rate=9.5", b""),
    ("GET", "/v1/dead-letters", b""),
    ("GET", "/v1/config", b""),
    ("HEAD", "/v1/metrics", b""),
    ("GET", "/v1/openapi.json", b""),
    ("POST", "/v1/command", order("pause", "APEX", actor="ann", reason="why").body(0.0)),
    ("POST", "/v1/command", order("restart", "CIPHER", generation=1, timeout=1.5).body(0.0)),
    ("POST", "/v1/dead-letters/retry", retry(3, agent_id="SENTRY").body(0.0)),
    ("POST", "/v1/alertmanager", json.dumps(ALERT).encode()),
]
JUNK = st.binary(max_size=8) | st.sampled_from([
    b"", b"\r\n", b"\r\n\r\n", b"\0", b"%00", b"%ff", b"\xff\xfe", b"{", b"[" * 40, b'"',
    b"null", b"-1", b"1e999", b"NaN", b"\\ud800", b"9" * 40, b"..", b"//", b"?", b"#", b" ",
    b"&", b"=",
    b"Content-Length: 99999999999999999999\r\n", b"Content-Length: -1\r\n",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n", b"Expect: 100-continue\r\n",
    b"Upgrade: websocket\r\nConnection: Upgrade\r\n", b"HTTP/2.0", b"Host: evil.example\r\n",
    b"Fleetmon-Protocol: 99\r\n", b"Origin: null\r\n", b"Accept: text/event-stream\r\n",
])  # fmt: skip
MUTATIONS = st.lists(
    st.tuples(st.integers(0, 600), st.integers(0, 12), JUNK), min_size=8, max_size=12
)


def mutated(text, mutations):
    """Yield a text after each of some mutations: cut a piece out there, put junk in its place."""
    for where, length, junk in mutations:
        at = where % (len(text) + 1)
        text = text[:at] + junk + text[at + length :]
        yield text


def raw(method, target, body):
    kind = "Content-Type: application/json\r\n" if body else ""
    head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{kind}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def talk(path, text):
    """Return the statuses of what the server says to a text and the end of our side."""
    told = b""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(8)
        sock.connect(path)
        try:
            sock.sendall(text)
            sock.shutdown(socket.SHUT_WR)
            while piece := sock.recv(65536):
                told += piece
        except (BrokenPipeError, ConnectionResetError):
            pass
    return [int(code) for code in re.findall(rb"^HTTP/1\.1 (\d{3}) ", told, re.MULTILINE)]


def test_mutated_requests_on_the_socket_never_end_in_a_server_error(fuzzed):
    count, grown = 0, 0
    before = {"once": 0}

    @settings(max_examples=40 * TIMES, deadline=None, database=None)
    @given(st.sampled_from(BASES), MUTATIONS)
    def exchange(base, mutations):
        nonlocal count
        for text in mutated(raw(*base), mutations):
            codes = talk(fuzzed.path, text)
            assert all(100 <= code < 500 for code in codes), text
            count += 1
        if count > 200:
            before["once"] = before["once"] or fuzzed.resident()

    exchange()
    grown = fuzzed.resident() - before["once"]
    report(f"{count} on the socket", f"{grown} bytes")
    assert grown < GROWTH


class Straight:
    """The application without a server: what a carrier hands on, whatever that is."""

    def __init__(self, fleet):
        webhook = AlertWebhook(enabled=True, token=WEBHOOK)
        plane = ControlPlane(fleet)
        self.app = plane.app(hosts=None, webhook=(webhook, Token(WEBHOOK)))

    async def ask(self, method, path, query, headers, pieces):
        told, gone = [], asyncio.Event()
        waiting = list(pieces)

        async def receive():
            if waiting:
                piece = waiting.pop(0)
                return {"type": "http.request", "body": piece, "more_body": bool(waiting)}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            told.append(message)
            if len(told) > 1:  # an endless one has shown what it does
                gone.set()

        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method,
            "path": path, "raw_path": path.encode("utf-8", "replace"), "root_path": "",
            "query_string": query, "headers": headers, "scheme": "http",
            "server": ("localhost", 80), "client": ("127.0.0.1", 1), "state": {},
        }  # fmt: skip
        async with asyncio.timeout(8):
            await self.app(scope, receive, send)
        return told


@pytest.mark.anyio
async def test_a_path_that_is_no_unicode_or_ends_with_a_slash_is_no_page():
    async with Supervisor(SupervisorSettings(name="straight")) as fleet:
        straight = Straight(fleet)
        host = [(b"host", b"localhost")]
        for path in ("/v1/hello/", "/v1/agents/\udc80/", "/\udc80/", "/v1/agents/\udc80"):
            told = await straight.ask("GET", path, b"", host, [b""])
            assert told[0]["status"] == 404, path


NAMES_OF_HEADERS = st.sampled_from([
    b"host", b"origin", b"content-type", b"content-length", b"accept", b"authorization",
    b"fleetmon-protocol", b"x-other",
])  # fmt: skip
HEADERS = st.lists(st.tuples(NAMES_OF_HEADERS, st.binary(max_size=12)), max_size=2)


def test_mutated_requests_straight_into_the_application_never_make_it_raise():
    count = 0
    settled = SupervisorSettings(name="straight")
    with Supervisor.start_in_thread(settled) as fleet, asyncio.Runner() as runner:
        for name in NAMES:
            fleet.add(name, Echo)
        straight = Straight(fleet.supervisor)
        usual = [(b"host", b"localhost"), (b"content-type", b"application/json"),
                 (b"authorization", f"Bearer {WEBHOOK}".encode())]  # fmt: skip

        @settings(max_examples=220 * TIMES, deadline=None, database=None)
        @given(st.sampled_from(BASES), MUTATIONS, HEADERS, st.integers(0, 9))
        def ask(base, mutations, headers, split):
            nonlocal count
            method, target, body = base
            whole = body or target.encode()
            for text in mutated(whole, mutations):
                where, _, query = (target.encode() if body else text).partition(b"?")
                told = runner.run(
                    straight.ask(
                        method, where.decode("utf-8", "surrogateescape"), query,
                        [*usual, *headers], [text[:split], text[split:]] if body else [b""],
                    )
                )  # fmt: skip
                status = told[0]["status"]
                assert 200 <= status < 500, text
                if status >= 400 and status != 405 and method != "HEAD":
                    problem = json.loads(told[1]["body"])
                    assert set(problem) >= {"code", "message"}, text
                count += 1

        ask()
        assert fleet.supervisor.snapshot().phase == "running"
    report(f"{count} straight into the application")
    assert count > 1500


@pytest.mark.parametrize(
    "text", [b"", b"\r\n" * 500, b"\0" * 500, b"GET", b"\x16\x03\x01\x02\x00\x01"]
)
def test_what_is_no_request_at_all_is_left_without_harm(fuzzed, text):
    assert all(code == 400 for code in talk(fuzzed.path, text))
    assert fuzzed.client().hello()["name"] == "fuzzed"
