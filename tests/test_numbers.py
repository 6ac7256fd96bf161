"""The plain numbers of an agent: utilization against its definition, and what readers rely on."""

from __future__ import annotations

from itertools import accumulate, count
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetmon.numbers import AgentNumbers
from fleetmon.readings import read

IDS = count(1)
WINDOW = 60.0


def begin(numbers, at):
    task = SimpleNamespace(id=next(IDS), slot=numbers.type("t"), started_at=at)
    numbers.begin(task)
    return task


def defined(intervals, now, capacity):
    """Busy capacity-seconds within the window, divided by capacity times window."""
    used = sum(max(0.0, min(end, now) - max(start, now - WINDOW)) for start, end in intervals)
    return min(1.0, used / (capacity * WINDOW))


def played(steps, numbers):
    """Begin and end tasks at given times: +n begins one, -n ends the n-th of those that run."""
    running, intervals = [], []
    for now, which in steps:
        if which is None or not running:
            running.append((now, begin(numbers, now)))
        else:
            started, task = running.pop(which % len(running))
            numbers.end(task, 0, now)
            intervals.append((started, now))
    return intervals + [(started, float("inf")) for started, _ in running]


def timed(gaps):
    """Return (time, which) for a list of (seconds since the one before, which)."""
    times = accumulate(gap for gap, _ in gaps)
    return [(at, which) for at, (_, which) in zip(times, gaps, strict=True)]


STEPS = st.lists(st.tuples(st.floats(1.0, 40.0), st.none() | st.integers(0, 3)), max_size=80)


@given(STEPS, st.floats(0, 130))
def test_utilization_is_exact_with_one_start_or_end_in_each_sixtieth(gaps, after):
    numbers = AgentNumbers("A", now=0.0, window=WINDOW, capacity=4)
    steps = timed(gaps)
    now = steps[-1][0] if steps else 0.0
    intervals = played(steps, numbers)
    for look in (now, now + after):
        assert numbers.busy(look)[1] == pytest.approx(defined(intervals, look, 4), abs=1e-9)


@given(
    st.lists(st.tuples(st.floats(0.0, 2.0), st.none() | st.integers(0, 3)), max_size=200),
    st.floats(0, 70),
)
def test_utilization_is_within_a_sixtieth_of_the_window_however_many_there_are(gaps, after):
    numbers = AgentNumbers("A", now=0.0, window=WINDOW, capacity=4)
    steps = timed(gaps)
    now = steps[-1][0] if steps else 0.0
    intervals = played(steps, numbers)
    most = max((sum(s <= at < e for s, e in intervals) for at, _ in steps), default=0)
    for look in (now, now + after):
        off = abs(numbers.busy(look)[1] - defined(intervals, look, 4))
        assert off <= max(1, most) / 4 / 60 + 1e-9


def test_busy_seconds_never_fall_though_a_writer_took_its_time_before_the_reader():
    numbers = AgentNumbers("A", now=0.0)
    task = begin(numbers, 0.0)
    told = numbers.busy(10.0)[0]
    numbers.end(task, 0, 9.5)
    assert numbers.busy(10.0)[0] == told == 10.0
    begin(numbers, 10.0)
    assert numbers.busy(12.0)[0] == 11.5


def test_an_idle_agent_holds_no_trace_of_old_work():
    numbers = AgentNumbers("A", now=0.0)
    numbers.end(begin(numbers, 1.0), 0, 2.0)
    assert numbers.moving
    assert numbers.busy(100.0) == (1.0, 0.0)
    assert not numbers.moving


def test_the_trace_of_an_agent_that_never_rests_is_bounded():
    numbers = AgentNumbers("A", now=0.0, window=WINDOW)
    running = [begin(numbers, 0.0) for _ in range(3)]
    for tick in range(1, 3000):
        numbers.end(running.pop(tick % 3), 0, tick * 0.9)
        running.append(begin(numbers, tick * 0.9))
    assert len(numbers.trail._marks) <= 64
    assert numbers.busy(2699.1)[1] == 1.0


def test_a_beginning_alone_makes_a_new_revision():
    numbers = AgentNumbers("A", now=0.0)
    numbers.type("t")
    seen = {numbers.revision}
    task = begin(numbers, 0.0)
    seen.add(numbers.revision)
    numbers.end(task, 0, 1.0)
    seen.add(numbers.revision)
    assert len(seen) == 3


def test_a_task_that_waits_again_is_assigned_once():
    numbers = AgentNumbers("A", now=0.0)
    slot = numbers.type("t")
    numbers.accept(slot)
    task = SimpleNamespace(id=1, slot=slot, started_at=0.0)
    numbers.begin_queued(task)
    numbers.requeue(task, 3.0)
    reading = read(numbers, 4.0)
    assert (reading.assigned, reading.queued, reading.in_flight) == (1, 1, 0)
    assert (reading.redelivered, reading.busy_seconds) == (1, 3.0)
