"""Text that the fast renderer keeps: what makes it anew, and how much there is of it."""

from __future__ import annotations

import pytest
from helpers_exposition import Source, busy_agent, flying, ours, same_bytes, stock

from fleetmon.numbers import AgentNumbers
from fleetmon.readings import Exemplar, read
from fleetmon.telemetry.exposition import CHUNK, Renderer


@pytest.mark.parametrize("seconds", [0.5, 59.0, 1000.0])
def test_kept_text_follows_the_clock_the_numbers_and_the_fleet(seconds):
    source = Source(busy_agent("A"), busy_agent("B", types=()))
    renderer = Renderer(source)
    same_bytes(source, renderer)
    source.clock += seconds
    same_bytes(source, renderer)
    source.numbers[0].fail("hang", Exemplar("a" * 32, "b" * 16, 1.0, 1.7e9))
    source.numbers[0].type("review").exemplars = {3: Exemplar("a" * 32, "b" * 16, 0.7, 1.7e9)}
    same_bytes(source, renderer)
    source.numbers.append(busy_agent("C", now=source.clock))
    same_bytes(source, renderer)
    source.numbers[1] = busy_agent("D")
    same_bytes(source, renderer)
    del source.numbers[1:]
    same_bytes(source, renderer)


def test_utilization_falls_to_zero_when_another_reader_dropped_the_trace():
    source = Source(busy_agent("A", now=99.0))
    renderer = Renderer(source)
    assert b'agents_utilization_ratio{agent_id="A"} 0.0\n' not in ours(renderer)
    source.clock += 1000
    read(source.numbers[0], source.clock)
    assert b'agents_utilization_ratio{agent_id="A"} 0.0\n' in ours(renderer)


def test_a_running_task_counts_up_to_now_though_nothing_else_changes():
    numbers = AgentNumbers("A", now=0.0, task_types=["t"])
    numbers.begin(flying(numbers.type("t"), 0.0))
    source = Source(numbers)
    source.clock = 10.0
    renderer = Renderer(source)
    assert b'agents_busy_seconds_total{agent_id="A"} 10.0\n' in ours(renderer)
    source.clock = 15.0
    assert b'agents_busy_seconds_total{agent_id="A"} 15.0\n' in ours(renderer)


def test_numbers_that_are_kept_are_not_rendered_again():
    source = Source(*[busy_agent(f"a{i}") for i in range(3)])
    renderer = Renderer(source)
    source.clock += 1000
    ours(renderer)
    before = list(renderer._entries)
    ours(renderer, openmetrics=True)
    assert all(a is b for a, b in zip(before, renderer._entries, strict=True))
    source.numbers[1].fail("hang")
    ours(renderer)
    assert [a is b for a, b in zip(before, renderer._entries, strict=True)] == [True, False, True]


def test_without_the_cache_nothing_is_kept():
    renderer = Renderer(Source(busy_agent()), cache=False)
    ours(renderer)
    assert not renderer._entries
    assert not renderer._agents
    assert not renderer._templates._shapes


def test_prepared_text_is_bounded_whatever_types_a_host_invents():
    source = Source(*[AgentNumbers("A", now=0.0, task_types=[f"t{i}"]) for i in range(600)])
    renderer = Renderer(source)
    assert ours(renderer) == stock(source, openmetrics=False)
    assert len(renderer._templates._shapes) <= 512
    assert len(renderer._templates._types) <= 512


def test_chunks_stay_small_whatever_the_sizes_of_agents():
    many = [f"type-{i}" for i in range(20)]
    fleet = [busy_agent(f"a{i}", types=many if i >= 300 else ()) for i in range(600)]
    chunks = list(Renderer(Source(*fleet)).render())
    assert max(map(len, chunks)) <= 2 * CHUNK
    assert len(chunks) < 2 * sum(map(len, chunks)) / CHUNK + 2
