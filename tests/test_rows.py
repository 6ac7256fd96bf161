"""Rows: an agent as plain values, and quantiles out of buckets."""

from __future__ import annotations

import asyncio
import json
import math

import pytest
from helpers_rows import row_of
from hypothesis import given
from hypothesis import strategies as st

from fleetmon import AgentSpec, Backoff, Intensity, Supervisor
from fleetmon.rows import COLUMNS, quantile, quantiles
from fleetmon.testing import ScriptedAgent, Step, current_clock

BOUNDS = (0.1, 1.0, 10.0)


def test_no_observation_has_no_quantile():
    assert quantile(0.5, BOUNDS, (0, 0, 0, 0)) is None
    assert quantile(0.5, BOUNDS, ()) is None


@pytest.mark.parametrize(
    ("q", "counts", "expected"),
    [
        (0.5, (10, 0, 0, 0), 0.05),
        (0.5, (0, 10, 0, 0), 0.55),
        (0.95, (90, 10, 0, 0), 0.55),
        (0.95, (0, 0, 0, 10), 10.0),  # in the open bucket: the highest bound, as in Prometheus
        (1.0, (1, 1, 1, 0), 10.0),
    ],
)
def test_a_quantile_lies_evenly_within_its_bucket(q, counts, expected):
    assert quantile(q, BOUNDS, counts) == pytest.approx(expected)


@given(
    st.lists(st.integers(0, 50), min_size=4, max_size=4),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_quantiles_rise_with_q_and_stay_within_the_bounds(counts, a, b):
    low, high = quantile(min(a, b), BOUNDS, counts), quantile(max(a, b), BOUNDS, counts)
    if low is None or high is None:
        assert sum(counts) == 0
        return
    assert 0 <= low <= high + 1e-12
    assert high <= BOUNDS[-1]


@pytest.mark.anyio
@pytest.mark.virtual_time
async def test_a_row_is_plain_and_stays_the_same_while_nothing_happens():
    async with Supervisor(clock=current_clock()) as fleet:
        agent = fleet.attach("TENSOR")
        with agent.task("train") as task:
            task.progress("epoch 2")
            picture = fleet.snapshot()
            bounds = fleet.settings.metrics.buckets
            row = row_of(picture.agents[0], picture.monotonic, bounds)
            assert (row.task, row.task_note, row.in_flight) == ("train", "epoch 2", 1)
            assert row.p50 is None
        picture = fleet.snapshot()
        row = row_of(picture.agents[0], picture.monotonic, bounds)
        assert (row.task, row.in_flight, row.succeeded) == ("", 0, 1)
        assert math.isfinite(row.p50)
        again = json.loads(json.dumps(row))
        assert len(again) == len(COLUMNS)
        assert again[COLUMNS.index("lifecycle")] == "running"


@pytest.mark.anyio
@pytest.mark.virtual_time
async def test_a_row_that_is_taken_quickly_is_the_row_of_the_picture():
    clock = current_clock()
    async with Supervisor(clock=clock) as fleet:
        agent = fleet.attach("TENSOR", capacity=2)
        bounds = fleet.settings.metrics.buckets
        for task_type in ("train", "infer", "train"):
            now = clock.monotonic()
            assert agent.row(now) == row_of(agent.snapshot(), now, bounds)
            with pytest.raises(ValueError, match="no"), agent.task(task_type):
                raise ValueError("no")
        with agent.task("train"):
            now = clock.monotonic()
            assert agent.row(now) == row_of(agent.snapshot(), now, bounds)


@given(st.lists(st.integers(0, 50), min_size=4, max_size=4), st.floats(0, 1), st.floats(0, 1))
def test_several_quantiles_are_those_taken_one_by_one(counts, a, b):
    low, high = sorted((a, b))
    assert quantiles((low, high), BOUNDS, counts) == [
        quantile(low, BOUNDS, counts), quantile(high, BOUNDS, counts),
    ]  # fmt: skip


@pytest.mark.anyio
@pytest.mark.virtual_time
async def test_a_row_straight_from_an_agent_is_the_one_that_a_picture_of_it_gives():
    spec = AgentSpec(
        capacity=2, max_consecutive_failures=1, intensity=Intensity(max_restarts=1),
        backoff=Backoff(floor=5, base=5),
    )  # fmt: skip
    lives = ScriptedAgent(
        start=[Step.succeed()], handle=[Step.succeed(), Step.wait(3), Step.wait(2), Step.fail()]
    )
    clock = current_clock()
    async with Supervisor(clock=clock) as fleet:
        agents = [await fleet.add("A", lives, spec=spec), fleet.attach("B")]
        bounds = fleet.settings.metrics.buckets

        def same():
            now = clock.monotonic()
            for agent in agents:
                assert agent.row(now) == row_of(agent.snapshot(), now, bounds)

        same()
        await agents[0].run("first")
        same()
        slow = [await agents[0].submit("second"), await agents[0].submit("third")]
        await asyncio.sleep(1)
        same()
        assert agents[0].row().task_since == 0.0
        await asyncio.gather(*slow)
        with agents[1].task("host"), pytest.raises(Exception, match="scripted"):
            await agents[0].run("fall")
        same()
        await asyncio.sleep(1)
        assert agents[0].row().lifecycle == "backing_off"
        same()
        await fleet.pause("B")
        await fleet.quarantine("A")
        same()
