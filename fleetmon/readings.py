"""What is read of an agent's numbers: frozen copies, each consistent in itself.

The numbers themselves are :class:`fleetmon.numbers.AgentNumbers`; nothing here is on the hot path.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fleetmon.numbers import OUTCOMES
from fleetmon.tables import items_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetmon.numbers import AgentNumbers, Flying, Mark, TypeNumbers


class Exemplar(NamedTuple):
    """A sampled task's identity beside one observation."""

    trace_id: str  # 32 hex digits
    span_id: str  # 16 hex digits
    value: float
    at: float  # wall clock, seconds


class TypeReading(NamedTuple):
    """A frozen copy of :class:`fleetmon.numbers.TypeNumbers`."""

    task_type: str
    assigned: int
    outcomes: tuple[int, ...]
    buckets: tuple[int, ...]
    seconds: float
    exemplars: dict[int, Exemplar] | None


class Tally(NamedTuple):
    """The numbers of one agent over all its task types, at one instant.

    A third of the cost of a whole :class:`NumbersReading`, for those who look often.
    """

    assigned: int
    outcomes: tuple[int, ...]  # indexed as OUTCOMES
    buckets: tuple[int, ...]  # not cumulative; the last is +Inf
    failures: int  # of all types, lapses included
    in_flight: int
    queued: int
    utilization: float
    redelivered: int
    recoveries: tuple[int, int]  # indexed as RECOVERY_OUTCOMES
    restarts: int


class NumbersReading(NamedTuple):
    """All numbers of one agent at one instant."""

    types: tuple[TypeReading, ...]
    failures: dict[str, int]
    failure_exemplars: dict[str, Exemplar] | None
    in_flight: int
    queued: int
    busy_seconds: float
    utilization: float
    redelivered: int
    recovery_attempts: int
    recoveries: tuple[int, int]  # indexed as RECOVERY_OUTCOMES
    restarts: int
    blocked_seconds: float
    lifecycle: str
    health: int

    @property
    def assigned(self) -> int:
        """Tasks accepted so far, all types."""
        return sum(t.assigned for t in self.types)

    def outcome(self, index: int) -> int:
        """Tasks that ended with ``OUTCOMES[index]``, all types."""
        return sum(t.outcomes[index] for t in self.types)

    def tally(self) -> Tally:
        """Return the same over all types."""
        return Tally(
            self.assigned,
            _added([t.outcomes for t in self.types], len(OUTCOMES)),
            _added([t.buckets for t in self.types], 0),
            sum(self.failures.values()),
            self.in_flight,
            self.queued,
            self.utilization,
            self.redelivered,
            self.recoveries,
            self.restarts,
        )


def tally(numbers: AgentNumbers, now: float) -> Tally:
    """Return an agent's numbers over all task types as of ``now``, consistent in themselves."""
    return numbers.untorn(_tally, now)


def _tally(numbers: AgentNumbers, now: float, before: tuple[int, int]) -> Tally:
    flying = numbers.flying()
    utilization = numbers.busy_locked(now, flying, before)[1]
    types = tuple(numbers.types.values())
    outcomes = _added([t.outcomes for t in types], len(OUTCOMES))
    return Tally(
        sum(outcomes) + numbers.queued + len(flying),
        outcomes,
        _added([t.buckets for t in types], 0),
        sum(numbers.failures.values()),
        len(flying),
        numbers.queued,
        utilization,
        numbers.redelivered,
        (numbers.recoveries[0], numbers.recoveries[1]),
        numbers.restarts,
    )


def read(numbers: AgentNumbers, now: float) -> NumbersReading:
    """Return all numbers of an agent as of ``now``, consistent in themselves."""
    return numbers.untorn(_read, now)


def _read(numbers: AgentNumbers, now: float, before: tuple[int, int]) -> NumbersReading:
    flying = numbers.flying()
    busy, utilization = numbers.busy_locked(now, flying, before)
    begun = by_slot(flying)
    marked = numbers.failure_exemplars
    return NumbersReading(
        tuple(
            TypeReading(
                t.task_type,
                sum(t.outcomes) + t.queued + begun.get(t, 0),
                tuple(t.outcomes),
                tuple(t.buckets),
                t.seconds,
                readable(t.exemplars),
            )
            for t in numbers.types.values()
        ),
        dict(numbers.failures),
        None if marked is None else dict(marked),
        len(flying),
        numbers.queued,
        busy,
        utilization,
        numbers.redelivered,
        numbers.recovery_attempts,
        (numbers.recoveries[0], numbers.recoveries[1]),
        numbers.restarts,
        numbers.blocked_seconds,
        numbers.lifecycle,
        numbers.health,
    )


def by_slot(flying: Sequence[Flying]) -> dict[TypeNumbers, int]:
    """Return how many of these tasks there are of each type."""
    found: dict[TypeNumbers, int] = {}
    for task in flying:
        slot = task.slot
        found[slot] = found.get(slot, 0) + 1
    return found


def split(ids: str) -> tuple[str, str]:
    """Return trace and span id as hex digits; see :class:`fleetmon.hooks.Identified`."""
    return ids[:32], ids[32:] or ids[:16]


def readable(kept: dict[int, Mark] | None) -> dict[int, Exemplar] | None:
    """Return exemplars in their readable form, whichever way they lie."""
    if kept is None:
        return None
    return {
        bucket: e if isinstance(e, Exemplar) else Exemplar(*split(e[0]), *e[1:])
        for bucket, e in items_of(kept)
    }


def _added(columns: Sequence[Sequence[int]], none: int) -> tuple[int, ...]:
    """Return sums by position; without any column ``none`` zeros."""
    if len(columns) == 1:  # most agents know one type of task
        return tuple(columns[0])
    return tuple(map(sum, zip(*columns, strict=True))) if columns else (0,) * none
