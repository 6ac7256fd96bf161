"""The plain numbers of one agent: written on the hot path, read at scrape.

Counting costs an uncontended lock and a few additions; nothing here knows Prometheus. One lock
for each agent, none shared between agents. Whoever reads takes :meth:`AgentNumbers.read`, which
is consistent in itself, so the books balance in every reading:
``assigned = sum(outcomes) + queued + in_flight``.
"""

from __future__ import annotations

from bisect import bisect_left
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SUCCEEDED, FAILED, CANCELLED, TIMED_OUT, DEAD_LETTERED = range(5)
OUTCOMES = ("succeeded", "failed", "cancelled", "timed_out", "dead_lettered")
ERROR_TYPES = (
    "exception",
    "timeout",
    "hang",
    "crash",
    "process_died",
    "start_failed",
    "probe_failed",
    "throttled",
    "permanent",
    "returned_failure",
    "other",
)
RECOVERY_OUTCOMES = ("verified", "failed")
LIFECYCLES = (
    "starting",
    "recovering",
    "running",
    "paused",
    "draining",
    "stopping",
    "backing_off",
    "quarantined",
    "probing",
    "stopped",
)
DEFAULT_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)

_LABEL = 128  # characters of a task type
_CHECKPOINTS = 60  # resolution of the utilization window: its sixtieth part


class Exemplar(NamedTuple):
    """A sampled task's identity beside one observation."""

    trace_id: str  # 32 hex digits
    span_id: str  # 16 hex digits
    value: float
    at: float  # wall clock, seconds


class TypeNumbers:
    """Numbers of one task type of one agent. Guarded by the agent's lock."""

    __slots__ = ("assigned", "buckets", "exemplars", "outcomes", "seconds", "task_type")

    def __init__(self, task_type: str, buckets: int) -> None:
        """Start at zero; ``buckets`` counts the upper bounds, +Inf included."""
        self.task_type = task_type
        self.assigned = 0
        self.outcomes = [0, 0, 0, 0, 0]  # indexed as OUTCOMES
        self.buckets = [0] * buckets  # not cumulative; the last is +Inf
        self.seconds = 0.0  # sum of all observed durations
        self.exemplars: dict[int, Exemplar] | None = None  # by bucket index


class TypeReading(NamedTuple):
    """A frozen copy of :class:`TypeNumbers`."""

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


class AgentNumbers:
    """All numbers of one agent, over all its incarnations.

    Attributes:
        version: rises with every change, so that a reader can reuse what it prepared. Busy time
            also moves without a change: see :attr:`moving`.
    """

    __slots__ = (
        "_busy",
        "_busy_at",
        "_grain",
        "_marked_at",
        "_marks",
        "agent_id",
        "blocked_seconds",
        "bounds",
        "capacity",
        "failure_exemplars",
        "failures",
        "health",
        "in_flight",
        "info",
        "lifecycle",
        "lock",
        "queued",
        "recoveries",
        "recovery_attempts",
        "redelivered",
        "restarts",
        "type_limit",
        "types",
        "version",
        "window",
    )

    def __init__(
        self,
        agent_id: str,
        *,
        now: float,
        capacity: int = 1,
        bounds: tuple[float, ...] = DEFAULT_BUCKETS,
        task_types: Iterable[str] = (),
        error_types: Iterable[str] = (),
        type_limit: int = 20,
        window: float = 60.0,
        info: tuple[str, str, str] = ("", "", ""),
    ) -> None:
        """Make the numbers of an agent that has done nothing.

        Args:
            agent_id: label value.
            now: the supervisor's clock, seconds.
            capacity: tasks at once; what utilization divides by.
            bounds: upper bounds of the duration buckets in seconds, rising, without +Inf.
            task_types: present at 0 from the first reading.
            error_types: declared beside :data:`ERROR_TYPES`.
            type_limit: admitted task types; further ones are counted as ``other``.
            window: seconds over which utilization is taken.
            info: number, tier and field, as label values.
        """
        self.agent_id = agent_id
        self.lock = Lock()
        self.version = 0
        self.bounds = bounds
        self.capacity = capacity
        self.info = info
        self.type_limit = type_limit
        self.window = window
        self.types: dict[str, TypeNumbers] = {}
        for task_type in task_types:
            self.types[task_type] = TypeNumbers(task_type, len(bounds) + 1)
        self.failures: dict[str, int] = dict.fromkeys((*ERROR_TYPES, *error_types), 0)
        self.failure_exemplars: dict[str, Exemplar] | None = None
        self.in_flight = 0
        self.queued = 0
        self.redelivered = 0
        self.recovery_attempts = 0
        self.recoveries = [0, 0]
        self.restarts = 0
        self.blocked_seconds = 0.0
        self.lifecycle = "stopped"
        self.health = 0
        self._busy = 0.0  # capacity-seconds up to _busy_at
        self._busy_at = now
        # (time, busy capacity-seconds), oldest first. The present point moves with every event; it
        # is kept as a mark once it is a sixtieth of the window away from the latest one: bounded,
        # and idle gaps exact
        self._marks: list[tuple[float, float]] = []
        self._marked_at = now - window
        self._grain = window / _CHECKPOINTS

    # -- writing; every method below takes the lock itself unless it says otherwise ------------

    def type(self, task_type: str) -> TypeNumbers:
        """Return the slot of ``task_type``: its own, or ``other`` beyond the limit.

        Whatever it is, it becomes a text of at most 128 characters that can be encoded.
        """
        if type(task_type) is not str or len(task_type) > _LABEL or not task_type.isascii():
            task_type = _label(task_type)
        found = self.types.get(task_type)
        if found is not None:
            return found
        with self.lock:
            if task_type not in self.types and len(self.types) >= self.type_limit:
                task_type = "other"
            found = self.types.get(task_type)
            if found is None:
                found = TypeNumbers(task_type, len(self.bounds) + 1)
                # a new dict, so that readers without the lock never see it change size
                self.types = {**self.types, task_type: found}
                self.version += 1
            return found

    def accept(self, slot: TypeNumbers) -> None:
        """Count a task that was accepted into the queue."""
        with self.lock:
            slot.assigned += 1
            self.queued += 1
            self.version += 1

    # begin() and end() repeat the few lines of _move() on purpose: two calls a task saved

    def begin(self, slot: TypeNumbers, now: float, queued: bool) -> None:
        """Count a task that starts; ``queued`` says that :meth:`accept` counted it before."""
        with self.lock:
            if queued:
                self.queued -= 1
            else:
                slot.assigned += 1
            at = self._busy_at
            if at - self._marked_at >= self._grain:
                self._mark(at, now)
            flying = self.in_flight
            if now > at:
                if flying:
                    self._busy += flying * (now - at)
                self._busy_at = now
            self.in_flight = flying + 1
            self.version += 1

    def end(self, slot: TypeNumbers, outcome: int, started: float, now: float) -> int:
        """Count the end of a task in flight; returns the index of its duration bucket."""
        seconds = now - started
        bucket = bisect_left(self.bounds, seconds)
        with self.lock:
            slot.outcomes[outcome] += 1
            slot.buckets[bucket] += 1
            slot.seconds += seconds
            at = self._busy_at
            if at - self._marked_at >= self._grain:
                self._mark(at, now)
            flying = self.in_flight
            if now > at:
                self._busy += flying * (now - at)
                self._busy_at = now
            self.in_flight = flying - 1
            self.version += 1
        return bucket

    def end_queued(self, slot: TypeNumbers, outcome: int) -> None:
        """Count the end of a task that never started."""
        with self.lock:
            slot.outcomes[outcome] += 1
            self.queued -= 1
            self.version += 1

    def requeue(self, now: float) -> None:
        """Put a task that was in flight back among the waiting, for redelivery."""
        with self.lock:
            self._move(now)
            self.in_flight -= 1
            self.queued += 1
            self.redelivered += 1
            self.version += 1

    def deliver_again(self) -> None:
        """Count a redelivery of a task that an earlier life of the process had accepted."""
        with self.lock:
            self.redelivered += 1
            self.version += 1

    def fail(self, error_type: str, exemplar: Exemplar | None = None) -> str:
        """Count a failure; returns the bounded type it was counted under."""
        with self.lock:
            if error_type not in self.failures:
                error_type = "exception"
            self.failures[error_type] += 1
            if exemplar is not None:
                if self.failure_exemplars is None:
                    self.failure_exemplars = {}
                self.failure_exemplars[error_type] = exemplar
            self.version += 1
        return error_type

    def add_blocked(self, seconds: float) -> None:
        """Add time for which this agent blocked an event loop."""
        with self.lock:
            self.blocked_seconds += seconds
            self.version += 1

    def _move(self, now: float) -> None:
        # with the lock held: bring the busy integral up to now and keep a bounded trace of it
        at = self._busy_at
        if at - self._marked_at >= self._grain:
            self._mark(at, now)
        if now > at:
            if self.in_flight:
                self._busy += self.in_flight * (now - at)
            self._busy_at = now

    def _mark(self, at: float, now: float) -> None:
        marks = self._marks
        marks.append((at, self._busy))
        self._marked_at = at
        if len(marks) > _CHECKPOINTS + 2:
            horizon = now - self.window
            keep = 0
            while keep + 1 < len(marks) and marks[keep + 1][0] <= horizon:
                keep += 1
            del marks[:keep]

    def ended(self) -> tuple[int, int]:
        """Return how many tasks have ended so far, and how many of them failed."""
        ended = failed = 0
        for slot in self.types.values():
            ended += sum(slot.outcomes)
            failed += slot.outcomes[FAILED]
        return ended, failed

    # -- reading --------------------------------------------------------------------------------

    @property
    def moving(self) -> bool:
        """Whether busy time or utilization may differ from the last reading without a change."""
        return self.in_flight > 0 or bool(self._marks)

    def busy(self, now: float) -> tuple[float, float]:
        """Return busy capacity-seconds so far, and the utilization (0 to 1) over the window.

        Utilization is busy capacity-seconds within the window divided by capacity times window;
        tasks still running count up to ``now``. Exact while an agent has at most one start or
        end in each sixtieth of the window, within a sixtieth otherwise.
        """
        with self.lock:
            return self.busy_locked(now)

    def busy_locked(self, now: float) -> tuple[float, float]:
        """As :meth:`busy`; the caller holds the lock."""
        if self.in_flight:
            # what was told stays told: a writer may have taken its time before ours and be late
            self._move(now)
        busy = self._busy
        horizon = now - self.window
        marks = self._marks
        if horizon >= self._busy_at:  # nothing happened inside the window
            if self.in_flight == 0:
                marks.clear()  # an idle agent then costs nothing to read
                return busy, 0.0
            return busy, min(1.0, self.in_flight / self.capacity)
        before = marks[0][1] if marks else self._busy
        if marks and marks[0][0] < horizon:
            left = marks[0]
            for right in (*marks[1:], (self._busy_at, self._busy)):
                if right[0] >= horizon:
                    share = (horizon - left[0]) / (right[0] - left[0])
                    before = left[1] + share * (right[1] - left[1])
                    break
                left = right
        used = (busy - before) / (self.capacity * self.window)
        return busy, min(1.0, max(0.0, used))

    def tally(self, now: float) -> Tally:
        """Return the numbers over all task types as of ``now``, consistent in themselves."""
        with self.lock:
            utilization = self.busy_locked(now)[1]
            types = tuple(self.types.values())
            return Tally(
                sum([t.assigned for t in types]),
                _added([t.outcomes for t in types], len(OUTCOMES)),
                _added([t.buckets for t in types], 0),
                sum(self.failures.values()),
                self.in_flight,
                self.queued,
                utilization,
                self.redelivered,
                (self.recoveries[0], self.recoveries[1]),
                self.restarts,
            )

    def read(self, now: float) -> NumbersReading:
        """Return all numbers as of ``now``, consistent in themselves."""
        with self.lock:
            busy, utilization = self.busy_locked(now)
            return NumbersReading(
                tuple(
                    TypeReading(
                        t.task_type,
                        t.assigned,
                        tuple(t.outcomes),
                        tuple(t.buckets),
                        t.seconds,
                        None if t.exemplars is None else dict(t.exemplars),
                    )
                    for t in self.types.values()
                ),
                dict(self.failures),
                None if self.failure_exemplars is None else dict(self.failure_exemplars),
                self.in_flight,
                self.queued,
                busy,
                utilization,
                self.redelivered,
                self.recovery_attempts,
                (self.recoveries[0], self.recoveries[1]),
                self.restarts,
                self.blocked_seconds,
                self.lifecycle,
                self.health,
            )


def _added(columns: Sequence[Sequence[int]], none: int) -> tuple[int, ...]:
    """Return sums by position; without any column ``none`` zeros."""
    if len(columns) == 1:  # most agents know one type of task
        return tuple(columns[0])
    return tuple(map(sum, zip(*columns, strict=True))) if columns else (0,) * none


def _label(value: object) -> str:
    try:
        text = str(value)
    except Exception:  # noqa: BLE001 - an odd label must not break the work that bears it
        text = "other"
    return text[:_LABEL].encode("utf-8", "replace").decode("utf-8")
