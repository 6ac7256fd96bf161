"""One agent as a flat row, straight from its core: what readers and recordings cost most by.

The same as of a snapshot, without one, at half the cost: four times a second of all that have
changed, in the process that is looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetmon.policy.health import health, lifecycle
from fleetmon.readings import tally
from fleetmon.rows import AgentRow, quantiles
from fleetmon.tables import values_of

if TYPE_CHECKING:
    from fleetmon.runtime.core import AgentCore
    from fleetmon.runtime.task import Task

_new = tuple.__new__  # what AgentRow(...) comes to, but for a call


def row_of(core: AgentCore, now: float) -> AgentRow:
    """Return a picture of an agent, from any thread; ``now`` is the supervisor's clock."""
    numbers, machine, entry, spec = core.numbers, core.machine, core.entry, core.spec
    bounds = numbers.bounds
    # in the order of a snapshot's: tasks before the numbers
    oldest: Task | None = None
    for task in values_of(core.inflight):
        if oldest is None or task.started_at < oldest.started_at:
            oldest = task
    due = machine.retry_at
    desired, actual = machine.desired, machine.actual
    conditions = core.conditions
    lapse = core.last_lapse
    told = tally(numbers, now)
    p50, p95 = quantiles((0.5, 0.95), bounds, told.buckets)
    return _new(
        AgentRow,
        (
            core.agent_id,
            entry.number if entry else None,
            entry.tier if entry else None,
            entry.field if entry else "",
            core.mode,
            spec.executor,
            lifecycle(desired, actual),
            desired.value,
            health(actual, fault=machine.fault, conditions=conditions),
            tuple([(c.name, round(c.since, 3), c.reason, c.hard) for c in conditions])
            if conditions
            else (),
            core.generation,
            core.accepting,
            spec.capacity,
            told.in_flight,
            spec.queue,
            told.queued,
            round(told.utilization, 4),
            oldest.slot.task_type if oldest else "",
            oldest.id if oldest else 0,
            round(min(now, oldest.started_at), 3) if oldest else 0.0,
            oldest.note if oldest else "",
            told.assigned,
            *told.outcomes,
            told.redelivered,
            told.failures,
            None if p50 is None else round(p50, 6),
            None if p95 is None else round(p95, 6),
            told.restarts,
            *told.recoveries,
            machine.current_streak(now),
            None if due is None else round(max(now, due), 3),
            core.zombies,
            None if lapse is None else tuple(lapse),
        ),
    )
