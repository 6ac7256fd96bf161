"""The connection as a small state machine: what may be believed, and since when not."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleetmon_tui.state.text import Glyphs

STALE_AFTER = 2.5
"""Seconds without any frame, heartbeats included, after which what is shown counts as stale."""

_FORGIVEN = 1.0  # seconds of a frame's lateness that are forgotten with each that says its time
_GREETING = 5.0  # seconds for which "reconnected" stands


class Link:
    """Told of frames and losses, says how things stand.

    Times are on a monotonic clock, seconds; ``wall`` is for people.

    Attributes:
        state: ``connecting``, ``live``, ``stale``, ``disconnected`` or ``ended``.
        reason: why there is no connection.
        several: because one of several fleets has to be chosen.
        attached: how often a connection came about.
    """

    def __init__(self) -> None:
        """Begin without a connection."""
        self.state = "connecting"
        self.reason = ""
        self.several = False
        self.attached = 0
        self._last = 0.0
        self._last_wall = 0.0
        self._back = -_GREETING
        self._ahead = 0.0  # of ours, the fleet's clock in the frame that was under way the shortest
        self._told = 0.0
        self._late = 0.0

    def heard(
        self, now: float, wall: float, *, clock: float | None = None, hello: bool = False
    ) -> None:
        """Note a frame.

        One that lay about before it was read, as all do that came while this process was suspended,
        is as old as it is: what it tells makes nothing live.

        Args:
            now: when it came.
            wall: the same.
            clock: the fleet's, when it sent the frame; ``None`` where that is not told.
            hello: a connection came about with it.
        """
        if hello:
            self.attached += 1
            if self.attached > 1:
                self._back = now
        if clock is not None:
            self._date(clock, now, hello=hello)
        elif self.state in {"live", "stale"} and now - self._last > STALE_AFTER:
            return  # whether it is old will be seen from the next heartbeat
        self.state = "live"
        self.reason = ""
        self._last, self._last_wall = now - self._late, wall - self._late

    def _date(self, clock: float, now: float, *, hello: bool) -> None:
        """Find out how old a frame is.

        Clocks of two machines drift, and one of them may have slept: so what counts is how much
        older it is than others, and that is forgotten again.
        """
        ahead = clock - now
        known = self._ahead - min(now - self._told, _FORGIVEN)
        self._ahead = ahead if hello else max(ahead, known)
        self._told = now
        self._late = self._ahead - ahead

    def lost(self, now: float, wall: float, reason: str, *, ended: bool = False) -> None:
        """Note that the connection is gone, or did not come about."""
        self.reason = reason
        if self.state in {"live", "stale"}:
            if self.state == "live":
                self._last, self._last_wall = now, wall
            self.state = "ended" if ended else "disconnected"
        elif self.attached and self.state == "connecting":
            self.state = "disconnected"

    def look(self, now: float) -> bool:
        """Notice silence; returns whether the state changed."""
        if self.state == "live" and now - self._last > STALE_AFTER:
            self.state = "stale"
            return True
        return False

    @property
    def usable(self) -> bool:
        """Whether commands make sense."""
        return self.state == "live"

    def silent(self, now: float) -> float:
        """Return the seconds since the last frame."""
        return now - self._last

    def greeting(self, now: float) -> bool:
        """Return whether the connection has just come back."""
        return self.state == "live" and now - self._back < _GREETING

    def sentence(self, now: float, glyphs: Glyphs) -> tuple[str, str]:
        """Return how things stand as glyph and words, and the role to draw them in."""
        if self.state == "connecting":
            said = f": {self.reason}" if self.reason else ""
            return f"{glyphs.states['starting']} looking for a fleet{said}", "warn"
        if self.state == "live":
            if self.greeting(now):
                return f"{glyphs.states['running']} reconnected", "ok"
            return f"{glyphs.states['running']} live", "ok"
        since = time.strftime("%H:%M:%S", time.localtime(self._last_wall))
        if self.state == "stale":
            return f"{glyphs.degraded} stale since {since}", "warn"
        word = "fleet ended" if self.state == "ended" else "disconnected since"
        said = f"{glyphs.failed} {word} {since}"
        return said, "bad"
