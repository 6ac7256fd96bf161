"""The shape of our log lines for a host's own lines and those of its libraries.

For structlog there is a chain of processors, for :mod:`logging` a formatter, and for a host that
has set up neither :func:`configure_logging`, which is the only function here that touches anything
global.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import TYPE_CHECKING, Any, Self

from opentelemetry import trace

from fleetmon.hooks import current_facts
from fleetmon.telemetry.logs import JsonLog
from fleetmon.telemetry.render import compose, describe, dumps, stamp

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping, Sequence

    from fleetmon.telemetry.sink import LineWriter

    Processor = Callable[[Any, str, MutableMapping[str, Any]], Any]

_CORRELATION = ("agent_id", "task_type", "task_id", "generation")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_SCALARS = frozenset({str, int, float, bool, type(None)})
_LONG = 8192  # characters of a text that may wait as it is
_LEVELS = {"warn": "warning", "exception": "error", "fatal": "critical", "msg": "info"}


def current_ids() -> tuple[str, str]:
    """Return trace id (32 hex) and span id (16 hex) of the current context, empty without one."""
    found = trace.get_current_span().get_span_context()
    if not found.is_valid:
        return "", ""
    return trace.format_trace_id(found.trace_id), trace.format_span_id(found.span_id)


def _line(
    fields: MutableMapping[str, Any], *, service: str, at: str, level: str, message: Any
) -> dict[str, Any]:
    """Start a line from ``fields``, taking out of them what has a place of its own."""
    line: dict[str, Any] = {"timestamp": at, "level": level, "service": service}
    trace_id, span_id = fields.pop("trace_id", None), fields.pop("span_id", None)
    here: dict[str, Any] = {}
    if trace_id is None:
        trace_id, span_id = current_ids()
        if "agent_id" not in fields:
            here = current_facts()
    if trace_id:
        line["trace_id"], line["span_id"] = trace_id, span_id
    line["message"] = message if isinstance(message, str) else str(message)
    for name in _CORRELATION:
        if name in fields:
            line[name] = fields.pop(name)
        elif name in here:
            line[name] = here[name]
    return line


def _settled(line: Mapping[str, Any]) -> bool:
    """Whether nobody can change what a line holds, so that it may be rendered later, elsewhere."""
    for key, value in line.items():
        kind = type(value)
        if kind is str:
            if len(value) > _LONG:
                return False
        elif kind not in _SCALARS and key != "error" and not (kind is dict and _settled(value)):
            return False
    return True


def _hand(log: JsonLog, line: dict[str, Any]) -> None:
    log.line(line if _settled(line) else dumps(line))


def _exception(found: Any) -> BaseException | None:
    if isinstance(found, BaseException):
        return found
    if isinstance(found, tuple):
        return found[1] if len(found) > 1 and isinstance(found[1], BaseException) else None
    return sys.exc_info()[1] if found else None


class _Shape:
    """Last but one of the structlog processors: puts the fields in their places."""

    def __init__(self, service: str, *, flatten: bool) -> None:
        self._service = service
        self._flatten = flatten

    def __call__(
        self, logger: Any, method: str, event_dict: MutableMapping[str, Any]
    ) -> dict[str, Any]:
        del logger  # the signature is structlog's
        fields = dict(event_dict)
        level = str(fields.pop("level", method)).lower()
        at = fields.pop("timestamp", None)
        message = fields.pop("event", "")
        error = _exception(fields.pop("exc_info", None))
        line = _line(
            fields,
            service=self._service,
            at=at if isinstance(at, str) else stamp(time.time()),
            level=_LEVELS.get(level, level),
            message=message,
        )
        fields.pop("service", None)
        if error is not None:
            fields["error"] = describe(error, messages=True)
        return compose(line, fields, flatten=self._flatten)


def _render(logger: Any, method: str, event_dict: MutableMapping[str, Any]) -> str:
    del logger, method  # the signature is structlog's
    return dumps(event_dict)[:-1]


def processors(
    service: str = "fleetmon", *, flatten: bool = False, render: bool = True
) -> list[Processor]:
    """Return structlog processors that give a host's lines the shape of ours.

    Trace ids come from the current context, bound context variables are merged in, exceptions
    become bounded fields. ``exc_info=True`` and bound ``agent_id`` or ``task_id`` work as ever.

    Args:
        service: field of every line.
        flatten: put the fields of ``extra`` beside the others.
        render: end with JSON text; otherwise with the dictionary, for a renderer of the host's.
    """
    import structlog

    chain: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        _Shape(service, flatten=flatten),
    ]
    return [*chain, _render] if render else chain


class JsonFormatter(logging.Formatter):
    """Formats records of :mod:`logging` as our JSON lines; never raises.

    Fields given by ``extra=`` keep their names; ``trace_id`` and ``span_id`` among them win over
    the current context, for records that are formatted elsewhere than they were made.
    """

    def __init__(self, service: str = "fleetmon", *, flatten: bool = False) -> None:
        """Format lines for ``service``; ``flatten`` puts ``extra`` beside the other fields."""
        super().__init__()
        self._service = service
        self._flatten = flatten

    def format(self, record: logging.LogRecord) -> str:
        """Return one JSON object, without a newline."""
        return dumps(self.line(record))[:-1]

    def line(self, record: logging.LogRecord) -> dict[str, Any]:
        """Return the fields of the line."""
        fields = {k: v for k, v in vars(record).items() if k not in _STANDARD and k[:1] != "_"}
        if isinstance(record.msg, dict):  # structlog, by way of wrap_for_formatter
            fields.update(record.msg)
            message: Any = fields.pop("event", "")
            fields.pop("timestamp", None)
            fields.pop("level", None)
        else:
            try:
                message = record.getMessage()
            except Exception:  # noqa: BLE001 - arguments that do not fit, or a broken __str__
                message = (
                    str(record.msg) if isinstance(record.msg, str) else type(record.msg).__name__
                )
                fields["unformatted_args"] = record.args
        error = _exception(fields.pop("exc_info", None) or record.exc_info or None)
        line = _line(
            fields,
            service=self._service,
            at=stamp(record.created),
            level=record.levelname.lower(),
            message=message,
        )
        extra: dict[str, Any] = {"logger": record.name, **fields}
        if error is not None:
            extra["error"] = describe(error, messages=True)
        if record.stack_info:
            extra["stack"] = record.stack_info
        return compose(line, extra, flatten=self._flatten)


class WriterHandler(logging.Handler):
    """Hands records to a :class:`JsonLog`; never blocks.

    What can wait is rendered by the log's thread: nothing but plain values, that is.
    """

    def __init__(self, log: JsonLog, level: int = logging.NOTSET) -> None:
        """Write to ``log``."""
        super().__init__(level)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Queue one line."""
        try:
            if isinstance(self.formatter, JsonFormatter):
                _hand(self._log, self.formatter.line(record))
            else:
                self._log.line(self.format(record) + "\n")
        except Exception:  # noqa: BLE001 - logging's own convention for what a handler raises
            self.handleError(record)


class _StructlogLogger:
    """What structlog calls at the end of its chain."""

    def __init__(self, log: JsonLog) -> None:
        self._log = log

    def msg(self, text: str = "", /, **line: Any) -> None:
        if line:
            _hand(self._log, line)
        else:
            self._log.line(f"{text}\n")

    debug = info = warning = warn = error = critical = exception = fatal = log = msg


class LogHandle:
    """What :func:`configure_logging` has set up, and how to undo it.

    Attributes:
        log: the one log behind all lines, to be given to a supervisor as well.
    """

    def __init__(self, log: JsonLog, handler: logging.Handler, restore: Callable[[], None]) -> None:
        """Keep what is needed to undo it."""
        self.log = log
        self._handler = handler
        self._restore = restore

    @property
    def dropped(self) -> dict[str, int]:
        """Lines lost so far, by kind."""
        return self.log.dropped

    @property
    def writer(self) -> LineWriter:
        """The bounded queue, and the thread that empties it."""
        return self.log.writer

    def __enter__(self) -> Self:
        """Leave it as it is."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Undo it and write what waits, as :meth:`close` with its deadline."""
        self.close()

    def flush(self, timeout: float = 2.0) -> bool:
        """Wait until every line so far has been written or lost; False after ``timeout`` s."""
        return self.log.flush(timeout)

    def close(self, deadline: float = 2.0) -> bool:
        """Take the handler off the root logger, restore structlog, write what waits."""
        logging.getLogger().removeHandler(self._handler)
        self._restore()
        return self.log.close(deadline)


def configure_logging(
    service: str | None = None,
    *,
    stream: Any = None,
    flatten: bool = False,
    level: int | str = logging.INFO,
    limit: int = 65_536,
    silence: Sequence[logging.Handler] = (),
    messages: bool = False,
    log: JsonLog | None = None,
) -> LogHandle:
    """Set up structlog and the root logger to write our JSON lines, without ever blocking.

    Lines that come from within a task bear its agent, type, id and generation, and the ids of its
    span, in worker processes (call it there, in ``start()``) as well. A supervisor that is given
    the handle's ``log`` writes to the same stream, through the same queue.

    Args:
        service: field of every line; that of ``log``, or ``fleetmon``.
        stream: text or binary; ``None`` for ``sys.stdout``.
        flatten: put the fields of ``extra`` beside the others.
        level: of the root logger and of structlog.
        limit: lines that may wait; beyond it the newest are dropped and counted.
        silence: handlers to take off the root logger, which would write the same lines again.
        messages: write messages of exceptions into the lines of tasks and events, too; those of
            the host's own lines are the host's to choose.
        log: one to share, instead of ``stream``, ``limit`` and ``messages``.

    Returns:
        A handle that counts drops, flushes and undoes it all.
    """
    import structlog

    if log is None:
        log = JsonLog(
            service or "fleetmon", stream=stream, flatten=flatten, messages=messages, limit=limit
        )
    shared, service = log, service or log.service
    handler = WriterHandler(shared)
    handler.setFormatter(JsonFormatter(service, flatten=flatten))
    root = logging.getLogger()
    before, level_before = structlog.get_config(), root.level
    was_configured = structlog.is_configured()
    for other in silence:
        root.removeHandler(other)
    root.addHandler(handler)
    root.setLevel(level)
    structlog.configure(
        processors=processors(service, flatten=flatten, render=False),
        wrapper_class=structlog.make_filtering_bound_logger(root.level),
        context_class=dict,
        logger_factory=lambda *_: _StructlogLogger(shared),
        cache_logger_on_first_use=False,
    )

    def restore() -> None:
        root.setLevel(level_before)
        if was_configured:
            structlog.configure(**before)
        else:
            structlog.reset_defaults()
        for other in silence:
            root.addHandler(other)

    return LogHandle(shared, handler, restore)
