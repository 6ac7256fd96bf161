"""What a supervisor tells: pictures, warnings, events, what was given up or cut off."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetmon.policy.explain import Explanation, worst_case

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetmon.events import Event
    from fleetmon.hooks import EndObserver
    from fleetmon.runtime.bus import EventStream, Subscription
    from fleetmon.runtime.fleet import Fleet
    from fleetmon.runtime.outlook import Outlook
    from fleetmon.settings import SupervisorSettings
    from fleetmon.snapshot import DeadLetter, FleetSnapshot, InterruptedTask, Warnings
    from fleetmon.spec import AgentSpec


class Looking:
    """What shows a fleet and changes nothing; a part of :class:`Supervisor`."""

    settings: SupervisorSettings
    _fleet: Fleet
    _outlook: Outlook

    def snapshot(self, *, agents: bool = True) -> FleetSnapshot:
        """Return a frozen picture of the fleet, from any thread.

        Args:
            agents: ``False`` leaves them out, for whoever wants to know about the fleet alone.
        """
        return self._fleet.snapshot(agents=agents)

    def warnings(self) -> Warnings:
        """Return what an operator should know, from any thread.

        Rules look at conditions, recent events and counters; the first call looks at all events
        that are kept, later ones at what came since.
        """
        return self._outlook.look()

    def explain(self, policy: AgentSpec | str | None = None) -> Explanation:
        """Say in seconds how long a failing agent can take until it is quarantined.

        Args:
            policy: a spec, an agent's name, or ``None`` for the settings' defaults.
        """
        if policy is None:
            return worst_case(self.settings.defaults)
        if isinstance(policy, str):
            return worst_case(self._fleet.find(policy).spec)
        return worst_case(policy)

    def subscribe(
        self, callback: Callable[[Event], object], *, limit: int = 10_000
    ) -> Subscription:
        """Call ``callback`` with every event from now on, in a thread of its own.

        One that raises, blocks or lags harms only itself; see ``lost`` and ``errors``.
        """
        return self._fleet.bus.subscribe(callback, limit)

    def events(self, *, limit: int = 10_000) -> EventStream:
        """Return an asynchronous iterator over events from now on."""
        return self._fleet.bus.stream(limit)

    def recent_events(self, since: int = 0) -> tuple[Event, ...]:
        """Return the kept events with a sequence number above ``since``, oldest first."""
        return self._fleet.bus.recent(since)

    def observe(self, observer: EndObserver) -> None:
        """Call ``observer.ended(task)`` at every end of a task, on the hot path; from any thread.

        Meant for what keeps a note and works later; an error is counted and dropped.
        """
        self._fleet.observers.join(observer)

    def unobserve(self, observer: EndObserver) -> None:
        """Undo :meth:`observe`; no harm if it is not there."""
        self._fleet.observers.leave(observer)

    def dead_letters(self) -> tuple[DeadLetter, ...]:
        """Return the tasks that were given up, oldest first."""
        return tuple(self._fleet.dead_letters)

    def interrupted(self) -> tuple[InterruptedTask, ...]:
        """Return the tasks that a crash of the process has cut off; empty without a recorder.

        Those that the latest crash left, and older ones that still wait for their agent. With
        ``AgentSpec(after_crash="redeliver")`` they are delivered once more when their agent is
        added; of the others nobody knows whether they did what they were to do.
        """
        recorder = self._fleet.recorder
        return () if recorder is None else recorder.interrupted()
