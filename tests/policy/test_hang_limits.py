from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetmon.policy.hangs import HeartbeatWatch, assess
from fleetmon.spec import HangLimits

limits = st.builds(
    HangLimits,
    soft=st.none() | st.floats(0.1, 100),
    hard=st.none() | st.floats(0.1, 100),
)


@given(limits, st.floats(0, 200), st.floats(0, 200))
def test_13_the_boundary_is_strictly_greater_and_hard_goes_first(limits, age, quiet):
    expected = ""
    if limits.soft is not None and quiet > limits.soft:
        expected = "soft"
    if limits.hard is not None and age > limits.hard:
        expected = "hard"
    assert assess(limits, age, quiet) == expected


@pytest.mark.parametrize(
    ("age", "quiet", "said"),
    [(600.0, 60.0, ""), (600.0, 60.001, "soft"), (600.001, 0.0, "hard"), (1e9, 1e9, "hard")],
)
def test_13_at_the_limit_is_not_yet_hung_and_progress_never_refreshes_the_hard_one(
    age, quiet, said
):
    assert assess(HangLimits(soft=60, hard=600), age, quiet) == said


def test_13_identical_heartbeats_become_suspect_only_beyond_the_soft_limit():
    watch = HeartbeatWatch(60.0)
    assert not watch.beat(0.0, "step 3")
    assert not watch.beat(60.0, "step 3")
    assert watch.beat(60.5, "step 3")
    assert watch.suspect


def test_13_a_new_token_or_real_progress_clears_the_suspicion_and_silence_does_not():
    watch = HeartbeatWatch(10.0)
    watch.beat(0.0, "a")
    assert watch.beat(11.0, "a")
    assert watch.beat(12.0)  # without a token it says nothing
    assert not watch.beat(13.0, "b")
    assert watch.beat(24.0, "b")
    watch.progress()
    assert not watch.suspect
    assert not watch.beat(25.0, "b")
    assert not watch.beat(35.0, "b")


@given(st.lists(st.tuples(st.floats(0, 50), st.sampled_from([None, "a", "b"])), max_size=40))
def test_13_heartbeats_are_suspect_exactly_when_a_run_of_one_token_spans_more_than_soft(beats):
    watch = HeartbeatWatch(60.0)
    never = HeartbeatWatch(None)
    now = 0.0
    run: list[float] = []
    token = None
    for step, said in beats:
        now += step
        if said is not None:
            if said != token:
                token, run = said, []
            run.append(now)
        assert watch.beat(now, said) is bool(run and run[-1] - run[0] > 60.0)
        assert not never.beat(now, said)
