"""The clock that a fleet under test is given, and a runner for tests without a test framework."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from fleetmon.testing._errors import VirtualTimeError
from fleetmon.testing._loop import VirtualTimeLoop

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")

EPOCH = 1_700_000_000.0
"""Wall time at virtual second 0: 2023-11-14 22:13:20 UTC, a Unix time easy to recognise."""


class VirtualClock:
    """Monotonic and wall time of one `VirtualTimeLoop`, readable from any thread.

    The two move together, except that `set_wall` can make the wall clock jump, as a real one does.

    Args:
        loop: the loop that keeps the time.
        epoch: wall time when the loop's clock reads 0, in Unix seconds.
    """

    def __init__(self, loop: VirtualTimeLoop, *, epoch: float = EPOCH) -> None:
        self.loop = loop
        self._epoch = epoch

    def monotonic(self) -> float:
        """Return virtual monotonic seconds; stands in for ``time.monotonic``."""
        return self.loop.time()

    def time(self) -> float:
        """Return virtual Unix seconds; stands in for ``time.time``."""
        return self._epoch + self.loop.time()

    wall = time

    def time_ns(self) -> int:
        """Return virtual Unix nanoseconds; stands in for ``time.time_ns``."""
        return round(self.time() * 1e9)

    def set_wall(self, unix_seconds: float) -> None:
        """Make the wall clock jump, forwards or backwards; monotonic time is not touched."""
        self._epoch = unix_seconds - self.loop.time()

    def advance(self, seconds: float) -> None:
        """Move the time at once: see `VirtualTimeLoop.advance`."""
        self.loop.advance(seconds)

    async def elapse(self, seconds: float) -> None:
        """Let time pass in spite of foreign work: see `VirtualTimeLoop.elapse`."""
        await self.loop.elapse(seconds)

    async def idle(self) -> None:
        """Wait until nothing is left to do right now: see `VirtualTimeLoop.idle`."""
        await self.loop.idle()


def current_clock(*, epoch: float = EPOCH) -> VirtualClock:
    """Return a clock on the running loop.

    Raises:
        VirtualTimeError: if the running loop does not keep virtual time, or none runs.
    """
    try:
        loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
    except RuntimeError:
        loop = None
    if not isinstance(loop, VirtualTimeLoop):
        raise VirtualTimeError(
            f"no virtual time here, the running loop is {loop!r}: use fleetmon.testing.run, or "
            "the anyio backend fleetmon.testing.VIRTUAL_ASYNCIO"
        )
    return VirtualClock(loop, epoch=epoch)


def run(main: Coroutine[Any, Any, T], *, start: float = 0.0, patience: float | None = 30.0) -> T:
    """Run a coroutine on a `VirtualTimeLoop` of its own and return what it returns.

    Args:
        main: the coroutine to run.
        start: reading of the monotonic clock at the beginning, in seconds.
        patience: real seconds to wait for foreign work; `None` waits for ever.

    Raises:
        DeadlockError: if nothing can ever happen again.
        ForeignWorkError: if foreign work took longer than `patience`.
    """
    with asyncio.Runner(
        loop_factory=lambda: VirtualTimeLoop(start=start, patience=patience)
    ) as runner:
        return runner.run(main)
