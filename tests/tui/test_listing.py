"""Which agents are listed, in which order, with which columns."""

from __future__ import annotations

import pytest
from helpers_tui import elite, row, stored
from hypothesis import given
from hypothesis import strategies as st

from fleetmon.control.encoding import tick_of
from fleetmon.control.protocol import TICKS
from fleetmon.rows import COLUMNS
from fleetmon_tui.state import store as places
from fleetmon_tui.state.columns import BY_NAME, layout
from fleetmon_tui.state.listing import Filter, Listing
from fleetmon_tui.state.store import Store


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
