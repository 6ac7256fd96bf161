"""What became of the faults: read off the supervisor's own events and snapshots, nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from fleetmon import EventKind
from fleetmon.demo.chaos import KINDS, Injection

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetmon import AgentSnapshot, Event, FleetSnapshot

_GIVEN_UP = 300.0  # seconds after which nobody waits for what becomes of a fault any more


class Outcomes:
    """Matches events with injections.

    Attributes:
        injections: all that were ordered.
        quarantines: how often an agent was taken out.
    """

    def __init__(self, announce: Callable[[str], None]) -> None:
        """Begin with nothing; ``announce`` gets one line for each turn."""
        self.injections: list[Injection] = []
        self.quarantines = 0
        self._announce = announce
        self._open: list[Injection] = []

    def ordered(self, injection: Injection) -> None:
        """Take note of an injection that is about to be made."""
        self.injections.append(injection)
        recent = [i for i in self._open if injection.at - i.at < _GIVEN_UP]
        self._open = [*recent, injection]

    def injected(self, injection: Injection) -> None:
        """Take note that an agent has taken it on; from any thread, harmless twice."""
        if not injection.injected:
            injection.injected = True
            self._announce(f"fault  injected   {injection.kind} into {injection.who}")

    def see(self, event: Event) -> None:
        """Take one event."""
        if event.kind is EventKind.QUARANTINED:
            self.quarantines += 1
        for injection in tuple(self._open):
            if event.monotonic >= injection.at:
                self._match[injection.kind](self, injection, event)

    def look(self, snapshot: FleetSnapshot) -> None:
        """Take a snapshot: some recoveries show in no event."""
        waiting = [
            injection
            for injection in self._open
            if injection.detected is not None and injection.kind in ("hang", "blocked_loop")
        ]
        if not waiting:
            return
        agents = {agent.agent_id: agent for agent in snapshot.agents}
        for injection in waiting:
            agent = agents[injection.agents[0]]
            well = agent.lifecycle == "running" and agent.health == 0
            if injection.kind == "blocked_loop":
                if injection.freed and well:
                    self._recovered(injection, snapshot.monotonic, "the loop turns again")
            else:
                self._look_after_hang(injection, agent, snapshot.monotonic, well=well)

    def totals(self) -> dict[str, dict[str, int]]:
        """Return for each kind how many were injected, detected and recovered."""
        return {
            kind: {
                "injected": sum(i.injected for i in self.injections if i.kind == kind),
                "detected": sum(
                    i.injected and i.detected is not None for i in self.injections if i.kind == kind
                ),
                "recovered": sum(
                    i.injected and i.recovered is not None
                    for i in self.injections
                    if i.kind == kind
                ),
            }
            for kind in KINDS
        }

    # -- one way to be found out for each kind ---------------------------------------------------

    def _crash(self, injection: Injection, event: Event) -> None:
        if event.agent_id not in injection.agents:
            return
        if event.kind is EventKind.LAPSED and event.data["error"] == "InjectedCrashError":
            self._lapsed(injection, event, str(event.data["reason"]).partition(":")[0])
        self._back(injection, event)

    def _dying_process(self, injection: Injection, event: Event) -> None:
        if event.agent_id not in injection.agents:
            return
        if event.kind is EventKind.LAPSED and event.data["error_type"] == "process_died":
            self._lapsed(injection, event, "its worker died")
        self._back(injection, event)

    def _hang(self, injection: Injection, event: Event) -> None:
        if event.kind is not EventKind.TASK_HUNG or event.task_id != injection.task_id:
            return
        if event.data["limit"] == "hard":
            self._detected(injection, event, f"task hung for {event.data['seconds']:.1f} s")

    def _look_after_hang(
        self, injection: Injection, agent: AgentSnapshot, now: float, *, well: bool
    ) -> None:
        if any(task.task_id == injection.task_id for task in agent.tasks):
            return
        if injection.baseline is None:
            injection.baseline = agent.succeeded
        elif well and agent.succeeded > injection.baseline:
            self._recovered(injection, now, "it works on")

    def _blocked_loop(self, injection: Injection, event: Event) -> None:
        ours = event.agent_id in injection.agents
        if ours and event.kind is EventKind.LOOP_BLOCKED:
            place = f"{str(event.data['file']).rpartition('/')[2]}:{event.data['line']}"
            self._detected(injection, event, f"loop blocked at {place}")
        elif event.kind is EventKind.LOOP_FREED and (ours or not event.agent_id):
            # without a name where the last look at the blocker came just too late
            injection.freed = injection.detected is not None

    def _swallowed_cancellation(self, injection: Injection, event: Event) -> None:
        if event.agent_id not in injection.agents:
            return
        agent_id = event.agent_id
        if event.kind is EventKind.ZOMBIE:
            injection.generations[agent_id] = int(event.data["generation"])
            self._detected(injection, event, "a zombie: it would not end")
        elif agent_id not in injection.generations:
            return
        elif event.kind is EventKind.VERIFIED:
            injection.hit.add("verified")
        elif event.kind is EventKind.ZOMBIE_REAPED:
            injection.hit.add("reaped")
        if injection.hit == {"verified", "reaped"}:
            self._recovered(injection, event.monotonic, "replaced, the zombie reaped")

    def _poison_task(self, injection: Injection, event: Event) -> None:
        if event.kind is EventKind.DEAD_LETTERED and event.task_id == injection.task_id:
            injection.generations[event.agent_id] = event.generation
            self._detected(
                injection, event, f"a dead letter after {event.data['attempts']} attempts"
            )
        elif event.agent_id in injection.agents:
            self._back(injection, event)

    def _mass_failure(self, injection: Injection, event: Event) -> None:
        name = "SharedOutageError"
        if event.kind is EventKind.SHARED_CAUSE_OPENED and name in str(event.data["cause"]):
            self._detected(injection, event, "a shared cause: restarts wait for one probe")
        elif event.kind is EventKind.SHARED_CAUSE_CLOSED:
            injection.freed = True
        elif event.agent_id not in injection.agents:
            return
        elif event.kind is EventKind.LAPSED and event.data["error"] == name:
            injection.hit.add(event.agent_id)
            injection.generations[event.agent_id] = event.generation
        elif event.kind is EventKind.VERIFIED:
            went = injection.generations.get(event.agent_id, event.generation)
            if event.generation > went:
                del injection.generations[event.agent_id]
        all_back = len(injection.hit) == len(injection.agents) and not injection.generations
        if injection.detected is not None and injection.freed and all_back:
            self._recovered(injection, event.monotonic, "all back, the breaker closed")

    # -- common ----------------------------------------------------------------------------------

    def _lapsed(self, injection: Injection, event: Event, how: str) -> None:
        injection.generations[event.agent_id] = event.generation
        self._detected(injection, event, how)

    def _back(self, injection: Injection, event: Event) -> None:
        went = injection.generations.get(event.agent_id)
        if event.kind is EventKind.VERIFIED and went is not None and event.generation > went:
            self._recovered(injection, event.monotonic, f"generation {event.generation} verified")

    def _detected(self, injection: Injection, event: Event, how: str) -> None:
        if injection.detected is None:
            injection.detected = event.monotonic
            took = event.monotonic - injection.at
            self._announce(
                f"fault  detected   {injection.kind} in {injection.who} after {took:.1f} s: {how}"
            )

    def _recovered(self, injection: Injection, now: float, how: str) -> None:
        injection.recovered = now
        self._open.remove(injection)
        took = now - injection.at
        self._announce(
            f"fault  recovered  {injection.kind} in {injection.who} after {took:.1f} s: {how}"
        )

    _match: ClassVar[dict[str, Callable[[Outcomes, Injection, Event], None]]] = {
        "crash": _crash,
        "hang": _hang,
        "blocked_loop": _blocked_loop,
        "swallowed_cancellation": _swallowed_cancellation,
        "poison_task": _poison_task,
        "dying_process": _dying_process,
        "mass_failure": _mass_failure,
    }
