"""How busy the agents were in the last seconds, and how much the fleet got done."""

from __future__ import annotations

from itertools import count

import pytest
from helpers_tui import row

from fleetmon_tui.state.history import History
from fleetmon_tui.state.store import Store


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
