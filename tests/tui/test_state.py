"""Frames in, rows out: the store, order and filter, cursor and marks, connection, histories."""

from __future__ import annotations

import re
from itertools import count

import pytest
from helpers_rows import row_of
from helpers_tui import beat, elite, event, fleet, hello, row, rows
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fleetmon import Supervisor
from fleetmon.control.encoding import tick_of
from fleetmon.control.protocol import TICKS
from fleetmon.rows import COLUMNS
from fleetmon_tui.state import store as places
from fleetmon_tui.state.columns import BY_NAME, layout
from fleetmon_tui.state.dashboard import Dashboard
from fleetmon_tui.state.history import History
from fleetmon_tui.state.journal import Journal, entry
from fleetmon_tui.state.link import STALE_AFTER, Link
from fleetmon_tui.state.listing import Filter, Listing
from fleetmon_tui.state.orders import Order, Question
from fleetmon_tui.state.selection import Selection
from fleetmon_tui.state.store import Store
from fleetmon_tui.state.text import UNICODE


def stored(*told):
    store = Store()
    store.begin(COLUMNS, resumed=False)
    store.apply(list(told), more=False)
    return store


# -- rows ------------------------------------------------------------------------------------------


def test_places_in_a_row_are_those_of_the_rows_that_a_fleet_sends():
    told = {name: getattr(places, name.upper()) for name in COLUMNS if name != "agent_id"}
    assert told == {name: COLUMNS.index(name) for name in told}
    assert COLUMNS.index("agent_id") == places.ID


def test_rows_are_kept_as_they_came_and_what_changed_is_told_once():
    store = stored(row("A"), row("B"))
    assert store.settled() == {0, 1}
    changed = row("B", queued=3)
    store.apply([changed], more=False)
    assert store.get("B") is changed
    assert store.settled() == {1}
    assert store.settled() == set()


def test_after_a_gap_the_old_rows_stand_until_the_new_ones_are_complete():
    store = stored(row("A"), row("B"), row("C"))
    store.begin(COLUMNS, resumed=False)
    store.apply([row("A", queued=1)], more=True)
    assert (len(store), store.loading) == (3, True)
    store.apply([row("D")], more=False)
    assert (sorted(store.places), store.loading) == (["A", "D"], False)


def test_a_resumed_stream_takes_nobody_away():
    store = stored(row("A"), row("B"))
    store.begin(COLUMNS, resumed=True)
    store.apply([row("B", queued=1)], ["A"], more=False)
    assert list(store.places) == ["B"]


def test_columns_of_another_version_are_sorted_out_by_name():
    store = Store()
    newer = [*COLUMNS, "colour"]
    store.begin(newer, resumed=False)
    store.apply([[*row("A", queued=4), "red"]], more=False)
    assert store.get("A")[places.QUEUED] == 4
    older = ["lifecycle", "agent_id", "queued"]
    store.begin(older, resumed=False)
    store.apply([["paused", "B", 7]], more=False)
    found = store.get("B")
    assert (found[places.LIFECYCLE], found[places.QUEUED], found[places.CONDITIONS]) == (
        "paused", 7, (),
    )  # fmt: skip
    assert len(found) == len(COLUMNS)


class Stream(RuleBasedStateMachine):
    """Whatever comes, the store equals a plain dictionary, and no two agents share a place."""

    def __init__(self):
        super().__init__()
        self.store = stored()
        self.plain = {}

    @rule(names=st.lists(st.sampled_from("ABCDEFG"), unique=True), value=st.integers(0, 9))
    def change(self, names, value):
        self.store.apply([row(name, queued=value) for name in names], more=False)
        self.plain.update(dict.fromkeys(names, value))

    @rule(name=st.sampled_from("ABCDEFG"))
    def remove(self, name):
        self.store.apply([], [name], more=False)
        self.plain.pop(name, None)

    @rule(names=st.lists(st.sampled_from("ABCDEFG"), unique=True), value=st.integers(0, 9))
    def anew(self, names, value):
        self.store.begin(COLUMNS, resumed=False)
        self.store.apply([row(name, queued=value) for name in names[:2]], more=True)
        self.store.apply([row(name, queued=value) for name in names[2:]], more=False)
        self.plain = dict.fromkeys(names, value)

    @invariant()
    def same(self):
        store = self.store
        assert {x: store.get(x)[places.QUEUED] for x in store.places} == self.plain
        assert len(set(store.places.values())) == len(store)
        assert sum(r is not None for r in store.rows) == len(store)


TestStream = Stream.TestCase
TestStream.settings = settings(max_examples=40, deadline=None)


# -- order and filter ------------------------------------------------------------------------------


def listed(store, now=0.0, **how):
    listing = Listing()
    for name, value in how.items():
        setattr(listing, name, value)
    listing.renew(store, now, changed=True)
    return [store.rows[place][0] for place in listing.admitted]


def test_the_order_is_the_rosters_unless_told_otherwise():
    store = stored(row("Z", number=1), row("B"), row("A"), row("Y", number=2))
    assert listed(store) == ["Z", "Y", "A", "B"]
    assert listed(store, reverse=True) == ["B", "A", "Y", "Z"]


def test_large_numbers_come_first_and_empty_ones_last_either_way():
    store = stored(row("A", p95=0.1), row("B"), row("C", p95=2.0))
    assert listed(store, sort="p95") == ["C", "A", "B"]
    assert listed(store, sort="p95", reverse=True) == ["A", "C", "B"]


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("", ["APEX", "CIPHER", "LINGUA"]),
        ("ape", ["APEX"]),
        ("^.*failed", ["CIPHER"]),
        ("!failed", ["APEX", "LINGUA"]),
        ("code_review|quarantined", ["APEX", "CIPHER"]),
        ("stalled", ["LINGUA"]),
        ("tier7", ["LINGUA"]),
        ("[", []),
        ("![", ["APEX", "CIPHER", "LINGUA"]),
    ],
)
def test_a_filter_is_a_regular_expression_over_what_is_known_of_an_agent(typed, found):
    store = stored(
        row("APEX", number=1, task="code_review"),
        row("CIPHER", number=2, lifecycle="quarantined", health=2),
        row("LINGUA", number=32, tier=7, conditions=[["stalled", 1.0, "why", False]], health=1),
    )
    assert listed(store, filter=Filter(typed)) == found


def test_a_filter_finds_what_ticks_and_new_rows_have_told_since_it_looked_last():
    store = Store()
    store.begin(COLUMNS, TICKS, resumed=False)
    store.apply([row("APEX", number=1, task="read"), row("CIPHER", number=2)], more=False)
    listing = Listing()

    def found(typed):
        listing.filter = Filter(typed)
        listing.touch()
        listing.renew(store, 0.0, changed=True)
        return [store.rows[place][0] for place in listing.admitted]

    assert found("read") == ["APEX"]
    store.tick([tick_of(row("APEX")), tick_of(row("CIPHER", task="write"))])
    assert found("read") == []
    assert found("write") == ["CIPHER"]
    assert store.get("CIPHER")[places.TASK] == "write"  # somebody looked at it
    assert found("write") == ["CIPHER"]
    store.apply([row("CIPHER", number=2, lifecycle="quarantined")], more=False)
    assert found("write") == []
    assert found("quarantined") == ["CIPHER"]
    store.apply([], ["APEX"], more=False)
    store.apply([row("AXIOM", number=3)], more=False)  # at the place that became free
    assert found("a") == ["CIPHER", "AXIOM"]
    assert found("apex") == []


@given(st.text(max_size=12))
def test_whatever_is_typed_a_filter_works_and_its_inverse_is_the_rest(typed):
    texts = ["APEX running", "CIPHER failed", "a[b", ""]
    both = [(Filter(typed), Filter("!" + typed))]
    for some, others in both:
        if typed.startswith("!") or not typed:
            continue
        for text in texts:
            assert some.admits(text) != others.admits(text)


def test_groups_hold_all_agents_of_a_tier_and_folded_ones_stay_in_reach_of_marks():
    store = stored(row("A", tier=2), row("B", tier=1), row("C"), row("D", tier=1))
    listing = Listing()
    listing.grouped = True
    listing.folded = {"tier 1"}
    listing.renew(store, 0.0, changed=True)
    assert [group.key for group in listing.groups] == ["tier 1", "tier 2", "without a tier"]
    assert len(listing.lines) == 3 + 2
    assert len(listing.admitted) == 4


def test_a_static_order_is_not_made_anew_for_changes():
    store = stored(*elite())
    listing = Listing()
    assert listing.renew(store, 0.0, changed=True)
    store.apply([row("AGENT03", number=3, queued=4)], more=False)
    assert not listing.renew(store, 0.1, changed=True)
    listing.sort_by("queue")
    assert listing.renew(store, 0.2, changed=False)
    assert listing.renew(store, 0.3, changed=True)


def test_in_a_large_fleet_a_moving_order_is_renewed_once_a_second():
    store = stored(*(row(f"{n:05}", queued=n) for n in range(2500)))
    listing = Listing()
    listing.sort_by("queue")
    assert listing.renew(store, 10.0, changed=True)
    assert not listing.renew(store, 10.5, changed=True)
    assert listing.renew(store, 11.1, changed=True)


@given(st.integers(40, 300), st.integers(0, 40), st.integers(0, 18))
def test_columns_never_take_more_cells_than_there_are(width, names, skipped):
    shown = layout(width, names=names, skipped=skipped)
    assert sum(cells + 1 for _, cells in shown) + 1 <= width
    assert shown[0][0].name == "agent"


def test_at_eighty_columns_an_operator_sees_what_matters():
    names = [column.name for column, _ in layout(79)]
    assert names == ["agent", "state", "doing", "for", "queue", "use", "tasks", "failures"]


def test_every_column_sorts_every_row():
    agents = [row("A"), row("B", p50=1.0, p95=2.0, retry_at=4.0, tier=1, number=2, task="x")]
    store = stored(*agents)
    for name in BY_NAME:
        assert sorted(listed(store, sort=name)) == ["A", "B"]


# -- cursor and marks ------------------------------------------------------------------------------


def chosen(*told, **how):
    store = stored(*told)
    listing = Listing()
    for name, value in how.items():
        setattr(listing, name, value)
    listing.renew(store, 0.0, changed=True)
    selection = Selection(store, listing)
    selection.follow()
    return store, listing, selection


def test_the_cursor_stays_with_its_agent_when_the_order_changes():
    store, listing, selection = chosen(row("A", queued=1), row("B", queued=2), sort="queue")
    assert selection.agent_id == "B"
    store.apply([row("A", queued=5)], more=False)
    listing.renew(store, 5.0, changed=True)
    selection.follow()
    assert (selection.agent_id, selection.line) == ("B", 1)


def test_an_agent_that_comes_back_has_the_cursor_and_its_mark_again():
    store, listing, selection = chosen(row("A"), row("B"), row("C"))
    selection.go(1)
    selection.toggle()
    store.apply([], ["B"], more=False)
    listing.renew(store, 1.0, changed=True)
    selection.follow()
    assert selection.agent_id == "C"
    assert selection.targets() == ()  # what is marked is not there: nothing else is touched instead
    store.apply([row("B")], more=False)
    listing.renew(store, 2.0, changed=True)
    selection.follow()
    assert (selection.agent_id, selection.targets()) == ("B", ("B",))


def test_a_range_marks_what_lies_between_and_keeps_earlier_marks():
    _, _, selection = chosen(*(row(x) for x in "ABCDEF"))
    selection.toggle()
    selection.go(2)
    selection.begin_range()
    selection.move(2)
    assert selection.marks == {"A", "C", "D", "E"}
    selection.move(-1)
    assert selection.marks == {"A", "C", "D"}
    selection.begin_range()
    selection.move(2)
    assert selection.marks == {"A", "C", "D"}


def test_a_tier_is_marked_at_its_heading():
    _, _, selection = chosen(row("A", tier=1), row("B", tier=1), row("C", tier=2), grouped=True)
    selection.go(0)
    assert selection.targets() == ("A", "B")
    selection.toggle()
    assert selection.marks == {"A", "B"}
    selection.toggle()
    assert selection.marks == set()


def test_marks_outlive_a_filter_and_say_how_many_it_hides():
    store, listing, selection = chosen(row("A"), row("B"), row("C"))
    selection.mark_all()
    listing.filter = Filter("^A ")
    listing.touch()
    listing.renew(store, 1.0, changed=False)
    selection.follow()
    assert (selection.hidden(), selection.targets()) == (2, ("A", "B", "C"))
    selection.invert()
    assert selection.marks == {"B", "C"}


@given(st.lists(st.one_of(
    st.tuples(st.just("move"), st.integers(-5, 5)), st.just("toggle"), st.just("begin_range"),
    st.just("end_range"), st.just("mark_all"), st.just("invert"), st.just("clear"),
), max_size=30))  # fmt: skip
def test_cursor_and_marks_stay_among_the_agents(steps):
    _, listing, selection = chosen(*(row(x, tier=n % 2) for n, x in enumerate("ABCDEF")),
                                   grouped=True)  # fmt: skip
    for step in steps:
        if isinstance(step, tuple):
            selection.move(step[1])
        else:
            getattr(selection, step)()
        assert 0 <= selection.line < len(listing.lines)
        assert selection.marks <= set("ABCDEF")
        assert set(selection.targets()) <= set("ABCDEF")


# -- connection ------------------------------------------------------------------------------------


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


# -- histories, events, orders ---------------------------------------------------------------------


def test_histories_hold_use_and_ended_tasks_by_place():
    history, store, seconds = History(3), Store(), count()
    for n in range(5):
        store.apply([row("A", utilization=n / 4, assigned=n * 3)], more=False)
        history.sample(store, next(seconds))
    assert history.use(0) == [50, 75, 100]
    assert history.ended(0) == [3, 3, 3]
    store.apply([row("A", utilization=1.0, assigned=12), row("B", assigned=500)], more=False)
    history.sample(store, next(seconds))
    assert history.ended(1) == [0]  # what it did before it was seen is not this second's work
    history.sample(store, next(seconds), same=True)
    assert (history.use(1), history.ended(0)) == ([0, 0], [3, 0, 0])
    store.apply([row("C", assigned=900)], ["B"], more=False)
    store.apply([row("D", assigned=901)], more=False)  # where B was
    history.sample(store, next(seconds))
    assert history.ended(store.places["D"])[-1] == 0


def test_the_rate_of_the_fleet_is_of_the_last_seconds_and_newcomers_bring_no_past_into_it():
    history, store = History(), Store()
    store.apply([row("A", assigned=1000), row("B")], more=False)
    history.sample(store, 0.0)
    assert history.rate() is None
    for second in range(1, 20):
        store.apply([row("A", assigned=1000 + 3 * second), row("B", assigned=second)], more=False)
        history.sample(store, float(second))
        assert history.rate() == pytest.approx(4.0)
    for second in range(20, 25):
        history.sample(store, float(second), same=True)
    assert history.rate() == 0.0
    store.apply([row("C", assigned=50_000)], ["B"], more=False)
    history.sample(store, 25.0)
    assert history.rate() is None
    store.apply([row("C", assigned=50_002)], more=False)
    history.sample(store, 26.0)
    assert history.rate() == pytest.approx(2.0)
    history.clear()
    assert history.rate() is None


def test_ticks_change_what_they_tell_and_nothing_else():
    store = Store()
    store.begin(COLUMNS, TICKS, resumed=False)
    before = [row("A", field="art", p50=1.0), row("B"), row("C")]
    store.apply([list(r) for r in before], more=False)
    store.settled()
    tick = ["A", 1, 2, 0.5, "read", 7, 99.5, 10, 7, 0.25, 0.5]
    store.tick([tick, ["GONE", 0, 0, 0.0, "", 0, 0.0, 0, 0, None, None]])
    told = dict(zip(TICKS, tick[1:], strict=True))
    assert store.get("A") == row("A", field="art", **told)
    assert [store.get("B"), store.get("C")] == before[1:]
    store.tick([tick])
    store.gather()
    assert (store.settled(), store.use[0], store.ended[0]) == ({0}, 0.5, 7)
    # another version's ticks: less of it, something unknown, another order
    store.begin(COLUMNS, ("weather", "succeeded", "queued"), resumed=True)
    store.tick([["B", "rain", 3, 4]])
    assert store.get("B") == row("B", succeeded=3, queued=4)


def test_events_are_told_once_and_gaps_between_them_are_told_too():
    journal = Journal()
    journal.apply([event(4, "started", "A"), event(5, "stopped", "A")])
    journal.apply([event(5, "stopped", "A"), event(9, "started", "A")], 3)
    assert [e.text for e in journal.entries] == ["started", "stopped", "3 events missed here",
                                                 "started"]  # fmt: skip
    assert journal.missed == 3


async def _every_kind():
    from fleetmon.events import EventKind

    return [entry(event(n, kind.value, "A")) for n, kind in enumerate(EventKind, 1)]


@pytest.mark.anyio
async def test_every_kind_of_event_has_a_sentence_even_without_its_facts():
    assert all(e.text and "_" not in e.text for e in await _every_kind())


def test_the_stack_of_a_blocked_loop_is_kept():
    stack = ["serve.py:10 in serve", {"file": "a.py", "line": 3, "function": "grind"}]
    found = entry(event(1, "loop_blocked", "APEX", seconds=2.0, file="a.py", line=3,
                        function="grind", stack=stack))  # fmt: skip
    assert found.text == "blocks the event loop for 2.0s at a.py:3 in grind"
    assert found.stack == ("serve.py:10 in serve", "a.py:3 in grind")


def test_an_order_tells_answers_and_what_came_of_them():
    store = stored(row("A", generation=1), row("B", generation=4))
    order = Order("restart", ("A", "B"), store)
    assert order.sentence == "restart 2: 2 without an answer yet"
    order.answered("A", {"result": "accepted", "reason": ""})
    order.answered("B", {"result": "rejected", "reason": "it is draining"})
    order.look(store, 1.0)
    assert order.sentence == (
        "restart 2: 1 accepted, 1 refused, 0 of 1 running again (B: it is draining)"
    )
    assert not order.complete
    store.apply([row("A", generation=2)], more=False)
    assert not order.look(store, 2.0)
    assert order.complete
    assert order.look(store, 30.0)


def test_a_question_has_the_number_and_the_names():
    some = Question("restart", tuple(f"A{n}" for n in range(15)), hidden=2)
    assert some.title == "Restart 15 agents?"
    assert some.names.endswith("A11 and 3 more")
    assert "2 of them are hidden by the filter" in some.effect
    assert Question("pause", ("APEX",)).title == "Pause 1 agent?"


@pytest.mark.anyio
@pytest.mark.virtual_time
async def test_rows_of_a_real_supervisor_are_shown(clock):
    async with Supervisor(clock=clock) as supervisor:
        agent = supervisor.attach("TENSOR")
        with agent.task("train") as task:
            task.progress("epoch 2")
            picture = supervisor.snapshot()
            bounds = supervisor.settings.metrics.buckets
            told = [list(row_of(a, picture.monotonic, bounds)) for a in picture.agents]
    dashboard = Dashboard()
    dashboard.apply(hello(clock=picture.monotonic), 0.0, 1000.0)
    dashboard.apply(rows(*told), 0.0, 1000.0)
    dashboard.apply(fleet(), 0.0, 1000.0)
    dashboard.tick(0.0)
    found = dashboard.store.get("TENSOR")
    assert (found[places.TASK], found[places.TASK_NOTE]) == ("train", "epoch 2")
    assert dashboard.counts == (1, 0, 0)
