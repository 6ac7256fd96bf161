"""The measurements run, and the command prints what they gave: with tiny counts, no timings."""

from __future__ import annotations

import argparse
import json

import pytest

from benchmarks import __main__ as command
from benchmarks import command as terminal
from benchmarks import control, instructions, millisecond, process, recovery, scrape, tasks
from benchmarks.erlang import Peer
from benchmarks.table import Goal, Row

pytestmark = pytest.mark.anyio


async def test_all_ways_of_a_task_are_measured_in_one_run():
    found = await tasks.timings(iterations=30, rounds=3)
    for name in ("unit", "run", "task", "task, tracing off", "task, numbers only"):
        assert found.seconds(name) > 0
    assert found.ratio("unit") == 1


async def test_a_measured_task_is_counted_traced_and_logged():
    async with tasks.hall() as host:
        await host.run(20)
        await host.around(20)
        numbers = host.agent.snapshot().numbers
    assert numbers.outcome(0) == numbers.assigned == 40


def test_a_scrape_is_compared_with_the_stock_bytes_before_it_is_measured():
    assert scrape.cost(3).row7 > 1


async def test_a_log_that_drops_lines_spoils_the_figures(monkeypatch):
    class Short(tasks.JsonLog):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs, limit=5)

    monkeypatch.setattr(tasks, "JsonLog", Short)
    with pytest.raises(RuntimeError, match="too good"):
        async with tasks.hall() as host:
            await host.run(5_000)


async def test_a_millisecond_is_about_a_millisecond():
    found = await millisecond.millisecond(pairs=4)
    assert 0.0002 < found.plain < 0.02
    assert found.added(found.plain) == 0
    assert -1 < found.added(found.run) < 1


async def test_tasks_that_wait_together_are_compared_with_those_that_nobody_watches():
    found = await millisecond.waiting(iterations=400, rounds=3)
    assert found.seconds("around") > found.seconds("plain") > 0


async def test_a_crash_cycle_and_a_storm_end_with_all_verified():
    assert len(await recovery.crash(cycles=5, rounds=3)) == 3
    assert len(await recovery.storm(20, rounds=2)) == 2


async def test_memory_and_the_watchdog_are_measured():
    assert await process.growth(200, warm_up=100) < 10_000_000
    assert process.resident() > 1_000_000


async def test_a_reader_costs_something_only_while_it_is_there():
    found = await control.attached(3, seconds=0.6, rounds=1)
    assert found.alone == 0
    assert 0 < found.cpu < 1
    assert found.complete < 5


async def test_a_reader_that_was_stopped_is_right_again():
    found = await control.stopped(3, seconds=0.2)
    assert found.right < 5


def test_the_ratio_to_otp_needs_every_run_of_otp():
    goals = (Goal("<=", 5), Goal("<=", 2))
    fine = recovery._row("5", "crash", 30e-6, (Peer(10e-6, "25"), Peer(20e-6, "25")), goals)
    assert fine.measured == pytest.approx(2)
    assert (fine.ours, fine.peer) == ("30.0 µs", "OTP 25 15.0 µs")
    broken = recovery._row("5", "crash", 30e-6, (Peer(10e-6), Peer(reason="no erl")), goals)
    assert broken.verdict == "not run: no erl"


def test_counts_become_shares_of_what_the_reference_adds(monkeypatch, tmp_path):
    figures = {"bare": 50.0, "reference": 350.0, "ours_task": 80.0, "ours_run": 110.0}
    elsewhere = {"counted_with": {"python": "3.99"}, "instructions": {"bare": 1, "reference": 2}}
    (tmp_path / "figures.json").write_text(json.dumps(elsewhere), encoding="utf-8")
    monkeypatch.setattr(instructions, "FIGURES", tmp_path / "figures.json")
    monkeypatch.setattr(instructions, "count", lambda mode, **_: figures[mode])
    rows = {row.key: row.measured for row in tasks.rows_of_counts(quick=False)}
    shares = {"4a": pytest.approx(100 * 30 / 10_000), "4b": pytest.approx(100 * 60 / 10_000)}
    assert rows == {"3a": pytest.approx(0.1), "3b": pytest.approx(0.2), **shares}
    assert all("--quick" in row.verdict for row in tasks.rows_of_counts(quick=True))


def test_the_committed_counts_of_others_stand_in_the_same_surroundings(monkeypatch, tmp_path):
    here = {
        "counted_with": instructions.surroundings(),
        "instructions": {"bare": 50.0, "reference": 350.0},
    }
    (tmp_path / "figures.json").write_text(json.dumps(here), encoding="utf-8")
    monkeypatch.setattr(instructions, "FIGURES", tmp_path / "figures.json")
    monkeypatch.setattr(instructions, "count", lambda mode, **_: {"ours_task": 80.0}.get(mode, 95))
    rows = {row.key: row.measured for row in tasks.rows_of_counts(quick=False)}
    assert (rows["3a"], rows["3b"]) == (pytest.approx(0.1), pytest.approx(0.15))


def test_counting_without_valgrind_is_said_in_the_row(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert {row.verdict for row in tasks.rows_of_counts(quick=False)} == {
        "not run: valgrind is not installed (Debian: valgrind)"
    }


@pytest.mark.parametrize(
    ("text", "found"), [("1", {1}), ("1,5", {1, 5}), ("7-9,2", {2, 7, 8, 9}), ("14", {14})]
)
def test_rows_are_chosen_by_number_and_range(text, found):
    assert command.goals(text) == found


@pytest.mark.parametrize("text", ["0", "99", "x", "3-", "1,,2", ""])
def test_a_row_that_is_not_there_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match=r"row"):
        command.goals(text if text != "3-" else "3-x")


def test_every_goal_has_one_section():
    counted = [goal for section in command.SECTIONS for goal in section.goals]
    assert sorted(counted) == list(range(1, 20))


def test_the_command_prints_writes_and_tells_misses(monkeypatch, capsys, tmp_path):
    monkeypatch.delenv("PYTHONASYNCIODEBUG", raising=False)

    def some(quick):
        assert quick
        return [
            Row("1", "one", "7 µs", "", 2.0, Goal("<=", 1)),
            Row("2a", "two", measured=1.0, goal=Goal("<=", 1)),
        ]

    def broken(_quick):
        raise ValueError("no such thing")

    sections = (
        command.Section(frozenset({1, 2}), some),
        command.Section(frozenset({5}), broken),
    )
    monkeypatch.setattr(command, "SECTIONS", sections)
    target = tmp_path / "figures.json"
    assert command.main(["--quick", "--markdown", "--json", str(target)]) == 1
    out = capsys.readouterr().out
    assert "| 1 | one | 7 µs |" in out
    assert "not run: ValueError: no such thing" in out
    stored = json.loads(target.read_text(encoding="utf-8"))
    assert [row["missed"] for row in stored["rows"]][:3] == [True, False, False]
    assert command.main(["--quick", "--rows", "2"]) == 0
    assert "one" not in capsys.readouterr().out


def test_status_from_cold_is_measured_beside_a_bare_interpreter():
    ((bare, status),) = terminal.from_cold(1)
    assert 0 < bare < status
