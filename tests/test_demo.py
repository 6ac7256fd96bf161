"""The demonstration: a real host, with exact books, that ends as it is asked to."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.request import urlopen

import pytest

from fleetmon import ELITE
from fleetmon.demo import host
from fleetmon.demo.agents import AsyncAgent, Recipe
from fleetmon.demo.books import Account, audit, read_exposition
from fleetmon.demo.cast import choose_cast
from fleetmon.demo.chaos import KINDS, Injection, plan
from fleetmon.demo.checks import broken_checks
from fleetmon.demo.console import Console
from fleetmon.demo.corpus import find_corpus
from fleetmon.demo.feed import Deck, Pacer
from fleetmon.demo.host import DemoOptions, perform
from fleetmon.demo.outcome import Outcomes
from fleetmon.demo.services import Services

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleetmon.demo.report import Results

ROOT = Path(__file__).parent.parent
TRIO = '[[agents]]\nid = "ant"\n[[agents]]\nid = "bee"\n[[agents]]\nid = "cat"\n'
SIX = "".join(f'[[agents]]\nid = "a{at}"\n' for at in range(6))


@pytest.fixture
def trio(tmp_path: Path) -> Path:
    path = tmp_path / "trio.toml"
    path.write_text(TRIO)
    return path


def start(*options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "fleetmon", "demo", "--metrics", "127.0.0.1:0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, dict[str, Any], str]:
    out, err = process.communicate(timeout=40)
    return process.returncode, json.loads(out), err


class Running(NamedTuple):
    process: subprocess.Popen[str]
    metrics: str


@pytest.fixture
def running(trio: Path) -> Iterator[Running]:
    process = start("--agents", str(trio), "--json")
    assert process.stderr is not None
    metrics = ""
    for line in process.stderr:
        if line.startswith("metrics: "):
            metrics = line.split()[1]
        if line.startswith("end:"):  # the last line before the agents are started
            break
    yield Running(process, metrics)
    process.kill()
    process.wait()


def wait_for_work(url: str, agents: int) -> None:
    """Return once every agent has succeeded with a task."""
    until = time.monotonic() + 20
    while True:
        with urlopen(url, timeout=10) as page:
            accounts = read_exposition(page.read().decode())
        if sum(account.succeeded > 0 for account in accounts.values()) == agents:
            return
        assert time.monotonic() < until, accounts
        time.sleep(0.05)  # they are another process's


def assert_exact(report: dict[str, Any]) -> None:
    tasks = report["tasks"]
    ends = ("succeeded", "failed", "cancelled", "timed_out", "dead_lettered")
    assert tasks["assigned"] == sum(tasks[end] for end in ends)
    assert tasks["queued"] == tasks["in_flight"] == 0
    assert tasks["assigned"] == sum(agent["tasks"] for agent in report["agents"])


def test_forty_agents_work_on_real_files_and_the_report_is_alone_on_standard_output() -> None:
    code, report, err = finish(start("--duration", "3", "--json"))
    assert code == 0, err
    assert set(report) == {
        "duration_seconds",
        "metrics_url",
        "tasks",
        "recoveries",
        "faults",
        "agents",
    }
    assert 3 <= report["duration_seconds"] < 4
    assert report["metrics_url"] in err
    assert "Ctrl-C" in err
    assert "the books balance" in err
    assert [agent["agent_id"] for agent in report["agents"]] == list(ELITE.ids())
    keys = {"agent_id", "lifecycle", "health", "tasks", "failures", "restarts"}
    for agent in report["agents"]:
        assert set(agent) == keys
        assert agent["tasks"] > 0, agent
        assert (agent["lifecycle"], agent["health"], agent["restarts"]) == ("running", 0, 0)
    assert report["tasks"]["succeeded"] > 40
    assert report["recoveries"] == {"attempted": 0, "verified": 0, "failed": 0, "quarantined": 0}
    assert report["faults"] == {
        kind: {"injected": 0, "detected": 0, "recovered": 0} for kind in KINDS
    }
    assert_exact(report)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_drains_and_stops_another_roster_with_exact_books(
    running: Running, number: signal.Signals
) -> None:
    wait_for_work(running.metrics, 3)
    running.process.send_signal(number)
    code, report, err = finish(running.process)
    assert code == 0, err
    assert "draining" in err
    assert [agent["agent_id"] for agent in report["agents"]] == ["ant", "bee", "cat"]
    assert_exact(report)


def test_a_second_interrupt_stops_at_once_even_during_the_start(
    running: Running,
) -> None:
    process = running.process
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert "draining" in process.stderr.readline()
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    code, report, err = finish(process)
    assert code == 0, err
    assert time.monotonic() - began < 5
    assert_exact(report)


def test_without_json_people_read_the_summary_on_standard_output(trio: Path) -> None:
    process = start("--agents", str(trio), "--duration", "0.5")
    out, err = process.communicate(timeout=40)
    assert process.returncode == 0, err
    assert err == ""
    assert "metrics: http://127.0.0.1:" in out
    assert "the books balance" in out
    assert "\x1b" not in out


async def perform_quietly(options: DemoOptions) -> tuple[Results, str]:
    heard = io.StringIO()
    results = await perform(options, Console(heard), signals=False)
    return results, heard.getvalue()


@pytest.mark.anyio
async def test_every_kind_of_fault_is_injected_detected_and_recovered(tmp_path: Path) -> None:
    roster = tmp_path / "six.toml"
    roster.write_text(SIX)
    options = DemoOptions(
        duration=9.0, metrics="127.0.0.1:0", seed=5, agents=str(roster), chaos=True, tempo=0.4
    )
    results, heard = await perform_quietly(options)
    print(heard)  # noqa: T201 - what to read when it fails
    assert results.wrong == []
    for kind in KINDS:
        counts = results.faults[kind]
        assert counts["injected"] >= 1, kind
        assert counts["injected"] == counts["detected"] == counts["recovered"], kind
    assert results.tasks["dead_lettered"] == 1
    assert results.recoveries["verified"] >= 6
    assert results.impossible == {}


@pytest.mark.anyio
async def test_who_swallows_a_cancellation_is_there_for_it_however_late_it_comes() -> None:
    services = Services(0)
    recipe = Recipe("APEX", find_corpus(max_files=5), 0)
    agent = AsyncAgent(recipe, services, threading.Event())
    stays = asyncio.create_task(agent._insist(0.05))
    await asyncio.sleep(0.15)  # the host was blocked, and who looks for hangs forgave it that
    assert not stays.done()
    stays.cancel()
    await asyncio.sleep(0)
    assert not stays.done()
    await asyncio.wait_for(stays, 10)  # returns: the cancellation was swallowed
    services.close()


@pytest.mark.anyio
async def test_undecodable_files_fail_their_tasks_and_no_agent(tmp_path: Path) -> None:
    for at in range(3):
        (tmp_path / f"broken{at}.py").write_bytes(b"def f(:\n\xff\xfe\x80")
    roster = tmp_path / "roster.toml"
    roster.write_text('[[agents]]\nid = "x"\n[[agents]]\nid = "MENTOR"\n[[agents]]\nid = "APEX"\n')
    results, _ = await perform_quietly(
        DemoOptions(path=str(tmp_path), duration=2.0, metrics="127.0.0.1:0", agents=str(roster))
    )
    assert results.wrong == []
    agents = {agent.agent_id: agent for agent in results.final.agents}
    for agent_id in ("MENTOR", "APEX"):
        assert agents[agent_id].failed == agents[agent_id].assigned > 5
    assert all(agent.numbers.restarts == 0 for agent in agents.values())


def test_a_run_of_a_minute_has_all_its_faults_in_the_first_forty_seconds() -> None:
    planned, left_out = plan(60.0)
    assert left_out == ()
    assert {step.kind for step in planned} == set(KINDS)
    assert max(step.at for step in planned) <= 40
    assert all(step.at + step.needs <= 60 for step in planned)


@pytest.mark.parametrize("duration", [20.0, 31.0, 59.9, 90.0, None])
def test_from_twenty_seconds_on_every_kind_of_fault_fits(duration: float | None) -> None:
    planned, left_out = plan(duration)
    assert left_out == ()
    assert {step.kind for step in planned} == set(KINDS)
    assert all(duration is None or step.at + step.needs <= duration for step in planned)


def test_a_run_too_short_says_what_it_leaves_out() -> None:
    planned, left_out = plan(8.0)
    assert {step.kind for step in planned} | set(left_out) == set(KINDS)
    assert "mass_failure" in left_out
    assert plan(2.0) == ((), KINDS)


def test_a_fault_that_nobody_noticed_is_reported_as_that() -> None:
    lines: list[str] = []
    outcomes = Outcomes(lines.append)
    refused, silent = Injection("crash", ("a",), 0.0), Injection("crash", ("b",), 0.0)
    outcomes.ordered(refused)
    outcomes.ordered(silent)
    outcomes.injected(silent)
    assert outcomes.totals()["crash"] == {"injected": 1, "detected": 0, "recovered": 0}
    assert lines == ["fault  injected   crash into b"]


def test_the_audit_names_the_agent_whose_books_are_wrong() -> None:
    right = Account(assigned=3, succeeded=2, failed=1)
    assert audit({"a": right}, {"a": right}) == []
    lost = Account(assigned=3, succeeded=2)
    (wrong,) = audit({"a": lost, "b": right}, {"a": right, "b": right}, quiet=False)[:1]
    assert wrong.startswith("a: the snapshot does not balance")
    (wrong,) = audit({"b": right}, {"b": lost})
    assert wrong.startswith("b: /metrics does not balance")
    (wrong,) = audit({"b": right}, {"b": Account(assigned=2, succeeded=2)})
    assert "/metrics says" in wrong
    assert audit({"b": right}, {}) == ["b: not in /metrics"]


def test_an_exposition_is_read_into_accounts() -> None:
    text = (
        'agents_tasks_assigned_total{agent_id="a",task_type="x"} 4\n'
        'agents_tasks_assigned_total{agent_id="a",task_type="y"} 2\n'
        'agents_tasks_completed_total{agent_id="a",task_type="x",outcome="succeeded"} 3\n'
        'agents_queue_length{agent_id="a"} 1\n'
        'agents_tasks_in_flight{agent_id="a"} 2\n'
        "fleetmon_zombies 0\n"
    )
    assert read_exposition(text) == {"a": Account(6, 1, 2, 3)}
    assert read_exposition(text)["a"].balanced


def test_wrong_books_end_in_code_1(monkeypatch: pytest.MonkeyPatch, trio: Path, capsys) -> None:
    monkeypatch.setattr(host.books, "audit", lambda *_, **__: ["ant: a task is missing"])
    options = DemoOptions(duration=0.3, metrics="127.0.0.1:0", agents=str(trio), as_json=True)
    assert host.run_demo(options) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["tasks"]["queued"] == 0
    assert "the books are wrong: ant: a task is missing" in err


def test_the_cast_has_every_way_to_run_an_agent_and_a_chain(tmp_path: Path) -> None:
    corpus = find_corpus(max_files=50)
    players = choose_cast(ELITE, corpus, 0, tmp_path)
    roles = [player.role for player in players]
    assert [player.agent_id for player in players] == list(ELITE.ids())
    assert roles.count("process") >= 2
    assert roles.count("observed") >= 2
    assert roles.count("serve") >= 1
    assert roles.count("inline") >= 4
    assert roles.count("thread") > 20
    assert sum(bool(player.spec.depends_on) for player in players) == 2
    draws = [[Deck(p, 7).draw() for _ in range(3)] for p in players]
    assert draws == [[Deck(p, 7).draw() for _ in range(3)] for p in players]


def test_the_pacer_steers_to_its_share_of_a_core() -> None:
    now = used = 0.0
    pacer = Pacer(40, 0.5, clock=lambda: now, cpu=lambda: used)
    for _ in range(40):
        now += 1.0
        used += 40 * 0.01 / pacer.interval  # a hundredth of a second for each task
        pacer.steer()
    assert pacer.load == pytest.approx(0.5, rel=0.05)


def test_a_failed_check_spoils_a_result_and_an_ordinary_false_does_not() -> None:
    assert broken_checks({"exact": True, "prime": False}) == ()
    assert broken_checks({"exact": False, "trial_balance": 3}) == ("exact", "trial_balance")
    assert broken_checks(None) == ("no result",)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_live_lines_stay_below_what_is_said_and_fit_the_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    stream = Terminal()
    console = Console(stream, {"TERM": "xterm", "NO_COLOR": "1"})
    console.show(["x" * 80, "short"])
    shown = stream.getvalue()
    assert max(len(line.removesuffix("\x1b[K")) for line in shown.splitlines()) < 30
    console.show(["x" * 80, "short"])
    assert stream.getvalue() == shown  # nothing changed, nothing written
    console.say("fault  injected   hang into A")
    assert "\x1b[2A" in stream.getvalue()
    assert "\x1b[33m" not in stream.getvalue()
    assert stream.getvalue().endswith("short\x1b[K\n")
    console.clear()
    assert stream.getvalue().endswith("\x1b[J")


@pytest.mark.parametrize("environ", [{}, {"TERM": "dumb"}])
def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines(environ: dict[str, str]) -> None:
    stream = Terminal()
    console = Console(stream, environ)
    console.show(["never seen"])
    console.say("seen")
    assert stream.getvalue() == "seen\n"


@pytest.mark.anyio
async def test_an_observed_agent_is_brought_back_by_its_host(tmp_path: Path) -> None:
    from fleetmon import Supervisor, SupervisorSettings
    from fleetmon.demo.observed import ObservedWorker

    corpus = find_corpus(max_files=20)
    players = {p.agent_id: p for p in choose_cast(ELITE, corpus, 0, tmp_path)}
    pacer = Pacer(2)
    pacer.interval = 0.01
    with Services(0) as services:
        async with Supervisor(SupervisorSettings(), roster=ELITE) as fleet:
            for at, agent_id in enumerate(("TENSOR", "VANGUARD")):
                player = players[agent_id]
                worker = ObservedWorker(fleet, player, Deck(player, 0), pacer, services)
                suffered: list[int] = []
                worker.crash("test", lambda heard=suffered: heard.append(1))
                life = asyncio.ensure_future(worker.run(in_thread=at == 1))
                async with asyncio.timeout(10):
                    while not (
                        worker.agent.generation > 1 and worker.agent.snapshot().succeeded > 2
                    ):
                        await asyncio.sleep(0.01)
                worker.stop()
                await life
                assert suffered == [1]
                assert worker.agent.snapshot().balanced
