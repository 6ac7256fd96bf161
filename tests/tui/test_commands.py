"""Keys that command agents: the question first, whom it is about, and who may not ask."""

from __future__ import annotations

from helpers_tui import TROUBLED, Stage, elite, row, rows

from fleetmon_tui.state.sheets import Ask


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


def test_bulk_commands_reach_all_that_the_filter_shows():
    stage = Stage(*elite())
    stage.keys("/")
    stage.type("tier2")
    stage.keys("enter", "*", "p", "y")
    assert len(stage.source.sent[0][1].agents) == 10
