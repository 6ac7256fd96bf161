"""What a factory gives, and what can be called on it: :func:`build` and :func:`bind`.

Imports no library and none of the models, so that a worker process starts quickly.
"""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

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


class Surface(NamedTuple):
    """The callable sides of a product, looked up once.

    A named tuple because one is made for every incarnation.

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
    if type(product) is factory and not hasattr(factory, "__await__"):
        return product  # an ordinary class; inspect's look at it costs more than making it
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
    plan = _plan(type(product), spec.handler)  # type: ignore[arg-type] # mypy: not Hashable
    if plan is not None and not plan.names & getattr(product, "__dict__", _NOTHING).keys():
        return _follow(plan, product)
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


class _Plan(NamedTuple):
    """What every ordinary instance of a class offers; a restart then looks nothing up twice."""

    names: frozenset[str]  # what an instance could override
    handler: str  # empty: none
    start: bool
    serve: bool
    probe: bool
    stop: bool
    kind: Kind
    serve_kind: Kind | None


_NOTHING: dict[str, Any] = {}


@functools.lru_cache(maxsize=1024)
def _plan(cls: type, handler: str) -> _Plan | None:
    # only for the plainest classes: functions in the class, found in the ordinary way
    if issubclass(cls, type) or cls.__getattribute__ is not object.__getattribute__:
        return None
    names = frozenset((handler, "start", "serve", "probe", "stop"))
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if "__getattr__" in vars(base):
            return None
        found.update((name, vars(base)[name]) for name in names if name in vars(base))
    if not all(inspect.isfunction(function) for function in found.values()):
        return None
    serve = found.get("serve")
    serve_kind = None if serve is None else kind_of(serve)
    if handler not in found and (serve is None or handler != _HANDLE):
        return None
    if serve_kind in {"gen", "asyncgen"}:
        return None
    return _Plan(
        names,
        handler if handler in found else "",
        "start" in found,
        serve is not None,
        "probe" in found,
        "stop" in found,
        kind_of(found[handler]) if handler in found else "sync",
        serve_kind,
    )


def _follow(plan: _Plan, product: Any) -> Surface:
    return Surface(
        product,
        product.start if plan.start else None,
        product.serve if plan.serve else None,
        getattr(product, plan.handler) if plan.handler else None,
        plan.handler != _HANDLE,
        product.probe if plan.probe else None,
        product.stop if plan.stop else None,
        plan.kind,
        plan.serve_kind,
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
