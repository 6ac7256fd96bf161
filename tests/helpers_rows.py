"""What a row is, said in terms of a snapshot: what the quick way has to come to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetmon.rows import AgentRow, quantiles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetmon.snapshot import AgentSnapshot


def row_of(agent: AgentSnapshot, now: float, bounds: Sequence[float]) -> AgentRow:
    """Return the row of one agent.

    Args:
        agent: its picture.
        now: the supervisor's clock when the picture was taken, seconds.
        bounds: upper bounds of the duration buckets in seconds, without +Inf.
    """
    tally = agent.numbers.tally()
    tasks = agent.tasks
    oldest = None
    if tasks:
        oldest = tasks[0] if len(tasks) == 1 else max(tasks, key=lambda task: task.seconds)
    p50, p95 = quantiles((0.5, 0.95), bounds, tally.buckets)
    succeeded, failed, cancelled, timed_out, dead_lettered = tally.outcomes
    verified, unverified = tally.recoveries
    lapse = agent.last_lapse
    return AgentRow(
        agent.agent_id,
        agent.number,
        agent.tier,
        agent.field,
        agent.mode,
        agent.executor,
        agent.lifecycle,
        agent.desired,
        agent.health,
        tuple([(c.name, round(c.since, 3), c.reason, c.hard) for c in agent.conditions]),
        agent.generation,
        agent.accepting,
        agent.capacity,
        tally.in_flight,
        agent.queue_limit,
        tally.queued,
        round(tally.utilization, 4),
        oldest.task_type if oldest else "",
        oldest.task_id if oldest else 0,
        round(now - oldest.seconds, 3) if oldest else 0.0,
        oldest.note if oldest else "",
        tally.assigned,
        succeeded,
        failed,
        cancelled,
        timed_out,
        dead_lettered,
        tally.redelivered,
        tally.failures,
        None if p50 is None else round(p50, 6),
        None if p95 is None else round(p95, 6),
        tally.restarts,
        verified,
        unverified,
        agent.streak,
        None if agent.retry_in is None else round(now + agent.retry_in, 3),
        agent.zombies,
        None if lapse is None else tuple(lapse),
    )
