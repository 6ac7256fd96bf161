"""Keys and clicks that move about and arrange the list: filter, fold, sort, columns, back again."""

from __future__ import annotations

from helpers_tui import TROUBLED, Stage, elite, row

from fleetmon_tui.lines import help as help_lines
from fleetmon_tui.state import keys
from fleetmon_tui.state.actions import ACTIONS
from fleetmon_tui.state.text import UNICODE, plain
from fleetmon_tui.view.mouse import clicked


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


def test_columns_out_of_sight_can_be_moved_into_it():
    stage = Stage(row("A", p95=2.5))
    assert "P95" not in stage.screen()[2]
    stage.keys("l", "l")
    assert "P95" in stage.screen()[2]
    stage.keys("h", "h", "h")
    assert "STATE" in stage.screen()[2]


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
