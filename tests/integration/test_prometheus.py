"""From the demo's agents to a real Prometheus: what it asks for, what it stores, what it answers.

Needs no network but loopback. Everything that is started here is ended here.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
from helpers_families import (
    BUCKETS,
    ERROR_TYPES,
    OF_FLEET,
    OF_RECORD,
    OF_SERVICES,
    OUTCOMES,
    PER_AGENT,
    TYPES,
)
from helpers_programs import Program, eventually, fetch
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from fleetmon import ELITE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Labels = dict[str, str]

LONGEST = 180.0  # seconds; should this run die, the demo ends by itself
SCRAPES = 3
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@dataclass
class Demo:
    """The running demo, and a scrape from before Prometheus had looked at it."""

    program: Program
    address: str
    first: str

    def scrape(self, accept: str = "*/*") -> tuple[str, str]:
        return fetch(self.address, "/metrics", accept)


@dataclass
class Prometheus:
    """A real server and its HTTP API."""

    address: str

    def get(self, path: str, **parameters: str) -> Any:
        body, _ = fetch(self.address, f"/api/v1/{path}?{urlencode(parameters)}")
        answer = json.loads(body)
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression: str) -> list[tuple[Labels, float]]:
        rows = self.get("query", query=expression)["result"]
        return [(row["metric"], float(row["value"][1])) for row in rows]

    def by_agent(self, expression: str) -> dict[str, float]:
        """Return a value an agent; fails where an agent has two."""
        rows = self.query(expression)
        found = {labels["agent_id"]: value for labels, value in rows}
        assert len(found) == len(rows), expression
        return found

    def history(self, selector: str) -> list[tuple[Labels, list[tuple[float, float]]]]:
        """Return every stored sample of each series: (time, value), oldest first."""
        rows = self.get("query", query=f"{selector}[5m]")["result"]
        return [(row["metric"], [(t, float(v)) for t, v in row["values"]]) for row in rows]


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    options = ("--duration", str(LONGEST), "--metrics", "127.0.0.1:0", "--json")
    program = Program([sys.executable, "-m", "fleetmon", "demo", *options])
    try:
        address = program.wait_for(r"^metrics: http://([\d.:]+)/metrics")
        # all have been added, worker processes included, and one task each is through
        first = eventually(lambda: ready(fetch(address, "/metrics")[0]), within=60)
        yield Demo(program, address, first)
    finally:
        program.end()


def ready(text: str) -> str:
    tasks: Counter[str] = Counter()
    for family in parse_text(text):
        if family.name == "agents_tasks_completed":
            for sample in family.samples:
                tasks[sample.labels["agent_id"]] += int(sample.value)
    return text if len(tasks) == len(ELITE.ids()) and all(tasks.values()) else ""


@pytest.fixture(scope="module")
def prometheus(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    executable = shutil.which("prometheus")
    if executable is None:
        pytest.skip("prometheus is not installed (Debian: prometheus)")
    directory = tmp_path_factory.mktemp("prometheus")
    config = directory / "prometheus.json"  # its YAML reader takes JSON
    config.write_text(
        json.dumps(
            {
                "global": {"scrape_interval": "3s", "scrape_timeout": "3s"},
                "scrape_configs": [
                    {"job_name": "fleet", "static_configs": [{"targets": [demo.address]}]}
                ],
            }
        )
    )
    program = Program(
        [
            executable,
            f"--config.file={config}",
            f"--storage.tsdb.path={directory / 'data'}",
            "--web.listen-address=127.0.0.1:0",
        ],
        out=subprocess.DEVNULL,
    )
    try:
        server = Prometheus(program.wait_for(r'msg="Listening on" address=([\d.:]+)'))
        program.wait_for(r"(Server is ready)")
        enough = f"sum_over_time(up[5m]) >= {SCRAPES}"
        eventually(lambda: server.query(enough), within=60)
        yield server
    finally:
        program.end()


# -- what is served -------------------------------------------------------------------------------


def assert_complete(families: Sequence[Any]) -> None:
    """Every family under its name, with its type and labels; every agent in it."""
    found = {}
    for family in families:
        name = f"{family.name}_total" if family.type == "counter" else family.name
        assert name not in found, f"{name} stands twice"
        found[name] = family
    assert {name: family.type for name, family in found.items()} == TYPES
    everybody = set(ELITE.ids())
    for name, (kind, labels) in PER_AGENT.items():
        wanted = labels | {"agent_id"}
        samples = found[name].samples
        assert {sample.labels["agent_id"] for sample in samples} == everybody, name
        for sample in samples:
            bounds = {"le"} if kind == "histogram" and sample.name.endswith("_bucket") else set()
            assert set(sample.labels) == wanted | bounds, sample
    for name in OF_FLEET:
        assert found[name].samples, name


def test_both_formats_hold_every_family_for_every_agent_and_parse(demo: Demo) -> None:
    text, kind = demo.scrape()
    assert kind.startswith("text/plain; version=0.0.4")
    assert_complete(list(parse_text(text)))
    text, kind = demo.scrape(OPENMETRICS)
    assert kind.startswith(OPENMETRICS)
    assert_complete(list(parse_openmetrics(text)))


def test_promtool_objects_to_nothing_but_the_three_gauges_that_end_in_total(demo: Demo) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    done = subprocess.run(
        [promtool, "check", "metrics"],
        input=demo.scrape()[0],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=20,
        check=False,
    )
    assert sorted(done.stdout.splitlines()) == [
        f'{name} non-counter metrics should not have "_total" suffix'
        for name in (
            "agents_active_total",
            "sigmavault_objects_total",
            "sigmavault_storage_bytes_total",
        )
    ]


# -- what Prometheus makes of it ------------------------------------------------------------------


def test_the_target_is_up_and_every_scrape_stored_what_was_served(
    demo: Demo, prometheus: Prometheus
) -> None:
    def reached() -> bool:
        (target,) = prometheus.get("targets")["activeTargets"]
        assert target["lastError"] == "" or "deadline exceeded" in target["lastError"]
        return target["health"] == "up"

    eventually(reached)
    ((_, came),) = prometheus.query("sum_over_time(up[5m])")
    assert came >= SCRAPES
    ((_, told),) = prometheus.history("scrape_samples_scraped")
    stored = [(at, value) for at, value in told if value]  # 0: this machine had no time for it
    # series are only ever added: what Prometheus took lies between what we saw before and after
    before, after = (samples_in(text) for text in (demo.first, demo.scrape()[0]))
    assert 40 * len(PER_AGENT) < before <= stored[0][1]
    assert stored[-1][1] <= after
    assert [value for _, value in stored] == sorted(value for _, value in stored)
    ((_, kept),) = prometheus.query("scrape_samples_post_metric_relabeling")
    assert kept == stored[-1][1]


def samples_in(text: str) -> int:
    return sum(1 for line in text.splitlines() if not line.startswith("#"))


def test_every_family_answers_for_each_of_the_forty_agents(prometheus: Prometheus) -> None:
    everybody = set(ELITE.ids())
    assert len(everybody) == 40
    for name, (kind, _) in PER_AGENT.items():
        parts = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
        for part in parts:
            found = prometheus.by_agent(f"count by (agent_id) ({name}{part})")
            assert set(found) == everybody, name + part
    for name in OF_FLEET:
        assert prometheus.query(name), name


def test_the_three_services_show_what_they_did(prometheus: Prometheus) -> None:
    for name, kind in OF_SERVICES.items():
        if name == "sigmavault_fuse_operation_duration_seconds":
            continue  # nothing is mounted
        query = f"sum({name}_count) > 0" if kind == "histogram" else f"sum({name}) > 0"
        eventually(lambda query=query: prometheus.query(query))
    for operation in ("store", "retrieve", "delete"):
        wanted = f'sigmavault_operations_total{{operation="{operation}",status="success"}} > 0'
        eventually(lambda wanted=wanted: prometheus.query(wanted))


def test_names_and_types_are_stored_as_promised(prometheus: Prometheus) -> None:
    # it scrapes OpenMetrics, where a counter's family goes without its suffix
    metadata = prometheus.get("metadata")
    stored = {
        f"{name}_total" if entries[0]["type"] == "counter" else name: entries[0]["type"]
        for name, entries in metadata.items()
    }
    assert stored == TYPES
    assert all(entries[0]["help"].endswith(".") for entries in metadata.values())


def test_no_counter_ever_falls_and_work_goes_on(prometheus: Prometheus) -> None:
    counters = [n for n, kind in TYPES.items() if kind == "counter" and n not in OF_RECORD]
    counters += ["agents_task_duration_seconds_" + part for part in ("bucket", "sum", "count")]
    selector = '{__name__=~"' + "|".join(counters) + '"}'
    grown = Counter[str]()
    at_least_twice = set()
    for labels, points in prometheus.history(selector):
        values = [value for _, value in points]
        assert all(a <= b for a, b in pairwise(values)), (labels, values)
        grown[labels["__name__"]] += values[-1] > values[0]
        if len(points) >= 2:
            at_least_twice.add(labels["__name__"])
    assert at_least_twice == set(counters)
    for name in ("agents_tasks_assigned_total", "agents_busy_seconds_total"):
        assert grown[name] >= 20, name
    assert prometheus.query("sum(rate(agents_tasks_assigned_total[5m]))")[0][1] > 0


def test_the_books_of_each_agent_balance_in_every_scrape(prometheus: Prometheus) -> None:
    balance: dict[tuple[str, float], float] = defaultdict(float)
    for name, sign in (
        ("agents_tasks_assigned_total", 1),
        ("agents_tasks_completed_total", -1),
        ("agents_queue_length", -1),
        ("agents_tasks_in_flight", -1),
    ):
        for labels, points in prometheus.history(name):
            for at, value in points:
                balance[labels["agent_id"], at] += sign * value
    assert len(balance) >= 40 * SCRAPES
    assert {key: off for key, off in balance.items() if off} == {}


def test_label_values_are_the_promised_sets_at_0_from_the_first_scrape(
    prometheus: Prometheus,
) -> None:
    def values(family: str, label: str) -> dict[str, set[str]]:
        found: dict[str, set[str]] = defaultdict(set)
        for labels, points in prometheus.history(family):
            found[labels["agent_id"]].add(labels[label])
            begins[family].add(points[0][0])
        return found

    begins: dict[str, set[float]] = defaultdict(set)
    for types in values("agents_failures_total", "error_type").values():
        assert types >= ERROR_TYPES
    for outcomes in values("agents_tasks_completed_total", "outcome").values():
        assert outcomes == OUTCOMES
    for bounds in values("agents_task_duration_seconds_bucket", "le").values():
        assert sorted(float(bound) for bound in bounds) == BUCKETS
        assert "5.0" in bounds
    # one that first appears at 4 does not trip `increase(...) > 3`
    assert len(begins["agents_failures_total"]) == 1
    states = prometheus.by_agent("sum by (agent_id) (agents_lifecycle)")
    assert set(states.values()) == {1}, "an agent is in one state"


def test_a_quiet_fleet_is_healthy_active_and_within_its_ranges(prometheus: Prometheus) -> None:
    assert set(prometheus.by_agent("agents_health_status").values()) == {0}
    assert prometheus.query("agents_active_total") == [
        ({"__name__": "agents_active_total", **instance(prometheus)}, 40)
    ]
    shares = prometheus.by_agent("agents_utilization_ratio")
    assert all(0 <= share <= 1 for share in shares.values())
    assert any(shares.values())
    numbers = {labels["agent_id"]: labels for labels, _ in prometheus.query("agents_info == 1")}
    for entry in ELITE:
        assert int(numbers[entry.agent_id]["number"]) == entry.number
        assert int(numbers[entry.agent_id]["tier"]) == entry.tier
    assert prometheus.query("agents_restarts_total > 0 or fleetmon_zombies > 0") == []


def instance(prometheus: Prometheus) -> Labels:
    ((labels, _),) = prometheus.query("up")
    return {"instance": labels["instance"], "job": labels["job"]}


def test_the_last_scrape_is_no_more_than_what_the_demo_reports_in_the_end(
    demo: Demo, prometheus: Prometheus
) -> None:
    """Runs last: it ends the demo."""
    last = prometheus.by_agent("sum by (agent_id) (agents_tasks_assigned_total)")
    out = demo.program.ask_to_end(signal.SIGTERM)
    assert demo.program.process.returncode == 0, "".join(demo.program.said)
    ended = {agent["agent_id"]: agent["tasks"] for agent in json.loads(out)["agents"]}
    assert ended.keys() == last.keys()
    for agent_id, tasks in last.items():
        assert 0 < tasks <= ended[agent_id], agent_id
    # a scrape that fails is a sample too: alerts on `up == 0` work
    down = eventually(lambda: prometheus.query("up == 0"))
    assert [labels["job"] for labels, _ in down] == ["fleet"]
