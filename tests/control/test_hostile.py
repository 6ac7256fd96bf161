"""Clients that mean harm, or know no better: refused, cut off, and never a status of 5xx."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import tempfile

import pytest
from helpers_control import Echo

from fleetmon import Supervisor, SupervisorSettings
from fleetmon.control import registry
from fleetmon.control.client import Client, find
from fleetmon.control.protocol import NoFleetError
from fleetmon.control.respond import Streamed
from fleetmon.control.server import ControlServer
from fleetmon.settings import Control


@pytest.fixture
def path(place):
    switched_on = SupervisorSettings(name="hostile", control=Control(enabled=True))
    with Supervisor.start_in_thread(switched_on) as fleet:
        fleet.add("APEX", Echo)
        yield find().socket


def talk(path, *sent, more=True):
    """Return what the server says until it closes; without `more`, having closed our side."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(8)
        sock.connect(path)
        told = b""
        try:
            for piece in sent:
                sock.sendall(piece)
            if not more:
                sock.shutdown(socket.SHUT_WR)
            while piece := sock.recv(65536):
                told += piece
        except (BrokenPipeError, ConnectionResetError):
            pass
    return told


def statuses(told):
    return [int(code) for code in re.findall(rb"^HTTP/1\.1 (\d{3}) ", told, re.MULTILINE)]


GET = b"GET /v1/agents/APEX HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST = b"GET /v1/agents/APEX HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
POST = (
    b"POST /v1/command HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    b"Content-Type: application/json\r\n"
)


def posted(body):
    return POST + b"Content-Length: %d\r\n\r\n" % len(body) + body


def test_pipelined_requests_are_answered_in_order(path):
    told = talk(path, GET * 5 + LAST)
    assert statuses(told) == [200] * 6


def test_an_endless_body_and_endless_headers_are_cut_off(path):
    chunk = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
    told = talk(path, POST + b"Transfer-Encoding: chunked\r\n\r\n", *[chunk] * 100)
    assert statuses(told) in ([413], [])
    told = talk(path, b"GET / HTTP/1.1\r\n", *[b"X-Y: " + b"z" * 30_000 + b"\r\n"] * 100)
    assert statuses(told) in ([400], [])
    assert Client(path).snapshot()["phase"] == "running"


SLOW = [
    b"G",
    GET[:-2],
    POST + b"Content-Length: 500\r\n\r\n{",  # a body that does not come
    POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
    POST.replace(b"json", b"text") + b"Content-Length: 500\r\n\r\n{",  # refused before it has come
    GET + POST + b"Content-Length: 500\r\n\r\n{",
]


@pytest.mark.anyio
@pytest.mark.parametrize("sent", SLOW)
async def test_a_request_of_one_byte_at_a_time_is_cut_off(place, sent):
    server = ControlServer(
        Supervisor(SupervisorSettings(control=Control(enabled=True))), patience=0.2
    )
    server.start()
    reader, writer = await asyncio.open_unix_connection(server.path)
    writer.write(sent)

    async def go_on():
        while not writer.transport.is_closing():
            writer.write(b"x")
            await asyncio.sleep(0.02)

    slowly = asyncio.ensure_future(go_on())
    # who still writes when it is cut off gets a broken pipe in place of an end
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(5):
            while await reader.read(65536):
                pass
    slowly.cancel()
    writer.close()
    server.close()
    assert registry.entries() == ()
    server.close()


@pytest.mark.anyio
async def test_what_goes_on_after_its_answer_is_cut_off_at_once(place):
    server = ControlServer(
        Supervisor(SupervisorSettings(control=Control(enabled=True))), patience=60
    )
    server.start()
    reader, writer = await asyncio.open_unix_connection(server.path)
    head = POST.replace(b"json", b"text").replace(b"Connection: close\r\n", b"")
    writer.write(head + b"Transfer-Encoding: chunked\r\n\r\n")
    async with asyncio.timeout(8):
        assert b" 415 " in await reader.readline()
        # a little is taken, and the connection serves on
        writer.write(b"1\r\n \r\n" * 500 + b"0\r\n\r\n" + GET)
        told = b""
        while b"HTTP/1.1 404" not in told:  # nobody is there
            told += await reader.read(65536)
        writer.write(head + b"Transfer-Encoding: chunked\r\n\r\n")
        while b"HTTP/1.1 415" not in told:
            told += await reader.read(65536)
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                writer.write(b"1\r\n \r\n" * 1000)
                await writer.drain()
        with contextlib.suppress(ConnectionError):
            while await reader.read(65536):
                pass
    writer.close()
    server.close()


def test_a_process_that_stands_still_is_waited_for_and_then_said_not_to_answer():
    with (
        tempfile.TemporaryDirectory(prefix="fm-") as directory,
        socket.socket(socket.AF_UNIX) as it,
    ):
        path = f"{directory}/x.sock"
        it.bind(path)
        it.listen(1)
        crowd = []
        try:
            with pytest.raises(NoFleetError, match=r"does not answer within 0\.3 s"):
                Client(path, patience=0.3).hello()
            while True:  # as many as the system lets wait, and one more
                crowd.append(socket.socket(socket.AF_UNIX))
                crowd[-1].setblocking(False)
                crowd[-1].connect(path)
        except BlockingIOError:
            with pytest.raises(NoFleetError, match=r"does not answer within 0\.3 s"):
                Client(path, patience=0.3).hello()
        finally:
            for sock in crowd:
                sock.close()


@pytest.mark.anyio
async def test_nothing_more_is_written_once_the_connection_is_gone():
    sent, made = [], []

    async def pieces():
        for number in range(20):
            made.append(number)
            yield b"%d" % number

    async def send(message):
        sent.append(message)

    async def receive():
        await asyncio.Event().wait()

    class Connection:
        def __init__(self):
            self.transport = self

        def is_closing(self):
            return len(sent) >= 3

    scope = {"method": "GET", "state": {"fleetmon.connection": Connection()}}
    await Streamed(pieces(), "application/json")(scope, receive, send)
    assert (len(sent), made) == (3, [0, 1, 2])
