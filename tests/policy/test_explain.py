from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from fleetmon.policy.backoff import bounds
from fleetmon.policy.explain import worst_case
from fleetmon.policy.intensity import RestartWindow
from fleetmon.spec import (
    AgentSpec,
    Backoff,
    Deadlines,
    Intensity,
    Quarantine,
    Verification,
)

seconds = st.floats(0, 50)


@st.composite
def specs(draw):
    floor, cap = sorted((draw(seconds), draw(seconds)))
    short = st.floats(0.01, 20)
    return AgentSpec(
        backoff=Backoff(
            floor=floor,
            cap=cap,
            base=draw(seconds),
            factor=draw(st.sampled_from([1, 1.0001, 1.5, 2, 10, 100]) | st.floats(1, 100)),
        ),
        intensity=Intensity(max_restarts=draw(st.integers(0, 40)), period=draw(st.floats(1, 5000))),
        deadlines=Deadlines(start=draw(short), stop=draw(short)),
        verify=Verification(timeout=draw(short)),
    )


def walk(spec, gap):
    """Play the policy out: seconds until a real window is exhausted, inf when it never is."""
    window = RestartWindow(spec.intensity.max_restarts, spec.intensity.period)
    now = 0.0
    for lapse in range(spec.intensity.max_restarts + 60):
        if window.add(now):
            return now
        now += gap(lapse)
    return math.inf


@given(specs())
def test_23_worst_and_best_case_are_what_a_real_window_would_do(spec):
    told = worst_case(spec)
    fixed = spec.deadlines.stop + spec.deadlines.start + spec.verify.timeout
    for said, gap, end in (
        (told.worst_seconds, lambda n: fixed + bounds(spec.backoff, n)[1], spec.deadlines.stop),
        (told.best_seconds, lambda n: bounds(spec.backoff, n)[0], 0.0),
    ):
        span = sum(gap(n) for n in range(told.attempts))
        if not math.isclose(span, spec.intensity.period, rel_tol=1e-6):  # there rounding decides
            assert math.isclose(said, walk(spec, gap) + end, rel_tol=1e-6, abs_tol=1e-9)
    assert told.attempts == spec.intensity.max_restarts
    assert told.best_seconds <= told.worst_seconds
    assert told.text


def test_23_the_formula_by_hand():
    spec = AgentSpec(
        backoff=Backoff(floor=0.1, base=1, factor=2, cap=3),
        intensity=Intensity(max_restarts=4, period=100),
        deadlines=Deadlines(start=2, stop=1),
        verify=Verification(timeout=4),
    )
    told = worst_case(spec)
    assert math.isclose(told.worst_seconds, 4 * 7 + 1 + 2 + 3 + 3 + 1)
    assert math.isclose(told.best_seconds, 0.4)
    assert told.text == (
        "Restarted after every end, at most 4 times within 100 s; delays are drawn from 0.1 s up "
        "to 1 s at first and 3 s at most. An agent that never comes back is in quarantine after "
        "0.4 s at the earliest and 38 s at the latest. In quarantine it is probed every 60 s."
    )


def test_23_gaps_wider_than_the_window_never_exhaust_and_the_text_says_so():
    told = worst_case(AgentSpec(intensity=Intensity(period=60)))
    assert told.worst_seconds == math.inf
    assert math.isclose(told.best_seconds, 0.25)
    assert "it may go on for ever" in told.text
    slow = AgentSpec(backoff=Backoff(floor=30, cap=30), intensity=Intensity(period=60))
    told = worst_case(slow)
    assert told.best_seconds == math.inf
    assert "no agent ever exhausts it" in told.text


def test_23_no_restart_allowed_a_temporary_agent_and_a_billion_restarts():
    told = worst_case(AgentSpec(intensity=Intensity(max_restarts=0)))
    assert (told.worst_seconds, told.best_seconds, told.attempts) == (5.0, 0.0, 0)
    assert told.text.startswith("Quarantined at its first lapse")
    told = worst_case(AgentSpec(restart="temporary"))
    assert (told.worst_seconds, told.attempts) == (math.inf, 0)
    told = worst_case(
        AgentSpec(
            backoff=Backoff(floor=0, base=1e-9, factor=1.0000001, cap=1e9),
            intensity=Intensity(max_restarts=10**9),
            quarantine=Quarantine(probe_interval=None),
            restart="transient",
        )
    )
    assert told.best_seconds == 0.0
    assert "after every abnormal end" in told.text
    assert told.text.endswith("In quarantine it waits for an operator.")
