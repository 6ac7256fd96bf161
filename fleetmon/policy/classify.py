"""What an exception means for the agent that raised it: kind, bounded type, fingerprint.

Exceptions come from the host's own code and from libraries: any attribute may be missing, lie or
raise. Nothing of that gets out of here; only ``KeyboardInterrupt`` passes, for that is the user.
"""

from __future__ import annotations

from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeGuard, TypeVar

from fleetmon.errors import RemoteError, SpecError, TaskHungError, WorkerDiedError
from fleetmon.policy._retry_after import attribute, http_status, retry_after_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_E = TypeVar("_E", bound=BaseException)

Kind = Literal["transient", "throttled", "permanent", "bug"]

_NAME = 200  # characters of the name of a class
_CAUSE = 120  # characters of a fingerprint
_CODE = 40  # characters of a code within it
_HUGE = 2**63  # no code is larger, and printing such numbers may be refused
_LEAVES = 32  # members of an exception group that are looked at
_GRAVITY: dict[Kind, int] = {"transient": 0, "bug": 1, "throttled": 2, "permanent": 3}

# A restart meets these again: the environment or the program has to change first.
# FileNotFoundError is not among them: files also go missing while a mount comes back or a writer
# replaces them, and where they stay away the intensity ends the attempts soon enough.
_PERMANENT = (PermissionError, ImportError, NotImplementedError, SyntaxError, SpecError)
_BUGS = (
    TypeError,
    AttributeError,
    NameError,
    AssertionError,
    KeyError,
    IndexError,
    ZeroDivisionError,
    RecursionError,
)
_THROTTLED_NAMES = ("RateLimit", "Throttl", "TooManyRequests", "ResourceExhausted")
_VERDICT_FLAGS = ("is_retryable", "recoverable", "retry_recommended")


class Verdict(NamedTuple):
    """What is known of an error.

    Attributes:
        kind: ``transient`` (try again), ``throttled`` (try again later), ``permanent`` (do not try
            again) or ``bug`` (a programming error; tried again, for it may hang on the input).
        error_type: one of :data:`fleetmon.numbers.ERROR_TYPES` or of the agent's declared types.
        retry_after: seconds that the other side asked for, at most a day; 0.0 when it did not.
        cause: at most 120 characters that are the same for the same trouble of another agent.
        fatal: the agent has lapsed, whatever became of the task.
    """

    kind: Kind
    error_type: str
    retry_after: float
    cause: str
    fatal: bool


def classify(error: BaseException, declared: Collection[str] = (), *, wall: float = 0.0) -> Verdict:
    """Judge an exception; never raises.

    In this order: an attribute ``is_retryable``, ``recoverable`` or ``retry_recommended`` that is
    ``False`` makes it permanent; HTTP status 429, status 503 with a Retry-After, or a class named
    like ``RateLimit*``, ``Throttl*``, ``TooManyRequests*`` or ``ResourceExhausted`` makes it
    throttled; one of the three attributes that is ``True`` makes it transient; then the class
    decides. The status is looked for in ``status_code``, ``status``, ``code`` and
    ``response.status_code``; the delay in ``retry_after`` and in the headers. No other status
    decides anything: even 401 may pass with fresh credentials.

    ``error_type`` is, in this order: an ``error_code`` that is declared; the nearest class of the
    method resolution order whose name is declared; the built-in type (``process_died``, ``hang``,
    ``permanent``, ``throttled``, ``timeout``); ``exception``. An exception group is judged by its
    gravest member, with the longest delay of all.

    Args:
        error: whatever was raised.
        declared: ``AgentSpec.error_types``.
        wall: wall clock, seconds since the epoch, to read a Retry-After given as a date; 0.0: such
            a date is ignored.
    """
    try:
        plain = _plain(type(error))  # type: ignore[arg-type] # mypy: a class is not Hashable
        if plain is not None and not error.__dict__ and plain.names.isdisjoint(declared):
            return plain.verdict
        if not _is_a(error, BaseExceptionGroup):
            return _judge(error, declared, wall)
        verdicts = [_judge(leaf, declared, wall) for leaf in _leaves(error)]
        gravest = max(verdicts, key=lambda verdict: _GRAVITY[verdict.kind])
        return gravest._replace(
            retry_after=max(verdict.retry_after for verdict in verdicts),
            fatal=attribute(error, "fatal") is True or any(v.fatal for v in verdicts),
        )
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - a hostile exception must not take supervision down
        return Verdict("transient", "exception", 0.0, "unreadable exception", fatal=False)


def class_of(error: BaseException) -> str:
    """Return the name of an exception's class for events: at most 200 printable characters.

    The class alone: messages quote what was worked on. A host may make classes with any name.
    """
    return _printable(type(error).__qualname__[:_NAME])


def describe(error: BaseException, limit: int = 300) -> str:
    """Return ``Type: message`` on one line of at most ``limit`` printable characters.

    Never raises; a message that cannot be read is said to be so. An exception group is described
    by its first member and the number of the others.
    """
    try:
        more = ""
        if _is_a(error, BaseExceptionGroup):
            leaves = list(_leaves(error))
            error = leaves[0]
            if len(leaves) > 1:
                more = f" (and {len(leaves) - 1} more)"
        name = type(error).__name__
        try:
            said = str.__str__(str(error))[: 4 * limit]
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - see classify
            said = "(its message cannot be read)"
        text = said if _is_a(error, RemoteError) else f"{name}: {said}" if said else name
        text = _printable(text) + more
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - see classify
        text = "unreadable exception"
    return text if len(text) <= limit else text[: max(0, limit - 1)] + "…"[:limit]


class _Class(NamedTuple):
    """What the class alone says."""

    kind: Kind
    error_type: str  # built-in
    names: tuple[str, ...]  # simple names, nearest first
    qualified: str
    fatal: bool


# Bounded, for a host may make classes as it goes; what it holds is classes only.
@lru_cache(maxsize=256)
def _of_class(cls: type[BaseException]) -> _Class:
    names = tuple(base.__name__ for base in cls.__mro__)
    module = cls.__module__
    qualified = cls.__qualname__ if module == "builtins" else f"{module}.{cls.__qualname__}"
    fatal = issubclass(cls, (WorkerDiedError, MemoryError))
    kind: Kind = "transient"
    error_type = "exception"
    if issubclass(cls, WorkerDiedError):
        error_type = "process_died"
    elif issubclass(cls, TaskHungError):
        error_type = "hang"
    elif _throttles(names):
        kind, error_type = "throttled", "throttled"
    elif issubclass(cls, TimeoutError) or any("Timeout" in name for name in names):
        error_type = "timeout"
    elif issubclass(cls, _PERMANENT):
        kind, error_type = "permanent", "permanent"
    elif issubclass(cls, _BUGS):
        kind = "bug"
    return _Class(kind, error_type, names, qualified, fatal)


class _Plain(NamedTuple):
    """The verdict on every exception of a class that can say nothing of its own."""

    verdict: Verdict
    names: frozenset[str]


# What the judgement looks for on an exception; a class without any of it is judged once.
_LOOKED_FOR = (
    *_VERDICT_FLAGS,
    "status_code",
    "status",
    "code",
    "response",
    "headers",
    "retry_after",
    "error_code",
    "errno",
    "fatal",
    "type_name",
    "exceptions",
)


@lru_cache(maxsize=256)
def _plain(cls: type[BaseException]) -> _Plain | None:
    if cls.__getattribute__ is not BaseException.__getattribute__:
        return None
    if any(hasattr(cls, name) for name in ("__getattr__", *_LOOKED_FOR)):
        return None
    known = _of_class(cls)  # type: ignore[arg-type] # mypy: a class is not Hashable
    cause = _printable(known.qualified)[:_CAUSE] or "unknown"
    verdict = Verdict(known.kind, known.error_type, 0.0, cause, known.fatal)
    return _Plain(verdict, frozenset(known.names))


def _throttles(names: tuple[str, ...]) -> bool:
    return any(mark in name for name in names for mark in _THROTTLED_NAMES)


def _judge(error: BaseException, declared: Collection[str], wall: float) -> Verdict:
    known = _of_class(type(error))  # type: ignore[arg-type] # mypy: a class is not Hashable
    if _is_a(error, RemoteError):
        known = _of_remote(error, known)
    delay = retry_after_of(error, wall)
    kind, error_type = _kind(error, known, delay)
    code = _code(error)
    if declared:
        if code and code in declared:
            error_type = code
        else:
            error_type = next((name for name in known.names if name in declared), error_type)
    tail = (code or _number(error))[:_CODE]
    cause = known.qualified
    if tail:
        cause = f"{cause[: _CAUSE - 1 - len(tail)]} {tail}"
    fatal = known.fatal or attribute(error, "fatal") is True
    return Verdict(kind, error_type, delay, _printable(cause)[:_CAUSE] or "unknown", fatal)


def _of_remote(error: RemoteError, known: _Class) -> _Class:
    # the class lives in the worker; its name is all that came over
    told = _text(attribute(error, "type_name"))
    if not told:
        return known
    names = (told.rpartition(".")[2], *known.names)
    if _throttles(names):
        known = known._replace(kind="throttled", error_type="throttled")
    elif "Timeout" in names[0]:
        known = known._replace(error_type="timeout")
    return known._replace(names=names, qualified=told)


def _kind(error: BaseException, known: _Class, delay: float) -> tuple[Kind, str]:
    kind, error_type = known.kind, known.error_type
    flags = [attribute(error, name) for name in _VERDICT_FLAGS]
    if any(flag is False for flag in flags):
        kind = "permanent"
    elif kind == "throttled" or _is_throttled(http_status(error), delay):
        kind = "throttled"
    elif any(flag is True for flag in flags):
        kind = "transient"
        if error_type == "permanent":
            error_type = "exception"
    if kind in ("permanent", "throttled") and error_type != "process_died":
        error_type = kind
    return kind, error_type


def _code(error: BaseException) -> str:
    code = attribute(error, "error_code")
    if isinstance(code, Enum) and not isinstance(code, str):
        code = attribute(code, "value")
    return _text(code)


def _number(error: BaseException) -> str:
    for name in ("error_code", "errno"):
        number = attribute(error, name)
        if isinstance(number, int) and not isinstance(number, bool):
            return f"{int(number):d}" if -_HUGE < number < _HUGE else ""
    return ""


def _is_a(error: BaseException, cls: type[_E]) -> TypeGuard[_E]:
    return issubclass(type(error), cls)  # isinstance would ask the error's own __class__


def _is_throttled(status: int, delay: float) -> bool:
    too_many, unavailable = 429, 503
    return status == too_many or (status == unavailable and delay > 0.0)


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    ahead: list[BaseException] = [group]
    found = 0
    while ahead and found < _LEAVES:
        error = ahead.pop()
        if _is_a(error, BaseExceptionGroup):
            ahead.extend(reversed(error.exceptions))
        else:
            found += 1
            yield error


def _text(value: object) -> str:
    # str.__str__ is not the subclass's own: an exact string comes out
    return str.__str__(value) if isinstance(value, str) else ""


def _printable(text: str) -> str:
    if text.isprintable() and "  " not in text:
        return text.strip()
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
