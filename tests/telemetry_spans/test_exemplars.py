"""Which failures bear the ids of a sampled task: those of tasks, and those that hit one."""

from __future__ import annotations

import asyncio

import pytest

from fleetmon import AgentSpec, Deadlines, HangLimits, Supervisor
from fleetmon.testing import SpanCapture, current_clock

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


class Agent:
    """Pulls its work, and goes down over some of it."""

    async def serve(self, agent):
        async for task in agent.tasks():
            if task.task_type == "crash":
                raise RuntimeError("down")
            task.done()


class Handler:
    async def handle(self, task):
        if task.task_type == "raise":
            raise ValueError("no")
        await asyncio.sleep(1e6)


async def failures(ratio, *tasks, **spec):
    spans = SpanCapture(ratio)
    async with Supervisor(tracer=spans.tracer, clock=current_clock()) as fleet:
        factory = Agent if "crash" in tasks else Handler
        agent = await fleet.add("A", factory, spec=AgentSpec(**spec))
        for task_type in tasks:
            with pytest.raises(Exception, match=r"no|A"):
                await agent.run(task_type, None)
        reading = agent.snapshot().numbers
        by_name = {span.context.span_id: span.name for span in spans.spans}
    marks = reading.failure_exemplars or {}
    named = {kind: by_name[int(mark.span_id, 16)] for kind, mark in marks.items()}
    assert all(mark.value >= 0 for mark in marks.values())
    return {kind: n for kind, n in reading.failures.items() if n}, named


@pytest.mark.parametrize(
    ("task_type", "error_type"), [("raise", "exception"), ("hang", "hang"), ("crash", "crash")]
)
@pytest.mark.parametrize("ratio", [1.0, 0.0])
async def test_a_failure_bears_the_ids_of_the_sampled_task_that_it_hit(
    ratio, task_type, error_type
):
    counted, named = await failures(
        ratio, task_type, hang=HangLimits(soft=1, hard=2), deadlines=Deadlines(stop=1)
    )
    assert counted == {error_type: 1}
    assert named == ({error_type: "invoke_agent A"} if ratio else {})


async def test_a_crash_with_nothing_in_flight_bears_none():
    class Idle:
        async def serve(self, agent):
            await asyncio.sleep(1)
            raise RuntimeError("down")

    spans = SpanCapture()
    async with Supervisor(tracer=spans.tracer, clock=current_clock()) as fleet:
        agent = await fleet.add("A", Idle)
        await asyncio.sleep(1.01)
        reading = agent.snapshot().numbers
    assert reading.failures["crash"] == 1
    assert reading.failure_exemplars is None


async def test_an_observed_agent_s_hang_bears_the_task_that_hangs():
    spans = SpanCapture()
    async with Supervisor(tracer=spans.tracer, clock=current_clock()) as fleet:
        agent = fleet.attach("A", spec=AgentSpec(hang=HangLimits(soft=1, hard=2)))
        with agent.task("slow") as task:
            await asyncio.sleep(10)
            mark = agent.snapshot().numbers.failure_exemplars["hang"]
        assert int(mark.span_id, 16) == task.span_id
        assert 2 <= mark.value <= 10
