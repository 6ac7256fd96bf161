"""The restart policy of an agent in words and seconds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from fleetmon.spec import AgentSpec, Backoff


class Explanation(NamedTuple):
    """What a spec means for an agent that never comes back.

    Attributes:
        worst_seconds: from the first lapse until quarantine when every attempt fails as late as it
            can; ``inf`` when it may go on for ever.
        best_seconds: the same when every attempt fails at once and every delay is the least;
            ``inf`` when not even that exhausts the intensity.
        attempts: restarts before quarantine.
        text: the policy in a few sentences, for people.
    """

    worst_seconds: float
    best_seconds: float
    attempts: int
    text: str


def worst_case(spec: AgentSpec) -> Explanation:
    """Explain the restart policy of one agent.

    With ``m = intensity.max_restarts``, quarantine follows lapse ``m + 1`` of a window of
    ``period`` seconds. Between lapse ``k`` and the next lie at most::

        gap(k) = deadlines.stop + max(floor, min(cap, base * factor**(k - 1)))
               + deadlines.start + verify.timeout

    and at least ``floor``. Gaps never shrink, so lapses 1 to ``m + 1`` lie closest together:
    if ``gap(1) + ... + gap(m)`` is below ``period``, ``worst`` is that sum and one more
    ``deadlines.stop``, since the last life has to end first; otherwise attempts that fail late
    enough never exhaust, and it is ``inf``. ``best = m * floor`` by the same rule. A temporary
    agent is never restarted, hence never exhausted: both are ``inf``.

    Not counted: waits that the fleet imposes (``Restarts``, ``SharedCause``), a ``Retry-After``,
    time in which the agent runs verified between two lapses. A permanent error skips all this and
    quarantines at once.
    """
    if spec.restart == "temporary":
        return Explanation(
            math.inf, math.inf, 0, "Temporary: stopped after its first end, never restarted."
        )
    attempts = spec.intensity.max_restarts
    period = spec.intensity.period
    backoff = spec.backoff
    fixed = spec.deadlines.stop + spec.deadlines.start + spec.verify.timeout
    worst = attempts * fixed + _largest_delays(backoff, attempts)
    best = attempts * backoff.floor
    worst = math.inf if worst >= period and attempts else worst + spec.deadlines.stop
    if best >= period and attempts:
        best = math.inf
    return Explanation(worst, best, attempts, _text(spec, worst, best))


def _largest_delays(backoff: Backoff, count: int) -> float:
    # Sum of the upper bounds of the first `count` delays, closed: `count` may be a billion. First
    # come terms below the floor, then a geometric stretch, then the cap.
    floor, base, cap = backoff.floor, backoff.base, backoff.cap
    growth = math.log1p(backoff.factor - 1.0)
    if base <= 0.0 or growth == 0.0:
        return count * max(floor, min(cap, base))
    start = math.log(base)

    def terms_below(limit: float) -> int:
        if limit <= base:
            return 0
        return min(count, math.ceil((math.log(limit) - start) / growth))

    low = terms_below(floor)
    high = max(low, terms_below(cap))
    ramp = 0.0
    if high > low:
        first = math.exp(start + low * growth)
        ramp = first * math.expm1((high - low) * growth) / math.expm1(growth)
    return low * floor + ramp + (count - high) * cap


def _text(spec: AgentSpec, worst: float, best: float) -> str:
    limit, backoff = spec.intensity, spec.backoff
    when = "after every end" if spec.restart == "permanent" else "after every abnormal end"
    if not limit.max_restarts:
        words = "Quarantined at its first lapse, without a restart."
    else:
        first = max(backoff.floor, min(backoff.cap, backoff.base))
        words = (
            f"Restarted {when}, at most {limit.max_restarts} times within {limit.period:g} s; "
            f"delays are drawn from {backoff.floor:g} s up to {first:g} s at first and "
            f"{max(first, backoff.cap) if _grows(backoff) else first:g} s at most."
        )
        if worst < math.inf:
            words += (
                f" An agent that never comes back is in quarantine after {best:.3g} s at the "
                f"earliest and {worst:.4g} s at the latest."
            )
        else:
            fail = spec.deadlines.stop + spec.deadlines.start + spec.verify.timeout
            words += (
                f" One attempt may take {fail:g} s beside its delay, so attempts that fail late "
                f"never add up to {limit.max_restarts + 1} lapses within {limit.period:g} s: it "
                "may go on for ever"
            )
            words += (
                f", and in quarantine after {best:.3g} s at the earliest."
                if best < math.inf
                else ", and no agent ever exhausts it."
            )
    interval = spec.quarantine.probe_interval
    if best < math.inf:
        words += (
            " In quarantine it waits for an operator."
            if interval is None
            else f" In quarantine it is probed every {interval:g} s."
        )
    return words


def _grows(backoff: Backoff) -> bool:
    return backoff.factor > 1.0 and backoff.base > 0.0
