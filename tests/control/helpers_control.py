"""What the tests of the control plane share: a quick spec and an agent that does as it is told."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager, suppress

from fleetmon import AgentSpec, Backoff, Intensity, Verification
from fleetmon.control.aclient import AsyncClient
from fleetmon.control.client import find

QUICK = AgentSpec(
    backoff=Backoff(floor=0, base=0.02),
    verify=Verification(timeout=2, idle_after=0.02),
)


class Echo:
    async def handle(self, task):
        if isinstance(task.payload, BaseException):
            raise task.payload
        return task.payload


async def fallen(fleet, agent_id):
    """Add an agent and have it quarantined: its restarts are spent, nobody has wished it."""
    spent = AgentSpec(max_consecutive_failures=1, intensity=Intensity(max_restarts=0))
    agent = await fleet.add(agent_id, Echo, spec=spent)
    with fleet.events() as events:
        with suppress(RuntimeError):
            await agent.run("boom", RuntimeError("no"))
        async for event in events:
            if event.kind == "quarantined":
                break


@asynccontextmanager
async def read(mirror, **how):
    """Keep a mirror up to date; gives a function that waits until a condition holds."""
    changed = asyncio.Event()
    stream = AsyncClient(find().socket).stream(**how)

    async def take():
        async with aclosing(stream):
            async for frame in stream:
                mirror.apply(frame)
                changed.set()

    async def until(condition):
        async with asyncio.timeout(8):
            while not condition():
                if taking.done():
                    await taking
                    assert condition(), "the stream has ended"
                    return
                changed.clear()
                waiting = asyncio.ensure_future(changed.wait())
                await asyncio.wait({waiting, taking}, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()

    taking = asyncio.ensure_future(take())
    try:
        yield until
    finally:
        taking.cancel()
        with suppress(asyncio.CancelledError):
            await taking
