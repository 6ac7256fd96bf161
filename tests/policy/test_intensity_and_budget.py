from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fleetmon.policy.budget import Budget
from fleetmon.policy.intensity import RestartWindow

# quarter seconds: exact in binary, so that the boundary itself is met
rising = st.lists(st.integers(0, 12), max_size=60).map(
    lambda steps: [sum(steps[: i + 1]) / 4 for i in range(len(steps))]
)


@given(rising, st.integers(0, 6), st.integers(1, 40).map(lambda n: n / 4))
def test_01_exhausted_exactly_when_more_than_the_limit_lapse_inside_the_window(
    times, limit, period
):
    window = RestartWindow(limit, period)
    for i, now in enumerate(times):
        inside = sum(now - t < period for t in times[: i + 1])
        assert window.add(now) is (inside > limit)
        assert window.count(now) == min(inside, limit + 1)


def test_01_with_limit_two_the_third_failure_exhausts_and_spaced_ones_never_do():
    window = RestartWindow(2, 10.0)
    assert [window.add(t) for t in (0.0, 4.0, 9.9)] == [False, False, True]
    spaced = RestartWindow(2, 10.0)
    assert not any(spaced.add(5.0 * n) for n in range(1000))


def test_01_a_lapse_exactly_one_period_old_no_longer_counts():
    window = RestartWindow(1, 10.0)
    assert not window.add(0.0)
    assert not window.add(10.0)
    assert window.add(19.999)


def test_01_memory_is_bounded_and_clear_forgets():
    window = RestartWindow(3, 1e9)
    for n in range(10_000):
        window.add(float(n))
    assert len(window._times) == 4
    window.clear()
    assert window.count(10_000.0) == 0
    assert not window.add(10_000.0)


def test_01_a_billion_restarts_may_be_allowed_without_paying_for_them():
    window = RestartWindow(10**9, 60.0)
    assert not window.add(0.0)
    assert window.count(0.0) == 1


@given(rising, st.integers(0, 6), st.integers(1, 40).map(lambda n: n / 4))
def test_16_a_budget_gives_exactly_its_limit_in_every_window(times, limit, period):
    budget = Budget(limit, period)
    spent: list[float] = []
    for now in times:
        recent = sum(now - t < period for t in spent)
        assert budget.left(now) == limit - recent
        given_one = budget.spend(now)
        assert given_one is (recent < limit)
        if given_one:
            spent.append(now)


@given(st.lists(st.floats(0, 0.01), min_size=1, max_size=400))
def test_16_a_large_budget_is_bounded_in_memory_and_never_too_generous(steps):
    budget = Budget(2000, 1.0)
    now = 0.0
    spent: list[float] = []
    for step in steps:
        now += step
        spent.extend(now for _ in range(20) if budget.spend(now))
    assert len(budget._entries) <= 1025
    for end in spent:
        assert sum(end - 1.0 < t <= end for t in spent) <= 2000
    assert budget.left(now + 1.001) == 2000
