"""Scrapes while threads count: books balance, and no counter falls."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter as Counting

from helpers_exposition import Source, flying, ours, readings, same_bytes

from fleetmon.numbers import AgentNumbers
from fleetmon.telemetry.exposition import Renderer


def keep_working(fleet, seed, stop):
    draw = random.Random(seed)
    while not stop.is_set():
        numbers = draw.choice(fleet)
        slot = numbers.type(draw.choice("tu"))
        numbers.accept(slot)
        if draw.random() < 0.2:
            numbers.end_queued(slot, 2)
            continue
        task = flying(slot, time.monotonic())
        numbers.begin_queued(task)
        if draw.random() < 0.3:
            numbers.fail("exception")
        if draw.random() < 0.2:
            numbers.requeue(task, time.monotonic())
            numbers.end_queued(slot, 4)
        else:
            numbers.end(task, draw.randrange(5), time.monotonic())
        task = flying(slot, time.monotonic())
        numbers.begin(task)
        numbers.end(task, draw.randrange(5), time.monotonic())


BOOKS = {
    "agents_tasks_assigned_total": 1,
    "agents_tasks_completed_total": -1,
    "agents_queue_length": -1,
    "agents_tasks_in_flight": -1,
}


def audit(renderer, problems):
    last = {}
    for _ in range(25):
        books, counters = Counting(), {}
        for kind, name, labels, value in readings(ours(renderer)):
            if kind == "counter" or name.endswith(("_bucket", "_count")):
                counters[name, labels] = value
            if name in BOOKS:
                books[dict(labels)["agent_id"]] += BOOKS[name] * value
        problems.extend(agent for agent, off in books.items() if off)
        problems.extend((key, was) for key, was in last.items() if counters[key] < was)
        last = counters


def test_books_balance_and_counters_never_fall_while_threads_count_and_scrape():
    start = time.monotonic()
    fleet = [AgentNumbers(f"a{i}", now=start, task_types=["t", "u"]) for i in range(4)]
    source = Source(*fleet)
    source.now = time.monotonic
    renderer = Renderer(source)
    stop, problems = threading.Event(), []
    writers = [threading.Thread(target=keep_working, args=(fleet, i, stop)) for i in range(4)]
    scrapers = [threading.Thread(target=audit, args=(renderer, problems)) for _ in range(2)]
    for thread in (*writers, *scrapers):
        thread.start()
    for thread in scrapers:
        thread.join()
    stop.set()
    for thread in writers:
        thread.join()
    assert not problems, problems[:3]
    end = time.monotonic() + 1000
    source.now = lambda: end
    same_bytes(source, renderer)
