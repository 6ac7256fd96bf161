from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetmon.policy.backoff import delay
from fleetmon.policy.restart import decide
from fleetmon.spec import AgentSpec, Backoff, Intensity

SPEC = {
    kind: AgentSpec(restart=kind, backoff=Backoff(floor=0.1, base=1, cap=8))
    for kind in ("permanent", "transient", "temporary")
}


@given(
    kind=st.sampled_from(sorted(SPEC)),
    exhausted=st.booleans(),
    permanent=st.booleans(),
    normal=st.booleans(),
    streak=st.integers(0, 2**31),
    asked=st.floats(0, 100),
)
def test_07_09_restart_type_then_permanent_error_then_exhaustion_decide(
    *, kind, exhausted, permanent, normal, streak, asked
):
    said = decide(
        SPEC[kind],
        exhausted=exhausted,
        permanent=permanent,
        normal=normal,
        streak=streak,
        rng=random.Random(1),
        retry_after=asked,
    )
    if kind == "temporary" or (kind == "transient" and normal):
        assert said.action == "stop"
    elif permanent or exhausted:
        assert said.action == "quarantine"
    else:
        assert said.action == "back_off"
        assert said.delay == delay(SPEC[kind].backoff, streak, random.Random(1), asked)
    assert said.reason
    assert said.action == "back_off" or said.delay == 0.0


@pytest.mark.parametrize(
    ("kind", "after_normal", "after_lapse"),
    [
        ("permanent", "back_off", "back_off"),
        ("transient", "stop", "back_off"),
        ("temporary", "stop", "stop"),
    ],
)
def test_07_restart_types_are_those_of_otp(kind, after_normal, after_lapse):
    for normal, action in ((True, after_normal), (False, after_lapse)):
        said = decide(
            SPEC[kind],
            exhausted=False,
            permanent=False,
            normal=normal,
            streak=0,
            rng=random.Random(1),
        )
        assert said.action == action


def test_01_the_reason_of_exhaustion_names_the_limit():
    spec = AgentSpec(intensity=Intensity(max_restarts=2, period=7.5))
    said = decide(
        spec, exhausted=True, permanent=False, normal=False, streak=3, rng=random.Random(1)
    )
    assert said.reason == "more than 2 lapses within 7.5 s"
