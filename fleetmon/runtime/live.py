"""Timers in live time, which stands still while the loop is blocked.

One agent that blocks the loop must not make the deadlines of all others pass: whatever time the
watchdog found the loop blocked for is added to the wait.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from fleetmon.runtime.fleet import Fleet


class LiveTimer:
    """A timer that waits on for as long as the loop was blocked meanwhile."""

    __slots__ = ("_arguments", "_due", "_fleet", "_function", "_handle", "_seen")

    def __init__(
        self, fleet: Fleet, delay: float, function: Callable[..., object], *arguments: Any
    ) -> None:
        """Call ``function(*arguments)`` after ``delay`` seconds of live time."""
        self._fleet = fleet
        self._function = function
        self._arguments = arguments
        self._seen = fleet.blocked_total
        self._arm(delay)

    def _arm(self, delay: float) -> None:
        loop = self._fleet.loop
        self._due = loop.time() + delay
        self._handle = loop.call_at(self._due, self._fire)

    def _fire(self) -> None:
        fleet = self._fleet
        forgiven = fleet.blocked_total - self._seen
        late = fleet.loop.time() - self._due
        if late > fleet.settings.watchdog.blocked_after:
            # the watchdog adds the last stretch of a block only once the loop is free again
            forgiven = max(forgiven, late)
        if forgiven > 0:
            self._seen = fleet.blocked_total
            self._arm(forgiven)
        else:
            self._function(*self._arguments)

    def cancel(self) -> None:
        """Call nothing any more."""
        self._handle.cancel()


@asynccontextmanager
async def live_timeout(fleet: Fleet, seconds: float) -> AsyncIterator[None]:
    """As :func:`asyncio.timeout`, in live time; raises :class:`TimeoutError`."""
    async with asyncio.timeout(None) as scope:
        timer = LiveTimer(fleet, seconds, scope.reschedule, 0)
        try:
            yield
        finally:
            timer.cancel()
