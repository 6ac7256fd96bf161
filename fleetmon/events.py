"""Every change of state is one :class:`Event`: frozen, ordered, with one set of keys for all.

Logs, spans, streams, recorders and tests all subscribe to the same events.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class EventKind(StrEnum):
    """Kinds of event; the value is what appears on streams and in logs."""

    # an agent's life
    AGENT_ADDED = "agent_added"
    AGENT_REMOVED = "agent_removed"
    STARTING = "starting"  # data: attempt, cause ("first", "recovery", "command", "probe")
    STARTED = "started"
    START_FAILED = "start_failed"  # data: error, error_type
    LAPSED = "lapsed"  # data: reason, error_type, error, verdict
    BACKING_OFF = "backing_off"  # data: delay_seconds, streak
    RECOVERING = "recovering"
    VERIFIED = "verified"  # data: by ("progress", "probe", "alive")
    VERIFY_FAILED = "verify_failed"
    PROBING = "probing"
    PROBE_FAILED = "probe_failed"
    QUARANTINED = "quarantined"  # data: reason
    STOPPING = "stopping"
    STOPPED = "stopped"
    DRAINED = "drained"
    ZOMBIE = "zombie"  # an incarnation that would not end; data: count
    ZOMBIE_REAPED = "zombie_reaped"
    HEALTH_CHANGED = "health_changed"  # data: before, after, reason
    CONDITION_RAISED = "condition_raised"  # data: condition, reason
    CONDITION_CLEARED = "condition_cleared"
    # tasks; ordinary ends are no events, they are counted and logged
    TASK_FAILED = "task_failed"  # data: task_type, error_type, error
    TASK_HUNG = "task_hung"  # data: task_type, seconds, limit ("soft", "hard"), where
    TASK_REDELIVERED = "task_redelivered"  # data: attempt
    DEAD_LETTERED = "dead_lettered"  # data: reason, attempts
    LATE_RESULT = "late_result"  # something from an older generation was ignored
    # the fleet
    COMMAND = "command"  # audit; data: command, actor, reason, result, detail
    LOOP_BLOCKED = "loop_blocked"  # data: seconds, file, line, function, stack
    LOOP_FREED = "loop_freed"  # data: seconds
    STALLED = "stalled"
    SHARED_CAUSE_OPENED = "shared_cause_opened"  # data: cause, agents
    SHARED_CAUSE_PROBE = "shared_cause_probe"
    SHARED_CAUSE_RAMPING = "shared_cause_ramping"  # the probe came back; the rest follows
    SHARED_CAUSE_CLOSED = "shared_cause_closed"
    FLEET_STARTED = "fleet_started"
    FLEET_DRAINING = "fleet_draining"
    FLEET_STOPPED = "fleet_stopped"  # data: seconds, left_behind
    THREAD_LEAKED = "thread_leaked"
    # the record
    INTERRUPTED = "interrupted"  # an earlier life crashed; data: epoch, pid, at, tasks, pending
    RECORD_FAILED = "record_failed"  # it cannot be written; told once; data: path, error
    RECORD_RESUMED = "record_resumed"  # data: path, lost
    PAYLOAD_NOT_KEPT = "payload_not_kept"  # told once for an agent; data: task_type, error


class Event(NamedTuple):
    """One thing that happened.

    A named tuple because it is made on every restart: about a third of the cost of a frozen
    dataclass.

    Attributes:
        seq: rises by one with every event of a supervisor.
        at: wall clock, seconds since the epoch, for people.
        monotonic: the supervisor's clock in seconds, for arithmetic.
        kind: what happened.
        agent_id: whom it concerns; empty for the fleet.
        generation: the incarnation it concerns; 0 when none.
        task_id: the task it concerns; 0 when none.
        data: further facts, JSON-ready values only.
    """

    seq: int
    at: float
    monotonic: float
    kind: EventKind
    agent_id: str
    generation: int
    task_id: int
    data: Mapping[str, Any]
