"""Two real services in processes of their own, a collector and a Prometheus: one id everywhere."""

from __future__ import annotations

import json
import secrets
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import pytest
from otlp_receiver import Receiver, over_http

from tests.integration.helpers_programs import Program, eventually, fetch

httpx = pytest.importorskip("httpx", reason="the extra fastapi is not installed")
pytest.importorskip("opentelemetry.instrumentation.fastapi", reason="the extra is not installed")

EXAMPLES = Path(__file__).parents[2] / "examples"
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
CALLER = "00f067aa0ba902b7"
EXEMPLARS = 'agents_task_duration_seconds_bucket{agent_id="%s"}'


@dataclass
class Services:
    """Neurectomy in front, Ryot behind it, and where their spans go."""

    receiver: Receiver
    ryot: Program
    neurectomy: Program
    ryot_url: str
    url: str

    def ask(self, agent_id, text="please write some words", *, flags=None):
        """Send a request; with ``flags`` as part of a trace of the caller's. Return id, answer."""
        headers, trace_id = {}, None
        if flags is not None:
            trace_id = secrets.token_hex(16)
            headers["traceparent"] = f"00-{trace_id}-{CALLER}-{flags}"
        answer = httpx.post(
            f"{self.url}/agents/{agent_id}/process", json={"text": text}, headers=headers
        )
        return trace_id or answer.headers["x-trace-id"], answer

    def pages(self, accept):
        addresses = [url.removeprefix("http://") for url in (self.url, self.ryot_url)]
        return [fetch(address, "/metrics", accept)[0] for address in addresses]


def serve(factory):
    server = [
        sys.executable,
        "-m",
        "uvicorn",
        "--factory",
        f"neurectomy:{factory}",
        "--port",
        "0",
        "--no-access-log",
    ]
    return Program([*server, "--app-dir", str(EXAMPLES)])


@pytest.fixture(scope="module")
def services():
    receiver = Receiver()
    with pytest.MonkeyPatch.context() as patch, over_http(receiver) as endpoint:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        programs = []
        try:
            programs.append(ryot := serve("ryot"))
            ryot_url = ryot.wait_for(r"running on (http://[\d.:]+)")
            patch.setenv("RYOT_URL", ryot_url)
            programs.append(neurectomy := serve("neurectomy"))
            url = neurectomy.wait_for(r"running on (http://[\d.:]+)")
            yield Services(receiver, ryot, neurectomy, ryot_url, url)
        finally:
            for program in programs:
                program.end()


@pytest.fixture(scope="module")
def prometheus(services, tmp_path_factory):
    executable = shutil.which("prometheus")
    if executable is None:
        pytest.skip("prometheus is not installed (Debian: prometheus)")
    directory = tmp_path_factory.mktemp("prometheus")
    targets = [url.removeprefix("http://") for url in (services.url, services.ryot_url)]
    config = directory / "prometheus.json"
    config.write_text(
        json.dumps(
            {
                "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
                "scrape_configs": [{"job_name": "api", "static_configs": [{"targets": targets}]}],
            }
        )
    )
    program = Program(
        [
            executable,
            f"--config.file={config}",
            f"--storage.tsdb.path={directory / 'data'}",
            "--enable-feature=exemplar-storage",
            "--web.listen-address=127.0.0.1:0",
        ],
        out=subprocess.DEVNULL,
    )
    try:
        address = program.wait_for(r'msg="Listening on" address=([\d.:]+)')
        program.wait_for(r"(Server is ready)")
        yield lambda query: exemplars_of(address, query)
    finally:
        program.end()


def exemplars_of(address, query):
    now = time.time()
    wanted = urlencode({"query": query, "start": now - 300, "end": now + 60})
    answer = json.loads(fetch(address, f"/api/v1/query_exemplars?{wanted}")[0])
    assert answer["status"] == "success"
    return [
        (row["seriesLabels"], exemplar["labels"])
        for row in answer["data"]
        for exemplar in row["exemplars"]
    ]


@dataclass
class Seen:
    """What is asked of both services in one go, and checked in several tests."""

    sampled: str
    unsampled: str
    failed: str


@pytest.fixture(scope="module")
def seen(services):
    unsampled, answer = services.ask("OMNISCIENT", flags="02")
    assert answer.status_code == 200
    assert answer.headers["x-trace-id"] == unsampled
    sampled, answer = services.ask("OMNISCIENT", flags="03")
    assert answer.json() == {
        "status": "COMPLETED",
        "output": "OMNISCIENT: APEX: four words were generated",
    }
    assert answer.headers["x-trace-id"] == sampled
    failed, answer = services.ask("CIPHER", text="", flags="01")
    assert answer.status_code == 502
    assert answer.headers["x-trace-id"] == failed
    return Seen(sampled, unsampled, failed)


def test_one_request_is_one_trace_through_both_services(services, seen):
    def complete(spans):
        return sum(span.trace_id == seen.sampled for span in spans) == 6

    spans = [s for s in services.receiver.until(complete) if s.trace_id == seen.sampled]
    by_name = {(span.service, span.name): span for span in spans}
    chain = [
        ("neurectomy", "POST /agents/{agent_id}/process", "SERVER"),
        ("neurectomy", "invoke_agent OMNISCIENT", "INTERNAL"),
        ("neurectomy", "invoke_agent APEX", "INTERNAL"),
        ("neurectomy", "POST", "CLIENT"),
        ("ryot", "POST /v1/chat/completions", "SERVER"),
        ("ryot", "invoke_agent RYOT", "INTERNAL"),
    ]
    parent = CALLER
    for service, name, kind in chain:
        span = by_name[service, name]
        assert (span.kind, span.parent_id) == (kind, parent), name
        parent = span.span_id


def test_the_decision_against_sampling_is_kept_through_both_services(services, seen):
    assert not [s for s in services.receiver.spans if s.trace_id == seen.unsampled]


def test_the_exemplar_is_the_span_of_the_task_and_in_openmetrics_alone(services, seen):
    tasks = {
        span.name.removeprefix("invoke_agent "): span.span_id
        for span in services.receiver.spans
        if span.trace_id == seen.sampled and span.name.startswith("invoke_agent")
    }
    front, behind = services.pages(OPENMETRICS)
    for agent_id, page in (("OMNISCIENT", front), ("APEX", front), ("RYOT", behind)):
        mark = f'# {{span_id="{tasks[agent_id]}",trace_id="{seen.sampled}"}}'
        lines = [line for line in page.splitlines() if mark in line]
        assert [f'agent_id="{agent_id}"' in line for line in lines] == [True]
        assert lines[0].startswith("agents_task_duration_seconds_bucket{")
    (failure,) = [line for line in front.splitlines() if line.startswith("agents_failures_total{")
                  and seen.failed in line]  # fmt: skip
    assert 'agent_id="CIPHER",error_type="returned_failure"} 1.0 # {' in failure
    for page in services.pages("text/plain"):
        assert "trace_id" not in page
    for page in (front, behind):
        assert seen.unsampled not in page


def test_a_real_prometheus_brings_the_exemplars_back(services, seen, prometheus):
    for agent_id in ("OMNISCIENT", "APEX", "RYOT"):
        found = eventually(lambda name=agent_id: prometheus(EXEMPLARS % name))
        assert {labels["trace_id"] for _, labels in found} == {seen.sampled}
        assert {labels["agent_id"] for labels, _ in found} == {agent_id}
        ((_, labels),) = found
        (span,) = [s for s in services.receiver.spans if s.span_id == labels["span_id"]]
        assert span.name == f"invoke_agent {agent_id}"
    ((labels, mark),) = eventually(lambda: prometheus('agents_failures_total{agent_id="CIPHER"}'))
    assert (labels["error_type"], mark["trace_id"]) == ("returned_failure", seen.failed)


def test_a_request_without_a_trace_of_its_caller_gets_one(services):
    first, second = services.ask("APEX")[0], services.ask("APEX")[0]
    assert len(first) == len(second) == 32
    assert first != second


def test_probes_and_scrapes_make_no_spans(services, seen):
    for path in ("/metrics", "/healthz", "/readyz"):
        answer = httpx.get(services.url + path)
        assert answer.status_code == 200
        assert "x-trace-id" not in answer.headers
    names = {span.name for span in services.receiver.spans}
    assert not [n for n in names if "GET" in n or "http send" in n or "http receive" in n]


def test_the_lines_of_both_services_bear_the_ids_of_spans_header_and_exemplar(services, seen):
    """Runs last: it ends both services, which write what waits."""
    lines = []
    for program in (services.neurectomy, services.ryot):
        out = program.ask_to_end(signal.SIGTERM)
        lines += [json.loads(line) for line in out.splitlines()]
    spans = {span.span_id: span for span in services.receiver.spans}
    for trace_id, exported in ((seen.sampled, True), (seen.unsampled, False)):
        tasks = [line for line in lines if line.get("trace_id") == trace_id]
        assert sorted((line["service"], line["agent_id"]) for line in tasks) == [
            ("neurectomy", "APEX"),
            ("neurectomy", "OMNISCIENT"),
            ("ryot", "RYOT"),
        ]
        for line in tasks:
            assert (line["span_id"] in spans) == exported
            if exported:
                assert spans[line["span_id"]].name == f"invoke_agent {line['agent_id']}"
