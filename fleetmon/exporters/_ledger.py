"""How much a store holds, kept exact one change at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable

Measure = Callable[[], tuple[int, int]]
"""Gives bytes and number of objects held."""


class Ledger:
    """Names, and the objects behind them; safe from any thread.

    Several names may stand for one object (hard links), which is counted once.
    """

    def __init__(self) -> None:
        """Hold nothing."""
        self._names: dict[str, Hashable] = {}
        self._objects: dict[Hashable, tuple[int, int]] = {}  # names, bytes
        self._bytes = 0
        self._lock = threading.Lock()

    def totals(self) -> tuple[int, int]:
        """Return bytes and number of objects."""
        with self._lock:
            return self._bytes, len(self._objects)

    def put(self, name: str, size: int, shared: Hashable = None) -> None:
        """Say that ``name`` is an object of ``size`` bytes; ``shared`` tells links of one apart."""
        identity = ("name", name) if shared is None else ("shared", shared)
        with self._lock:
            if self._names.get(name, identity) != identity:
                self._drop(name)
            names, before = self._objects.get(identity, (0, 0))
            names += name not in self._names
            self._names[name] = identity
            self._objects[identity] = (names, size)
            self._bytes += size - before

    def drop(self, name: str) -> None:
        """Say that nothing has this name any more; harmless where nothing had."""
        with self._lock:
            self._drop(name)

    def move_below(self, old: str, new: str) -> None:
        """Rename everything whose name begins with ``old`` to begin with ``new``."""
        with self._lock:
            for name in [name for name in self._names if name.startswith(old)]:
                identity = self._names.pop(name)
                fresh = new + name[len(old) :]
                self._drop(fresh)
                if identity == ("name", name):
                    self._objects["name", fresh] = self._objects.pop(identity)
                    identity = ("name", fresh)
                self._names[fresh] = identity

    def _drop(self, name: str) -> None:
        identity = self._names.pop(name, None)
        if identity is None:
            return
        names, size = self._objects[identity]
        if names > 1:
            self._objects[identity] = (names - 1, size)
        else:
            del self._objects[identity]
            self._bytes -= size
