"""Work done outside the loop (threads, processes), for which the virtual clock stands still."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from types import TracebackType


class ForeignWork:
    """One piece of foreign work: pending from its creation until `done`, or the end of `with`.

    It may be ended from any thread, and more than once. A thread that hands its result to the loop
    with ``call_soon_threadsafe`` does so first and calls `done` after: then no time passes between.
    """

    __slots__ = ("_ledger", "name")

    def __init__(self, ledger: ForeignLedger, name: str) -> None:
        self.name = name
        self._ledger = ledger

    def done(self, *_: object) -> None:
        """Report that the work is over; takes and ignores arguments, to serve as a callback."""
        self._ledger.end(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.done()


class ForeignLedger:
    """What is pending outside one loop; safe to use from any thread.

    Args:
        wake: called, from whichever thread it is, when the last piece of work ended.
    """

    def __init__(self, wake: Callable[[], object]) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._pending: dict[ForeignWork, None] = {}

    def begin(self, name: str) -> ForeignWork:
        """Book a piece of work and return its handle."""
        work = ForeignWork(self, name)
        with self._lock:
            self._pending[work] = None
        return work

    def end(self, work: ForeignWork) -> None:
        """Strike a piece of work off; the second time does nothing."""
        with self._lock:
            last = self._pending.pop(work, self) is None and not self._pending
        if last:
            self._wake()

    def names(self) -> tuple[str, ...]:
        """Name what is pending, oldest first."""
        with self._lock:
            return tuple(work.name for work in self._pending)


def busy_anyio_workers(loop: asyncio.AbstractEventLoop) -> tuple[str, ...]:
    """Name the threads in which ``anyio.to_thread.run_sync`` works for this loop right now.

    anyio does not go through ``run_in_executor`` and has no public list of its threads, so they
    are recognised by their shape; should anyio change it, the tests of this module say so.
    A thread counts as busy until the loop itself has booked the result, hence without a race.
    """
    return tuple(
        thread.name
        for thread in threading.enumerate()
        if type(thread).__module__.startswith("anyio.") and _works_for(thread, loop)
    )


def _works_for(thread: Any, loop: asyncio.AbstractEventLoop) -> bool:
    return (
        getattr(thread, "loop", None) is loop
        and not thread.stopping
        and thread not in thread.idle_workers
    )
