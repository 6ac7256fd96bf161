"""The ways of a task that are written out for speed count, trace and log as the methods do."""

from __future__ import annotations

import asyncio
import io
import json

import pytest
from helpers_spans import rig

from fleetmon import AgentSpec, HangLimits, JsonLog, OTelTracer, Supervisor
from fleetmon.testing import current_clock

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]

LASTING = (0.0, 0.005, 0.02, 0.7, 45.0, 400.0)


class Sleeper:
    async def handle(self, task):
        await asyncio.sleep(task.payload)


async def around(agent, seconds):
    with agent.task("x"):
        await asyncio.sleep(seconds)


async def run(agent, seconds):
    await agent.run("x", seconds)


async def run_with_a_timer(agent, seconds):  # by way of Task.end() and AgentNumbers.end()
    await agent.run("x", seconds, timeout=1e6)


async def told(way):
    """Return what is known of the tasks that were done in one way: numbers, spans, lines."""
    provider, exporter = rig()
    stream = io.StringIO()
    log = JsonLog(stream=stream, interval=0.001)
    async with Supervisor(clock=current_clock(), tracer=OTelTracer(provider), log=log) as fleet:
        hang = HangLimits(soft=None, hard=None)
        agent = await fleet.add("APEX", Sleeper, spec=AgentSpec(task_types=("x",), hang=hang))
        for seconds in LASTING:
            await way(agent, seconds)
            await asyncio.sleep(1.0)
        numbers = agent.snapshot().numbers
    log.close()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    (kind,) = numbers.types
    return (
        (kind.outcomes, kind.buckets, round(kind.seconds, 6), sorted(kind.exemplars)),
        (numbers.in_flight, round(numbers.busy_seconds, 6), round(numbers.utilization, 6)),
        [{**span.attributes} for span in exporter.get_finished_spans()],
        [line["extra"] for line in lines if line["message"] == "task succeeded"],
    )


@pytest.mark.parametrize("way", [around, run])
async def test_a_way_in_one_piece_tells_what_the_methods_tell(way):
    assert await told(way) == await told(run_with_a_timer)
