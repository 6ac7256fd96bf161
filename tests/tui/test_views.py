"""The other views: one agent, events, warnings and dead letters."""

from __future__ import annotations

from helpers_tui import DETAILS, TROUBLED, Stage, beat, event, fleet, row, rows


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
