"""The tools behind the table of goals: verdicts, ratios, peers and the instruction counter."""

from __future__ import annotations

import json
import time

import pytest
from opentelemetry.trace import format_trace_id

from benchmarks import erlang, instructions
from benchmarks.modes import MODES
from benchmarks.reference import Reference
from benchmarks.table import Goal, Row, number, render_markdown, render_text
from benchmarks.unit import Timings, interleave, noop, unit

COST = {"goal": Goal("<=", 2.5), "stretch": Goal("<=", 1.8)}
GAIN = {"goal": Goal(">=", 25), "stretch": Goal(">=", 35)}


@pytest.mark.parametrize(
    ("measured", "goals", "verdict"),
    [
        (1.8, COST, "stretch"),
        (1.81, COST, "met"),
        (2.51, COST, "MISSED"),
        (35, GAIN, "stretch"),
        (25, GAIN, "met"),
        (24.9, GAIN, "MISSED"),
        (1.0, {}, "–"),
    ],
)
def test_a_row_is_judged_in_the_direction_of_its_goal(measured, goals, verdict):
    row = Row("1", "task", measured=measured, **goals)
    assert row.verdict == verdict
    assert row.missed == (verdict == "MISSED")


def test_a_row_that_was_not_run_says_why_and_is_no_miss():
    row = Row("5", "crash", reason="Erlang/OTP is not installed", **COST)
    assert row.verdict == "not run: Erlang/OTP is not installed"
    assert not row.missed


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.125, "0.125"),
        (2.5, "2.5"),
        (1234.4, "1,234"),
        (99.96, "100"),
        (1e-6, "0.000001"),
    ],
)
def test_figures_are_printed_without_exponents(value, text):
    assert number(value) == text


def test_text_columns_line_up_and_markdown_escapes_bars():
    rows = [Row("1", "a|b", "12 µs", "5 µs", 2.4, **COST), Row("10", "memory", reason="no /proc")]
    lines = render_text(rows).splitlines()
    assert len(lines) == 4
    assert {line.index(word) for line, word in zip(lines[2:], ("a|b", "memory"), strict=True)} == {
        4
    }
    table = render_markdown(rows).splitlines()
    assert r"a\|b" in table[2]
    assert {line.replace(r"\|", "").count("|") for line in table} == {9}


def test_ratios_are_taken_within_a_round_and_survive_one_disturbed_round():
    timings = Timings({"unit": (1.0, 10.0, 1.0), "ours": (2.0, 20.0, 3.0)})
    assert timings.ratio("ours") == 2.0
    assert timings.added("ours", "unit") == 1.0
    assert timings.seconds("unit") == 1.0


@pytest.mark.anyio
async def test_interleaving_measures_every_candidate_in_every_round():
    timings = await interleave({"unit": unit, "twice": unit}, iterations=20, rounds=3)
    assert {name: len(taken) for name, taken in timings.rounds.items()} == {"unit": 3, "twice": 3}
    assert timings.ratio("twice") > 0
    assert timings.spread("twice") >= 0


@pytest.mark.anyio
async def test_the_reference_counts_traces_and_logs_each_task(tmp_path):
    with Reference() as reference, (tmp_path / "log").open("w+", encoding="utf-8") as sink:
        reference.log = reference.log.bind()
        reference.log._logger._file = sink
        reference.log._logger._write, reference.log._logger._flush = sink.write, sink.flush
        await reference.run("APEX", "review", "1", noop)
        with pytest.raises(ZeroDivisionError):
            await reference.run("APEX", "review", "2", lambda: 1 / 0)
        sink.seek(0)
        lines = [json.loads(line) for line in sink]
        value = reference.registry.get_sample_value
        labels = {"agent_id": "APEX", "task_type": "review"}
        assert value("agents_tasks_assigned_total", labels) == 2
        assert value("agents_tasks_in_flight", {"agent_id": "APEX"}) == 0
        assert value("agents_task_duration_seconds_count", labels) == 2
        assert value("agents_tasks_completed_total", {**labels, "outcome": "succeeded"}) == 1
        failed = {"agent_id": "APEX", "error_type": "exception"}
        assert value("agents_failures_total", failed) == 1
    assert [line["outcome"] for line in lines] == ["succeeded", "failed"]
    assert [line["message"] for line in lines] == ["task ended"] * 2
    assert all(len(line["trace_id"]) == 32 for line in lines)
    assert lines[0]["trace_id"] not in {lines[1]["trace_id"], format_trace_id(0)}


def test_without_erlang_the_peer_gives_the_reason(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    peer = erlang.crash()
    assert peer.seconds is None
    assert "not installed" in peer.reason


def test_otp_recovers_one_child_and_a_storm():
    peers = [erlang.crash(rounds=3), erlang.storm(20, rounds=2)]
    if peers[0].reason.startswith("Erlang/OTP is not installed"):
        pytest.skip(peers[0].reason)
    for peer, rounds in zip(peers, (3, 2), strict=True):
        assert peer.reason == ""
        assert len(peer.rounds) == rounds
        assert 0 < peer.seconds < 1


def test_without_valgrind_counting_says_so_and_is_no_failure_of_the_figures(monkeypatch, capsys):
    monkeypatch.setenv("PATH", "/nowhere")
    assert instructions.main(["bare"]) == 2
    assert capsys.readouterr().out == "not run: valgrind is not installed (Debian: valgrind)\n"


@pytest.mark.parametrize(("drift", "code"), [(0.019, 0), (-0.019, 0), (0.021, 1), (-0.021, 1)])
def test_figures_are_held_within_the_tolerance(monkeypatch, capsys, tmp_path, drift, code):
    monkeypatch.setattr(instructions, "FIGURES", tmp_path / "figures.json")
    monkeypatch.setattr(instructions, "count", lambda _mode: 1000.0)
    assert instructions.main(["bare", "--update"]) == 0
    monkeypatch.setattr(instructions, "count", lambda _mode: 1000.0 * (1 + drift))
    assert instructions.main(["bare"]) == code
    assert f"{drift:+.2%}" in capsys.readouterr().out


def test_figures_counted_with_other_versions_are_not_compared(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(instructions, "FIGURES", tmp_path / "figures.json")
    monkeypatch.setattr(instructions, "count", lambda _mode: 1000.0)
    assert instructions.main(["bare", "--update"]) == 0
    elsewhere = {**instructions.surroundings(), "python": "3.99"}
    monkeypatch.setattr(instructions, "surroundings", lambda: elsewhere)
    monkeypatch.setattr(instructions, "count", lambda _mode: 5000.0)
    assert instructions.main(["bare"]) == 0
    assert "python is 3.99 here and " in capsys.readouterr().out


def test_the_committed_figures_name_modes_that_exist():
    stored = json.loads(instructions.FIGURES.read_text(encoding="utf-8"))
    assert {"bare", "reference"} <= set(stored["instructions"]) <= set(MODES)
    assert set(stored["counted_with"]) == set(instructions.surroundings())


@pytest.mark.anyio
@pytest.mark.parametrize("mode", MODES)
async def test_every_mode_runs_as_often_as_it_is_told(mode):
    began = time.monotonic()
    async with MODES[mode]() as body:
        await body(3)
    assert time.monotonic() - began < 30
