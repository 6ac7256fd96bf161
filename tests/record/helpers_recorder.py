"""Fleets that are recorded every few milliseconds, and agents that fail as they are told."""

from __future__ import annotations

import asyncio

from fleetmon import Backoff, Recorder, SharedCause, SupervisorSettings

QUICK = Backoff(floor=0.0, base=0.0, cap=0.0)


class FatalError(RuntimeError):
    fatal = True


async def worker():
    async def handle(payload):
        if payload == "fatal":
            raise FatalError(payload)
        if payload == "fail":
            raise ValueError(payload)
        await asyncio.sleep(payload or 0.0)

    return handle


def recorder(path, **options):
    return Recorder(path, **{"interval": 0.02, "pictures": 0.05, "whole_pictures": 0.2, **options})


def calm(**values):
    return SupervisorSettings(shared_cause=SharedCause(enabled=False), **values)


async def committed(record):
    assert await asyncio.to_thread(record.flush), record.problem
