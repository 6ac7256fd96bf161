"""Renders tuples and events as JSON lines; pure but for two clocks, and run by the log's thread.

An ordinary line is a handful of prepared pieces with six values between them; everything else
goes through :mod:`json`. Whatever the strings hold, the text is ASCII and valid JSON.
"""

from __future__ import annotations

import json
import linecache
import math
import time
from json.encoder import encode_basestring_ascii as quoted
from typing import TYPE_CHECKING, Any

from fleetmon.events import Event, EventKind
from fleetmon.numbers import CANCELLED, OUTCOMES, SUCCEEDED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_TEMPLATES = 4096  # prepared lines kept, then all are made anew: task types may be without bound
_TEXT = 500
_FRAMES = 20
_SECOND = 1_000_000  # microseconds
_HALF = slice(16)  # made once: one that is spelled out is made each time
_ROOT = 32  # hex digits of ids whose first half is the span's as well
_ITEMS = 50
_DEPTH = 4
_MESSAGES = frozenset({"error", "detail"})
_QUIET = (SUCCEEDED, CANCELLED)

_ERROR = frozenset(
    {
        EventKind.START_FAILED,
        EventKind.LAPSED,
        EventKind.VERIFY_FAILED,
        EventKind.QUARANTINED,
        EventKind.LOOP_BLOCKED,
        EventKind.STALLED,
        EventKind.SHARED_CAUSE_OPENED,
    }
)
_WARNING = frozenset(
    {
        EventKind.BACKING_OFF,
        EventKind.PROBE_FAILED,
        EventKind.ZOMBIE,
        EventKind.CONDITION_RAISED,
        EventKind.HEALTH_CHANGED,
        EventKind.TASK_FAILED,
        EventKind.TASK_HUNG,
        EventKind.TASK_REDELIVERED,
        EventKind.DEAD_LETTERED,
        EventKind.LATE_RESULT,
        EventKind.THREAD_LEAKED,
    }
)


# The constant pieces of a line: up to the ids, without and with them; up to the task id, likewise;
# up to the decimals of a duration below a second; the rest. A plain tuple: those unpack fastest.
_Pieces = tuple[str, str, str, str, str, str]
_SPAN = '","span_id":"'
_trunc = float.__trunc__  # a third of what int() costs on Python 3.11
# Formatting a number costs many times a look-up, one in a dictionary six times one in a list.
_DIGITS = [f"{n:03d}" for n in range(1000)]


class Renderer:
    """Turns what :class:`fleetmon.telemetry.logs.JsonLog` queued into lines."""

    def __init__(
        self,
        service: str,
        *,
        flatten: bool = False,
        messages: bool = False,
        tracebacks: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Prepare; the arguments are those of ``JsonLog``."""
        self._service = service
        self._flatten = flatten
        self._messages = messages
        self._rate = tracebacks
        self._tokens = tracebacks
        self._refilled = clock()
        self._clock = clock
        self._wall = wall
        self._prepared: dict[tuple[str, str, int, int, int], _Pieces] = {}
        self._second = -1
        self._until_second = ""

    def render(self, batch: Sequence[tuple[Any, ...]]) -> str:
        """Return the lines of a batch, each with its newline.

        Args:
            batch: a task that succeeded is eight values, any other has outcome, error type and
                error beside them; an event or a line of the host's stands alone in its tuple.
        """
        # Task times come from the supervisor's clock. The offset is taken anew for each batch, so
        # stamps follow a wall clock that was set, and no task pays for a second clock call.
        offset = self._wall() - self._clock()
        digits = _DIGITS
        parts: list[str] = []  # joined once: a line that is put together first is copied twice
        trunc, half = _trunc, _HALF
        until_second, begins = self._until_second, self._second - offset
        # Of lines that come together, many have their agent and type in common: then what was
        # looked up for the last one stands.
        last: Any = None
        last_agent: Any = None
        last_generation = last_attempt = -1
        level = traced = message = beside = after = rest = ""
        for item in batch:
            try:
                ended, started, agent_id, task_type, generation, attempt, task_id, ids = item
                if (
                    task_type is not last
                    or agent_id is not last_agent
                    or generation != last_generation
                    or attempt != last_attempt
                ):
                    last, last_agent = task_type, agent_id
                    last_generation, last_attempt = generation, attempt
                    key = (agent_id, task_type, SUCCEEDED, generation, attempt)
                    level, traced, message, beside, after, rest = self._prepared.get(
                        key
                    ) or self._prepare(key)
                micros = trunc((ended - begins) * 1e6)
                taken = trunc((ended - started) * 1e6 + 0.5)
                if micros < 0 or taken < 0 or taken >= _SECOND:
                    pass  # an earlier second, or what lasts so long that a slower line is no loss
                elif len(ids) == _ROOT:
                    parts += (
                        until_second,
                        digits[micros // 1000],
                        digits[micros % 1000],
                        traced,
                        ids,
                        _SPAN,
                        ids[half],
                        beside,
                        f"{task_id}",
                        after,
                        digits[taken // 1000],
                        digits[taken % 1000],
                        rest,
                    )
                    continue
                elif ids:
                    parts += (
                        f"{until_second}{digits[micros // 1000]}{digits[micros % 1000]}{traced}",
                        f"{ids[:32]}{_SPAN}{ids[32:]}{beside}{task_id}",
                        f"{after}{digits[taken // 1000]}{digits[taken % 1000]}{rest}",
                    )
                    continue
                else:
                    parts += (
                        until_second,
                        digits[micros // 1000],
                        digits[micros % 1000],
                        level,
                        message,
                        f"{task_id}",
                        after,
                        digits[taken // 1000],
                        digits[taken % 1000],
                        rest,
                    )
                    continue
            except (ValueError, IndexError):  # not one of these, or a later second
                pass
            parts.append(self._one(item, offset))
            until_second, begins = self._until_second, self._second - offset
        return "".join(parts)

    def _one(self, item: tuple[Any, ...], offset: float) -> str:
        """Return the line of anything that may stand in a batch."""
        if len(item) == 1:
            return self._other(item[0])
        ended, started, agent_id, task_type, generation, attempt, task_id, ids, *more = item
        outcome, error_type, error = more or (SUCCEEDED, "", None)
        key = (agent_id, task_type, outcome, generation, attempt)
        level, traced, message, beside, after, rest = self._prepared.get(key) or self._prepare(key)
        micros = _trunc((ended - (self._second - offset)) * 1e6)
        if not 0 <= micros < _SECOND:
            begins = self._begin_second(ended + offset) - offset
            micros = min(max(_trunc((ended - begins) * 1e6), 0), _SECOND - 1)
        taken = _trunc((ended - started) * 1e6 + 0.5)
        lasted = (
            f"{after}{taken:06d}" if 0 <= taken < _SECOND else f"{after[:-2]}{ended - started:.6f}"
        )
        head = f"{self._until_second}{micros:06d}"
        tail = rest if outcome == SUCCEEDED else self._failed(rest, error_type, error)
        if not ids:
            return f"{head}{level}{message}{task_id}{lasted}{tail}"
        span = ids[32:] or ids[:16]  # see fleetmon.hooks.Identified
        return f'{head}{traced}{ids[:32]}","span_id":"{span}{beside}{task_id}{lasted}{tail}'

    def _begin_second(self, at: float) -> int:
        second = math.floor(at)
        self._until_second = time.strftime('{"timestamp":"%Y-%m-%dT%H:%M:%S.', time.gmtime(second))
        self._second = second
        return second

    def _prepare(self, key: tuple[str, str, int, int, int]) -> _Pieces:
        agent_id, task_type, outcome, generation, attempt = key
        name = OUTCOMES[outcome]
        level = "info" if outcome in _QUIET else "warning"
        extra = "" if self._flatten else '"extra":{'
        head = f'Z","level":"{level}","service":{quoted(self._service)},'
        message = (
            f'"message":"task {name.replace("_", " ")}","agent_id":{quoted(agent_id)},'
            f'"task_type":{quoted(task_type)},"task_id":'
        )
        found = (
            head,
            f'{head}"trace_id":"',
            message,
            f'",{message}',
            f',"generation":{generation},{extra}"duration_seconds":0.',
            f',"outcome":"{name}","attempt":{attempt}' + ("}\n" if self._flatten else "}}\n"),
        )
        if len(self._prepared) >= _TEMPLATES:
            self._prepared.clear()
        self._prepared[key] = found
        return found

    def _failed(self, tail: str, error_type: str, error: BaseException | str | None) -> str:
        if not error_type and error is None:
            return tail
        end = "}\n" if self._flatten else "}}\n"
        more = f',"error_type":{quoted(error_type)}' if error_type else ""
        if isinstance(error, str):  # too many were waiting for all of them to be kept
            more += f',"error":{{"type":{quoted(error)}}}'
        elif error is not None:
            facts = describe(error, messages=self._messages, frames=self._may_trace())
            more += f',"error":{json.dumps(facts, separators=(",", ":"))}'
        return tail[: -len(end)] + more + end

    def _may_trace(self) -> bool:
        now = self._clock()
        self._tokens = min(max(1.0, self._rate), self._tokens + (now - self._refilled) * self._rate)
        self._refilled = now
        if self._tokens < 1.0 or self._rate <= 0:
            return False
        self._tokens -= 1.0
        return True

    def _other(self, item: Any) -> str:
        if isinstance(item, Event):
            return self._event(item)
        return item if isinstance(item, str) else dumps(item)

    def _event(self, event: Event) -> str:
        kind = event.kind
        level = "error" if kind in _ERROR else "warning" if kind in _WARNING else "info"
        data = dict(event.data)
        line: dict[str, Any] = {
            "timestamp": stamp(event.at),
            "level": level,
            "service": self._service,
        }
        for key in ("trace_id", "span_id"):
            if key in data:
                line[key] = data.pop(key)
        line["message"] = str(kind.value).replace("_", " ")
        if event.agent_id:
            line["agent_id"] = event.agent_id
        if "task_type" in data:
            line["task_type"] = data.pop("task_type")
        if event.task_id:
            line["task_id"] = event.task_id
        if event.generation:
            line["generation"] = event.generation
        extra = {"event": str(kind.value), "seq": event.seq}
        for key, value in data.items():
            if self._messages or key not in _MESSAGES:
                extra[str(key)] = value
        return dumps(compose(line, extra, flatten=self._flatten))


def stamp(at: float) -> str:
    """Return seconds since the epoch as ISO 8601 in UTC with microseconds."""
    second = math.floor(at)
    return time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second)) + (
        f"{int((at - second) * 1e6):06d}Z"
    )


def compose(line: dict[str, Any], extra: Mapping[str, Any], *, flatten: bool) -> dict[str, Any]:
    """Put the remaining fields below ``extra``, or beside the others without overwriting them."""
    if not flatten:
        if extra:
            line["extra"] = dict(extra)
        return line
    for key, value in extra.items():
        line[key if key not in line else f"extra_{key}"] = value
    return line


def dumps(line: Mapping[str, Any]) -> str:
    """Return one line of ASCII JSON with its newline, whatever the values are; bounded."""
    return json.dumps(plain(line), separators=(",", ":"), allow_nan=False) + "\n"


def plain(value: Any, depth: int = 0) -> Any:  # noqa: PLR0911 - one kind, one return
    """Return what JSON can say of a value: containers bounded, the unknown by its bounded repr."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value) if len(value) <= _LONG else f"{value[: _LONG - 1]}\u2026"
    if isinstance(value, int):
        number = int(value)
        return number if number.bit_length() <= _BITS else hex(number)[:_TEXT]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    if depth < _DEPTH:
        if isinstance(value, dict):
            pairs = list(value.items())[:_ITEMS]
            return {_key(key): plain(item, depth + 1) for key, item in pairs}
        if isinstance(value, list | tuple | set | frozenset):
            return [plain(item, depth + 1) for item in list(value)[:_ITEMS]]
    try:
        text = repr(value)
    except Exception as broken:  # noqa: BLE001 - somebody else's code
        text = f"<{type(broken).__name__} in __repr__ of {type(value).__name__}>"
    return text[:_TEXT]


_LONG = 8192
_BITS = 1024


def _key(key: Any) -> str:
    return key[:_TEXT] if isinstance(key, str) else str(plain(key, _DEPTH))[:_TEXT]


def describe(error: BaseException, *, messages: bool, frames: bool = True) -> dict[str, Any]:
    """Return an exception as bounded fields.

    Args:
        error: what to describe.
        messages: include messages (at most 500 characters), which may quote what was worked on.
        frames: include the innermost 20 frames, as ``file:line in function: source``.

    Returns:
        ``type``, ``where``; ``message``, ``traceback`` and ``cause`` where wanted and there.
    """
    facts: dict[str, Any] = {"type": type_of(error)}
    steps: list[tuple[str, int, str]] = []
    step = error.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        steps.append((code.co_filename, step.tb_lineno or 0, code.co_qualname))
        if len(steps) > _FRAMES:
            del steps[0]
        step = step.tb_next
    if steps:
        file, line, function = steps[-1]
        facts["where"] = f"{file}:{line} in {function}"
    if messages:
        facts["message"] = message_of(error)
    if frames and steps:
        facts["traceback"] = [
            f"{file}:{line} in {function}: {linecache.getline(file, line).strip()[:120]}"
            for file, line, function in steps
        ]
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None and cause is not error:
        facts["cause"] = describe_briefly(cause, messages=messages)
    return facts


def type_of(error: BaseException) -> str:
    """Return the qualified name of an exception's class, builtins without their module."""
    kind = type(error)
    name = kind.__qualname__
    return (name if kind.__module__ == "builtins" else f"{kind.__module__}.{name}")[:_TEXT]


def describe_briefly(error: BaseException, *, messages: bool) -> str:
    """Return the type of an exception, with its message if that is wanted."""
    name = type_of(error)
    return f"{name}: {message_of(error)}" if messages else name


def message_of(error: BaseException) -> str:
    """Return an exception's message, bounded, whatever its ``__str__`` does."""
    try:
        text = str(error)
    except Exception as broken:  # noqa: BLE001 - somebody else's code
        return f"<{type(broken).__name__} in __str__>"
    return text if len(text) <= _TEXT else text[: _TEXT - 1] + "\u2026"
