"""Prepared text: a template for all lines that an agent has in a family, filled in by one tuple.

The bytes 0xFE and 0xFF never occur in UTF-8. In a template 0xFF stands for the agent's id, put in
last, so that agents share templates; 0xFE stands between families of one line. Integers below a
million print as ``N.0``, which ``%d.0`` does in C; larger ones take the wide template and the
stock formatter.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from fleetmon.numbers import LIFECYCLES, OUTCOMES, RECOVERY_OUTCOMES
from fleetmon.readings import by_slot, readable
from fleetmon.telemetry import families as f

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetmon.numbers import AgentNumbers
    from fleetmon.readings import Exemplar

AGENT = b"\xff"
NEXT = b"\xfe"

BLOCKS = (
    f.ASSIGNED,
    f.COMPLETED,
    f.DURATION,
    f.FAILURES,
    f.LIFECYCLE,
    f.INFO,
    f.RECOVERY_ATTEMPTS,
    f.RECOVERIES,
    f.RESTARTS,
    f.HEALTH,
    f.REDELIVERED,
    f.IN_FLIGHT,
    f.QUEUE,
    f.BLOCKED,
)
"""The families whose lines stand still while nothing changes, in the order of the blocks."""

_DURATION, _FAILURES = BLOCKS.index(f.DURATION), BLOCKS.index(f.FAILURES)
_GO_SWITCHES = 1_000_000  # Prometheus' clients print 1e+06 from here on
_KEPT = 512  # fragments of task types, and shapes of agents, that are remembered

_INT, _REPR, _TEXT = b"%d.0", b"%a", b"%b"

_T = TypeVar("_T")


class Exemplars(NamedTuple):
    """What OpenMetrics adds to the lines of one block: ``texts`` at the ends of ``lines``."""

    block: int  # index into BLOCKS
    lines: tuple[int, ...]
    texts: bytes  # joined by newlines: one object for each agent, not one for each line

    def onto(self, block: bytes) -> bytes:
        """Return ``block`` with the exemplars."""
        lines = block.split(b"\n")
        for at, text in zip(self.lines, self.texts.split(b"\n"), strict=True):
            lines[at] += text
        return b"\n".join(lines)


class _Template(NamedTuple):
    """Lines of one family, or of several with :data:`NEXT` between them."""

    narrow: bytes  # takes integers and positive floats below a million, where both print plainly
    wide: bytes  # takes finished text

    def fill(self, values: list[int | bytes], highest: int, agent: bytes) -> bytes:
        if highest < _GO_SWITCHES:
            text = self.narrow % tuple(values)
        else:
            text = self.wide % tuple([v if isinstance(v, bytes) else f.number(v) for v in values])
        return text.replace(AGENT, agent)


class _Shape(NamedTuple):
    """The templates of all agents that have the same task types and error types."""

    assigned: _Template
    completed: _Template
    duration: _Template
    failures: _Template


class AgentText(NamedTuple):
    """All that is printed of one agent.

    Attributes:
        entry: revision, whether the agent is active, its exemplars, then a block for each of
            :data:`BLOCKS`.
        moving: whether it stands still until the revision moves; the lines of utilization and of
            busy seconds, which otherwise move by time alone.
    """

    entry: tuple[Any, ...]
    moving: tuple[bool, bytes, bytes]


class Templates:
    """Templates by the label values of agents. Not for several threads at once."""

    def __init__(self) -> None:
        """Remember nothing yet."""
        self._types: dict[object, _Shape] = {}
        self._shapes: dict[object, _Shape] = {}

    def read(self, numbers: AgentNumbers, now: float) -> AgentText:
        """Return the text of one agent as of ``now``, its numbers taken under its lock at once.

        They are taken as they lie and not by :func:`fleetmon.readings.read`: its records would be
        thrown away right after, and cost a tenth of a scrape.
        """
        assigned: list[Any] = []
        completed: list[Any] = []
        duration: list[Any] = []
        marked: list[dict[int, Exemplar] | None] | None = None
        observed = 0
        with numbers.lock:
            revision = numbers.revision  # before the tasks in flight: see AgentNumbers.begun
            flying = numbers.flying()
            written = revision[0], revision[2]
            busy, utilization = numbers.busy_locked(now, flying, written)
            begun = by_slot(flying)
            types = numbers.types
            for t in types.values():
                outcomes = t.outcomes
                assigned.append(sum(outcomes) + t.queued + begun.get(t, 0))
                completed += outcomes
                duration += accumulate(t.buckets)
                count = duration[-1]
                seconds = t.seconds
                if count > observed:  # noqa: PLR1730 - a call of max() costs more than the line
                    observed = count
                if not 0 <= seconds < _GO_SWITCHES:
                    observed = _GO_SWITCHES
                duration += (count, seconds)
                if t.exemplars:
                    marked = [readable(u.exemplars) for u in types.values()]
            errors = tuple(numbers.failures)
            failures: list[Any] = [*numbers.failures.values()]
            failed = {**numbers.failure_exemplars} if numbers.failure_exemplars else None
            small: list[Any] = [
                numbers.recovery_attempts,
                *numbers.recoveries,
                numbers.restarts,
                numbers.health,
                numbers.redelivered,
                len(flying),
                numbers.queued,
            ]
            blocked = numbers.blocked_seconds
            lifecycle = numbers.lifecycle
            # Utilization 0 with no trace left and nothing in flight stays 0 until a revision
            settled = not numbers.moving and utilization == 0
            torn = numbers.written != written
        if torn:  # by a finalizer, in the middle of it
            return self.read(numbers, now)
        key = (numbers.bounds, tuple(types), errors)
        shape = self._shapes.get(key) or self._shape(*key)
        agent = f.escaped(numbers.agent_id)
        number, tier, field = numbers.info
        highest = max(small)
        small.append(f.number(blocked))
        marks = None
        if marked or failed:
            marks = _marks(len(numbers.bounds) + 3, marked or (), errors, failed or {})
        return AgentText(
            (
                revision,
                lifecycle in f.ACTIVE,
                marks,
                shape.assigned.fill(assigned, max(assigned, default=0), agent),
                shape.completed.fill(completed, max(completed, default=0), agent),
                shape.duration.fill(duration, observed, agent),
                shape.failures.fill(failures, max(failures, default=0), agent),
                _LIFECYCLE.get(lifecycle, _NO_LIFECYCLE).replace(AGENT, agent),
                _INFO % (agent, f.escaped(field), f.escaped(number), f.escaped(tier)),
                *_SMALL.fill(small, highest, agent).split(NEXT),
            ),
            (settled, *_moving_lines(agent, busy, utilization)),
        )

    def _shape(
        self, bounds: tuple[float, ...], types: tuple[str, ...], errors: tuple[str, ...]
    ) -> _Shape:
        parts = [self._type(bounds, task_type) for task_type in types]
        shape = _Shape(
            _joined([part.assigned for part in parts]),
            _joined([part.completed for part in parts]),
            _joined([part.duration for part in parts]),
            _joined([_lines(f.FAILURES.name, error_type=error) for error in errors]),
        )
        _keep(self._shapes, (bounds, types, errors), shape)
        return shape

    def _type(self, bounds: tuple[float, ...], task_type: str) -> _Shape:
        found = self._types.get((bounds, task_type))
        if found is None:
            name = f.DURATION.name
            limits = [f.number(bound).decode() for bound in (*bounds, float("inf"))]
            found = _Shape(
                _lines(f.ASSIGNED.name, task_type=task_type),
                _joined(
                    [_lines(f.COMPLETED.name, outcome=o, task_type=task_type) for o in OUTCOMES]
                ),
                _joined(
                    [
                        *[_lines(f"{name}_bucket", le=le, task_type=task_type) for le in limits],
                        _lines(f"{name}_count", task_type=task_type),
                        _lines(f"{name}_sum", _REPR, task_type=task_type),
                    ]
                ),
                _joined([]),
            )
            _keep(self._types, (bounds, task_type), found)
        return found


def moved(numbers: AgentNumbers, now: float) -> tuple[bool, bytes, bytes]:
    """Return what moves by time alone, anew: see :class:`AgentText`."""
    busy, utilization = numbers.busy(now)
    # Both are asked for: another reader may have dropped the trace just after our reading.
    settled = not numbers.moving and utilization == 0
    return (settled, *_moving_lines(f.escaped(numbers.agent_id), busy, utilization))


def _moving_lines(agent: bytes, busy: float, utilization: float) -> tuple[bytes, bytes]:
    return (
        b'agents_utilization_ratio{agent_id="%b"} %b\n' % (agent, f.number(utilization)),
        b'agents_busy_seconds_total{agent_id="%b"} %b\n' % (agent, f.number(busy)),
    )


def _marks(
    per_type: int,
    marked: Sequence[dict[int, Exemplar] | None],
    errors: tuple[str, ...],
    failed: dict[str, Exemplar],
) -> tuple[Exemplars, ...] | None:
    buckets = [
        (i * per_type + bucket, exemplar)
        for i, exemplars in enumerate(marked)
        if exemplars
        for bucket, exemplar in exemplars.items()
    ]
    at = {error_type: i for i, error_type in enumerate(errors)}
    failures = [(at[error], exemplar) for error, exemplar in failed.items() if error in at]
    found = (_exemplars(_DURATION, buckets), _exemplars(_FAILURES, failures))
    return tuple([marks for marks in found if marks.lines]) or None


def _exemplars(block: int, marks: list[tuple[int, Exemplar]]) -> Exemplars:
    lines, texts = [], []
    for line, exemplar in marks:
        labels = f.exemplar_labels(exemplar)
        if labels is not None:
            lines.append(line)
            inside = b",".join(
                b'%b="%b"' % (name.encode(), f.escaped(value)) for name, value in labels.items()
            )
            at = str(exemplar.at).encode()
            texts.append(b" # {%b} %b %b" % (inside, f.number(exemplar.value), at))
    return Exemplars(block, tuple(lines), b"\n".join(texts))


def _line(name: str, value: bytes, labels: dict[str, str]) -> bytes:
    # agent_id sorts before every other label of ours
    text = b'%b{agent_id="%b"' % (name.encode(), AGENT)
    for label, label_value in labels.items():
        quoted = f.escaped(label_value).replace(b"%", b"%%")
        text += b',%b="%b"' % (label.encode(), quoted)
    return text + b"} " + value + b"\n"


def _lines(name: str, value: bytes = _INT, **labels: str) -> _Template:
    return _Template(_line(name, value, labels), _line(name, _TEXT, labels))


def _joined(parts: list[_Template], between: bytes = b"") -> _Template:
    return _Template(between.join([p.narrow for p in parts]), between.join([p.wide for p in parts]))


def _keep(cache: dict[object, _T], key: object, value: _T) -> None:
    # a host that names a type after each request must not make this grow
    if len(cache) >= _KEPT:
        cache.clear()
    cache[key] = value


_INFO = b'agents_info{agent_id="%b",field="%b",number="%b",tier="%b"} 1.0\n'
_SMALL = _joined(
    [
        _lines(f.RECOVERY_ATTEMPTS.name),
        _joined([_lines(f.RECOVERIES.name, outcome=outcome) for outcome in RECOVERY_OUTCOMES]),
        *[
            _lines(family.name)
            for family in (f.RESTARTS, f.HEALTH, f.REDELIVERED, f.IN_FLIGHT, f.QUEUE)
        ],
        _lines(f.BLOCKED.name, _TEXT),
    ],
    NEXT,
)


def _one_hot(lifecycle: str) -> bytes:
    return b"".join(
        [
            _line(f.LIFECYCLE.name, b"1.0" if state == lifecycle else b"0.0", {"state": state})
            for state in LIFECYCLES
        ]
    )


_LIFECYCLE = {lifecycle: _one_hot(lifecycle) for lifecycle in LIFECYCLES}
_NO_LIFECYCLE = _one_hot("")
