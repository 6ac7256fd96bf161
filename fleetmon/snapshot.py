"""Frozen pictures of a fleet: what :meth:`Supervisor.snapshot` returns."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple

from fleetmon.numbers import CANCELLED, DEAD_LETTERED, FAILED, SUCCEEDED, TIMED_OUT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetmon.readings import NumbersReading


class Condition(NamedTuple):
    """Something that is the matter with an agent, beside its state.

    Attributes:
        name: ``failing``, ``suspect``, ``throttled``, ``blocked_loop``, ``stalled`` or ``zombie``.
        since: supervisor's clock, seconds.
        reason: one sentence.
        hard: the condition alone means that the agent does not serve (a blocker beyond its hard
            limit).
    """

    name: str
    since: float
    reason: str
    hard: bool = False


class TaskSnapshot(NamedTuple):
    """A task in flight."""

    task_id: int
    task_type: str
    attempt: int
    seconds: float  # since it started
    note: str  # what progress() said last


class LapseRecord(NamedTuple):
    """Why an agent had to be brought back, and when."""

    at: float  # wall clock, seconds
    generation: int
    reason: str
    error_type: str
    error: str


class Standing(NamedTuple):
    """What a headline says of an agent."""

    mode: str
    lifecycle: str
    health: int
    conditions: bool  # whether there are any


class AgentSnapshot(NamedTuple):
    """One agent at one instant, consistent in itself."""

    agent_id: str
    number: int | None
    tier: int | None
    field: str
    mode: str  # owned, observed, declared
    executor: str
    desired: str
    actual: str
    lifecycle: str
    health: int
    conditions: tuple[Condition, ...]
    generation: int
    capacity: int
    queue_limit: int
    accepting: bool
    tasks: tuple[TaskSnapshot, ...]
    numbers: NumbersReading
    streak: int
    retry_in: float | None  # seconds until the next start or probe
    last_lapse: LapseRecord | None
    zombies: int

    @property
    def assigned(self) -> int:
        """Tasks accepted so far."""
        return self.numbers.assigned

    @property
    def succeeded(self) -> int:
        """Tasks that succeeded."""
        return self.numbers.outcome(SUCCEEDED)

    @property
    def failed(self) -> int:
        """Tasks that failed."""
        return self.numbers.outcome(FAILED)

    @property
    def cancelled(self) -> int:
        """Tasks that were cancelled."""
        return self.numbers.outcome(CANCELLED)

    @property
    def timed_out(self) -> int:
        """Tasks whose caller's deadline passed."""
        return self.numbers.outcome(TIMED_OUT)

    @property
    def dead_lettered(self) -> int:
        """Tasks that went to the dead letters."""
        return self.numbers.outcome(DEAD_LETTERED)

    @property
    def failures(self) -> int:
        """Failures of all types, lapses included."""
        return sum(self.numbers.failures.values())

    @property
    def balanced(self) -> bool:
        """Whether the books balance: assigned = outcomes + queued + in flight."""
        numbers = self.numbers
        ended = sum(sum(t.outcomes) for t in numbers.types)
        return numbers.assigned == ended + numbers.queued + numbers.in_flight


class RecorderReading(NamedTuple):
    """Numbers about the recorder, for the ``fleetmon_recorder_*`` families."""

    up: bool  # the record is being written
    commits: int
    errors: int
    drops: dict[str, int]  # by kind: tasks, events, payloads
    size: int  # bytes of the record


class FleetReading(NamedTuple):
    """Numbers about the supervisor itself, for the ``fleetmon_*`` families."""

    loop_lag_seconds: float  # latest probe
    loop_lag_max_seconds: float  # worst since start
    loop_blocked_seconds: float  # sum since start
    events: int
    event_drops: dict[str, int]  # by subscriber kind
    hook_errors: int
    late_results: int
    zombies: int
    leaked_threads: int
    dead_letters: int
    recovering: int  # recoveries in progress
    shared_cause_open: bool
    log_drops: Mapping[str, int] = MappingProxyType({})  # lines lost, by kind
    span_drops: Mapping[str, int] = MappingProxyType({})  # spans lost, by cause
    recorder: RecorderReading | None = None  # without one


class FleetSnapshot(NamedTuple):
    """The whole fleet."""

    name: str
    epoch: str  # differs between two lives of a supervisor
    seq: int  # of the newest event in this picture
    at: float  # wall clock, seconds
    monotonic: float
    phase: str  # new, running, draining, stopping, stopped
    agents: tuple[AgentSnapshot, ...]
    fleet: FleetReading

    def agent(self, agent_id: str) -> AgentSnapshot:
        """Return one agent's picture; raises :class:`KeyError` for an unknown id."""
        for agent in self.agents:
            if agent.agent_id == agent_id:
                return agent
        raise KeyError(agent_id)


class FleetWarning(NamedTuple):
    """Something that an operator should know.

    Attributes:
        rule: ``blocked_loop``, ``storm``, ``zombie``, ``hang``, ``stall``, ``flapping``,
            ``near_exhaustion``, ``failing``, ``throttled``, ``cardinality_overflow`` or ``drops``.
        agent_id: whom it concerns; empty for the fleet.
        since: supervisor's clock, seconds.
        severity: ``critical`` or ``warning``.
        text: one sentence, without the agent's name.
    """

    rule: str
    agent_id: str
    since: float
    severity: str
    text: str


class Warnings(NamedTuple):
    """All that an operator should know: each instance, and one sentence for each rule."""

    instances: tuple[FleetWarning, ...]
    summaries: tuple[str, ...]


class DeadLetter(NamedTuple):
    """A task that was given up, kept so that it can be looked at and retried by hand."""

    task_id: int
    agent_id: str
    task_type: str
    payload: object
    attempts: int
    reason: str
    at: float  # wall clock, seconds


class InterruptedTask(NamedTuple):
    """A task of an earlier life of the process, of which the record does not know the end.

    It had been accepted, and had not ended at the record's newest commit, which is at most a second
    older than the crash.

    Attributes:
        task_id: its number in that life.
        agent_id: whose work it was.
        task_type: bounded label.
        attempt: 1 for the first delivery.
        generation: incarnation that worked on it; 0 while it waited.
        since: when it began, or was accepted if it waited; wall clock, seconds.
        waiting: it had not begun.
        epoch: of the life that it belonged to.
        fate: ``uncertain``; ``pending``: delivered again once its agent is added; ``redelivered``;
            ``dead_lettered``: it had gone down with its process too often.
    """

    task_id: int
    agent_id: str
    task_type: str
    attempt: int
    generation: int
    since: float
    waiting: bool
    epoch: str
    fate: Literal["uncertain", "pending", "redelivered", "dead_lettered"]
