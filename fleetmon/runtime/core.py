"""One supervised agent: what it is, what it counts, and what is the matter with it.

The core holds facts; :mod:`fleetmon.runtime.machine` moves its state,
:mod:`fleetmon.runtime.work` its tasks. State is written by the loop's thread only; conditions
may be raised from any thread, since the watchdog raises them while the loop is blocked.
"""

from __future__ import annotations

from threading import RLock
from typing import TYPE_CHECKING, Any

from fleetmon.events import EventKind
from fleetmon.numbers import AgentNumbers
from fleetmon.policy.failing import FailureRate
from fleetmon.policy.hangs import HeartbeatWatch
from fleetmon.policy.health import health, lifecycle
from fleetmon.policy.transitions import Actual, Desired
from fleetmon.readings import read
from fleetmon.runtime import judge
from fleetmon.runtime.machine import Machine
from fleetmon.runtime.row import row_of
from fleetmon.runtime.work import Work
from fleetmon.snapshot import AgentSnapshot, Condition, LapseRecord, Standing, TaskSnapshot
from fleetmon.tables import values_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetmon.readings import Exemplar
    from fleetmon.roster import RosterEntry
    from fleetmon.rows import AgentRow
    from fleetmon.runtime.fleet import Fleet
    from fleetmon.runtime.task import Task
    from fleetmon.spec import AgentSpec

OWNED, OBSERVED, DECLARED = "owned", "observed", "declared"

# Members by name: on Python 3.11 looking one up on its class costs a call.
_QUARANTINED = Actual.QUARANTINED
_STOPPED = Actual.STOPPED
_D_RUN = Desired.RUN
_E_CONDITION_CLEARED = EventKind.CONDITION_CLEARED
_E_CONDITION_RAISED = EventKind.CONDITION_RAISED
_E_HEALTH_CHANGED = EventKind.HEALTH_CHANGED


class AgentCore:
    """The facts of one agent.

    Attributes:
        attention: a finished task or a heartbeat matters to the machine just now (failures in a
            row, recovering, a condition that progress clears); the hot path looks at this alone.
        generation: number of the present incarnation; 0 before the first.
        open: :attr:`accepting`, as of the latest change; the hot path looks at this alone.
        inflight: tasks that have begun and not ended, by id; written from any thread.
        journal: keeps accepted tasks, where there is a recorder and the spec asks for that.
        struck: generation, and the sampled task that its body had taken when it went down.
    """

    __slots__ = (
        "_condition_lock",
        "agent_id",
        "attention",
        "beats",
        "conditions",
        "entry",
        "factory",
        "failing",
        "failure_rate",
        "failures_in_row",
        "fleet",
        "generation",
        "heartbeat_at",
        "inflight",
        "journal",
        "last_end",
        "last_lapse",
        "machine",
        "mode",
        "now",
        "numbers",
        "observed_probe",
        "observed_recover",
        "open",
        "place",
        "publish_event",
        "removed",
        "spec",
        "struck",
        "task_ids",
        "throttled_until",
        "work",
        "zombies",
    )

    def __init__(
        self, fleet: Fleet, agent_id: str, spec: AgentSpec, entry: RosterEntry | None, mode: str
    ) -> None:
        """Make an agent that is stopped and has done nothing."""
        self.fleet = fleet
        self.agent_id = agent_id
        self.entry = entry
        self.mode = mode
        self.now = fleet.now
        self.numbers = AgentNumbers(
            agent_id,
            now=fleet.now(),
            capacity=spec.capacity,
            bounds=fleet.settings.metrics.buckets,
            task_types=spec.task_types,
            error_types=spec.error_types,
            type_limit=max(fleet.settings.metrics.task_types, len(spec.task_types)),
            window=fleet.settings.metrics.window,
            info=(
                str(entry.number) if entry and entry.number is not None else "",
                str(entry.tier) if entry and entry.tier is not None else "",
                entry.field if entry else "",
            ),
        )
        self.inflight: dict[int, Task] = self.numbers.inflight
        self.struck: tuple[int, Exemplar | None] = (0, None)
        self.generation = 0
        self.attention = False
        self.failures_in_row = 0
        self.failing: Callable[[Any], bool] | None = None
        self.heartbeat_at = 0.0
        self.beats: HeartbeatWatch | None = None
        self.last_end = fleet.now()
        self.last_lapse: LapseRecord | None = None
        self.zombies = 0
        self.throttled_until = 0.0
        self.conditions: tuple[Condition, ...] = ()
        self._condition_lock = RLock()
        self.factory: Callable[[], object] | None = None
        self.place = ""
        self.observed_recover: Callable[[], object] | None = None
        self.observed_probe: Callable[[], object] | None = None
        self.removed = False
        self.open = False
        self.task_ids = fleet.task_ids
        self.publish_event = fleet.bus.publish
        self.set_spec(spec)
        self.machine = Machine(self)
        self.work = Work(self)

    def set_spec(self, spec: AgentSpec) -> None:
        """Take over a spec, for a first or a later life under the same id."""
        self.spec = spec
        self.journal = self.fleet.recorder if spec.after_crash == "redeliver" else None
        with self.numbers.lock:
            self.numbers.capacity = spec.capacity
            self.numbers.version += 1
        self.failure_rate = FailureRate(spec.health)
        ended, failed = self.numbers.ended()
        self.failure_rate.reset(self.now(), ended, failed)
        for task_type in spec.task_types:
            self.numbers.type(task_type)
        missing = [e for e in spec.error_types if e not in self.numbers.failures]
        if missing:
            with self.numbers.lock:
                self.numbers.failures = {**self.numbers.failures, **dict.fromkeys(missing, 0)}
                self.numbers.version += 1

    # -- conditions, from any thread -------------------------------------------------------------

    def condition(self, name: str) -> Condition | None:
        """Return the condition of that name, if it is there."""
        for condition in self.conditions:
            if condition.name == name:
                return condition
        return None

    def raise_condition(self, name: str, reason: str, *, hard: bool = False) -> bool:
        """Raise or update a condition; returns whether it is new."""
        with self._condition_lock:
            old = self.condition(name)
            if old is not None and old.reason == reason and old.hard == hard:
                return False
            since = self.now() if old is None else old.since
            rest = tuple(c for c in self.conditions if c.name != name)
            self.conditions = (*rest, Condition(name, since, reason, hard))
        self.attention = True
        self.publish(reason)
        if old is None:
            self.event(_E_CONDITION_RAISED, {"condition": name, "reason": reason})
        return old is None

    def clear_condition(self, *names: str) -> None:
        """Clear conditions; those that are not there cost nothing."""
        if not self.conditions:
            return
        with self._condition_lock:
            gone = [c for c in self.conditions if c.name in names]
            if not gone:
                return
            self.conditions = tuple(c for c in self.conditions if c.name not in names)
        self.publish("condition cleared")
        for condition in gone:
            self.event(_E_CONDITION_CLEARED, {"condition": condition.name})

    # -- telling ---------------------------------------------------------------------------------

    def publish(self, reason: str = "") -> None:
        """Bring lifecycle and health, as numbers and as an event, up to date with the state."""
        machine = self.machine
        numbers = self.numbers
        after = health(machine.actual, fault=machine.fault, conditions=self.conditions)
        label = lifecycle(machine.desired, machine.actual)
        before = numbers.health
        if after == before and label == numbers.lifecycle:
            return
        with numbers.lock:
            numbers.health = after
            numbers.lifecycle = label
            numbers.version += 1
        if after != before:
            self.event(_E_HEALTH_CHANGED, {"before": before, "after": after, "reason": reason})

    def event(self, kind: EventKind, data: dict[str, Any], task_id: int = 0) -> None:
        """Publish an event about this agent."""
        self.publish_event(kind, self.agent_id, self.generation, task_id, data)

    # -- questions -------------------------------------------------------------------------------

    @property
    def accepting(self) -> bool:
        """Whether it takes new tasks (owned), or would like to have some (observed)."""
        machine = self.machine
        return (
            not self.removed
            and self.mode != DECLARED
            and self.fleet.accepting
            and machine.desired is _D_RUN
            and machine.actual is not _STOPPED
            and machine.actual is not _QUARANTINED
        )

    def heartbeat(self, generation: int, note: object = None) -> None:
        """Take a sign of life, from any thread; one of an older generation is only counted."""
        if generation != self.generation:
            self.fleet.late(self, None)
            return
        now = self.now()
        if note is not None:
            if self.beats is None:
                self.beats = HeartbeatWatch(self.spec.hang.soft)
                self.attention = True
            if self.beats.beat(now, str(note)):
                soft = self.spec.hang.soft
                self.raise_condition(
                    "suspect", f"its heartbeats have said the same for more than {soft:g} s"
                )
                return
        self.heartbeat_at = now
        if self.attention:
            self.fleet.post(judge.progressed, self, generation, None)

    def revision(self) -> tuple[Any, ...]:
        """Return something that differs once a picture would, but for what moves with time.

        From any thread, and cheap: whoever looks at ten thousand agents four times a second makes
        a picture of those only for which it differs from the last one. It refers to nothing that
        the garbage collector follows, as long as there is no condition, so that ten thousand that
        are kept bring no full collection about.
        """
        machine = self.machine
        return (
            self.numbers.revision,
            self.generation,
            self.conditions,
            id(machine.desired),
            id(machine.actual),
            machine.retry_at,
            machine.fault,
            self.open,
            self.zombies,
            id(self.last_lapse),
            self.mode,
            id(self.spec),
        )

    def standing(self) -> Standing:
        """Return how this agent is in four words, from any thread."""
        numbers = self.numbers
        return Standing(self.mode, numbers.lifecycle, numbers.health, bool(self.conditions))

    def exemplar(self) -> Exemplar | None:
        """Return a sampled task that is in flight: the trace to look at when the agent fails.

        One that a body had taken has ended by the time its failure is counted: see ``struck``.
        """
        generation, struck = self.struck
        if struck is not None and generation == self.generation:
            return struck
        for task in values_of(self.inflight):
            if task.sampled:
                return task.exemplar()
        return None

    def row(self, now: float) -> AgentRow:
        """Return a picture of this agent as a flat row, from any thread."""
        return row_of(self, now)

    def snapshot(self, now: float) -> AgentSnapshot:
        """Return a picture of this agent, from any thread."""
        machine = self.machine
        entry = self.entry
        tasks = tuple(
            [
                TaskSnapshot(
                    t.id, t.slot.task_type, t.attempt, max(0.0, now - t.started_at), t.note
                )
                for t in values_of(self.inflight)
            ]
        )
        due = machine.retry_at
        return AgentSnapshot(
            self.agent_id,
            entry.number if entry else None,
            entry.tier if entry else None,
            entry.field if entry else "",
            self.mode,
            self.spec.executor,
            machine.desired.value,
            machine.actual.value,
            lifecycle(machine.desired, machine.actual),
            health(machine.actual, fault=machine.fault, conditions=self.conditions),
            self.conditions,
            self.generation,
            self.spec.capacity,
            self.spec.queue,
            self.accepting,
            tasks,
            read(self.numbers, now),
            machine.current_streak(now),
            None if due is None else max(0.0, due - now),
            self.last_lapse,
            self.zombies,
        )
