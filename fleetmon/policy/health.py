"""Health and lifecycle, derived from state: never set by a command.

The gauge says 0 healthy, 1 degraded, 2 not serving for reasons of fault.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetmon.policy.transitions import Actual, Desired

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from fleetmon.snapshot import Condition

HEALTHY, DEGRADED, FAILED = 0, 1, 2

_SERVING = frozenset((Actual.STARTING, Actual.RECOVERING, Actual.RUNNING))
_TRIAL = frozenset((Actual.RECOVERING, Actual.PROBING))


_LIFECYCLE = {(desired, actual): actual.value for desired in Desired for actual in Actual} | {
    (Desired.PAUSED, Actual.RUNNING): "paused",
    (Desired.DRAINED, Actual.RUNNING): "draining",
}


def lifecycle(desired: Desired, actual: Actual) -> str:
    """Return the one label that screens and ``agents_lifecycle`` show."""
    return _LIFECYCLE[desired, actual]


def health(actual: Actual, *, fault: bool, conditions: Collection[Condition]) -> int:
    """Return the value of ``agents_health_status``.

    Args:
        actual: where the agent is.
        fault: it lapsed and no progress has been verified since.
        conditions: what is the matter with it beside its state.
    """
    if not conditions:
        return _WITHOUT_CONDITIONS[actual, fault]
    return _with_conditions(actual, fault=fault, conditions=conditions)


def _with_conditions(actual: Actual, *, fault: bool, conditions: Iterable[Condition]) -> int:
    if actual in _SERVING or actual is Actual.PROBING:
        worst = (
            DEGRADED if actual in _TRIAL or (fault and actual is not Actual.STARTING) else HEALTHY
        )
        for condition in conditions:
            if condition.hard:
                return FAILED
            if condition.name != "zombie" or actual in _SERVING:
                worst = DEGRADED
        return worst
    if fault:
        return FAILED
    # held down without a lapse of its own, for example while an agent it depends on comes back
    return DEGRADED if actual is Actual.BACKING_OFF else HEALTHY


_WITHOUT_CONDITIONS = {
    (actual, fault): _with_conditions(actual, fault=fault, conditions=())
    for actual in Actual
    for fault in (False, True)
}
