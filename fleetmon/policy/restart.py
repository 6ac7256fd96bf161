"""What becomes of an agent whose incarnation has ended: OTP's restart types, and quarantine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from fleetmon.policy import backoff

if TYPE_CHECKING:
    import random

    from fleetmon.spec import AgentSpec

Action = Literal["back_off", "quarantine", "stop"]


class Decision(NamedTuple):
    """What to do, and why.

    Attributes:
        action: ``back_off`` (restart after the delay), ``quarantine`` or ``stop``.
        delay: seconds to wait before the restart; 0.0 for the other two.
        reason: one clause for people.
    """

    action: Action
    delay: float
    reason: str


_TEMPORARY = Decision("stop", 0.0, "restart type temporary: never restarted")
_TRANSIENT = Decision("stop", 0.0, "restart type transient: not restarted after a normal end")
_PERMANENT_ERROR = Decision("quarantine", 0.0, "a permanent error: a restart would meet it again")


def decide(
    spec: AgentSpec,
    *,
    exhausted: bool,
    permanent: bool,
    normal: bool,
    streak: int,
    rng: random.Random,
    retry_after: float = 0.0,
) -> Decision:
    """Decide about an incarnation that has ended on its own.

    The restart type goes first (a temporary agent is never restarted, a transient one only after
    an abnormal end), then a permanent error, then exhaustion. Ends that a command asked for never
    come here.

    Args:
        spec: restart type, intensity and backoff.
        exhausted: this lapse was one too many, see
            :class:`~fleetmon.policy.intensity.RestartWindow`.
        permanent: start or body ended with a permanent error.
        normal: the body returned without an error.
        streak: lapses before this one since the agent was last stable.
        rng: the generator of the jitter, used only for ``back_off``.
        retry_after: seconds that the error asked for, a lower bound of the delay.
    """
    if spec.restart == "temporary":
        return _TEMPORARY
    if normal and spec.restart == "transient":
        return _TRANSIENT
    if permanent:
        return _PERMANENT_ERROR
    if exhausted:
        limit = spec.intensity
        return Decision(
            "quarantine",
            0.0,
            f"more than {limit.max_restarts} lapses within {limit.period:g} s",
        )
    after = "a normal end" if normal else "a lapse"
    return Decision(
        "back_off", backoff.delay(spec.backoff, streak, rng, retry_after), f"restart after {after}"
    )
