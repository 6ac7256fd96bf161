"""What garbage has done on its way out: Python may collect it wherever memory is allocated.

So a finalizer may begin and end tasks, publish and log in a thread that is in the middle of just
that, with the locks held. It must neither wait for itself nor tear what is being read.
"""

from __future__ import annotations

import contextlib
import gc
import io
import threading
from itertools import count
from types import SimpleNamespace

import pytest

from fleetmon import Supervisor
from fleetmon.events import EventKind
from fleetmon.numbers import AgentNumbers
from fleetmon.readings import read, tally
from fleetmon.runtime.bus import EventBus
from fleetmon.telemetry._template import Templates
from fleetmon.telemetry.sink import LineWriter

IDS = count(1)
TASKS = 60
READ = {"read": read, "tally": tally, "busy": AgentNumbers.busy}
STEPS = range(1, 40)  # allocations until the garbage is collected: each step has its turn


class Garbage:
    """A cycle whose finalizer has some work done."""

    def __init__(self, work):
        self.work, self.me = work, self

    def __del__(self):
        self.work()


@pytest.fixture(autouse=True)
def _nothing_else_to_collect():
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@contextlib.contextmanager
def garbage(work, allocations):
    """Have ``work`` done by a finalizer after so many allocations of the block."""
    threshold = gc.get_threshold()
    gc.disable()
    gc.collect()
    try:
        Garbage(work)
        gc.set_threshold(allocations)
        gc.enable()
        yield
    finally:
        gc.set_threshold(*threshold)
        gc.enable()


def ending(look):
    """Call ``look`` in a thread and see that it comes back."""
    failed = []

    def call():
        try:
            look()
        except BaseException as error:  # noqa: BLE001 - told in the test's own thread
            failed.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive(), "it waits for itself"
    assert failed == []


def begin(numbers):
    task = SimpleNamespace(id=next(IDS), slot=numbers.type("t"), started_at=1.0)
    numbers.begin(task)
    return task


@pytest.fixture
def numbers():
    return AgentNumbers("A", now=0.0, capacity=64)


def test_a_finalizer_that_begins_a_task_does_not_spoil_a_reading(numbers):
    for _ in range(30):  # tuples as long as this come from the allocator, which may collect
        begin(numbers)
    for allocations in STEPS:
        before = len(numbers.flying())
        with garbage(lambda: begin(numbers), allocations):
            assert len(numbers.flying()) in {before, before + 1}


@pytest.mark.parametrize("how", READ)
def test_a_finalizer_that_ends_a_task_neither_stops_a_reading_for_good_nor_tears_it(numbers, how):
    flying = [begin(numbers) for _ in range(TASKS)]
    found = []

    def look():
        for allocations in STEPS:
            with garbage(lambda: numbers.end(flying.pop(), 0, 2.0), allocations):
                found.append(READ[how](numbers, 2.0))

    ending(look)
    if how == "busy":
        assert {busy for busy, _ in found} == {TASKS}
    else:
        assert {reading.assigned for reading in found} == {TASKS}
        tallies = [r.tally() if how == "read" else r for r in found]
        assert {sum(t.outcomes) + t.in_flight for t in tallies} == {TASKS}


def test_a_finalizer_that_ends_a_task_does_not_tear_the_text_of_a_scrape(numbers):
    flying = [begin(numbers) for _ in range(TASKS)]
    templates, found = Templates(), []

    def look():
        templates.read(numbers, 2.0)  # the shape is made once
        for allocations in STEPS:
            with garbage(lambda: numbers.end(flying.pop(), 0, 2.0), allocations):
                found.append(templates.read(numbers, 2.0))

    ending(look)
    assigned = f'agents_tasks_assigned_total{{agent_id="A",task_type="t"}} {TASKS}.0\n'.encode()
    assert all(text.entry[3] == assigned for text in found)


def test_a_task_that_ends_while_another_one_does_is_counted(numbers):
    flying = [begin(numbers) for _ in range(2 * len(STEPS))]

    def look():
        for allocations in STEPS:
            with garbage(lambda: numbers.end(flying.pop(), 0, 2.0), allocations):
                numbers.end(flying.pop(), 0, 100.0 * allocations)

    ending(look)
    gc.collect()
    assert tally(numbers, 5000.0).outcomes == (2 * len(STEPS), 0, 0, 0, 0)


def test_events_of_finalizers_stand_in_order_and_reach_each_subscriber_once():
    bus = EventBus(1000, lambda: 0.0, lambda: 0.0)
    told = []
    subscription = bus.subscribe(lambda event: told.append(event.seq))

    def look():
        for allocations in STEPS:
            with garbage(lambda: bus.publish(EventKind.STARTED), allocations):
                bus.publish(EventKind.STARTING)
                bus.recent(1)
                bus.recent(0)

    ending(look)
    gc.collect()
    subscription.close(20)
    expected = list(range(1, 2 * len(STEPS) + 1))
    assert [event.seq for event in bus.recent()] == expected
    assert told == expected


def test_a_finalizer_that_logs_may_come_while_a_drop_is_counted_or_the_thread_is_started():
    def look():
        for allocations in STEPS:
            writer = LineWriter("".join, io.StringIO(), limit=1)
            with garbage(lambda w=writer: w.put("x\n", "kept"), allocations):
                writer.put("y\n", "kept")
                writer.count("kept")
            gc.collect()
            assert writer.close(10)
            assert threading.active_count() < 20

    ending(look)


@pytest.mark.anyio
async def test_a_watched_generator_that_is_dropped_in_a_cycle_ends_its_task_during_a_snapshot():
    async with Supervisor() as fleet:
        agent = fleet.attach("A")

        @agent.watch
        def chunks():
            yield 1
            yield 2

        for allocations in STEPS:
            dropped = {"it": chunks()}
            next(dropped["it"])
            dropped["me"] = dropped
            threshold = gc.get_threshold()
            gc.collect()
            gc.disable()
            del dropped
            gc.set_threshold(allocations)
            gc.enable()
            try:
                ending(agent.snapshot)
            finally:
                gc.set_threshold(*threshold)
        gc.collect()
        now = agent.snapshot()
        assert (now.cancelled, now.numbers.in_flight) == (len(STEPS), 0)
