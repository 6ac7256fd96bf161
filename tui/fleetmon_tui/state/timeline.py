"""The time line of a recording: where it stands, how fast it goes, times as people type them."""

from __future__ import annotations

import re
import time

SPEEDS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""Seconds of the recording in a second."""

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
_DAY = 86400.0


class Timeline:
    """Position within a recording; all times wall clock of the recording, ``now`` is monotonic.

    Attributes:
        first: begin of the recording.
        last: its end.
        playing: whether it goes on by itself.
        speed: one of :data:`SPEEDS`.
    """

    def __init__(self, first: float, last: float, now: float) -> None:
        """Begin at the beginning, playing."""
        self.first = first
        self.last = last
        self.playing = True
        self.speed = 1.0
        self._at = first
        self._since = now

    def at(self, now: float) -> float:
        """Return the position."""
        if not self.playing:
            return self._at
        return min(self.last, self._at + max(0.0, now - self._since) * self.speed)

    def seek(self, to: float, now: float) -> None:
        """Go to a time, the nearest that is recorded."""
        self._at = min(self.last, max(self.first, to))
        self._since = now

    def toggle(self, now: float) -> None:
        """Play or pause; at the end, play from the beginning."""
        at = self.at(now)
        self.playing = not self.playing or at >= self.last
        self.seek(self.first if self.playing and at >= self.last else at, now)

    def faster(self, by: int, now: float) -> None:
        """Go to the next speed, or to the one before."""
        self.seek(self.at(now), now)
        at = SPEEDS.index(self.speed) + by
        self.speed = SPEEDS[max(0, min(len(SPEEDS) - 1, at))]

    def understood(self, text: str, now: float) -> float | None:
        """Return the time that was typed: ``12:03``, ``12:03:40``, ``+90``, ``-5m``."""
        text = text.strip()
        moved = re.fullmatch(r"([+-])\s*(\d+(?:\.\d+)?)\s*([smh]?)", text)
        if moved:
            by = float(moved[2]) * _UNITS[moved[3]]
            return self.at(now) + (by if moved[1] == "+" else -by)
        clock = re.fullmatch(r"(\d{1,2}):(\d{2})(?::(\d{2}))?", text)
        if not clock:
            return None
        hours, minutes, seconds = int(clock[1]), int(clock[2]), int(clock[3] or 0)
        if hours > 23 or minutes > 59 or seconds > 59:  # noqa: PLR2004 - of a clock
            return None
        begin = time.localtime(self.first)
        midnight = time.mktime((begin.tm_year, begin.tm_mon, begin.tm_mday, 0, 0, 0, 0, 0, -1))
        told = midnight + hours * 3600 + minutes * 60 + seconds
        return told if told >= self.first - 60 or told + _DAY > self.last else told + _DAY
