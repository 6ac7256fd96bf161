"""Live, stale, lost and found again: how the connection stands, and what outlives it."""

from __future__ import annotations

import re

import pytest
from helpers_tui import beat, event, hello, row, rows

from fleetmon_tui.state.dashboard import Dashboard
from fleetmon_tui.state.link import STALE_AFTER, Link
from fleetmon_tui.state.listing import Filter
from fleetmon_tui.state.text import UNICODE


def test_silence_makes_what_is_shown_stale_and_a_frame_makes_it_live_again():
    link = Link()
    link.heard(0.0, 1000.0, hello=True)
    assert not link.look(STALE_AFTER)
    assert link.look(STALE_AFTER + 0.1)
    assert (link.state, link.usable) == ("stale", False)
    assert re.match(r"▲ stale since \d\d:\d\d:\d\d", link.sentence(3.0, UNICODE)[0])
    link.heard(4.0, 1004.0, clock=104.0)
    assert link.state == "live"


def test_frames_that_lay_about_while_the_dashboard_was_suspended_are_as_old_as_they_are():
    link = Link()
    link.heard(0.0, 1000.0, clock=100.0, hello=True)
    link.heard(1.0, 1001.0, clock=101.0)
    # ninety seconds later it goes on, and reads what had come in the first three of them
    link.heard(91.0, 1091.0)
    assert link.look(91.0)
    for clock in (102.0, 103.0, 104.0):
        link.heard(91.0, 1091.0, clock=clock)
        link.heard(91.0, 1091.0)
        link.look(91.0)
        assert link.state == "stale"
    assert 86.0 <= link.silent(91.0) <= 87.0
    # nothing more follows: it has been silent, and is; or what is new does
    assert link.state == "stale"
    link.heard(91.2, 1091.2, clock=191.2)
    link.heard(91.2, 1091.2)
    assert not link.look(91.3)
    assert link.state == "live"


@pytest.mark.parametrize("rate", [0.9, 1.0, 1.1])
def test_clocks_that_drift_or_have_slept_do_not_make_a_live_fleet_stale_for_long(rate):
    link = Link()
    link.heard(0.0, 1000.0, clock=100.0, hello=True)
    for second in range(1, 1000):
        link.heard(float(second), 1000.0 + second, clock=100.0 + second * rate)
        assert not link.look(second + 0.9)
    # the fleet's machine slept for eight seconds, and its clock with it
    for second in range(1000, 1020):
        link.heard(float(second), 1000.0 + second, clock=92.0 + second * rate)
        link.look(float(second))
    assert link.state == "live"


def test_a_lost_connection_says_since_when_and_coming_back_says_so_for_a_while():
    link = Link()
    link.heard(0.0, 1000.0, hello=True)
    link.lost(1.0, 1001.0, "it closed")
    assert (link.state, link.reason) == ("disconnected", "it closed")
    link.heard(3.0, 1003.0, hello=True)
    assert link.sentence(4.0, UNICODE)[0] == "● reconnected"
    assert link.sentence(9.0, UNICODE)[0] == "● live"


def test_before_the_first_connection_it_looks_for_a_fleet():
    link = Link()
    link.lost(1.0, 1001.0, "no fleet runs")
    assert (link.state, link.reason) == ("connecting", "no fleet runs")


def test_the_fleets_clock_goes_on_while_it_is_heard_and_stands_still_when_not():
    dashboard = Dashboard()
    dashboard.apply(hello(clock=100.0), 10.0, 1100.0)
    assert dashboard.clock(11.5) == pytest.approx(101.5)
    dashboard.lost("gone", 12.0, 1102.0)
    assert dashboard.clock(20.0) == 100.0


def test_another_life_of_the_fleet_keeps_selection_filter_and_events():
    dashboard = Dashboard()
    dashboard.apply(hello(), 0.0, 1000.0)
    dashboard.apply(rows(row("A"), row("B")), 0.0, 1000.0)
    dashboard.apply({"type": "events", "lost": 0, "events": [event(9, "started", "A")]}, 0, 1000)
    dashboard.listing.filter = Filter("^B ")
    dashboard.tick(0.0)
    dashboard.selection.toggle()
    dashboard.lost("it closed", 1.0, 1001.0)
    dashboard.apply(hello("two", clock=1.0), 2.0, 1002.0)
    dashboard.apply(rows(row("A"), row("B")), 2.0, 1002.0)
    dashboard.apply({"type": "events", "lost": 0, "events": [event(1, "started", "B")]}, 2, 1002)
    dashboard.tick(2.0)
    assert (dashboard.selection.agent_id, dashboard.selection.marks) == ("B", {"B"})
    assert dashboard.listing.filter.text == "^B "
    told = [e.text for e in dashboard.journal.entries]
    assert told == ["started", "another life of the fleet: process 4711", "started"]


def test_frames_of_an_unknown_type_change_nothing():
    dashboard = Dashboard()
    dashboard.apply(hello(), 0.0, 1000.0)
    dashboard.apply({"type": "weather", "rain": True}, 1.0, 1001.0)
    dashboard.apply(beat(101.0), 1.0, 1001.0)
    assert dashboard.link.state == "live"
