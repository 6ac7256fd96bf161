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
from fleetmon.telemetry import families as f

if TYPE_CHECKING:
    from fleetmon.numbers import AgentNumbers, Exemplar, NumbersReading

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


class Templates:
    """Templates by the label values of agents. Not for several threads at once."""

    def __init__(self) -> None:
        """Remember nothing yet."""
        self._types: dict[object, _Shape] = {}
        self._shapes: dict[object, _Shape] = {}

    def blocks(self, numbers: AgentNumbers, reading: NumbersReading) -> list[bytes]:
        """Return the sample lines of one agent: a block for each of :data:`BLOCKS`."""
        types = reading.types
        errors = reading.failures
        key = (numbers.bounds, tuple([t.task_type for t in types]), tuple(errors))
        shape = self._shapes.get(key) or self._shape(*key)
        agent = f.escaped(numbers.agent_id)
        number, tier, field = numbers.info

        assigned: list[Any] = [t.assigned for t in types]
        completed: list[Any] = []
        duration: list[Any] = []
        observed = 0
        for t in types:
            completed += t.outcomes
            duration += accumulate(t.buckets)
            count = duration[-1]
            seconds = t.seconds
            if count > observed:  # noqa: PLR1730 - a call of max() costs more than the line
                observed = count
            if not 0 <= seconds < _GO_SWITCHES:
                observed = _GO_SWITCHES
            duration += (count, seconds)
        failures: list[Any] = list(errors.values())
        small: list[Any] = [
            reading.recovery_attempts,
            *reading.recoveries,
            reading.restarts,
            reading.health,
            reading.redelivered,
            reading.in_flight,
            reading.queued,
        ]
        highest = max(small)
        small += (f.number(reading.blocked_seconds),)
        lifecycle = _LIFECYCLE.get(reading.lifecycle, _NO_LIFECYCLE)
        return [
            shape.assigned.fill(assigned, max(assigned, default=0), agent),
            shape.completed.fill(completed, max(completed, default=0), agent),
            shape.duration.fill(duration, observed, agent),
            shape.failures.fill(failures, max(failures, default=0), agent),
            lifecycle.replace(AGENT, agent),
            _INFO % (agent, f.escaped(field), f.escaped(number), f.escaped(tier)),
            *_SMALL.fill(small, highest, agent).split(NEXT),
        ]

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


def moving_lines(agent_id: str, busy: float, utilization: float) -> tuple[bytes, bytes]:
    """Return the two lines that move by time alone: utilization, busy seconds."""
    agent = f.escaped(agent_id)
    return (
        b'agents_utilization_ratio{agent_id="%b"} %b\n' % (agent, f.number(utilization)),
        b'agents_busy_seconds_total{agent_id="%b"} %b\n' % (agent, f.number(busy)),
    )


def exemplars(numbers: AgentNumbers, reading: NumbersReading) -> tuple[Exemplars, ...] | None:
    """Return the exemplars of one agent by block, or ``None`` when it has none."""
    found = []
    per_type = len(numbers.bounds) + 3  # buckets with +Inf, count and sum
    marks = [
        (i * per_type + bucket, exemplar)
        for i, t in enumerate(reading.types)
        if t.exemplars
        for bucket, exemplar in t.exemplars.items()
    ]
    if marks:
        found.append(_exemplars(_DURATION, marks))
    if reading.failure_exemplars:
        at = {error_type: i for i, error_type in enumerate(reading.failures)}
        pairs = [(at[error], e) for error, e in reading.failure_exemplars.items() if error in at]
        found.append(_exemplars(_FAILURES, pairs))
    return tuple(marked for marked in found if marked.lines) or None


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
