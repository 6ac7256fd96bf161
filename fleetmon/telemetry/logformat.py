"""The shape of our log lines for a host's own lines and those of its libraries.

For structlog there is a chain of processors, for :mod:`logging` a formatter, and for a host that
has set up neither :func:`configure_logging`, which is the only function here that touches anything
global.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import TYPE_CHECKING, Any

from opentelemetry import trace

from fleetmon.telemetry.render import compose, describe, dumps, stamp
from fleetmon.telemetry.sink import LineWriter

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping, Sequence

    Processor = Callable[[Any, str, MutableMapping[str, Any]], Any]

_CORRELATION = ("agent_id", "task_type", "task_id", "generation")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
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
    if trace_id is None:
        trace_id, span_id = current_ids()
    if trace_id:
        line["trace_id"], line["span_id"] = trace_id, span_id
    line["message"] = message if isinstance(message, str) else str(message)
    for name in _CORRELATION:
        if name in fields:
            line[name] = fields.pop(name)
    return line


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
        return dumps(compose(line, extra, flatten=self._flatten))[:-1]


class WriterHandler(logging.Handler):
    """Hands formatted records to a :class:`LineWriter`; never blocks."""

    def __init__(self, writer: LineWriter, level: int = logging.NOTSET) -> None:
        """Write to ``writer``."""
        super().__init__(level)
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        """Queue one line."""
        try:
            self._writer.put(self.format(record) + "\n", "line")
        except Exception:  # noqa: BLE001 - logging's own convention for what a handler raises
            self.handleError(record)


class _StructlogLogger:
    """What structlog calls at the end of its chain."""

    def __init__(self, writer: LineWriter) -> None:
        self._writer = writer

    def msg(self, message: str) -> None:
        self._writer.put(message + "\n", "line")

    debug = info = warning = warn = error = critical = exception = fatal = log = msg


class LogHandle:
    """What :func:`configure_logging` has set up, and how to undo it.

    Attributes:
        writer: the bounded queue behind all lines.
    """

    def __init__(
        self, writer: LineWriter, handler: logging.Handler, restore: Callable[[], None]
    ) -> None:
        """Keep what is needed to undo it."""
        self.writer = writer
        self._handler = handler
        self._restore = restore

    @property
    def dropped(self) -> dict[str, int]:
        """Lines lost so far, by kind."""
        return dict(self.writer.dropped)

    def flush(self, timeout: float = 2.0) -> bool:
        """Wait until every line so far has been written or lost; False after ``timeout`` s."""
        return self.writer.flush(timeout)

    def close(self, deadline: float = 2.0) -> bool:
        """Take the handler off the root logger, restore structlog, write what waits."""
        logging.getLogger().removeHandler(self._handler)
        self._restore()
        return self.writer.close(deadline)


def configure_logging(
    service: str = "fleetmon",
    *,
    stream: Any = None,
    flatten: bool = False,
    level: int | str = logging.INFO,
    limit: int = 65_536,
    silence: Sequence[logging.Handler] = (),
) -> LogHandle:
    """Set up structlog and the root logger to write our JSON lines, without ever blocking.

    Args:
        service: field of every line.
        stream: text or binary; ``None`` for ``sys.stdout``.
        flatten: put the fields of ``extra`` beside the others.
        level: of the root logger and of structlog.
        limit: lines that may wait; beyond it the newest are dropped and counted.
        silence: handlers to take off the root logger, which would write the same lines again.

    Returns:
        A handle that counts drops, flushes and undoes it all.
    """
    import structlog

    writer = LineWriter("".join, stream, limit=limit, name="fleetmon-host-log")
    handler = WriterHandler(writer)
    handler.setFormatter(JsonFormatter(service, flatten=flatten))
    root = logging.getLogger()
    before, level_before = structlog.get_config(), root.level
    was_configured = structlog.is_configured()
    for other in silence:
        root.removeHandler(other)
    root.addHandler(handler)
    root.setLevel(level)
    structlog.configure(
        processors=processors(service, flatten=flatten),
        wrapper_class=structlog.make_filtering_bound_logger(root.level),
        context_class=dict,
        logger_factory=lambda *_: _StructlogLogger(writer),
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

    return LogHandle(writer, handler, restore)
