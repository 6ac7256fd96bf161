"""A fleet for whoever throws requests at it: agents at work, dead letters, TCP with two tokens.

Run as a program of its own, so that what it grows by and what it complains of is its own. Says
where it listens; ends with its standard input.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

from fleetmon import AgentSpec, Supervisor, SupervisorSettings
from fleetmon.settings import AlertWebhook, Control

TOKEN = "control-token"
WEBHOOK = "recovery-token"
NAMES = ("APEX", "CIPHER", "SENTRY", "TENSOR")
KEEPER = "KEEPER"  # is left in peace, and so takes dead letters
LETTERS = 20


class Echo:
    async def handle(self, task):
        if task.payload == "fail":
            raise ValueError(task.payload)
        return task.payload


async def work(fleet):
    n = 0
    while True:
        for name in NAMES:
            n += 1
            with contextlib.suppress(Exception):  # stopped, or meant to fail
                await fleet.agent(name).run("echo", "fail" if n % 7 == 0 else n, timeout=1)
        await asyncio.sleep(0.05)


async def letters(fleet):
    # what is in flight when their agent falls cannot be run again unasked
    spec = AgentSpec(in_flight="dead_letter", capacity=LETTERS + 1, max_consecutive_failures=1)
    first = True

    async def handle(payload):
        nonlocal first
        if payload == "fall":
            first = False
            raise ValueError(payload)
        if first:
            await asyncio.Event().wait()

    agent = await fleet.add("LETTERS", lambda: handle, spec=spec)
    held = [await agent.submit("hold", n) for n in range(LETTERS)]
    while len(agent.snapshot().tasks) < len(held):
        await asyncio.sleep(0)
    held.append(await agent.submit("fall", "fall"))
    await asyncio.gather(*held, return_exceptions=True)


async def main():
    control = Control(
        enabled=True,
        listen="127.0.0.1:0",
        token=TOKEN,
        webhook=AlertWebhook(enabled=True, token=WEBHOOK, per_agent=10_000),
    )
    async with Supervisor(SupervisorSettings(name="fuzzed", control=control)) as fleet:
        for name in (*NAMES, KEEPER):
            await fleet.add(name, Echo)
        fleet.attach("HOSTS")
        await letters(fleet)
        working = asyncio.ensure_future(work(fleet))
        sys.stdout.write(f"{fleet.control_url} {fleet.control_path}\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)
        working.cancel()


if __name__ == "__main__":
    asyncio.run(main())
