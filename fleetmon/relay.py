"""How what exporters count in a worker process reaches the supervisor's registry.

The exporters join; a worker takes what is new from all that joined there and sends it; in the
supervisor's process :func:`fleetmon.exporters.receive` counts it on the supervisor's registry.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable


class Member(Protocol):
    """The families of one service, as the relay sees them."""

    def take(self) -> list[Any]:
        """Return what was counted since the last call, as plain values."""

    def give(self, increments: Iterable[Any]) -> None:
        """Count what was counted elsewhere."""


class News(NamedTuple):
    """What one service counted: ``kind`` names its class, ``increments`` are plain tuples."""

    kind: str
    prefix: str
    increments: list[Any]


_members: list[tuple[str, str, Member]] = []
_lock = threading.Lock()
_relaying = False


def begin() -> None:
    """Have members noted from here on: this process is a worker."""
    global _relaying  # noqa: PLW0603 - a property of the process
    _relaying = True


def join(kind: str, prefix: str, member: Member) -> None:
    """Note families whose counts are to reach the supervisor, if this process is a worker."""
    if _relaying:
        with _lock:
            _members.append((kind, prefix, member))


def anybody() -> bool:
    """Tell whether anything joined."""
    return bool(_members)


def take() -> list[News]:
    """Return what was counted in this process since the last call; empty where nothing was."""
    if not _members:
        return []
    with _lock:
        taken = [News(kind, prefix, member.take()) for kind, prefix, member in _members]
    return [news for news in taken if news.increments]
