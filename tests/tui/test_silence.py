"""A line that goes dead without a word: nothing is refused, nothing closed, nothing comes."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest
from helpers_tui import Stage

from fleetmon import Supervisor, SupervisorSettings
from fleetmon.control.client import Client
from fleetmon.settings import Control
from fleetmon_tui.session import Session
from fleetmon_tui.source import Live

pytestmark = pytest.mark.anyio

TOKEN = "a-token-of-some-length"


class Line:
    """A proxy that passes bytes on, or takes them and lets them fall, from any connection."""

    def __init__(self, port):
        self._port = port
        self._flows = asyncio.Event()
        self._flows.set()
        self._tasks = set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._taken, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self):
        self._flows.clear()

    def mend(self):
        self._flows.set()

    def _taken(self, reader, writer):
        self._tasks.add(asyncio.ensure_future(self._serve(reader, writer)))

    async def _serve(self, reader, writer):
        with contextlib.suppress(OSError):
            far, to_far = await asyncio.open_connection("127.0.0.1", self._port)
            with contextlib.closing(writer), contextlib.closing(to_far):
                await asyncio.gather(self._pass(reader, to_far), self._pass(far, writer))

    async def _pass(self, reader, writer):
        while piece := await reader.read(65536):
            if self._flows.is_set():
                writer.write(piece)
                await writer.drain()
        await self._flows.wait()  # of an end nobody hears, either
        writer.close()


class Screen:
    """A dashboard over a real source, drawn when somebody looks."""

    def __init__(self, source):
        self._stage = Stage()
        self._session = Session(self._stage.dashboard, self._stage.ui, source)

    def look(self):
        self._stage.now = time.monotonic()
        self._session.take(self._stage.now)
        return self._stage.text

    def key(self, name):
        now = time.monotonic()
        self._session.act(self._session.ui.key(name, name, now), now)

    async def until(self, *texts):
        end = time.monotonic() + 15
        while not all(text in self.look() for text in texts):
            assert time.monotonic() < end, f"not {texts}:\n{self.look()}"
            await asyncio.sleep(0.02)


@pytest.fixture
async def fleet():
    control = Control(enabled=True, listen="127.0.0.1:0", token=TOKEN)
    async with Supervisor(SupervisorSettings(name="far", control=control)) as fleet:
        for name in ("APEX", "CIPHER", "AXIOM"):
            fleet.attach(name)
        yield fleet


async def test_a_line_that_drops_everything_is_stale_then_lost_and_taken_up_when_it_is_mended(
    fleet, monkeypatch
):
    monkeypatch.setattr("fleetmon.control.aclient.PATIENCE", 4.0)
    port = int(fleet.control_url.rpartition(":")[2])
    async with Line(port) as line:
        client = Client(f"http://127.0.0.1:{line.port}", token=TOKEN, patience=1.0)
        source = Live(lambda *_, **__: client)
        source.start(lambda: None)
        try:
            screen = Screen(source)
            await screen.until("● live", "AXIOM")
            screen.key("j")
            screen.key("space")
            line.cut()
            with fleet.attach("AXIOM2").task("unseen"):
                await screen.until("▲ stale since", "nothing heard for", "CIPHER")
                screen.key("r")
                assert "restart refused; stale" in screen.look()
                await screen.until("✖ disconnected since", "CIPHER")
                assert "unseen" not in screen.look()
                line.mend()
                await screen.until("● reconnected", "unseen", "✚AXIOM", "▶ CIPHER")
        finally:
            await asyncio.to_thread(source.close)
