"""The plain numbers of one agent: written on the hot path, read at scrape.

A beginning costs one entry in a table, an end an uncontended lock and a few additions; nothing here
knows Prometheus. One lock for each agent, none shared between agents. It may be taken again by who
holds it: wherever memory is allocated Python may collect garbage, and a finalizer may end a task of
this very agent, such as a generator that nobody went on with. Writers are in order whatever comes
in between; readers look whether something did, and read again.

What can be derived is not counted: a task is assigned once it waits, is in the table or has ended.
Each of these steps is a single one under the lock, or the entry itself, so whoever reads under the
lock, as :mod:`fleetmon.readings` does, finds every task once, and the books balance in every
reading: ``assigned = sum(outcomes) + queued + in_flight``.
"""

from __future__ import annotations

from bisect import bisect_left
from threading import RLock
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

from fleetmon.busy import Trail
from fleetmon.tables import values_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from fleetmon.readings import Exemplar

R = TypeVar("R")

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


Mark: TypeAlias = "Exemplar | tuple[str, float, float]"
"""A sampled task beside an observation: readable, or its ids, seconds and wall clock."""


class Flying(Protocol):
    """What the numbers have to know of a task in flight."""

    @property
    def id(self) -> int:
        """Unique among those in flight."""

    @property
    def slot(self) -> TypeNumbers:
        """The numbers of its type."""

    @property
    def started_at(self) -> float:
        """When it began: supervisor's clock, seconds."""


class TypeNumbers:
    """Numbers of one task type of one agent. Guarded by the agent's lock."""

    __slots__ = ("buckets", "exemplars", "outcomes", "queued", "seconds", "task_type")

    def __init__(self, task_type: str, buckets: int) -> None:
        """Start at zero; ``buckets`` counts the upper bounds, +Inf included."""
        self.task_type = task_type
        self.queued = 0
        self.outcomes = [0, 0, 0, 0, 0]  # indexed as OUTCOMES
        self.buckets = [0] * buckets  # not cumulative; the last is +Inf
        self.seconds = 0.0  # sum of all observed durations
        self.exemplars: dict[int, Mark] | None = None  # by bucket index


class AgentNumbers:
    """All numbers of one agent, over all its incarnations.

    Attributes:
        version: rises with every change but the two commonest: see :attr:`revision`.
        inflight: tasks that have begun and not ended, by id. An entry is added by whoever begins a
            task, without the lock, and taken out by :meth:`end` and :meth:`requeue`.
        begun: id of the task that began last, set after its entry was made.
        ended_last: id of the task that ended last.
        acquire: takes :attr:`lock`; bound once, since ``with`` costs twice what the two do.
        release: gives it back.
        shortest: upper bound of the first bucket, in which most tasks of a busy agent end.
        trail: where busy time stood within the window.
    """

    __slots__ = (
        "_left",
        "_told",
        "acquire",
        "agent_id",
        "begun",
        "blocked_seconds",
        "bounds",
        "capacity",
        "ended_last",
        "failure_exemplars",
        "failures",
        "health",
        "inflight",
        "info",
        "lifecycle",
        "lock",
        "queued",
        "recoveries",
        "recovery_attempts",
        "redelivered",
        "release",
        "restarts",
        "shortest",
        "trail",
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
        self.renew()
        self.version = 0
        self.begun = self.ended_last = 0
        self.inflight: dict[int, Any] = {}
        self.bounds = bounds
        self.shortest = bounds[0] if bounds else float("-inf")
        self.capacity = capacity
        self.info = info
        self.type_limit = type_limit
        self.window = window
        self.types: dict[str, TypeNumbers] = {}
        for task_type in task_types:
            self.types[task_type] = TypeNumbers(task_type, len(bounds) + 1)
        self.failures: dict[str, int] = dict.fromkeys((*ERROR_TYPES, *error_types), 0)
        self.failure_exemplars: dict[str, Exemplar] | None = None
        self.queued = 0
        self.redelivered = 0
        self.recovery_attempts = 0
        self.recoveries = [0, 0]
        self.restarts = 0
        self.blocked_seconds = 0.0
        self.lifecycle = "stopped"
        self.health = 0
        self._left = 0.0  # busy seconds of attempts that ended without an outcome
        self._told = 0.0  # busy seconds that a reader was told: never fewer afterwards
        self.trail = Trail(now, window)

    def renew(self) -> None:
        """Take a new lock: the first one, or in a forked child, where the old one may be held."""
        self.lock = RLock()
        self.acquire = self.lock.acquire
        self.release = self.lock.release

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
            slot.queued += 1
            self.queued += 1
            self.version += 1

    def begin(self, task: Flying) -> None:
        """Count a task that starts. The hot path spells these two lines out."""
        self.inflight[task.id] = task
        self.begun = task.id  # after the entry: who has seen the number has seen the task

    def begin_queued(self, task: Flying) -> None:
        """Count the start of a task that :meth:`accept` counted before."""
        with self.lock:
            task.slot.queued -= 1
            self.queued -= 1
            self.inflight[task.id] = task
            self.version += 1

    def end(self, task: Flying, outcome: int, now: float) -> int:
        """Count the end of a task in flight; returns the index of its duration bucket.

        The two hot paths, ``Task.__exit__`` and ``Work._run``, spell this out.
        """
        slot = task.slot
        started = task.started_at
        seconds = now - started
        bucket = 0 if seconds <= self.shortest else bisect_left(self.bounds, seconds)
        acquire, release = self.acquire, self.release
        acquire()
        try:
            trail = self.trail
            if started < trail.since or now >= trail.until:
                trail.note(started, now, self.ended_seconds())
            slot.outcomes[outcome] += 1
            slot.buckets[bucket] += 1
            slot.seconds += seconds
            number = self.ended_last = task.id
            self.inflight.pop(number, None)
        finally:
            release()
        return bucket

    def mark(self, slot: TypeNumbers, bucket: int, exemplar: tuple[str, float, float]) -> None:
        """Keep a sampled task beside its bucket: its ids, seconds and wall clock."""
        acquire, release = self.acquire, self.release
        acquire()
        try:
            if slot.exemplars is None:
                slot.exemplars = {}
            slot.exemplars[bucket] = exemplar
            self.version += 1
        finally:
            release()

    def end_queued(self, slot: TypeNumbers, outcome: int) -> None:
        """Count the end of a task that never started."""
        with self.lock:
            slot.outcomes[outcome] += 1
            slot.queued -= 1
            self.queued -= 1
            self.version += 1

    def requeue(self, task: Flying, now: float) -> None:
        """Put a task that was in flight back among the waiting, for redelivery."""
        with self.lock:
            started = task.started_at
            self.trail.note(started, now, self.ended_seconds())
            self._left += now - started
            self.inflight.pop(task.id, None)
            task.slot.queued += 1
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

    def ended_seconds(self) -> float:
        """Return busy seconds of ended tasks; the caller holds the lock."""
        # summed in the same order every time, so that it never falls
        return self._left + sum([slot.seconds for slot in self.types.values()])

    def ended(self) -> tuple[int, int]:
        """Return how many tasks have ended so far, and how many of them failed."""
        ended = failed = 0
        for slot in self.types.values():
            ended += sum(slot.outcomes)
            failed += slot.outcomes[FAILED]
        return ended, failed

    # -- reading --------------------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        """How many tasks have begun and not ended."""
        return len(self.inflight)

    @property
    def revision(self) -> tuple[int, int, int]:
        """What differs after every change, so that a reader can reuse what it prepared.

        No task begins or ends twice, so ids serve as counts, at a quarter of the price.
        Busy time also moves without a change: see :attr:`moving`.
        """
        return self.version, self.begun, self.ended_last

    @property
    def written(self) -> tuple[int, int]:
        """What differs if, while the lock was held, its holder wrote by way of a finalizer."""
        return self.version, self.ended_last

    @property
    def moving(self) -> bool:
        """Whether busy time or utilization may differ from the last reading without a change."""
        return bool(self.inflight) or bool(self.trail)

    def busy(self, now: float) -> tuple[float, float]:
        """Return busy capacity-seconds so far, and the utilization (0 to 1) over the window.

        Utilization is busy capacity-seconds within the window divided by capacity times window;
        tasks still running count up to ``now``. How exact it is, says :class:`Trail`.
        """
        return self.untorn(_busy, now)

    def untorn(self, look: Callable[[AgentNumbers, float, tuple[int, int]], R], now: float) -> R:
        """Return what ``look`` finds under the lock without anybody writing meanwhile.

        Args:
            look: gets these numbers, the clock, and :attr:`written`.
            now: supervisor's clock, seconds.
        """
        with self.lock:
            while True:
                before = self.written
                found = look(self, now, before)
                if self.written == before:
                    return found

    def flying(self) -> tuple[Flying, ...]:
        """Return the tasks in flight; with the lock held, each is in no other number."""
        return values_of(self.inflight)

    def busy_locked(
        self, now: float, flying: Sequence[Flying], before: tuple[int, int]
    ) -> tuple[float, float]:
        """As :meth:`busy`; the caller holds the lock.

        Args:
            now: supervisor's clock, seconds.
            flying: as :meth:`flying` gave them under the lock.
            before: :attr:`written` before that; where it is another one by now, what is returned
                is of no use.
        """
        total = busy = self.ended_seconds()
        trail = self.trail
        used = 0.0
        if trail:
            used = total - trail.by(now - self.window, total)
        for task in flying:
            ran = now - task.started_at
            if ran > 0:
                busy += ran
                used += min(ran, self.window)
        if self.written == before:
            # a writer may have taken its time before ours and be late: what was told stays told
            self._told = busy = max(busy, self._told)
        if trail and not flying and now - self.window >= trail.until:
            trail.clear()
        return busy, min(1.0, max(0.0, used / (self.capacity * self.window)))


def _busy(numbers: AgentNumbers, now: float, before: tuple[int, int]) -> tuple[float, float]:
    return numbers.busy_locked(now, numbers.flying(), before)


def _label(value: object) -> str:
    try:
        text = str(value)
    except Exception:  # noqa: BLE001 - an odd label must not break the work that bears it
        text = "other"
    return text[:_LABEL].encode("utf-8", "replace").decode("utf-8")
