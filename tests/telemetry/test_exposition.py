"""What the fast renderer prints: the same bytes as stock code, for whatever numbers."""

from __future__ import annotations

import random
import shutil
import subprocess
import threading
import time
from collections import Counter as Counting
from itertools import count, pairwise
from types import SimpleNamespace

import pytest
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
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.registry import DuplicateTimeseries

from fleetmon.numbers import ERROR_TYPES, LIFECYCLES, OUTCOMES, AgentNumbers
from fleetmon.readings import Exemplar, read
from fleetmon.snapshot import FleetReading
from fleetmon.telemetry import families
from fleetmon.telemetry.collector import FleetCollector
from fleetmon.telemetry.exposition import CHUNK, Renderer

SERVED = (
    "agents_active_total",
    "agents_tasks_assigned_total",
    "agents_task_duration_seconds",
    "agents_utilization_ratio",
    "agents_failures_total",
    "agents_recovery_attempts_total",
    "agents_health_status",
    "agents_tasks_completed_total",
    "agents_tasks_redelivered_total",
    "agents_tasks_in_flight",
    "agents_queue_length",
    "agents_busy_seconds_total",
    "agents_restarts_total",
    "agents_recoveries_total",
    "agents_lifecycle",
    "agents_info",
    "agents_loop_blocked_seconds_total",
    "fleetmon_build_info",
)
READING = FleetReading(0.1, 2.5e7, 3.0, 12, {"log": 3, 'a"b\n': 0}, 1, 2, 3, 4, 5, 6, True)


class Source:
    name = "test"

    def __init__(self, *numbers, fleet=READING):
        self.numbers = list(numbers)
        self.clock = 100.0
        self.reading = fleet

    def agents(self):
        return self.numbers

    def now(self):
        return self.clock

    def fleet(self):
        return self.reading

    def ready(self):
        return True


def stock(source, openmetrics):
    registry = CollectorRegistry()
    registry.register(FleetCollector(source))
    return (generate_openmetrics if openmetrics else generate_latest)(registry)


def ours(renderer, openmetrics=False, **options):
    return b"".join(renderer.render(openmetrics, **options))


def same_bytes(source, renderer):
    for openmetrics in (False, True):
        assert ours(renderer, openmetrics) == stock(source, openmetrics)


IDS = count(1)


def flying(slot, started_at):
    return SimpleNamespace(id=next(IDS), slot=slot, started_at=started_at)


def busy_agent(agent_id="APEX", *, now=0.0, types=("review", "train")):
    numbers = AgentNumbers(agent_id, now=now, task_types=types, info=("1", "1", "engineering"))
    for at, task_type in enumerate(types):
        slot = numbers.type(task_type)
        task = flying(slot, now + at)
        numbers.begin(task)
        numbers.end(task, at % 5, now + at + 0.7)
    numbers.fail("timeout")
    numbers.lifecycle = "running"
    numbers.version += 1
    return numbers


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


def test_every_family_is_there_with_every_label_before_the_first_task():
    source = Source(AgentNumbers("APEX", now=0.0, task_types=["review"], error_types=["quota"]))
    text = ours(Renderer(source)).decode()
    for name in SERVED:
        assert f"# TYPE {name} " in text, name
    for error_type in (*ERROR_TYPES, "quota"):
        assert f'agents_failures_total{{agent_id="APEX",error_type="{error_type}"}} 0.0' in text
    for outcome in OUTCOMES:
        assert f'outcome="{outcome}",task_type="review"}} 0.0' in text
    for state in LIFECYCLES:
        value = float(state == "stopped")
        assert f'agents_lifecycle{{agent_id="APEX",state="{state}"}} {value}' in text
    assert (
        'agents_task_duration_seconds_bucket{agent_id="APEX",le="5.0",task_type="review"}' in text
    )
    assert "busy capacity-seconds" in families.UTILIZATION.help.lower()
    assert "# UNIT" not in ours(Renderer(source), openmetrics=True).decode()


def test_help_texts_need_no_escaping_in_either_format():
    for family in families.FAMILIES:
        assert not set(family.help) & set('\\"\n'), family.name
        assert family.labels == tuple(sorted(family.labels))
        assert family.name.endswith("_total") or family.kind != "counter"


@pytest.mark.parametrize("openmetrics", [False, True])
def test_both_stock_parsers_read_the_numbers_back(openmetrics):
    source = Source(busy_agent('odd "id"\\\n🛰️'))
    text = ours(Renderer(source), openmetrics).decode()
    parse = parse_openmetrics if openmetrics else parse_text
    samples = {
        (s.name, tuple(sorted(s.labels.items()))): s.value
        for family in parse(text)
        for s in family.samples
    }
    agent = ("agent_id", 'odd "id"\\\n🛰️')
    assert samples["agents_active_total", ()] == 1
    assert samples["agents_tasks_assigned_total", (agent, ("task_type", "review"))] == 1
    assert samples["agents_failures_total", (agent, ("error_type", "timeout"))] == 1
    one_second = (agent, ("le", "1.0"), ("task_type", "train"))
    assert samples["agents_task_duration_seconds_bucket", one_second] == 1


def test_active_counts_the_lifecycles_that_keep_an_incarnation():
    numbers = [AgentNumbers(state, now=0.0) for state in LIFECYCLES]
    for each in numbers:
        each.lifecycle = each.agent_id
    assert b"\nagents_active_total 4.0\n" in ours(Renderer(Source(*numbers)))


def test_exemplars_are_in_openmetrics_only_and_too_long_ones_are_left_out():
    numbers = busy_agent()
    numbers.type("review").exemplars = {
        3: Exemplar("a" * 32, "b" * 16, 0.7, 1.7e9),
        4: Exemplar("c" * 128, "b" * 16, 0.7, 1.7e9),
    }
    renderer = Renderer(Source(numbers))
    assert b"trace_id" not in ours(renderer)
    text = ours(renderer, openmetrics=True)
    span, trace = b"b" * 16, b"a" * 32
    assert b'# {span_id="%b",trace_id="%b"} 0.7 1700000000.0\n' % (span, trace) in text
    assert b"cccc" not in text


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


def test_promtool_finds_nothing_but_the_gauge_that_ends_in_total():
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    text = ours(Renderer(Source(busy_agent())))
    done = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, check=False
    )
    lints = (done.stdout + done.stderr).decode().splitlines()
    assert lints == ['agents_active_total non-counter metrics should not have "_total" suffix'], (
        lints
    )


def readings(text):
    for family in parse_text(text.decode()):
        for s in family.samples:
            yield family.type, s.name, tuple(sorted(s.labels.items())), s.value


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


def test_cumulative_buckets_rise_and_end_in_the_count():
    numbers = AgentNumbers("A", now=0.0, task_types=["t"])
    slot = numbers.type("t")
    for seconds in (0.001, 0.7, 0.7, 1000.0):
        task = flying(slot, 0.0)
        numbers.begin(task)
        numbers.end(task, 0, seconds)
    found = [v for _, name, _, v in readings(ours(Renderer(Source(numbers)))) if "bucket" in name]
    assert all(a <= b for a, b in pairwise(found))
    assert (found[0], found[-1]) == (1, 4)
