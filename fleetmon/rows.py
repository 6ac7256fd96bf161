"""One agent as a flat row of plain values: what streams, recordings and the dashboard pass on.

A row is a tuple in the order of :data:`COLUMNS`, ready for JSON. Times are on the supervisor's
monotonic clock, so that a row of an agent to which nothing happens stays the same; whoever shows it
subtracts the clock that comes with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class AgentRow(NamedTuple):
    """One agent.

    Attributes:
        agent_id: its id.
        number: on the roster, ``None`` without.
        tier: on the roster, ``None`` without.
        field: on the roster.
        mode: ``owned``, ``observed`` or ``declared``.
        executor: where its work runs.
        lifecycle: label of its state.
        desired: what commands ask of it.
        health: 0 healthy, 1 degraded, 2 failed.
        conditions: what is the matter: ``[name, since, reason, hard]`` each.
        generation: number of the present incarnation.
        accepting: whether it takes new tasks.
        capacity: tasks at once.
        in_flight: tasks now.
        queue_limit: room for waiting tasks.
        queued: waiting tasks.
        utilization: ratio 0 to 1 over the window, four digits.
        task: type of the task that has run longest, empty when idle.
        task_id: its id, 0 when idle.
        task_since: when it started.
        task_note: what it said last.
        assigned: tasks accepted so far; the five outcomes follow.
        succeeded: see ``assigned``.
        failed: see ``assigned``.
        cancelled: see ``assigned``.
        timed_out: see ``assigned``.
        dead_lettered: see ``assigned``.
        redelivered: deliveries after the first.
        failures: failures of all types, lapses included.
        p50: median duration so far in seconds, from the histogram; ``None`` before the first.
        p95: 95th percentile, likewise.
        restarts: incarnations after the first.
        recoveries: recoveries that were verified.
        recoveries_failed: attempts that were not.
        streak: lapses in a row.
        retry_at: when the next start or probe is due, ``None`` when none is.
        zombies: incarnations that would not end.
        lapse: why it had to be brought back last: ``[at, generation, reason, error_type, error]``,
            ``at`` in seconds since the epoch; ``None`` when it never had to.
    """

    agent_id: str
    number: int | None
    tier: int | None
    field: str
    mode: str
    executor: str
    lifecycle: str
    desired: str
    health: int
    conditions: Sequence[Sequence[Any]]
    generation: int
    accepting: bool
    capacity: int
    in_flight: int
    queue_limit: int
    queued: int
    utilization: float
    task: str
    task_id: int
    task_since: float
    task_note: str
    assigned: int
    succeeded: int
    failed: int
    cancelled: int
    timed_out: int
    dead_lettered: int
    redelivered: int
    failures: int
    p50: float | None
    p95: float | None
    restarts: int
    recoveries: int
    recoveries_failed: int
    streak: int
    retry_at: float | None
    zombies: int
    lapse: Sequence[Any] | None


COLUMNS = AgentRow._fields
"""Names of a row's values, in order. New ones are added at the end."""


def quantile(q: float, bounds: Sequence[float], counts: Sequence[int]) -> float | None:
    """Return a quantile in seconds, estimated as Prometheus' ``histogram_quantile`` does.

    Observations are taken to lie evenly within their bucket; one in the last, open bucket gives
    the highest bound.

    Args:
        q: 0 to 1.
        bounds: upper bounds, rising, without +Inf.
        counts: observations in each bucket, not cumulative, the open one last.

    Returns:
        ``None`` without observations.
    """
    return quantiles((q,), bounds, counts)[0]


def quantiles(
    qs: Sequence[float], bounds: Sequence[float], counts: Sequence[int]
) -> list[float | None]:
    """Return several quantiles, ``qs`` rising, in one pass; see :func:`quantile`."""
    total = sum(counts)
    if not total:
        return [None] * len(qs)
    found: list[float | None] = []
    wanted = iter(qs)
    rank = next(wanted) * total
    below = 0
    for at, count in enumerate(counts):
        if not count:
            continue
        while below + count >= rank:
            if at == len(bounds):
                found.append(bounds[-1] if bounds else None)
            else:
                lower = bounds[at - 1] if at else 0.0
                found.append(lower + (bounds[at] - lower) * (rank - below) / count)
            if len(found) == len(qs):
                return found
            rank = next(wanted) * total
        below += count
    # rounding of q times the total may leave a rank just above it
    return found + [bounds[-1] if bounds else None] * (len(qs) - len(found))
