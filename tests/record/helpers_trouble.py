"""Fleets whose records meet with trouble, and the proof that they work all the same."""

from __future__ import annotations

import asyncio
import contextlib

from fleetmon import EventKind, Recorder, SharedCause, Supervisor, SupervisorSettings
from fleetmon.testing import capture

CALM = SupervisorSettings(shared_cause=SharedCause(enabled=False))


async def worker():
    async def handle(payload):
        return payload

    return handle


def recorder(path, **options):
    return Recorder(path, **{"interval": 0.02, "pictures": 0.05, **options})


def failed(events):
    return [e.data["error"] for e in events.of(EventKind.RECORD_FAILED)]


async def until(true, *, seconds=20):
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.02)


async def works(fleet, tasks=200):
    """The fleet is as well as without a record."""
    agent = await fleet.add("A", worker)
    for number in range(tasks):
        assert await agent.run("t", number) == number
    snapshot = agent.snapshot()
    assert (snapshot.lifecycle, snapshot.health) == ("running", 0)
    assert snapshot.succeeded == tasks
    assert snapshot.balanced
    return agent


@contextlib.asynccontextmanager
async def recorded(path, **options):
    """Run a fleet that is recorded; gives it, its recorder and what it tells."""
    record = recorder(path, **options)
    supervisor = Supervisor(CALM, recorder=record)
    events = capture(supervisor)
    async with supervisor as fleet:
        yield fleet, record, events


async def not_written(path, why, **options):
    """Run a fleet whose record cannot be written; returns what it told."""
    async with recorded(path, **options) as (fleet, record, events):
        assert why in record.problem
        await works(fleet)
        reading = fleet.snapshot().fleet.recorder
        assert not reading.up
        assert reading.errors >= 1
        assert fleet.interrupted() == ()
    (told,) = failed(events)
    assert why in told
    assert events.of(EventKind.RECORD_FAILED)[0].data["path"] == str(path)


async def a_record(path):
    async with Supervisor(CALM, recorder=recorder(path)) as fleet:
        await works(fleet, 50)
