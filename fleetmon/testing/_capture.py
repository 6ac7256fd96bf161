"""What a supervisor told: its events, at hand at once, and waited for without sleeping."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from fleetmon.events import EventKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetmon.events import Event
    from fleetmon.supervisor import Supervisor


class Capture:
    """The events of a supervisor from the moment of :func:`capture` on.

    Reads the supervisor's own ring (``SupervisorSettings.event_ring``): nothing is copied or
    delayed, and an event is there as soon as it has happened. What fell out of the ring is gone.
    """

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        recent = supervisor.recent_events()
        self._since = recent[-1].seq if recent else 0

    @property
    def events(self) -> tuple[Event, ...]:
        """Everything captured so far, oldest first."""
        # 0 would mean "all", which is right: then nothing had happened before
        return self._supervisor.recent_events(self._since)

    def of(self, kind: EventKind | str, agent_id: str | None = None) -> list[Event]:
        """Return the captured events of one kind, of one agent or of all."""
        wanted = EventKind(kind)
        return [
            e
            for e in self.events
            if e.kind is wanted and (agent_id is None or e.agent_id == agent_id)
        ]

    def kinds(self, agent_id: str | None = None) -> list[str]:
        """Return the kinds of the captured events, in order: good for comparing with a list."""
        return [e.kind.value for e in self.events if agent_id is None or e.agent_id == agent_id]

    def clear(self) -> None:
        """Forget what was captured so far."""
        events = self.events
        if events:
            self._since = events[-1].seq

    async def wait_for(
        self,
        kind: EventKind | str,
        agent_id: str | None = None,
        *,
        count: int = 1,
        timeout: float | None = 3600.0,  # noqa: ASYNC109 - it is bounded, in the loop's time
        **data: Any,
    ) -> Event:
        """Return the ``count``-th captured event of a kind, waiting until it has happened.

        Args:
            kind: what to wait for.
            agent_id: whom it has to concern; ``None``: anybody.
            count: which one, counted from the beginning of the capture.
            timeout: seconds by the loop's clock.
            data: only events whose data has these values.

        Raises:
            TimeoutError: it did not happen; the message lists what did.
        """

        def found() -> Event | None:
            fitting = [
                e
                for e in self.of(kind, agent_id)
                if all(e.data.get(key) == value for key, value in data.items())
            ]
            return fitting[count - 1] if len(fitting) >= count else None

        event: Event = await self._wait(
            found, f"{kind} of {agent_id or 'anybody'} ({count})", timeout
        )
        return event

    async def until(
        self,
        condition: Callable[[], bool],
        *,
        timeout: float | None = 3600.0,  # noqa: ASYNC109 - it is bounded, in the loop's time
    ) -> None:
        """Wait until ``condition()`` holds; it is asked again after every event.

        Raises:
            TimeoutError: it never held after an event; the message lists the events.
        """
        await self._wait(lambda: condition() or None, "the condition", timeout)

    async def _wait(
        self,
        found: Callable[[], Any],
        what: str,
        timeout: float | None,  # noqa: ASYNC109 - as above
    ) -> Any:
        with self._supervisor.events() as stream:
            # only now: an event between the check and the stream would be missed
            result = found()
            try:
                async with asyncio.timeout(timeout):
                    while result is None:
                        await anext(stream)
                        result = found()
            except (TimeoutError, StopAsyncIteration):
                result = found()
                if result is None:
                    seen = ", ".join(f"{e.agent_id}:{e.kind.value}" for e in self.events[-40:])
                    msg = f"{what} did not come within {timeout} s; seen: {seen or 'nothing'}"
                    raise TimeoutError(msg) from None
            return result


def capture(supervisor: Supervisor) -> Capture:
    """Capture a supervisor's events from now on; before or after it was entered."""
    return Capture(supervisor)
