"""The sheets over a view that offer a choice: the palette, and which of several fleets."""

from __future__ import annotations

import re

from helpers_tui import Stage, elite, hello, row, rows

from fleetmon_tui.state.sheets import Choice, Palette, rank


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
