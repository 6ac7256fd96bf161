"""What the screen says of a fleet and its connection, whole on every terminal: no Textual here."""

from __future__ import annotations

import pytest
from helpers_tui import DETAILS, TROUBLED, Stage, beat, elite, fleet, hello, row, rows
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetmon_tui.lines.screen import compose
from fleetmon_tui.state import keys
from fleetmon_tui.state.text import ASCII, UNICODE, plain, width_of


def whole(stage):
    drawn = compose(stage.ui, stage.now, stage.width, stage.height)
    assert len(drawn) == stage.height
    assert {width_of(line) for line, _ in drawn} == {stage.width}
    return drawn


def test_a_line_says_state_task_and_time_and_what_is_the_matter():
    stage = Stage(*TROUBLED)
    text = stage.text
    assert "● running       code_review +1     5s" in text
    assert "↻ backing off ✖ exception       in 4s" in text
    assert "● running ▲     ▲ failing" in text
    assert "‖ paused" in text
    assert "✔ 2  ▲ 1  ✖ 1" in text.splitlines()[0] or "2 healthy" in text.splitlines()[0]


def test_tasks_grow_older_and_tries_come_closer_without_a_frame():
    stage = Stage(*TROUBLED)
    stage.wait(2.0)
    assert "code_review +1     7s" in stage.text
    assert "in 2s" in stage.text


def test_a_disconnected_screen_says_so_refuses_commands_and_nothing_in_it_ages():
    stage = Stage(*TROUBLED)
    stage.tell({"type": "link", "state": "lost", "reason": "no fleet answers", "again": 0})
    stage.wait(5.0)
    assert "✖ disconnected since" in stage.screen()[0]
    assert "no fleet answers" in stage.screen()[1]
    assert "code_review +1     5s" in stage.text
    assert stage.states[4] == "old"
    stage.keys("r")
    assert stage.ui.sheet is None
    assert "restart refused; disconnected" in stage.text
    stage.tell(hello(resumed=True, clock=110.0))
    assert "● reconnected" in stage.screen()[0]
    assert "old" not in stage.states


def test_silence_is_told_and_the_seconds_of_it():
    stage = Stage(*TROUBLED)
    stage.wait(4.0)
    assert "▲ stale since" in stage.screen()[0]
    assert "nothing heard for 4s" in stage.screen()[1]


def test_a_fleet_that_ended_is_told_from_one_that_was_lost():
    stage = Stage(*TROUBLED)
    stage.tell({"type": "end", "reason": "stopped"})
    stage.tell({"type": "link", "state": "lost", "reason": "no fleet runs", "again": 0})
    assert "fleet ended" in stage.screen()[0]


def test_a_blocked_loop_names_agent_task_and_line_where_nobody_misses_it():
    stage = Stage(*TROUBLED, width=120)
    blocked = {"agent_id": "APEX", "task_type": "code_review", "seconds": 1.5, "since": 98.5,
               "file": "/srv/app/agents/apex.py", "line": 42, "function": "handle"}  # fmt: skip
    stage.tell(fleet(blocked=blocked))
    said = "▲ event loop blocked 1.5s by APEX (code_review) at agents/apex.py:42 in handle"
    assert said in stage.screen()[1]
    stage.wait(1.0)
    assert "blocked 2.5s" in stage.screen()[1]


def test_while_a_large_fleet_comes_in_it_says_that_it_is_not_complete():
    stage = Stage()
    stage.tell(hello(), rows(*elite(20), more=True))
    assert "loading, 20 agents so far" in stage.text
    stage.tell(rows(row("LAST"), more=False))
    assert "21" in stage.screen()[0]


def test_what_the_fleet_gets_done_in_a_second_is_told_while_it_is_live():
    stage = Stage(row("APEX", assigned=100), row("CIPHER"))
    assert "tasks/s" not in stage.text
    for second in range(1, 4):
        done = row("APEX", assigned=100 + 2 * second), row("CIPHER", assigned=second)
        stage.tell(rows(*done), beat(100.0 + second), after=1.0)
    assert "in the order of the roster  3.0 tasks/s" in stage.screen()[-2]
    stage.keys("r")
    stage.keys("n")
    assert "restart: cancelled, nothing was done" in stage.screen()[-2]
    stage.wait(10.0)
    assert "tasks/s" not in stage.text


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (40, 10), (200, 60), (30, 5)])
@pytest.mark.parametrize("glyphs", [UNICODE, ASCII], ids=["unicode", "ascii"])
def test_every_view_fits_every_terminal(size, glyphs):
    width, height = size
    stage = Stage(*TROUBLED, *elite(), width=width, height=height, glyphs=glyphs)
    stage.source.answer = DETAILS
    stage.tell(fleet(dead_letters=3, zombies=1, drops={"log": 4}, recovering=2, phase="draining"))
    for pressed in ("1", "t", "enter", "escape", "r", "escape", "a", "escape", ":", "escape", "/",
                    "escape", "2", "3", "?", "escape", "1", "G", "enter"):  # fmt: skip
        stage.keys(pressed)
        for line, _ in whole(stage):
            if glyphs is ASCII:
                assert plain(line).isascii(), plain(line)


@given(st.lists(st.sampled_from(
    [n for key in keys.KEYS for n in key.keys if key.action not in {"quit", "suspend"}]
    + list("abyn0129zx") + ["backspace"]), max_size=25))  # fmt: skip
@settings(deadline=None, max_examples=60)
def test_whatever_keys_are_pressed_the_screen_stays_whole(pressed):
    stage = Stage(*TROUBLED, *elite(12))
    stage.source.answer = DETAILS
    stage.keys(*pressed)
    whole(stage)
    assert stage.states.count("cursor") <= 1


def test_the_cursor_is_in_sight_whatever_the_height():
    stage = Stage(*elite(), height=12)
    stage.keys("G")
    assert any(line.startswith("▶") and "AGENT39" in line for line in stage.screen())
    stage.height = 30
    stage.keys("g")
    assert stage.screen()[3].startswith("▶ AGENT00")
