"""A recording on the screen: its line of time, and keys that move along it."""

from __future__ import annotations

from helpers_tui import TROUBLED, Stage, event, fleet

from fleetmon_tui.state.timeline import Timeline


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
