"""Turns what the supervisor's public face shows into the shapes of the protocol."""

from __future__ import annotations

import math
import os
import re
from typing import TYPE_CHECKING, Any

from fleetmon._version import __version__
from fleetmon.control.protocol import PROTOCOL, SCHEMA
from fleetmon.events import EventKind
from fleetmon.results import Accepted
from fleetmon.rows import quantile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetmon.control.protocol import (
        AgentShape,
        AnswerShape,
        BlockedShape,
        DeadLetterShape,
        EventShape,
        WarningShape,
    )
    from fleetmon.events import Event
    from fleetmon.results import CommandResult
    from fleetmon.snapshot import AgentSnapshot, DeadLetter, FleetSnapshot, FleetWarning

_LONGEST = 2000  # characters of a dead letter's payload

HISTORY = frozenset(
    {
        EventKind.AGENT_ADDED,
        EventKind.AGENT_REMOVED,
        EventKind.STARTING,
        EventKind.STARTED,
        EventKind.START_FAILED,
        EventKind.LAPSED,
        EventKind.BACKING_OFF,
        EventKind.RECOVERING,
        EventKind.VERIFIED,
        EventKind.VERIFY_FAILED,
        EventKind.PROBING,
        EventKind.PROBE_FAILED,
        EventKind.QUARANTINED,
        EventKind.STOPPING,
        EventKind.STOPPED,
        EventKind.DRAINED,
        EventKind.ZOMBIE,
        EventKind.COMMAND,
    }
)
"""Kinds of event that tell how an agent came to be where it is."""


def fleet_shape(
    snapshot: FleetSnapshot,
    health: int,
    blocked: BlockedShape | None,
    warnings: list[WarningShape],
    summaries: list[str],
    *,
    took: float,
) -> dict[str, Any]:
    """Return a :class:`~fleetmon.control.shapes.SnapshotShape` but for its agents."""
    return {
        "schema": SCHEMA,
        "protocol": PROTOCOL,
        "name": snapshot.name,
        "epoch": snapshot.epoch,
        "version": __version__,
        "pid": os.getpid(),
        "seq": snapshot.seq,
        "at": snapshot.at,
        "clock": round(snapshot.monotonic, 3),
        "took": round(took, 6),
        "phase": snapshot.phase,
        "health": health,
        "blocked": blocked,
        "loop_lag_seconds": snapshot.fleet.loop_lag_seconds,
        "recovering": snapshot.fleet.recovering,
        "shared_cause_open": snapshot.fleet.shared_cause_open,
        "dead_letters": snapshot.fleet.dead_letters,
        "warnings": warnings,
        "summaries": summaries,
    }


def agent_shape(agent: AgentSnapshot, now: float, bounds: Sequence[float]) -> AgentShape:
    """Return one agent; ``now`` is the supervisor's clock, ``bounds`` those of its histogram."""
    lapse = agent.last_lapse
    numbers = agent.numbers
    counts = [sum(column) for column in zip(*(t.buckets for t in numbers.types), strict=True)]
    return {
        "agent_id": agent.agent_id,
        "number": agent.number,
        "tier": agent.tier,
        "field": agent.field,
        "mode": agent.mode,  # type: ignore[typeddict-item] # the snapshot's word is one of the three
        "executor": agent.executor,
        "lifecycle": agent.lifecycle,
        "desired": agent.desired,
        "health": agent.health,
        "conditions": [
            {
                "name": c.name,
                "seconds": round(max(0.0, now - c.since), 3),
                "reason": c.reason,
                "hard": c.hard,
            }
            for c in agent.conditions
        ],
        "generation": agent.generation,
        "accepting": agent.accepting,
        "capacity": agent.capacity,
        "queue_limit": agent.queue_limit,
        "queued": numbers.queued,
        "in_flight": numbers.in_flight,
        "tasks": [
            {
                "task_id": t.task_id,
                "task_type": t.task_type,
                "attempt": t.attempt,
                "seconds": round(t.seconds, 3),
                "note": t.note,
            }
            for t in agent.tasks
        ],
        "utilization": round(numbers.utilization, 4),
        "assigned": agent.assigned,
        "succeeded": agent.succeeded,
        "failed": agent.failed,
        "cancelled": agent.cancelled,
        "timed_out": agent.timed_out,
        "dead_lettered": agent.dead_lettered,
        "failures": dict(numbers.failures),
        "p50": quantile(0.5, bounds, counts),
        "p95": quantile(0.95, bounds, counts),
        "restarts": numbers.restarts,
        "streak": agent.streak,
        "retry_in": None if agent.retry_in is None else round(agent.retry_in, 3),
        "zombies": agent.zombies,
        "last_lapse": None
        if lapse is None
        else {
            "at": lapse.at,
            "generation": lapse.generation,
            "reason": lapse.reason,
            "error_type": lapse.error_type,
            "error": lapse.error,
        },
    }


def event_shape(event: Event) -> EventShape:
    """Return one event, with its data made fit for JSON whatever a host put there."""
    return {
        "type": "event",
        "seq": event.seq,
        "at": event.at,
        "kind": event.kind.value,
        "agent_id": event.agent_id,
        "generation": event.generation,
        "task_id": event.task_id,
        "data": {str(key): plain(value) for key, value in event.data.items()},
    }


def letter_shape(letter: DeadLetter) -> DeadLetterShape:
    """Return one dead letter; its payload as ``repr``, cut to 2,000 characters and saying so."""
    try:
        payload = repr(letter.payload)
    except Exception as error:  # noqa: BLE001 - the host's own object
        payload = f"<payload whose repr raises {type(error).__name__}>"
    return {
        "task_id": letter.task_id,
        "agent_id": letter.agent_id,
        "task_type": letter.task_type,
        "payload": payload[:_LONGEST],
        "payload_cut": len(payload) > _LONGEST,
        "attempts": letter.attempts,
        "reason": letter.reason,
        "at": letter.at,
    }


def answer_shape(result: CommandResult) -> AnswerShape:
    """Return what a command came to."""
    word = type(result).__name__.lower()
    return {
        "schema": SCHEMA,
        "result": word,  # type: ignore[typeddict-item] # the three classes carry the three words
        "command": result.command,
        "agent_id": result.agent_id,
        "state": result.state,
        "settled": result.settled if isinstance(result, Accepted) else None,
        "reason": "" if isinstance(result, Accepted) else result.reason,
    }


def sentences(text: str) -> list[str]:
    """Return a text's sentences."""
    return re.split(r"(?<=\.) +(?=[A-Z])", text)


def plain(value: Any) -> Any:
    """Return a value fit for JSON, whatever a host put there; what is not finite is ``None``."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    try:
        if isinstance(value, dict):
            return {str(key): plain(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [plain(inner) for inner in value]
        return str(value)
    except Exception:  # noqa: BLE001 - the host's own object; a stream must not end for it
        return f"<{type(value).__name__}>"


def blocked_after(
    before: BlockedShape | None, events: Sequence[Event], now: float
) -> BlockedShape | None:
    """Return who holds an event loop up after ``events``, oldest first; ``now`` is the clock."""
    for event in reversed(events):
        if event.kind == EventKind.LOOP_FREED:
            return None
        if event.kind == EventKind.LOOP_BLOCKED:
            data = event.data
            since = event.monotonic - data.get("seconds", 0.0)
            return {
                "agent_id": event.agent_id,
                "task_type": str(data.get("task_type", "")),
                "seconds": round(max(0.0, now - since), 3),
                "since": round(since, 3),
                "file": str(data.get("file", "")),
                "line": int(data.get("line", 0)),
                "function": str(data.get("function", "")),
            }
    return before


def warning_shape(warning: FleetWarning) -> WarningShape:
    """Return one warning."""
    return {
        "rule": warning.rule,
        "agent_id": warning.agent_id,
        "since": round(warning.since, 3),
        "severity": warning.severity,
        "text": warning.text,
    }
