"""Families and samples that the fast renderer prints, as those who scrape them need them."""

from __future__ import annotations

import shutil
import subprocess
from itertools import pairwise

import pytest
from helpers_exposition import Source, busy_agent, flying, ours, readings
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from fleetmon.numbers import ERROR_TYPES, LIFECYCLES, OUTCOMES, AgentNumbers
from fleetmon.readings import Exemplar
from fleetmon.telemetry import families
from fleetmon.telemetry.exposition import Renderer

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
