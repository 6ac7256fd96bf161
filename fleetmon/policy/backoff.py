"""How long to wait before a restart: capped exponential backoff with full jitter.

The rule is the one that the AWS Architecture Blog calls "full jitter" (Exponential Backoff And
Jitter, 2015), with a floor so that a restart never becomes a tight loop.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

    from fleetmon.spec import Backoff

_MOST = 2**31  # beyond this many lapses every factor above 1 has met its cap, or never will


def bounds(policy: Backoff, streak: int) -> tuple[float, float]:
    """Return the least and the greatest delay in seconds after ``streak`` earlier lapses.

    ``(floor, max(floor, min(cap, base * factor**streak)))``; both finite, whatever the streak.
    A streak below 0 counts as 0.
    """
    floor = policy.floor
    upper = policy.base
    if streak > 0 and upper > 0.0:
        try:
            upper *= policy.factor ** min(streak, _MOST)
        except OverflowError:
            upper = policy.cap
    upper = min(upper, policy.cap)
    return (floor, upper) if upper > floor else (floor, floor)


def delay(policy: Backoff, streak: int, rng: random.Random, retry_after: float = 0.0) -> float:
    """Draw the seconds to wait before the next start.

    Args:
        policy: floor, base, factor and cap.
        streak: lapses before this one since the agent was last stable; 0 for the first.
        rng: the generator; exactly one number is drawn from it, so a seed gives one sequence.
        retry_after: seconds that the other side asked for: a lower bound, even above the cap.
            Anything not finite is ignored.

    Returns:
        A finite number, uniform in :func:`bounds`, or ``retry_after`` where that is longer.
    """
    floor, upper = bounds(policy, streak)
    drawn = min(upper, floor + (upper - floor) * rng.random())  # min: rounding
    return retry_after if drawn < retry_after < math.inf else drawn
