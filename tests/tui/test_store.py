"""Frames in, rows out: what the store keeps of rows, changes and ticks, and after a gap."""

from __future__ import annotations

import pytest
from helpers_rows import row_of
from helpers_tui import fleet, hello, row, rows, stored
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fleetmon import Supervisor
from fleetmon.control.protocol import TICKS
from fleetmon.rows import COLUMNS
from fleetmon_tui.state import store as places
from fleetmon_tui.state.dashboard import Dashboard
from fleetmon_tui.state.store import Store


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
