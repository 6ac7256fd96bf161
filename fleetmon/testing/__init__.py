"""Helpers for testing agents and fleets without waiting: public API, for our tests and yours.

Names are loaded on first use, so that importing one helper does not load the others.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fleetmon.testing._clock import VirtualClock, current_clock, run
    from fleetmon.testing._errors import DeadlockError, ForeignWorkError, VirtualTimeError
    from fleetmon.testing._foreign import ForeignWork
    from fleetmon.testing._loop import VIRTUAL_ASYNCIO, VirtualTimeLoop

_HOME = {
    "VIRTUAL_ASYNCIO": "_loop",
    "DeadlockError": "_errors",
    "ForeignWork": "_foreign",
    "ForeignWorkError": "_errors",
    "VirtualClock": "_clock",
    "VirtualTimeError": "_errors",
    "VirtualTimeLoop": "_loop",
    "current_clock": "_clock",
    "run": "_clock",
}

__all__ = [
    "VIRTUAL_ASYNCIO",
    "DeadlockError",
    "ForeignWork",
    "ForeignWorkError",
    "VirtualClock",
    "VirtualTimeError",
    "VirtualTimeLoop",
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
