"""Remembers: what happened to a fleet, in one file that outlives the process.

:class:`Recorder` writes what its own supervisor does, :func:`record` what a stream tells of another
process, :class:`Recording` reads, also while the file is written and after a crash of the process
that wrote it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fleetmon.record.capture import record
    from fleetmon.record.reader import Recording
    from fleetmon.record.recorder import Recorder

__all__ = ["Recorder", "Recording", "record"]

_HOMES = {"Recorder": "recorder", "Recording": "reader", "record": "capture"}


def __getattr__(name: str) -> Any:
    """Load a name when it is first asked for: reading does not load what writing takes."""
    home = _HOMES.get(name)
    if home is None:
        message = f"module 'fleetmon.record' has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(import_module(f"fleetmon.record.{home}"), name)
