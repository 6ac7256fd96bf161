"""Hosts of every kind, and what befalls them: blocked, killed, another user's, their own loop."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from contextlib import aclosing, contextmanager
from pathlib import Path

import pytest
from helpers_control import Echo

from fleetmon.control.aclient import follow
from fleetmon.control.client import Client, find, order
from fleetmon.control.mirror import Mirror

pytestmark = pytest.mark.anyio

HOST = """
import asyncio, signal, sys, time
from fleetmon import Control, Supervisor, SupervisorSettings, Watchdog

async def nap(_):
    time.sleep(1.3)

async def spin(_):
    until = time.monotonic() + 1.3
    while time.monotonic() < until:
        pass

async def well(_):
    pass

async def main(name, blocks):
    settings = SupervisorSettings(
        name=name, control=Control(enabled=True),
        watchdog=Watchdog(idle_interval=0.02, blocked_after=0.1),
    )
    async with Supervisor(settings) as fleet:
        await fleet.add("SENTRY", lambda: well)
        if blocks:
            culprit = await fleet.add("CULPRIT", lambda: {"nap": nap, "spin": spin}[blocks])
            await culprit.run(blocks)
        await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


@contextmanager
def host(name, blocks=""):
    process = subprocess.Popen([sys.executable, "-c", HOST, name, blocks])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def located(name):
    return Client(find(name).socket)


async def reached(name):
    while True:
        try:
            return await asyncio.to_thread(located, name)
        except Exception:  # noqa: BLE001 - not there yet
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(("blocks", "bound"), [("nap", 0.2), ("spin", 0.5)])
async def test_while_an_agent_blocks_its_loop_a_snapshot_names_it_and_a_command_waits(
    place, blocks, bound
):
    with host("blocked", blocks):
        client = await reached("blocked")
        took, told = [], None
        while told is None or len(took) < 3:
            began = time.monotonic()
            snapshot = await asyncio.to_thread(client.snapshot)
            if snapshot["blocked"] is not None:
                took.append(time.monotonic() - began)
                told = snapshot["blocked"]
        assert (told["agent_id"], told["task_type"]) == ("CULPRIT", blocks)
        assert told["function"] == blocks
        assert min(took) < bound  # the machine may be busy with others
        one = order("pause", "SENTRY", actor="ann")
        pending = await asyncio.to_thread(client.send, one, hold=0)
        assert pending["result"] == "pending"
        assert "blocked by CULPRIT" in pending["reason"]
        answer = await asyncio.to_thread(client.command, one)
        assert answer["result"] == "accepted"
        events = await asyncio.to_thread(
            lambda: list(client.events(follow=False, kinds=["command"]))
        )
        assert len([e for e in events if e["type"] == "event"]) == 1


async def test_a_fleet_that_is_killed_is_seen_to_be_gone_and_its_next_life_is_found(place):
    mirror = Mirror()
    async with aclosing(follow(lambda: located("mortal"), mirror, rate=10)) as frames:
        for life in range(2):
            with host("mortal") as process:
                async with asyncio.timeout(10):
                    async for frame in frames:
                        if frame["type"] == "link" and frame["state"] == "live":
                            assert frame["again"] == life
                        if frame["type"] == "rows" and mirror.complete:
                            break
                assert set(mirror.rows) == {"SENTRY"}
                process.send_signal(signal.SIGKILL)
                began = time.monotonic()
                async with asyncio.timeout(5):
                    async for frame in frames:
                        if frame["type"] == "link" and frame["state"] == "lost":
                            break
                assert time.monotonic() - began < 1.0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
async def test_another_user_is_refused_even_where_the_files_are_open(reachable, place):
    async with reachable():
        path = find().socket
        assert await asyncio.to_thread(as_nobody, path) == "PermissionError"
        place.parent.chmod(0o755)
        place.chmod(0o755)
        Path(path).chmod(0o666)
        assert await asyncio.to_thread(as_nobody, path) == "nothing"
        place.chmod(0o700)
        assert (await asyncio.to_thread(Client(path).hello))["name"] == "hall"


def as_nobody(path):
    """Return what a process of the user nobody gets out of the socket."""
    receiver, sender = os.pipe()
    pid = os.fork()
    if pid == 0:  # pragma: no cover - counted in the parent
        said = "?"
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(5)
                sock.connect(path)
                sock.sendall(b"GET /v1/hello HTTP/1.1\r\nHost: localhost\r\n\r\n")
                said = sock.recv(100).decode() or "nothing"
        except ConnectionError:
            said = "nothing"
        except OSError as error:
            said = type(error).__name__
        finally:
            os.write(sender, said.encode())
            os._exit(0)
    os.close(sender)
    with os.fdopen(receiver) as told:
        text = told.read()
    os.waitpid(pid, 0)
    return text


async def test_signal_handlers_of_the_host_are_left_alone(reachable):
    mine = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    async with reachable() as fleet:
        await fleet.add("APEX", Echo)
        await asyncio.to_thread(Client(find().socket).snapshot)
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == mine


@pytest.mark.uvloop
async def test_a_host_on_uvloop_is_streamed_and_commanded(reachable):
    async with reachable() as fleet:
        await fleet.add("APEX", Echo)
        client = Client(find().socket)
        one = order("restart", "APEX", wait=True)
        assert (await asyncio.to_thread(client.command, one))["settled"] is True
        assert type(asyncio.get_running_loop()).__module__.startswith("uvloop")
        frames = await asyncio.to_thread(lambda: next(iter(client.stream())))
        assert frames["type"] == "hello"


async def test_two_operators_at_once_get_consistent_answers(reachable):
    async with reachable() as fleet:
        await fleet.add("APEX", Echo)
        client = Client(find().socket)
        orders = [
            order(command, "APEX", actor=actor)
            for actor in ("ann", "bob")
            for command in ("pause", "resume", "restart", "pause", "resume")
        ]
        answers = await asyncio.gather(*(asyncio.to_thread(client.command, o) for o in orders))
        audit = [e.data for e in fleet.recent_events() if e.kind == "command"]
        told = sorted((a["command"], a["result"]) for a in answers)
        assert told == sorted((data["command"], data["result"]) for data in audit)
        assert [data["actor"] for data in audit].count("ann") == 5
        # the last that was accepted is what is true
        last = [d["command"] for d in audit if d["result"] == "accepted"
                and d["command"] in {"pause", "resume"}]  # fmt: skip
        wanted = {"pause": "paused", "resume": "run"}[last[-1]] if last else "run"
        assert fleet.agent("APEX").snapshot().desired == wanted


async def test_endless_requests_do_not_grow_the_process(reachable):
    whole = b"GET /v1/agents/APEX HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with reachable() as fleet:
        await fleet.add("APEX", Echo)
        path = find().socket

        def ask(connections):
            for _ in range(connections):
                with socket.socket(socket.AF_UNIX) as sock:
                    sock.settimeout(8)
                    sock.connect(path)
                    sock.sendall(whole * 8)
                    told = b""
                    while told.count(b"HTTP/1.1 200") < 8:
                        told += sock.recv(65536)

        await asyncio.to_thread(ask, 30)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        await asyncio.to_thread(ask, 100)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown < 4096  # KiB
