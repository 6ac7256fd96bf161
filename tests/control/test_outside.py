"""From another process: a loop that is blocked, pipes, Ctrl-C, a strange speaker."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from helpers_fuzz import FUZZ

from fleetmon.control.client import Client, find

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]

HOST = """
import asyncio, sys, threading, time
from fleetmon import Supervisor, SupervisorSettings
from fleetmon.settings import Control

told = []  # lines of standard input; a thread reads them, since the loop will be blocked
def listen():
    for line in sys.stdin:
        told.append(line)

class Sleeper:
    async def handle(self, seconds):
        time.sleep(seconds)
        while not seconds and len(told) < 2:
            time.sleep(0.1)

class Spinner:
    async def handle(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end or not seconds and len(told) < 2:
            pass

class Calm:
    async def handle(self, task):
        return task.payload

async def main(culprit, seconds):
    settings = SupervisorSettings(name=culprit, control=Control(enabled=True))
    async with Supervisor(settings) as fleet:
        await fleet.add("SENTRY", Calm)
        blocks = {"sleep": Sleeper, "spin": Spinner}[culprit]()
        agent = await fleet.add("CULPRIT", lambda: blocks.handle)
        threading.Thread(target=listen, daemon=True).start()
        print("ready", flush=True)
        while not told:
            await asyncio.sleep(0.01)
        await agent.run("nap", seconds)
        print("free", flush=True)
        while len(told) < 3:
            await asyncio.sleep(0.01)

asyncio.run(main(sys.argv[1], float(sys.argv[2])))
"""

SECONDS = 10.0 if FUZZ else 0.0  # 0: until it is told to go on


async def started(*arguments, **how):
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        **how,
    )


async def line_of(process, word, *, err=False):
    async with asyncio.timeout(30):
        while True:
            line = (await (process.stderr if err else process.stdout).readline()).decode()
            assert line, (await process.stderr.read()).decode()
            if word in line:
                return line


async def blocked(fleet):
    """Wait until a fleet says that its loop is blocked; gives its pictures from then on."""
    client = Client(find(fleet).socket)
    async with asyncio.timeout(8):
        while (await asyncio.to_thread(client.snapshot))["blocked"] is None:
            await asyncio.sleep(0.01)
    return [await asyncio.to_thread(client.snapshot) for _ in range(5)]


async def pauses(fleet):
    """Begin `fleetmon pause SENTRY` and return the process when it has said that it waits."""
    process = await started("-m", "fleetmon", "--fleet", fleet, "pause", "SENTRY", "--yes")
    said = await line_of(process, "waits", err=True)
    assert "the host's event loop is blocked by CULPRIT" in said
    return process


@pytest.mark.parametrize(("way", "bar"), [("sleep", 0.2), ("spin", 0.5)])
async def test_a_loop_that_is_blocked_is_seen_and_commanded_meanwhile(place, way, bar):
    host = await started("-c", HOST, way, str(SECONDS))
    try:
        await line_of(host, "ready")
        host.stdin.write(b"go\n")
        pictures = await blocked(way)
        # the server's own time; the best of five, since others may want the machine as well
        assert min(picture["took"] for picture in pictures) < bar
        for picture in pictures:
            assert picture["blocked"]["agent_id"] == "CULPRIT"
            assert picture["blocked"]["task_type"] == "nap"
            assert picture["blocked"]["function"] == "handle"
        status = await started("-m", "fleetmon", "--fleet", way, "status")
        out, _ = await status.communicate()
        assert re.search(
            rb"!! CULPRIT: blocked_loop for [\d.]+ s: task 1 \(nap\) blocks the event loop at "
            rb"<string>:\d+ in handle",
            out,
        ), out
        pause = await pauses(way)
        host.stdin.write(b"enough\n")
        await line_of(host, "free")
        out, err = await pause.communicate()
        assert (pause.returncode, out) == (0, b"SENTRY: pause accepted; now paused\n"), err
        client = Client(find(way).socket)
        told = await asyncio.to_thread(lambda: list(client.events(follow=False, kinds=["command"])))
        assert [e["data"]["command"] for e in told if e["type"] == "event"] == ["pause"]
    finally:
        host.kill()
        await host.communicate()


@pytest.fixture
async def hall(reachable):
    async with reachable() as fleet:
        for number in range(300):
            fleet.attach(f"AGENT-{number}")
        yield fleet


async def test_a_reader_that_goes_away_and_ctrl_c_end_it_quietly(hall):
    shell = f'"{sys.executable}" -m fleetmon {{}} | head -n 1; echo "${{PIPESTATUS[0]}}"'
    for line in ("events --watch", "agents", "status --watch --every 0.2"):
        process = await asyncio.create_subprocess_exec(
            "bash", "-c", shell.replace("{}", line), stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, cwd=ROOT,
        )  # fmt: skip
        poke = asyncio.ensure_future(keep_busy(hall))
        async with asyncio.timeout(30):
            out, err = await process.communicate()
        poke.cancel()
        code = out.decode().splitlines()[-1]
        assert (code in {"0", "141"}, err) == (True, b""), (line, out, err)
    # whoever started the tests in the background has made them ignore Ctrl-C
    heeding = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    watch = await started("-m", "fleetmon", "events", "--watch", **heeding)
    await line_of(watch, "agent_added")
    watch.send_signal(signal.SIGINT)
    async with asyncio.timeout(30):
        out, err = await watch.communicate()
    assert (watch.returncode, err) == (130, b"")


async def keep_busy(fleet):
    while True:
        await fleet.pause("AGENT-1")
        await fleet.resume("AGENT-1")
        await asyncio.sleep(0.02)


async def test_a_fleet_that_speaks_another_protocol_altogether(place, fleetmon):
    with tempfile.TemporaryDirectory(prefix="fm-") as directory:
        path = f"{directory}/x.sock"

        async def speak(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            body = json.dumps({"protocol": 99, "agents": []}).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            await writer.drain()
            writer.close()

        async with await asyncio.start_unix_server(speak, path):
            code, out, err = await fleetmon("status", "--url", f"unix:{path}")
            assert (code, out, err.count("\n")) == (1, "", 1)
            assert "upgrade this fleetmon" in err
