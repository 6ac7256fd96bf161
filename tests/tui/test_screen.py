"""The screen as text, and what keys make of it: no Textual in here."""

from __future__ import annotations

import re

import pytest
from helpers_tui import Stage, beat, elite, event, fleet, hello, row, rows
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetmon_tui.lines import help as help_lines
from fleetmon_tui.lines.screen import compose
from fleetmon_tui.state import keys
from fleetmon_tui.state.actions import ACTIONS
from fleetmon_tui.state.sheets import Ask, Choice, Palette, rank
from fleetmon_tui.state.text import ASCII, UNICODE, plain, width_of
from fleetmon_tui.state.timeline import Timeline
from fleetmon_tui.view.mouse import clicked

TROUBLED = (
    row("APEX", number=1, tier=1, task="code_review", task_since=95.0, in_flight=2),
    row("CIPHER", number=2, tier=1, lifecycle="backing_off", health=2, retry_at=104.0,
        lapse=[1090.0, 3, "serve raised", "exception", "KeyError: 'x'"]),
    row("AXIOM", number=4, tier=2, health=1, conditions=[["failing", 90.0, "6 of 10", False]]),
    row("VELOCITY", number=5, tier=2, lifecycle="paused", desired="paused"),
)  # fmt: skip


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


def test_no_single_key_commands_and_cancel_is_the_default():
    stage = Stage(*TROUBLED)
    for key in ("r", "p", "c", "d", "s", "x", "Q", "X"):
        stage.keys(key)
        assert isinstance(stage.ui.sheet, Ask)
        assert "[ Cancel ]" in stage.text
        stage.keys("enter")
        assert "cancelled, nothing was done" in stage.text
    assert stage.source.sent == []


def test_a_question_names_whom_it_is_about_and_takes_a_reason():
    stage = Stage(*elite())
    stage.keys("j", "space", "space", "space", "r")
    assert "Restart 3 agents?" in stage.text
    assert "AGENT01, AGENT02, AGENT03" in stage.text
    stage.keys("tab", "tab")
    stage.type("stuck y")
    stage.keys("enter")
    assert stage.source.sent == []
    stage.keys("enter")
    ((number, question, reason),) = stage.source.sent
    assert question.agents == ("AGENT01", "AGENT02", "AGENT03")
    assert reason == "stuck y"
    for name in question.agents:
        stage.source.tell(
            {
                "type": "answer",
                "number": number,
                "agent_id": name,
                "answer": {"result": "accepted", "reason": ""},
            },
            now=stage.now,
        )
    stage.wait(0.1)
    assert "restart 3: 3 accepted, 0 of 3 running again" in stage.text
    again = [row(name, number=int(name[-2:]), generation=2) for name in question.agents]
    stage.tell(rows(*again))
    assert "3 of 3 running again" in stage.text


def test_a_yes_counts_for_nothing_when_the_connection_went_meanwhile():
    stage = Stage(*TROUBLED)
    stage.keys("r")
    stage.tell({"type": "link", "state": "lost", "reason": "gone", "again": 0})
    stage.keys("y")
    assert stage.source.sent == []
    assert "refused" in stage.text


def test_read_only_asks_nothing_and_says_why():
    stage = Stage(*TROUBLED, read_only=True, width=100)
    assert "read-only" in stage.screen()[1]
    stage.keys("Q")
    assert stage.ui.sheet is None
    assert "quarantine refused; read-only" in stage.text
    assert "restart" not in stage.screen()[-1]


def test_a_filter_works_while_it_is_typed_and_escape_brings_back_what_was():
    stage = Stage(*elite())
    stage.keys("/")
    stage.type("agent1")
    assert len(stage.listed) == 10
    stage.keys("enter")
    assert "/agent1 10 of 40" in stage.text
    stage.keys("/", "backspace")
    stage.type("2")
    assert len(stage.listed) == 10
    stage.keys("escape")
    assert stage.listed[0] == "AGENT10"
    stage.keys("escape")
    assert len(stage.listed) == 40


def test_escape_goes_back_one_step_at_a_time():
    stage = Stage(*elite())
    stage.keys("/")
    stage.type("agent")
    stage.keys("enter", "space", "v", "j", "?", "escape")
    selection = stage.dashboard.selection
    assert stage.ui.view == "fleet"
    stage.keys("escape")
    assert (selection.anchor, len(selection.marks)) == (None, 3)
    stage.keys("escape")
    assert selection.marks == set()
    stage.keys("escape")
    assert stage.dashboard.listing.filter.text == ""
    stage.keys("escape")
    assert "q leaves" in stage.text


def test_bulk_commands_reach_all_that_the_filter_shows():
    stage = Stage(*elite())
    stage.keys("/")
    stage.type("tier2")
    stage.keys("enter", "*", "p", "y")
    assert len(stage.source.sent[0][1].agents) == 10


def test_the_next_agent_in_trouble_is_one_key_away():
    stage = Stage(*elite(), row("SICK", number=99, health=1), row("WELL", number=100))
    stage.keys("n")
    assert stage.here == "SICK"
    stage.keys("g", "N")
    assert stage.here == "SICK"


def test_tiers_fold_and_unfold():
    stage = Stage(*TROUBLED)
    stage.keys("t", "g")
    assert "▾ tier 1  2 agents  ✔ 1 healthy  ✖ 1 failed" in stage.text
    stage.keys("enter")
    assert "▸ tier 1" in stage.text
    assert "CIPHER" not in stage.text
    stage.keys("Z", "Z")
    assert "CIPHER" in stage.text
    stage.keys("j", "j", "z")
    assert "CIPHER" not in stage.text


def test_sorting_goes_along_the_columns_and_the_heading_says_which_way():
    stage = Stage(*elite())
    stage.keys("<", "<")
    stage.keys(":")
    stage.type("sort by use")
    stage.keys("enter")
    assert stage.listed[0] == "AGENT39"
    assert "USE↓" in stage.text
    stage.keys("R")
    assert stage.listed[0] == "AGENT00"
    assert "USE↑" in stage.text


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


def test_columns_out_of_sight_can_be_moved_into_it():
    stage = Stage(row("A", p95=2.5))
    assert "P95" not in stage.screen()[2]
    stage.keys("l", "l")
    assert "P95" in stage.screen()[2]
    stage.keys("h", "h", "h")
    assert "STATE" in stage.screen()[2]


DETAILS = {
    "tasks": [{"task_id": 7, "task_type": "train", "attempt": 2, "seconds": 3.0, "note": "e 2"}],
    "recent_tasks": [
        {"task_id": 6, "task_type": "train", "outcome": "succeeded", "error_type": "",
         "ended": 99.0, "seconds": 1.5, "generation": 1, "attempt": 1},
    ],
    "recent_failures": [
        {"task_id": 5, "task_type": "train", "outcome": "failed", "error_type": "exception",
         "ended": 98.0, "seconds": 1.0, "generation": 1, "attempt": 1,
         "error": "ValueError: no such file", "frames": ["a.py:3 in load", "b.py:9 in run"]},
    ],
    "history": [event(3, "lapsed", "APEX", reason="serve raised", error="KeyError")],
    "policy": ["Up to 5 restarts within 600 s."],
    "log": [event(4, "started", "APEX")],
}  # fmt: skip


def test_the_agent_view_shows_tasks_failures_history_policy_and_log():
    stage = Stage(*TROUBLED, width=100, height=60)
    stage.source.answer = DETAILS
    stage.keys("enter")
    stage.wait(0.1)
    text = stage.text
    for said in (
        "agent APEX", "#7         train  3s, attempt 2  e 2", "succeeded", "exception",
        "ValueError: no such file", "b.py:9 in run", "lapsed: serve raised: KeyError",
        "Up to 5 restarts", "started",
    ):  # fmt: skip
        assert said in text, said
    stage.keys("J")
    assert "agent CIPHER" in stage.text
    assert "serve raised: exception: KeyError: 'x'" in stage.text
    assert stage.source.asked == ["APEX", "CIPHER"]
    stage.keys("escape")
    assert stage.here == "CIPHER"


def test_the_agent_view_asks_again_each_second_and_says_when_its_lists_are_old():
    stage = Stage(*TROUBLED)
    stage.source.answer = DETAILS
    stage.keys("enter")
    for _ in range(3):
        stage.tell(beat(100.0 + stage.now), after=1.1)
    assert len(stage.source.asked) >= 3
    stage.tell({"type": "link", "state": "lost", "reason": "gone", "again": 0})
    stage.wait(7.0)
    assert "lists below are 7s old" in stage.text


def test_sections_are_jumped_to():
    stage = Stage(*TROUBLED, height=20)
    stage.source.answer = DETAILS
    stage.keys("enter", "]")
    assert "Tasks now" in stage.screen()[2]
    stage.keys("[")
    assert "APEX" in stage.screen()[2]


def test_an_agent_that_is_gone_is_said_to_be():
    stage = Stage(*TROUBLED)
    stage.keys("enter")
    stage.tell(rows(removed=["APEX"]))
    assert "there is no such agent" in stage.text


def test_events_follow_the_newest_until_somebody_looks_back():
    stage = Stage(*TROUBLED)
    stage.tell({"type": "events", "lost": 0, "events": [
        event(n, "started", "APEX") for n in range(1, 60)]})  # fmt: skip
    stage.keys("2")
    assert "59 of 59" in stage.text
    stage.keys("k", "k")
    stage.tell({"type": "events", "lost": 4, "events": [event(64, "stopped", "CIPHER")]})
    assert "standing still" in stage.text
    assert "40-59 of 61" in stage.text
    stage.keys("G")
    assert "4 events missed here" in stage.text
    assert "stopped" in stage.text
    stage.keys("/")
    stage.type("cipher")
    stage.keys("enter", "enter")
    assert "agent CIPHER" in stage.text


def test_warnings_have_a_sentence_for_all_and_one_for_each_and_are_counted_in_the_header():
    stage = Stage(*TROUBLED)
    stage.tell(
        {"type": "events", "lost": 0, "events": [
            event(1, "loop_blocked", "APEX", seconds=2.0, file="a.py", line=3, function="grind",
                  stack=["a.py:3 in grind"])]},
        fleet(
            warnings=[
                {"rule": "flapping", "agent_id": "CIPHER", "since": 40.0, "severity": "warning",
                 "text": "restarted 4 times in 5 minutes"},
                {"rule": "blocked_loop", "agent_id": "APEX", "since": 98.0, "severity": "critical",
                 "text": "blocks the loop at a.py:3"},
            ],
            summaries=["1 agent flaps", "1 agent blocks a loop"],
        ),
    )  # fmt: skip
    assert "▲ 2 warnings" in stage.screen()[0]
    stage.keys("3")
    text = stage.text
    assert text.index("blocked loop") < text.index("flapping")
    assert "1 agent flaps" in text
    assert "a.py:3 in grind" in text
    assert "60s" in text or "1m00" in text
    stage.keys("G", "enter")
    assert stage.ui.view == "agent"


def test_the_palette_finds_commands_columns_themes_and_agents():
    stage = Stage(*elite())
    stage.keys(":")
    stage.type("agent17")
    stage.keys("enter")
    assert "agent AGENT17" in stage.text
    stage.keys("escape", ":")
    stage.type("quaran")
    stage.keys("enter")
    assert "Quarantine 1 agent?" in stage.text
    stage.keys("escape", ":")
    stage.type("theme day")
    assert stage.keys("enter") == [("theme", "day")]
    stage.keys(":", "escape")
    assert stage.ui.sheet is None


def test_letters_in_their_order_find_what_words_do_not():
    choices = [Choice("sort by utilization", "", "a"), Choice("sort by p95", "", "b")]
    assert [c.action for c in rank("sbu", choices)] == ["a"]
    assert [c.action for c in rank("95 sort", choices)] == ["b"]
    assert Palette(choices).key("enter", None) == "a"


def test_help_lists_every_key():
    told = "\n".join(plain(line) for line in help_lines.lines(UNICODE, replay=True))
    for key in (*keys.KEYS, *keys.QUESTION):
        assert key.shown in told
        assert key.what in told
    stage = Stage(*TROUBLED)
    stage.keys("?")
    assert "one line down" in stage.text


def test_no_key_does_two_things_in_one_view():
    views = ("fleet", "agent", "events", "warnings", "help")
    for view in views:
        live = [n for k in keys.KEYS if keys.works(k, view, replay=False) for n in k.keys]
        assert len(live) == len(set(live)), view
        for name in live:
            assert keys.action_of(name, view, replay=False)
    assert {key.action.split()[0] for key in keys.KEYS} <= set(ACTIONS)


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


# -- the mouse -------------------------------------------------------------------------------------


def test_clicks_choose_mark_open_sort_and_change_views():
    stage = Stage(*elite())
    stage.screen()

    def click(x, y, *, double=False):
        effects = clicked(stage.ui, x, y, stage.height, stage.now, double=double)
        stage.session.act(effects, stage.now)
        stage.session.take(stage.now)
        stage.screen()

    click(20, 5)
    assert stage.here == "AGENT02"
    click(1, 6)
    assert stage.dashboard.selection.marks == {"AGENT03"}
    at = stage.screen()[2].index("USE")
    click(at, 2)
    assert stage.dashboard.listing.sort == "use"
    click(14, 1)
    assert stage.ui.view == "events"
    click(3, 1)
    click(20, 4, double=True)
    assert stage.ui.view == "agent"
    click(70, 0)
    assert stage.ui.view == "warnings"
    stage.keys("1", "r")
    last = max(n for n, line in enumerate(stage.screen()) if "[ Cancel ]" in line)
    click(stage.screen()[last].index("Restart"), last)
    assert len(stage.source.sent) == 1


# -- a recording -----------------------------------------------------------------------------------


def test_a_time_line_plays_seeks_and_understands_times():
    line = Timeline(1_000_000.0, 1_000_600.0, 0.0)
    assert line.at(10.0) == 1_000_010.0
    line.faster(1, 10.0)
    assert line.at(15.0) == 1_000_020.0
    line.toggle(15.0)
    assert line.at(99.0) == 1_000_020.0
    assert line.understood("+2m", 99.0) == 1_000_140.0
    assert line.understood("-5", 99.0) == 1_000_015.0
    assert line.understood("nonsense", 99.0) is None
    assert line.understood("25:00", 99.0) is None
    line.seek(5.0, 99.0)
    assert line.at(99.0) == line.first
    line.toggle(99.0)
    assert line.at(1e6) == line.last
    line.toggle(1e6)
    assert line.at(1e6) == line.first


def test_in_a_recording_keys_move_through_time_and_nothing_can_be_commanded():
    line = Timeline(1_000_000.0, 1_000_600.0, 0.0)
    stage = Stage(timeline=line)
    picture = {
        "type": "picture", "rows": TROUBLED, "facts": fleet(), "clock": 100.0, "at": 1_000_000.0,
        "events": [event(1, "started", "APEX")], "fresh": True, "state": "crashed", "name": "night",
        "pid": 3,
    }  # fmt: skip
    stage.tell(picture)
    assert "recording: crashed" in stage.screen()[0]
    assert "playing 1x" in stage.screen()[-3]
    stage.keys("P", "right", "right", "L")
    assert line.at(stage.now) == 1_000_080.0
    assert "paused 1x" in stage.screen()[-3]
    stage.keys("+", "w", "W", "@")
    stage.type("-30")
    stage.keys("enter")
    assert line.at(stage.now) == 1_000_050.0
    assert ("warning", 1) in stage.source.sought
    stage.keys("}", "{")
    assert line.at(stage.now) == line.first
    stage.keys("r")
    assert "restart refused; this is a recording" in stage.text
    stage.wait(60.0)
    assert "stale" not in stage.text


# -- dead letters ----------------------------------------------------------------------------------


LETTER = {
    "task_id": 31, "agent_id": "APEX", "task_type": "review", "payload": "'page 7'",
    "payload_cut": False, "attempts": 3, "reason": "the disk is gone", "at": 1000.0,
}  # fmt: skip


def test_dead_letters_are_listed_newest_first_and_tried_again_after_a_question():
    stage = Stage(row("APEX"), row("CIPHER"))
    stage.source.given_up = [LETTER, {**LETTER, "task_id": 32, "agent_id": "CIPHER", "attempts": 1}]
    stage.keys("4")
    stage.wait(0.1)
    told = [" ".join(line.split()) for line in stage.screen()]
    assert told[2].endswith("CIPHER #32 review after 1 attempt: the disk is gone")
    assert told[3] == "'page 7'"
    assert told[4].endswith("APEX #31 review after 3 attempts: the disk is gone")
    stage.keys("j", "j", "r")
    assert "Retry task 31?" in stage.text
    assert "[ Cancel ]" in stage.text
    stage.keys("y")
    ((number, question, _),) = stage.source.sent
    assert (question.command, question.agents, question.task_id) == ("retry", ("APEX",), 31)
    stage.tell({"type": "answer", "number": number, "agent_id": "APEX",
                "answer": {"result": "succeeded", "reason": ""}})  # fmt: skip
    assert "retry APEX: 1 succeeded" in stage.text
    stage.keys("enter")
    assert "agent APEX" in stage.text
    stage.keys("escape")
    assert "#31" in stage.text


def test_letters_that_are_old_or_not_known_say_so():
    stage = Stage(row("APEX"))
    stage.keys("4")
    stage.wait(0.1)
    assert "no task was given up" in stage.text
    stage.dashboard.lost("gone", stage.now, 1000.0)
    stage.wait(60)
    assert "these letters are 60s old" in stage.text
    other = Stage()
    other.keys("4")
    assert "not known: no live connection" in other.text


# -- several fleets --------------------------------------------------------------------------------


FLEETS = (("demo", 11, 1000.0), ("demo", 22, 2000.0))


def test_of_several_fleets_one_is_chosen():
    stage = Stage()
    stage.tell({"type": "fleets", "fleets": FLEETS})
    assert re.search(r"▶ fleet demo, process 11, since \d\d:\d\d:\d\d", stage.text)
    stage.keys("down", "enter")
    assert stage.source.chosen == ["22"]
    stage.tell(hello(), rows(row("APEX")))
    assert "APEX" in stage.text
    assert "process 11" not in stage.text


def test_the_choice_closes_when_only_one_fleet_is_left_and_comes_back_from_the_palette():
    stage = Stage()
    stage.tell({"type": "fleets", "fleets": FLEETS})
    stage.keys("escape")
    assert "process 11" not in stage.text
    stage.keys(":")
    assert "fleet demo, process 11" in stage.text
    stage.keys("escape")
    stage.tell({"type": "fleets", "fleets": FLEETS[:1]})
    assert "process 11" in stage.text
    stage.tell(hello(), rows(row("APEX")))
    assert "process 11" not in stage.text
