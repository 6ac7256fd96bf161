"""Spans on their way: from a fleet through the shipped Collector to the shipped Jaeger."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import programs
import pytest
import yaml
from conftest import need
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.trace import Status, StatusCode, format_trace_id
from pipeline import COLLECTOR, Collector, Jaeger, configurations
from running import ROOT, eventually, request

from fleetmon import configure_tracing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from proof import Table

SERVICE = "fleetmon-demo"
ALL_SPANS = {"OTEL_TRACES_SAMPLER": "parentbased_always_on"}
LOW_HALF = (1 << 64) - 1
SLOW_NS = 6_000_000_000


@dataclass
class Way:
    """A Collector with a Jaeger behind it."""

    jaeger: Jaeger
    collector: Collector


@dataclass
class Demo:
    """A demonstration that has ended.

    Attributes:
        ok: trace ids of the tasks that went well, from its log.
        failed: of those that did not.
        exported: spans that it says it has sent.
    """

    ok: set[str]
    failed: set[str]
    exported: int

    @property
    def tasks(self) -> int:
        return len(self.ok) + len(self.failed)


class Running:
    """``fleetmon demo``, sending its spans to a Collector."""

    def __init__(self, directory: Path, endpoint: str, environment: Mapping[str, str]) -> None:
        self.log = directory / "demo.jsonl"
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "fleetmon", "demo", "--duration", "15", "--json"),
                *("--metrics", "127.0.0.1:0", "--trace", endpoint, "--log", str(self.log)),
            ],
            cwd=ROOT,
            env={**os.environ, "FLEETMON_CONTROL": "0", **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ended(self) -> Demo:
        """Wait for its end."""
        _, said = self.process.communicate(timeout=120)
        assert self.process.returncode == 0, said
        exported = re.search(r"spans: +(\d+) exported, none lost", said)
        assert exported, said
        demo = Demo(set(), set(), int(exported[1]))
        for line in self.log.read_text().splitlines():
            entry = json.loads(line)
            if trace := entry.get("trace_id"):
                (demo.ok if entry["level"] == "info" else demo.failed).add(trace)
        return demo


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory, table: Table) -> Iterator[tuple[Way, Way]]:
    """The configuration as it is, and with tail sampling laid over it."""
    collector, jaeger = need(programs.collector()), need(programs.jaeger())
    table.component("OpenTelemetry Collector", collector.version)
    table.component("Jaeger", f"{jaeger.version} (its v2 program)")
    with ExitStack() as stack:
        found = []
        for name in ("head", "tail"):
            directory = tmp_path_factory.mktemp(name)
            behind = stack.enter_context(Jaeger(jaeger, directory / "jaeger"))
            server = Collector(
                collector, directory / "collector", behind.otlp, tail_sampling=name == "tail"
            )
            found.append(Way(behind, stack.enter_context(server)))
        yield found[0], found[1]


@pytest.fixture(scope="module")
def slow(ways: tuple[Way, Way]) -> set[str]:
    """Trace ids of twenty spans of six seconds each, sent the way with tail sampling."""
    ids = set()
    with configure_tracing("slow", endpoint=ways[1].collector.http, ratio=1.0) as tracing:
        tracer = tracing.provider.get_tracer("test")
        for number in range(20):
            now = time.time_ns()
            span = tracer.start_span(
                "invoke_agent",
                start_time=now - SLOW_NS,
                attributes={
                    "gen_ai.operation.name": "invoke_agent",
                    "gen_ai.agent.name": f"SLOW{number}",
                },
            )
            span.end(now)
            ids.add(format_trace_id(span.get_span_context().trace_id))
        assert tracing.flush(30)
        assert tracing.lost == {}
    return ids


@pytest.fixture(scope="module")
def demos(
    ways: tuple[Way, Way], slow: set[str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Demo, Demo]:
    """A demonstration for each way: sampled at the head, and all of it."""
    assert slow, "they are on their way meanwhile"
    running = [
        Running(tmp_path_factory.mktemp("demo"), way.collector.http, environment)
        for way, environment in zip(ways, ({"OTEL_TRACES_SAMPLER": ""}, ALL_SPANS), strict=True)
    ]
    head, tail = (demo.ended() for demo in running)
    return head, tail


def samples(address: str, name: str) -> list[tuple[dict[str, str], float]]:
    """Return labels and values of a family's samples of that name."""
    found = []
    for line in request(address, "/metrics")[1].splitlines():
        if split := re.fullmatch(rf"{name}(?:\{{(.*)\}})? (\S+)(?: #.*)?", line):
            labels = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', split[1] or ""))
            found.append((labels, float(split[2])))
    return found


def sent(way: Way) -> float:
    """Return the spans that Jaeger took from the Collector."""
    name = "otelcol_exporter_sent_spans_total"
    found = samples(way.collector.telemetry, name)
    return sum(value for labels, value in found if labels["exporter"] == "otlp_grpc/jaeger")


@pytest.mark.parametrize("tail_sampling", [False, True], ids=["head", "tail"])
def test_the_configuration_is_valid(tail_sampling):
    tool = need(programs.collector())
    done = subprocess.run(
        [tool.path, "validate", *configurations(tail_sampling=tail_sampling)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_builder_names_what_the_configurations_name_and_nothing_else():
    tool = need(programs.collector())
    said = subprocess.run([tool.path, "components"], capture_output=True, text=True, check=True)
    built = yaml.safe_load(said.stdout)
    kinds = ("receivers", "processors", "exporters", "connectors", "extensions")
    names: dict[str, set[str]] = {kind: set() for kind in kinds}
    for file in ("config.yaml", "tail-sampling.yaml"):
        content = yaml.safe_load((COLLECTOR / file).read_text())
        for kind in kinds:
            names[kind] |= {name.split("/")[0] for name in content.get(kind, {})}
    assert names == {kind: {part["name"] for part in built[kind]} for kind in kinds}


def test_of_the_fleets_traces_exactly_the_sampled_tenth_arrives(ways, demos, table):
    way, demo = ways[0], demos[0]
    bound = TraceIdRatioBased(0.1).bound
    expected = {trace for trace in demo.ok | demo.failed if int(trace, 16) & LOW_HALF < bound}
    traces = eventually(
        lambda: len(found := way.jaeger.traces(SERVICE)) >= demo.exported and found, 60
    )
    assert set(traces) == expected
    # four standard deviations of a share
    assert abs(len(traces) / demo.tasks - 0.1) < 4 * (0.1 * 0.9 / demo.tasks) ** 0.5
    table.fact(
        f"Of {demo.tasks} tasks of the demonstration {len(traces)} traces "
        f"({len(traces) / demo.tasks:.1%}) came through the Collector to Jaeger's query API."
    )


def test_a_span_says_whose_task_it_was_and_which(ways, demos):
    traces = eventually(
        lambda: len(found := ways[0].jaeger.traces(SERVICE)) >= demos[0].exported and found, 60
    )
    for spans in traces.values():
        (span,) = spans
        tags = {tag["key"]: tag["value"] for tag in span["tags"]}
        assert span["operationName"] == f"invoke_agent {tags['gen_ai.agent.name']}"
        assert tags["gen_ai.operation.name"] == "invoke_agent"
        assert tags["gen_ai.provider.name"] == "fleetmon"
        assert tags["fleetmon.attempt"] == tags["fleetmon.generation"] == 1
        assert tags["fleetmon.task_id"] > 0
        assert tags["fleetmon.task_type"]


def test_tail_sampling_keeps_every_error_and_a_tenth_of_the_rest(ways, demos, slow, table):
    way, demo = ways[1], demos[1]
    of_both = demo.exported + len(slow)
    # the choice is made 10 seconds after a trace began, the batch goes out 10 seconds later
    decided = "otelcol_processor_tail_sampling_global_count_traces_sampled_total"

    def all_decided() -> bool:
        return sum(value for _, value in samples(way.collector.telemetry, decided)) >= of_both

    eventually(all_decided, 60)
    kept = {labels["sampled"]: 0.0 for labels, _ in samples(way.collector.telemetry, decided)}
    for labels, value in samples(way.collector.telemetry, decided):
        kept[labels["sampled"]] += value
    traces = eventually(
        lambda: len(found := way.jaeger.traces(SERVICE)) >= kept["true"] - len(slow) and found, 60
    )
    assert demo.exported >= demo.tasks
    errors = {
        trace
        for trace, spans in traces.items()
        if any(tag["key"] == "error" and tag["value"] for span in spans for tag in span["tags"])
    }
    assert demo.failed
    assert demo.failed <= errors
    rest = set(traces) - errors
    share = len(rest) / len(demo.ok)
    assert abs(share - 0.1) < 4 * (0.1 * 0.9 / len(demo.ok)) ** 0.5
    table.fact(
        f"Tail sampling kept {len(demo.failed)} of {len(demo.failed)} failed tasks and "
        f"{share:.1%} of {len(demo.ok)} that went well."
    )

    def counted() -> bool:
        calls = samples(way.collector.prometheus, "traces_span_metrics_calls_total")
        return sum(value for _, value in calls) >= of_both

    eventually(counted, 60)  # metrics are made of all spans, before the choice


def test_tail_sampling_keeps_slow_traces_and_names_spans_by_their_agent(ways, slow):
    way = ways[1]
    traces = eventually(lambda: len(found := way.jaeger.traces("slow")) == len(slow) and found, 90)
    assert set(traces) == slow
    names = {span["operationName"] for spans in traces.values() for span in spans}
    assert names == {f"invoke_agent SLOW{number}" for number in range(20)}


def test_while_jaeger_is_stopped_nothing_is_lost(ways, demos, table):
    way = ways[0]
    before = eventually(lambda: (count := sent(way)) >= demos[0].exported and count, 60)
    assert way.jaeger.process is not None
    way.jaeger.stop(signal.SIGTERM)
    ids = set()
    with configure_tracing("patient", endpoint=way.collector.http, ratio=1.0) as tracing:
        tracer = tracing.provider.get_tracer("test")
        for number in range(6000):
            span = tracer.start_span(f"work {number % 7}")
            if number % 100 == 0:
                span.set_status(Status(StatusCode.ERROR))
            span.end()
            ids.add(format_trace_id(span.get_span_context().trace_id))
            if number % 1000 == 0:
                assert tracing.flush(30)
        assert tracing.flush(30)
        assert tracing.exported == len(ids)
    # they are tried, and wait
    failed = "Exporting failed. Will retry the request"
    eventually(lambda: failed in way.collector.log.read_text(), 60)
    assert sent(way) == before
    began = time.monotonic()
    way.jaeger.start()
    traces = eventually(
        lambda: len(found := way.jaeger.traces("patient")) == len(ids) and found, 120
    )
    assert set(traces) == ids
    assert len(way.jaeger.traces(SERVICE)) == demos[0].exported, "badger kept what it had"
    table.fact(
        f"{len(ids)} spans waited in the Collector's queue while Jaeger was stopped, and all were "
        f"found {time.monotonic() - began:.0f} s after it was started again."
    )


def test_the_console_and_prometheus_hear_of_the_spans_as_well(ways, demos):
    # last: metrics are made of what has gone out, every 15 seconds, and sent in batches then
    way, demo = ways[0], demos[0]
    eventually(lambda: sent(way) >= demo.exported, 60)

    def told() -> bool:
        log = way.collector.log.read_text()
        line = r'"otelcol.component.id": "debug".*"resource spans": \d+, "spans": (\d+)'
        return sum(map(int, re.findall(line, log))) == sent(way)

    eventually(told, 60)

    def of_the_demo(name: str) -> list[tuple[dict[str, str], float]]:
        found = samples(way.collector.prometheus, f"traces_span_metrics_{name}")
        return [(labels, value) for labels, value in found if labels["service_name"] == SERVICE]

    def counted() -> Any:
        calls = of_the_demo("calls_total")
        return sum(value for _, value in calls) >= demo.exported and calls

    calls = eventually(counted, 60)
    assert sum(value for _, value in calls) == demo.exported
    assert {labels["span_name"] for labels, _ in calls} == {
        f"invoke_agent {labels['gen_ai_agent_name']}" for labels, _ in calls
    }
    durations = of_the_demo("duration_seconds_count")
    assert sum(value for _, value in durations) == demo.exported
