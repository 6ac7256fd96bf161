"""What the fast renderer prints: the same bytes as stock code, for whatever numbers."""

from __future__ import annotations

import pytest
from helpers_exposition import Source, busy_agent, flying, ours, same_bytes, stock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    enable_created_metrics,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import DuplicateTimeseries

from fleetmon.numbers import LIFECYCLES, AgentNumbers
from fleetmon.readings import Exemplar
from fleetmon.telemetry.collector import FleetCollector
from fleetmon.telemetry.exposition import Renderer

LABELS = st.text(max_size=12) | st.sampled_from(
    ['a"b', "back\\slash", "new\nline", "%d %b %%", "🛰️ Ω", "\ud800", "\x00\x85\u2028", "{},="]
)
COUNTS = st.integers(0, 12) | st.integers(0, 2**70) | st.sampled_from([999_999, 10**6, 10**16])
SECONDS = st.floats(0, 1e300) | st.sampled_from(
    [0.0, 1e-7, 999_999.5, 1e6, 1e21, float("inf"), float("nan")]
)
MARKS = st.builds(
    Exemplar,
    st.sampled_from(["0af7651916cd43dd8448eb211c80319c", "x" * 200, 'q"\\\n']),
    st.just("b7ad6b7169203331"),
    st.floats(0, 1e9),
    st.floats(1e9, 2e9),
)


@st.composite
def agents(draw, agent_id):
    bounds = draw(st.sampled_from([(0.1, 5.0), (0.01, 1.0, 2.5e6, 1e17)]))
    numbers = AgentNumbers(
        agent_id,
        now=0.0,
        bounds=bounds,
        capacity=draw(st.integers(1, 4)),
        task_types=draw(st.lists(LABELS, max_size=4, unique=True)),
        error_types=draw(st.lists(LABELS, max_size=2, unique=True)),
        info=draw(st.tuples(LABELS, LABELS, LABELS)),
    )
    for slot in numbers.types.values():
        slot.queued = draw(COUNTS)
        slot.outcomes = draw(st.lists(COUNTS, min_size=5, max_size=5))
        slot.buckets = draw(st.lists(COUNTS, min_size=len(bounds) + 1, max_size=len(bounds) + 1))
        slot.seconds = draw(SECONDS)
        slot.exemplars = draw(
            st.none() | st.dictionaries(st.integers(0, len(bounds)), MARKS, max_size=3)
        )
    for error_type in numbers.failures:
        numbers.failures[error_type] = draw(st.integers(0, 3) | COUNTS)
    errors = st.sampled_from(sorted(numbers.failures))
    numbers.failure_exemplars = draw(st.none() | st.dictionaries(errors, MARKS, max_size=2))
    numbers.queued = draw(COUNTS)
    for slot in numbers.types.values():
        for _ in range(draw(st.integers(0, 2))):
            numbers.begin(flying(slot, 0.0))
    numbers.recoveries = [draw(COUNTS), 1]
    numbers.restarts, numbers.recovery_attempts = draw(COUNTS), draw(COUNTS)
    numbers.blocked_seconds = draw(SECONDS)
    numbers.lifecycle = draw(st.sampled_from([*LIFECYCLES, "unheard of"]))
    numbers.health = draw(st.integers(0, 2))
    return numbers


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_prints_the_bytes_of_stock_code_for_any_numbers_and_labels(data):
    ids = data.draw(st.lists(LABELS, max_size=3, unique=True))
    source = Source(*[data.draw(agents(agent_id)) for agent_id in ids])
    cached, plain = Renderer(source), Renderer(source, cache=False)
    for _ in range(2):
        same_bytes(source, cached)
        same_bytes(source, plain)
        source.clock += data.draw(st.floats(0, 100))


@pytest.mark.parametrize("openmetrics", [False, True])
def test_other_collectors_of_the_registry_follow_and_fleets_are_not_printed_twice(openmetrics):
    registry = CollectorRegistry()
    source = Source(busy_agent())
    registry.register(FleetCollector(source))
    Counter("host_requests", "Requests.", registry=registry).inc(2)
    Histogram("host_seconds", "Seconds.", registry=registry).observe(0.5)
    rest = CollectorRegistry()
    for collector in list(registry._collector_to_names)[1:]:
        rest.register(collector)
    generate = generate_openmetrics if openmetrics else generate_latest
    disable_created_metrics()  # served without them, whatever the process has set
    try:
        expected = stock(source, openmetrics).removesuffix(b"# EOF\n") + generate(rest)
    finally:
        enable_created_metrics()
    assert ours(Renderer(source, registry=registry), openmetrics) == expected
    assert b"agents_active_total" in generate(registry)


def test_a_collector_of_the_host_that_raises_costs_its_families_only(caplog):
    class Broken:
        def collect(self):
            raise RuntimeError("broken collector")

    registry = CollectorRegistry()
    registry.register(Broken())
    source = Source(busy_agent())
    renderer = Renderer(source, registry=registry)
    assert ours(renderer) == stock(source, openmetrics=False)
    assert ours(renderer) == stock(source, openmetrics=False)
    assert [record.exc_info[1].args for record in caplog.records] == [("broken collector",)]


def test_a_second_fleet_on_one_registry_is_refused_by_the_registry():
    registry = CollectorRegistry()
    registry.register(FleetCollector(Source()))
    with pytest.raises(DuplicateTimeseries, match="Duplicated"):
        registry.register(FleetCollector(Source()))


@pytest.mark.parametrize(
    "names",
    [
        {"agents_health_status", "fleetmon_zombies"},
        {"agents_task_duration_seconds_count"},
        {"agents_task_duration_seconds_bucket", "agents_task_duration_seconds_sum"},
        {"nothing"},
    ],
)
def test_names_restrict_the_output_as_a_restricted_registry_does(names):
    source = Source(busy_agent(), busy_agent("line\u2028\x85separators"))
    registry = CollectorRegistry()
    registry.register(FleetCollector(source))
    expected = generate_latest(registry.restricted_registry(names))
    assert ours(Renderer(source), names=names) == expected
