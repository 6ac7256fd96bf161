from __future__ import annotations

import math
import random

from hypothesis import given
from hypothesis import strategies as st

from fleetmon.policy.backoff import bounds, delay
from fleetmon.spec import Backoff

seconds = st.floats(0, 1e9)
streaks = st.one_of(st.integers(0, 100), st.sampled_from([2**31, 2**63, 10**400]))


@st.composite
def policies(draw):
    floor, cap = sorted((draw(seconds), draw(seconds)))
    return Backoff(floor=floor, cap=cap, base=draw(seconds), factor=draw(st.floats(1, 100)))


@given(policies(), streaks, st.integers())
def test_03_backoff_is_finite_and_drawn_between_floor_and_cap_whatever_the_streak(
    policy, streak, seed
):
    low, high = bounds(policy, streak)
    drawn = delay(policy, streak, random.Random(seed))
    assert policy.floor == low <= drawn <= high <= policy.cap
    assert math.isfinite(drawn)


@given(policies(), st.integers(0, 200))
def test_03_backoff_never_shrinks_as_the_streak_grows(policy, streak):
    assert bounds(policy, streak)[1] <= bounds(policy, streak + 1)[1]


@given(policies(), streaks, seconds, st.integers())
def test_03_retry_after_is_a_lower_bound_even_above_the_cap(policy, streak, asked, seed):
    plain = delay(policy, streak, random.Random(seed))
    assert delay(policy, streak, random.Random(seed), asked) == max(plain, asked)


def test_03_backoff_upper_ends_are_base_times_factor_to_the_streak():
    policy = Backoff(floor=0.05, base=0.5, factor=2, cap=30)
    assert [bounds(policy, n)[1] for n in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert bounds(policy, 2**31) == (0.05, 30)


def test_03_jitter_fills_the_whole_interval():
    policy = Backoff(floor=1, base=4, factor=2, cap=30)
    rng = random.Random(7)
    drawn = [delay(policy, 1, rng) for _ in range(2000)]
    assert min(drawn) < 1.1
    assert max(drawn) > 7.9
    assert abs(sum(drawn) / len(drawn) - 4.5) < 0.15


def test_03_an_upper_end_below_the_floor_gives_the_floor():
    assert bounds(Backoff(floor=2, base=0.1, cap=5), 0) == (2, 2)
    assert bounds(Backoff(floor=0, base=0, cap=5), 2**31) == (0, 0)
    assert bounds(Backoff(floor=0, base=3, factor=1, cap=5), 10**400) == (0, 3)


def test_a_retry_after_that_is_no_number_is_ignored():
    policy = Backoff(floor=1, base=1, cap=1)
    for odd in (math.nan, math.inf, -math.inf, -5.0):
        assert delay(policy, 0, random.Random(0), odd) == 1.0
