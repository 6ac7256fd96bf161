"""When a task counts as hung, and when heartbeats stop being believed.

Both limits are crossed when strictly exceeded. Idle is never hung: only tasks in flight are
assessed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from fleetmon.spec import HangLimits

Hang = Literal["", "soft", "hard"]


def assess(limits: HangLimits, age: float, since_progress: float) -> Hang:
    """Say which limit a task in flight has crossed; the hard one goes first.

    Args:
        limits: a limit of ``None`` is never crossed.
        age: seconds since the task started, less what its loop was blocked by others. Heartbeats
            and progress never shorten it.
        since_progress: seconds since its last heartbeat or progress, or since its start.

    Returns:
        ``"hard"``, ``"soft"``, or ``""`` for neither.
    """
    hard = limits.hard
    if hard is not None and age > hard:
        return "hard"
    soft = limits.soft
    if soft is not None and since_progress > soft:
        return "soft"
    return ""


class HeartbeatWatch:
    """Notices heartbeats that say the same thing for too long.

    The rule: heartbeats that carry one identical progress token, first and latest of them more
    than ``soft`` seconds apart and no progress between, are suspect. A heartbeat without a token
    says nothing and changes nothing. What falls silent is the soft limit's affair, see
    :func:`assess`, so no clock runs here between heartbeats.

    Attributes:
        suspect: the latest heartbeat was one too many of the same.
    """

    __slots__ = ("_since", "_soft", "_token", "suspect")

    def __init__(self, soft: float | None) -> None:
        """Suspect after ``soft`` seconds; ``None``: never."""
        self._soft = soft
        self._token: str | None = None
        self._since = 0.0
        self.suspect = False

    def beat(self, now: float, token: str | None = None) -> bool:
        """Take a heartbeat; returns :attr:`suspect` as it is after it."""
        if token is not None:
            if token != self._token:
                self._token = token
                self._since = now
                self.suspect = False
            elif self._soft is not None and now - self._since > self._soft:
                self.suspect = True
        return self.suspect

    def progress(self) -> None:
        """Take real progress, the end of a task or a new incarnation: start afresh."""
        self._token = None
        self.suspect = False
