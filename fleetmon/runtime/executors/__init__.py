"""Where an agent's work runs: inline, in threads, or in a process that can be killed.

Names are loaded when asked for: a worker process needs few of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fleetmon.runtime.executors.auto import AutoExecutor, make_executor
    from fleetmon.runtime.executors.base import Executor, ExecutorHost, Work
    from fleetmon.runtime.executors.inline import InlineExecutor
    from fleetmon.runtime.executors.process import ProcessExecutor
    from fleetmon.runtime.executors.thread import ThreadExecutor

__all__ = [
    "AutoExecutor",
    "Executor",
    "ExecutorHost",
    "InlineExecutor",
    "ProcessExecutor",
    "ThreadExecutor",
    "Work",
    "make_executor",
]

_HOMES = {
    "AutoExecutor": "auto",
    "Executor": "base",
    "ExecutorHost": "base",
    "InlineExecutor": "inline",
    "ProcessExecutor": "process",
    "ThreadExecutor": "thread",
    "Work": "base",
    "make_executor": "auto",
}


def __getattr__(name: str) -> Any:
    """Load a public name from its module (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
