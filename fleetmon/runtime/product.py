"""What a factory gives, and what can be called on it: :func:`build` and :func:`bind`.

Imports no library and none of the models, so that a worker process starts quickly.
"""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from fleetmon.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Callable

Kind = Literal["sync", "async", "gen", "asyncgen"]

_HANDLE = "handle"
_ABSENT = object()


class Terms(Protocol):
    """The part of :class:`~fleetmon.spec.AgentSpec` that executors read."""

    @property
    def handler(self) -> str:
        """Name of the method that takes tasks."""

    @property
    def capacity(self) -> int:
        """Tasks at once."""


@dataclass(frozen=True, slots=True)
class Surface:
    """The callable sides of a product, looked up once.

    Attributes:
        product: what the factory gave.
        start: hook without arguments, or ``None``.
        serve: body called with the agent's handle, or ``None``.
        call: the handler, or ``None`` when the product only serves.
        takes_payload: the handler gets ``task.payload`` instead of the task.
        probe: hook without arguments, or ``None``.
        stop: hook without arguments, or ``None``.
        kind: what calling the handler gives (``"sync"`` without a handler).
        serve_kind: ``"sync"`` or ``"async"``, ``None`` without ``serve``.
    """

    product: Any
    start: Callable[[], Any] | None
    serve: Callable[[Any], Any] | None
    call: Callable[[Any], Any] | None
    takes_payload: bool
    probe: Callable[[], Any] | None
    stop: Callable[[], Any] | None
    kind: Kind
    serve_kind: Kind | None

    @property
    def is_async(self) -> bool:
        """All long work is asynchronous, so that it may share a loop with others."""
        handler_fits = self.call is None or self.kind in {"async", "asyncgen"}
        return handler_fits and self.serve_kind in {None, "async"}


async def build(factory: Callable[[], Any]) -> Any:
    """Call ``factory`` without arguments and await what it gives, if that can be awaited.

    Raises:
        SpecError: ``factory`` is not callable.
        BaseException: whatever the factory raises.
    """
    if not callable(factory):
        raise SpecError(
            f"factory {factory!r} is not callable; pass a class or a function that makes the agent",
            field="factory",
            value=factory,
        )
    product = factory()
    if inspect.isawaitable(product):
        product = await product
    return product


def kind_of(function: Callable[..., Any]) -> Kind:
    """Tell what calling ``function`` gives, through partials, methods and ``__call__``.

    A synchronous wrapper around asynchronous work counts as ``"sync"``; whoever calls it has to
    look at the result.
    """
    while isinstance(function, functools.partial):
        function = function.func
    for candidate in (function, getattr(type(function), "__call__", None)):  # noqa: B004 - its kind
        if candidate is None:
            continue
        if inspect.isasyncgenfunction(candidate):
            return "asyncgen"
        if inspect.iscoroutinefunction(candidate):
            return "async"
        if inspect.isgeneratorfunction(candidate):
            return "gen"
    return "sync"


def bind(product: Any, spec: Terms) -> Surface:
    """Look up what ``product`` offers.

    An object with the handler or ``serve`` is taken as an object even when it is callable too.

    Raises:
        SpecError: a class instead of an instance; neither handler nor ``serve`` nor callable; a
            handler or hook that cannot be called; a ``serve`` that is a generator.
    """
    if inspect.isclass(product):
        raise SpecError(
            f"the factory gave the class {product.__qualname__} instead of an instance; "
            "pass the class itself as the factory",
            field="factory",
            value=product,
        )
    name = spec.handler
    call = _method(product, name)
    serve = _method(product, "serve")
    plain = False
    if call is None and name != _HANDLE:
        raise _no_handler(product, name)
    if call is None and serve is None:
        if not callable(product):
            raise _no_handler(product, name)
        call, plain = product, True
    serve_kind = None if serve is None else kind_of(serve)
    if serve_kind in {"gen", "asyncgen"}:
        raise SpecError(
            f"serve of {_title(product)} is a generator, so calling it runs nothing; "
            "remove its yields",
            field="serve",
            value=serve,
        )
    return Surface(
        product=product,
        start=_method(product, "start"),
        serve=serve,
        call=call,
        takes_payload=plain or name != _HANDLE,
        probe=_method(product, "probe"),
        stop=_method(product, "stop"),
        kind="sync" if call is None else kind_of(call),
        serve_kind=serve_kind,
    )


def peek(factory: Any, spec: Terms) -> bool | None:
    """Tell from a class, without building anything, whether its work is all asynchronous.

    ``None`` when it cannot be told: the factory is a function, or the class offers nothing yet.
    """
    while isinstance(factory, functools.partial):
        factory = factory.func
    if not inspect.isclass(factory):
        return None
    found = [
        method
        for name in (spec.handler, "serve")
        if callable(method := getattr(factory, name, None))
    ]
    if not found:
        # Not getattr: that would find the metaclass's own __call__.
        called = next((vars(c)["__call__"] for c in factory.__mro__ if "__call__" in vars(c)), None)
        if called is None:
            return None
        found.append(called)
    return all(kind_of(method) in {"async", "asyncgen"} for method in found)


def _method(product: Any, name: str) -> Callable[..., Any] | None:
    method = getattr(product, name, _ABSENT)
    if method is _ABSENT or method is None:
        return None
    if not callable(method):
        raise SpecError(
            f"{name} of {_title(product)} is {method!r}, which cannot be called; make it a "
            "method or give the attribute another name",
            field=name,
            value=method,
        )
    return method


def _no_handler(product: Any, name: str) -> SpecError:
    here = [
        other
        for other in (_HANDLE, "serve", "__call__")
        if other != name and callable(getattr(product, other, None))
    ]
    has = f" (it has {', '.join(here)})" if here else ""
    wanted = "neither handle nor serve, and it is not callable"
    if name != _HANDLE:
        wanted = f"no method {name!r}, which AgentSpec.handler names"
    return SpecError(
        f"{_title(product)} has {wanted}{has}; give it one or name its method in AgentSpec.handler",
        field="handler",
        value=name,
    )


def _title(product: Any) -> str:
    """Name a product without its repr, which may be long or raise."""
    name = getattr(product, "__qualname__", None)
    return name if isinstance(name, str) else f"a {type(product).__qualname__}"
