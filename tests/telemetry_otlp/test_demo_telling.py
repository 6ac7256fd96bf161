"""The demo with spans and lines switched on: what its exemplars name is in both."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import signal
import sys
from types import SimpleNamespace

import pytest
from otlp_receiver import Receiver, over_http

from fleetmon import Supervisor
from fleetmon.demo.telling import telling
from tests.integration.helpers_programs import Program, eventually, fetch

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
MARK = re.compile(r'agent_id="(\w+)".*# \{span_id="(\w{16})",trace_id="(\w{32})"\}')
DEMO = [sys.executable, "-m", "fleetmon", "demo", "--metrics", "127.0.0.1:0", "--duration", "60"]


@pytest.fixture
def start():
    programs = []

    def started(*options):
        program = Program([*DEMO, *options])
        programs.append(program)
        return program, program.wait_for(r"^metrics: http://([\d.:]+)/metrics")

    yield started
    for program in programs:
        program.end()


def marks(address):
    return set(MARK.findall(fetch(address, "/metrics", OPENMETRICS)[0]))


def test_exemplars_on_the_demo_s_metrics_name_spans_and_lines(start, monkeypatch):
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_on")
    receiver = Receiver()
    with over_http(receiver) as endpoint:
        # lines on standard output, all else on standard error: it is read for the address
        program, address = start("--trace", endpoint, "--log", "-")
        found = eventually(lambda: seen if len(seen := marks(address)) >= 20 else None)
        assert "trace_id" not in fetch(address, "/metrics")[0]
        out = program.ask_to_end(signal.SIGTERM)
    assert program.process.returncode == 0, "".join(program.said)
    lines = {
        (line["agent_id"], line["span_id"], line["trace_id"])
        for line in map(json.loads, out.splitlines())
        if "span_id" in line
    }
    spans = {
        (span.attributes["gen_ai.agent.id"], span.span_id, span.trace_id)
        for span in receiver.spans
        if span.name.startswith("invoke_agent ")
    }
    assert found <= lines
    assert found <= spans
    assert {span.service for span in receiver.spans} == {"fleetmon-demo"}
    assert re.search(r"spans: +\d+ exported, none lost", "".join(program.said))


def test_lines_alone_have_a_trace_id_for_each_task_and_make_no_spans(tmp_path):
    said = []
    file = tmp_path / "demo.jsonl"

    async def work():
        with telling(str(file), None, SimpleNamespace(say=said.append)) as told:
            async with Supervisor(tracer=told.tracer, log=told.log) as fleet:
                agent = fleet.attach("A")
                for _ in range(20):
                    with agent.task("t") as task:
                        logging.getLogger("own").warning("a word")
                        assert not task.sampled

    asyncio.run(work())
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    tasks = [line for line in lines if line["message"] == "task succeeded"]
    words = [line for line in lines if line["message"] == "a word"]
    assert len({line["trace_id"] for line in tasks}) == len(tasks) == 20
    assert [line["trace_id"] for line in words] == [line["trace_id"] for line in tasks]
    assert said == []  # nothing was lost


def test_without_options_and_variables_nothing_is_told():
    with telling(None, None, None) as told:
        assert told == (None, None)


def test_a_variable_alone_switches_spans_on(monkeypatch):
    said = []
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    with telling(None, None, SimpleNamespace(say=said.append)) as told:
        assert told.tracer is not None
        assert told.log is None
    assert said == ["spans:   0 exported, none lost"]
