"""A host that has no file descriptor left can still be looked at, and is not talked at."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from fleetmon.control.client import Client, find

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]

HOST = """
import asyncio, resource, sys
from fleetmon import Control, Supervisor, SupervisorSettings

async def well(_):
    pass

async def main():
    settings = SupervisorSettings(name="short", control=Control(
        enabled=True, listen="127.0.0.1:0", token="control-token"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))
    async with Supervisor(settings) as fleet:
        await fleet.add("APEX", lambda: well)
        held = []
        while line := await asyncio.to_thread(sys.stdin.readline):
            if line == "hold\\n":
                try:
                    while True:
                        held.append(open("/dev/null"))
                except OSError:
                    pass
            for file in held if line == "free\\n" else ():
                file.close()
            print(fleet.control_url, flush=True)

asyncio.run(main())
"""


async def test_an_operator_gets_in_although_the_host_has_no_descriptor_left(place):
    host = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOST, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip

    async def do(what):
        host.stdin.write(f"{what}\n".encode())
        return (await host.stdout.readline()).decode().strip()

    try:
        async with asyncio.timeout(60):
            url = await do("begin")
            client = Client(find().socket, patience=20)
            far = Client(url, token="control-token", patience=20)
            await do("hold")
            for _ in range(5):
                assert (await asyncio.to_thread(client.snapshot))["name"] == "short"
            crowd = [asyncio.to_thread(client.hello) for _ in range(6)]
            waiting = asyncio.ensure_future(asyncio.to_thread(far.hello))  # TCP keeps none
            assert {told["name"] for told in await asyncio.gather(*crowd)} == {"short"}
            await do("free")
            assert (await waiting)["name"] == "short"
            assert (await asyncio.to_thread(client.snapshot))["name"] == "short"
            host.stdin.close()
            _, said = await host.communicate()
        assert (host.returncode, said) == (0, b"")
    finally:
        if host.returncode is None:
            host.kill()
            await host.communicate()
