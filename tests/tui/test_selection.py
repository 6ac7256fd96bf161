"""The cursor and the marks, and what becomes of them when the list changes."""

from __future__ import annotations

from helpers_tui import row, stored
from hypothesis import given
from hypothesis import strategies as st

from fleetmon_tui.state.listing import Filter, Listing
from fleetmon_tui.state.selection import Selection


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
