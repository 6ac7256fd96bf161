from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fleetmon.policy.failing import FailureRate
from fleetmon.spec import HealthPolicy

POLICY = HealthPolicy(failure_rate=0.5, min_tasks=5, window=60.0)


def fresh(policy=POLICY, now=0.0, ended=0, failed=0):
    rate = FailureRate(policy)
    rate.reset(now, ended, failed)
    return rate


def test_a_single_failed_task_colours_nothing_and_enough_of_them_do():
    rate = FailureRate(POLICY)
    assert [rate.note(float(n), n, n) for n in range(1, 6)] == [False] * 4 + [True]


def test_success_beside_failures_keeps_the_share_below_the_rate():
    rate = fresh()
    assert not rate.note(1.0, 100, 1)
    for n in range(2, 40):
        assert not rate.note(1.0 + n / 10, 100 + n, n)


def test_failing_ends_when_the_failures_leave_the_window_and_when_success_outweighs_them():
    rate = fresh()
    for n in range(1, 7):
        failing = rate.note(float(n), n, n)
    assert failing
    assert rate.failing(6.5, 12, 6)
    assert not rate.failing(6.5, 13, 6)
    assert rate.failing(60.9, 6, 6)
    assert not rate.failing(66.0, 6, 6)
    assert not rate.failing(1e6, 6, 6)


def test_long_past_success_does_not_hide_failures_of_now():
    rate = fresh()
    rate.note(50.0, 10_000, 0)
    for n in range(1, 6):
        failing = rate.note(1000.0 + n, 10_000 + n, n)
    assert failing


def test_without_knowledge_of_the_past_earlier_success_counts_as_recent_and_failures_as_old():
    rate = FailureRate(POLICY)
    assert not rate.note(1000.0, 10_000, 4_000)
    for n in range(1, 10):
        assert not rate.note(1000.0 + n, 10_000 + n, 4_000 + n)
    for n in range(10, 20):
        failing = rate.note(1100.0 + n, 10_000 + n, 4_000 + n)
    assert failing


def test_reset_counts_only_what_ends_later():
    rate = fresh()
    for n in range(1, 7):
        rate.note(float(n), n, n)
    rate.reset(7.0, 6, 6)
    assert not rate.failing(7.0, 6, 6)
    assert not rate.note(8.0, 7, 7)


@given(
    st.lists(
        st.tuples(st.integers(5, 30), st.integers(0, 3), st.integers(0, 3)),
        min_size=1,
        max_size=40,
    ),
    st.sampled_from([0.25, 0.5, 1.0]),
)
def test_exact_when_each_step_is_a_grain_apart_and_noted_before_and_after(steps, share):
    rate = fresh(HealthPolicy(failure_rate=share, min_tasks=3, window=60.0))
    now, ended, failed = 0.0, 0, 0
    history = []
    for step, good, bad in steps:
        now += step
        rate.note(now - 0.5, ended, failed)
        history.append((now, good + bad, bad))
        ended, failed = ended + good + bad, failed + bad
        recent = sum(e for t, e, f in history if now - t < 60.0)
        fails = sum(f for t, e, f in history if now - t < 60.0)
        expected = fails > 0 and recent >= 3 and fails >= share * recent
        assert rate.note(now, ended, failed) is expected
        assert rate.failing(now, ended, failed) is expected
        assert len(rate._marks) <= 32


@given(st.lists(st.floats(0.0, 3.0), min_size=1, max_size=300))
def test_memory_stays_bounded_and_failures_alone_are_dated_to_a_fifteenth_of_the_window(steps):
    rate = fresh()
    now = 0.0
    times = []
    for step in steps:
        now += step
        times.append(now)
        said = rate.note(now, len(times), len(times))
        sure = sum(now - t < 60.0 for t in times)
        maybe = sum(now - t < 64.0 for t in times)
        if sure >= 5:
            assert said
        if maybe < 5:
            assert not said
        assert len(rate._marks) <= 32
