"""Measures calls of any kind: functions and methods, coroutines, generators of both kinds.

Durations are the time spent in the call. Of a generator that is the time in which it runs: what
its consumer does between two items is not its own. A generator that is closed before its end was
cancelled; one that was never started has done nothing and counts nothing.
"""

from __future__ import annotations

import functools
import inspect
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from fleetmon.errors import SpecError
from fleetmon.exporters import _flow
from fleetmon.exporters._outcome import SUCCESS, of_error, of_result

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

F = TypeVar("F")
"""Whatever is wrapped: it comes back as the same type, overloads and descriptors included."""

Begin = Callable[[tuple[Any, ...], dict[str, Any]], "Observation"]
"""Makes the observation of one call from its arguments."""

_log = logging.getLogger("fleetmon.exporters")
_now = time.perf_counter


class Observation:
    """One measured call; also a context manager, plain and async, around a block.

    Attributes:
        seconds: time spent in the call so far, excluding pauses.
    """

    __slots__ = ("_began", "_status", "seconds")

    def __init__(self) -> None:
        """Stand still until :meth:`resume`."""
        self.seconds = 0.0
        self._began = 0.0
        self._status: str | None = None

    # What a kind of observation fills in.

    def item(self, item: object) -> None:
        """Take note of something that a generator yielded."""

    def result(self, result: object) -> str:
        """Take note of what the call returned; return its status."""
        return of_result(result)

    def finish(self, status: str, seconds: float) -> None:
        """Book the call; once for each."""
        raise NotImplementedError

    # What drives it. Measuring never harms the measured: its own errors end in the log.

    def resume(self) -> None:
        """Let time run."""
        self._began = _now()

    def pause(self) -> None:
        """Hold time."""
        self.seconds += _now() - self._began

    def took(self, item: object) -> None:
        """Pause with an item in hand."""
        self.pause()
        try:
            self.item(item)
        except Exception:  # noqa: BLE001 - measuring never harms the measured
            _log.exception("an exporter could not read an item of type %s", type(item).__name__)

    def returned(self, result: object) -> None:
        """End with a result."""
        self.pause()
        try:
            status = self.result(result)
        except Exception:  # noqa: BLE001 - measuring never harms the measured
            _log.exception("an exporter could not read a result of type %s", type(result).__name__)
            status = SUCCESS
        self._book(self._status or status)

    def raised(self, error: BaseException) -> None:
        """End with an error."""
        self.pause()
        self._book(of_error(error))

    def _book(self, status: str) -> None:
        try:
            self.finish(status, self.seconds)
        except Exception:  # noqa: BLE001 - measuring never harms the measured
            _log.exception("an exporter could not book a call")

    # Around a block.

    def fail(self, status: str = "error") -> None:
        """Say how the block ended where it does not raise: error, cancelled or timed_out."""
        self._status = status

    def __enter__(self) -> Self:
        """Let time run."""
        self.resume()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Book the block; what it raised goes on."""
        self.pause()
        if exc is not None:
            self._status = of_error(exc)
        self._book(self._status or SUCCESS)

    async def __aenter__(self) -> Self:
        """Let time run."""
        return self.__enter__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Book the block; what it raised goes on."""
        self.__exit__(exc_type, exc, traceback)


def instrument(target: F, begin: Begin, *, iterators: bool = False) -> F:
    """Return ``target`` measured: same kind of callable, same signature, docstring and type.

    Args:
        target: a function, method, partial or callable object; synchronous, asynchronous or a
            generator of either kind; also a ``classmethod``, ``staticmethod`` or ``partialmethod``
            object, so that the order of decorators does not matter. A plain function that returns
            a coroutine or a generator is measured until that ends.
        begin: makes the observation of each call.
        iterators: a returned iterator of any type is the call going on, too. Such a result is
            replaced by a generator over it.

    Raises:
        SpecError: ``target`` cannot be called.
    """
    wrapped: Any
    if isinstance(target, (classmethod, staticmethod)):
        wrapped = type(target)(instrument(target.__func__, begin, iterators=iterators))
    elif isinstance(target, functools.partialmethod):
        inner = instrument(target.func, begin, iterators=iterators)
        wrapped = functools.partialmethod(inner, *target.args, **target.keywords)
    elif callable(target):
        wrapped = _wrap(target, _safe(begin), iterators=iterators)
    else:
        raise SpecError(f"{target!r} cannot be called; hand over a function or method")
    return cast("F", wrapped)


def wrap_methods(owner: object, **wrappers: Callable[[Any], Any]) -> None:
    """Replace methods of one object by what each wrapper makes of them.

    For objects of classes that are not to be changed: ``wrap_methods(engine,
    generate=ryot.track_inference(model="small"))``.
    """
    for name, wrap in wrappers.items():
        setattr(owner, name, wrap(getattr(owner, name)))


class _Nothing(Observation):
    """Stands in where an observation could not be made."""

    __slots__ = ()

    def finish(self, status: str, seconds: float) -> None:
        """Book nothing."""


def _safe(begin: Begin) -> Begin:
    def begun(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Observation:
        try:
            return begin(args, kwargs)
        except Exception:  # noqa: BLE001 - measuring never harms the measured
            _log.exception("an exporter could not read the arguments of a call")
            return _Nothing()

    return begun


def _wrap(target: Callable[..., Any], begin: Begin, *, iterators: bool) -> Callable[..., Any]:
    # A callable object is of the kind that its __call__ is.
    plain = inspect.isroutine(target) or isinstance(target, functools.partial)
    kind: Any = target if plain else type(target).__call__
    wrapped: Callable[..., Any]
    if inspect.iscoroutinefunction(kind):
        wrapped = _flow.coroutine(target, begin)
    elif inspect.isasyncgenfunction(kind):
        wrapped = _flow.async_generator(target, begin)
    elif inspect.isgeneratorfunction(kind):
        wrapped = _flow.generator(target, begin)
    else:
        wrapped = _flow.function(target, begin, iterators=iterators)
    return functools.wraps(target)(wrapped)
