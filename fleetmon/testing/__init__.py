"""Helpers for testing agents and fleets without waiting: public API, for our tests and yours.

Names are loaded on first use, so that importing one helper does not load the others.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fleetmon.testing._agents import Moment, ScriptedAgent, ScriptedError, Step
    from fleetmon.testing._capture import Capture, capture
    from fleetmon.testing._clock import VirtualClock, current_clock, run
    from fleetmon.testing._errors import DeadlockError, ForeignWorkError, VirtualTimeError
    from fleetmon.testing._foreign import ForeignWork
    from fleetmon.testing._loop import VIRTUAL_ASYNCIO, VirtualTimeLoop
    from fleetmon.testing._telemetry import LogCapture, SpanCapture

_HOME = {
    "VIRTUAL_ASYNCIO": "_loop",
    "Capture": "_capture",
    "DeadlockError": "_errors",
    "ForeignWork": "_foreign",
    "ForeignWorkError": "_errors",
    "LogCapture": "_telemetry",
    "Moment": "_agents",
    "ScriptedAgent": "_agents",
    "ScriptedError": "_agents",
    "SpanCapture": "_telemetry",
    "Step": "_agents",
    "VirtualClock": "_clock",
    "VirtualTimeError": "_errors",
    "VirtualTimeLoop": "_loop",
    "capture": "_capture",
    "current_clock": "_clock",
    "run": "_clock",
}

__all__ = [
    "VIRTUAL_ASYNCIO",
    "Capture",
    "DeadlockError",
    "ForeignWork",
    "ForeignWorkError",
    "LogCapture",
    "Moment",
    "ScriptedAgent",
    "ScriptedError",
    "SpanCapture",
    "Step",
    "VirtualClock",
    "VirtualTimeError",
    "VirtualTimeLoop",
    "capture",
    "current_clock",
    "run",
]


def __getattr__(name: str) -> Any:
    """Load a public name from the private module that defines it (PEP 562)."""
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Name the public names, loaded or not."""
    return sorted({*globals(), *__all__})
