"""Reading tables that somebody else may write meanwhile, without a lock."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

K = TypeVar("K")
V = TypeVar("V")


def values_of(table: Mapping[K, V]) -> tuple[V, ...]:
    """Return all values as they are at one moment.

    ``tuple(table.values())`` is one step for other threads, but for one gap: the collection of
    garbage that making the tuple may set off. A finalizer may write the table there, or let a
    thread run that does, and what was begun is then begun again.
    """
    if not table:
        return ()
    while True:
        try:
            return tuple(table.values())
        except RuntimeError:  # changed size during iteration
            continue


def items_of(table: Mapping[K, V]) -> tuple[tuple[K, V], ...]:
    """Return all pairs as they are at one moment: see :func:`values_of`."""
    while True:
        try:
            return tuple(table.items())
        except RuntimeError:  # changed size during iteration
            continue
