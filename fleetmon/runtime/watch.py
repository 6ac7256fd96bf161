"""Wrap the host's own callable so that every call is a task: :func:`watch`.

The wrapper keeps kind (synchronous, coroutine, generator, asynchronous generator), name,
docstring and signature. A generator is one task from its first step to its end; closed early it
counts as cancelled, never started as nothing. Its consumer's code between two steps does not run
inside the task.
"""

from __future__ import annotations

import functools
import inspect
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from fleetmon.runtime.product import kind_of
from fleetmon.runtime.task import CURRENT, own_task

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator
    from typing import TypeAlias

    from fleetmon.runtime.core import AgentCore
    from fleetmon.runtime.task import Task

    Name: TypeAlias = str | Callable[..., str]

_OK: tuple[None, None, None] = (None, None, None)


def watch(
    core: AgentCore,
    function: Callable[..., Any],
    task_type: str | Callable[..., str] | None,
    failed: Callable[[Any], bool] | None,
) -> Callable[..., Any]:
    """Return ``function`` with every call measured as a task of ``core``.

    Args:
        core: whose work it is.
        function: the host's callable; what it returns and raises is untouched.
        task_type: label; the function's name by default.
        failed: tells from a result that the call failed without raising.
    """
    if not callable(function):
        msg = f"watch needs a callable, not {function!r}"
        raise TypeError(msg)
    name: str | Callable[..., str] = (
        task_type or getattr(function, "__name__", "") or type(function).__name__
    )
    wrap = {"sync": _sync, "async": _async, "gen": _gen, "asyncgen": _asyncgen}[kind_of(function)]
    wrapper: Callable[..., Any] = wrap(core, function, name, failed)
    functools.update_wrapper(wrapper, function)
    return wrapper


def _label(name: Name, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    if isinstance(name, str):
        return name
    try:
        return str(name(*args, **kwargs))
    except Exception:  # noqa: BLE001 - the host's function must not break the host's call
        return "other"


def _judge(task: Task, failed: Callable[[Any], bool] | None, result: Any) -> None:
    if failed is None:
        return
    try:
        bad = failed(result)
    except Exception:  # noqa: BLE001 - the host's predicate must not break the host's call
        task.core.fleet.bus.hook_errors += 1
        return
    if bad:
        task.fail()


def _sync(
    core: AgentCore, function: Callable[..., Any], name: Name, failed: Callable[[Any], bool] | None
) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        task = own_task(core, _label(name, args, kwargs))
        task.__enter__()
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            task.__exit__(type(error), error, error.__traceback__)
            raise
        if inspect.iscoroutine(result):  # a plain function in front of a coroutine
            return _rest(task, result, failed)
        _judge(task, failed, result)
        task.__exit__(*_OK)
        return result

    return call


async def _rest(task: Task, coroutine: Any, failed: Callable[[Any], bool] | None) -> Any:
    try:
        result = await coroutine
    except BaseException as error:
        task.__exit__(type(error), error, error.__traceback__)
        raise
    _judge(task, failed, result)
    task.__exit__(*_OK)
    return result


def _async(
    core: AgentCore, function: Callable[..., Any], name: Name, failed: Callable[[Any], bool] | None
) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        with own_task(core, _label(name, args, kwargs)) as task:
            result = await function(*args, **kwargs)
            _judge(task, failed, result)
        return result

    return call


def _gen(
    core: AgentCore, function: Callable[..., Any], name: Name, failed: Callable[[Any], bool] | None
) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        task = own_task(core, _label(name, args, kwargs))
        context = copy_context()  # every step runs in it, the consumer's code does not
        context.run(task.__enter__)
        inner = function(*args, **kwargs)
        step, value = inner.send, None
        try:
            while True:
                try:
                    item = context.run(step, value)
                except StopIteration as stop:
                    _judge(task, failed, stop.value)
                    context.run(task.__exit__, *_OK)
                    return stop.value
                task.progress()
                try:
                    value = yield item
                    step = inner.send
                except GeneratorExit:
                    inner.close()
                    raise
                except BaseException as error:  # noqa: BLE001 - thrown in by the consumer
                    step, value = inner.throw, error
        except BaseException as error:
            context.run(task.__exit__, type(error), error, error.__traceback__)
            raise

    return call


def _asyncgen(
    core: AgentCore,
    function: Callable[..., Any],
    name: Name,
    failed: Callable[[Any], bool] | None,  # noqa: ARG001 - it has no result to judge
) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        task = own_task(core, _label(name, args, kwargs))
        context = copy_context()
        context.run(task.__enter__)
        inner = function(*args, **kwargs)
        step, value = inner.asend, None
        try:
            while True:
                before = CURRENT.set(task)
                try:
                    item = await step(value)
                except StopAsyncIteration:
                    context.run(task.__exit__, *_OK)
                    return
                finally:
                    CURRENT.reset(before)
                task.progress()
                try:
                    value = yield item
                    step = inner.asend
                except GeneratorExit:
                    await inner.aclose()
                    raise
                except BaseException as error:  # noqa: BLE001 - thrown in by the consumer
                    step, value = inner.athrow, error
        except BaseException as error:
            context.run(task.__exit__, type(error), error, error.__traceback__)
            raise

    return call
