"""An asyncio loop on virtual time: when it would wait, its clock jumps to the next timer."""

from __future__ import annotations

import asyncio
import heapq
import math
import selectors
import threading
import traceback
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from fleetmon.testing._errors import DeadlockError, ForeignWorkError, VirtualTimeError
from fleetmon.testing._foreign import ForeignLedger, ForeignWork, busy_anyio_workers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Executor


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Event loop whose clock moves only when nothing is left to do, and then at once.

    The rules, in this order, whenever the loop has nothing ready:

    1. I/O that has arrived is served; the clock stands still.
    2. With foreign work pending (see `foreign_work`; futures of ``run_in_executor``, threads of
       ``anyio.to_thread`` and child processes count by themselves) the loop really waits for it;
       the clock stands still. After `patience` real seconds it raises `ForeignWorkError`.
    3. Whoever awaits `idle` is woken; the clock stands still.
    4. The clock jumps to the earliest timer.
    5. Without a timer, but with sockets or signal handlers that could bring something, the loop
       really waits, with the same patience.
    6. Otherwise nothing can ever happen: `DeadlockError`, naming each task and where it waits.

    Running code takes no virtual time at all. Sockets do not hold the clock (rule 4 comes before
    5): wrap a talk with another process in `foreign_work`.

    Args:
        start: reading of `time` at the beginning, in seconds.
        patience: real seconds to wait for foreign work; `None` waits for ever.
    """

    def __init__(self, *, start: float = 0.0, patience: float | None = 30.0) -> None:
        self._now = start
        self._patience = patience
        self._elapsing = 0
        self._idle_waiters: list[asyncio.Future[None]] = []
        self._ledger = ForeignLedger(self._wake)
        selector = _JumpingSelector(self)
        super().__init__(selector)
        self._set_time(start)
        # What the loop registered for its own wake-ups says nothing about foreign sockets.
        self._own_files = len(selector.get_map())

    def time(self) -> float:
        """Return the virtual monotonic time in seconds; readable from any thread."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move the clock at once, as if the loop had been blocked for so long.

        Timers that fall due run afterwards, all of them late: what ``time.sleep`` on the loop does.
        To let time pass in order, sleep. Call it on the loop's own thread.

        Raises:
            VirtualTimeError: if `seconds` is negative or not finite.
        """
        if not 0 <= seconds < math.inf:
            raise VirtualTimeError(f"cannot advance by {seconds!r} s: give a finite number >= 0")
        self._set_time(self._now + seconds)

    async def elapse(self, seconds: float) -> None:
        """Sleep for virtual `seconds` during which foreign work does not hold the clock.

        For tests in which a thread or process hangs on purpose while deadlines pass.
        """
        self._elapsing += 1
        try:
            await asyncio.sleep(seconds)
        finally:
            self._elapsing -= 1

    async def idle(self) -> None:
        """Wait until every other task waits and no foreign work is pending; no time passes."""
        waiter = self.create_future()
        self._idle_waiters.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self._idle_waiters:
                self._idle_waiters.remove(waiter)

    def foreign_work(self, name: str = "foreign work") -> ForeignWork:
        """Hold the clock while something outside the loop works.

        Usable as ``with loop.foreign_work("worker 3"):`` or by calling ``done()`` on what it
        returns, from any thread.
        """
        return self._ledger.begin(name)

    def pending_foreign_work(self) -> tuple[str, ...]:
        """Name what holds the clock at this moment."""
        return self._ledger.names() + busy_anyio_workers(self)

    # -- what the loop does for its users and has to be watched ------------------------------

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Run in an executor as usual, holding the clock until the future is done."""
        work = self.foreign_work(f"run_in_executor({getattr(func, '__qualname__', func)!s})")
        try:
            future = super().run_in_executor(executor, func, *args)
        except BaseException:
            work.done()
            raise
        # Called by the loop once it has taken the result over, so no time slips in between.
        future.add_done_callback(work.done)
        return future

    async def shutdown_default_executor(self, *args: Any, **kwargs: Any) -> None:
        """Join the default executor in real time: its time limit is no matter of virtual time."""
        with self.foreign_work("shutdown of the default executor"):
            await super().shutdown_default_executor(*args, **kwargs)

    async def subprocess_shell(self, *args: Any, **kwargs: Any) -> Any:
        """Start a child process, which holds the clock until it ends."""
        return self._watch_child(await super().subprocess_shell(*args, **kwargs))

    async def subprocess_exec(self, *args: Any, **kwargs: Any) -> Any:
        """Start a child process, which holds the clock until it ends."""
        return self._watch_child(await super().subprocess_exec(*args, **kwargs))

    def _watch_child(self, started: tuple[Any, Any]) -> tuple[Any, Any]:
        transport = started[0]
        if transport.get_returncode() is None:
            work = self.foreign_work(f"child process {transport.get_pid()}")
            waiter = self.create_task(transport._wait())  # noqa: SLF001 - has no public twin
            waiter.add_done_callback(work.done)
        return started

    # -- the rules ---------------------------------------------------------------------------

    def _wake(self) -> None:
        if not self.is_closed():
            self.call_soon_threadsafe(_nothing)

    def _set_time(self, now: float) -> None:
        self._now = now
        # asyncio runs what is due before now + resolution. With the usual nanosecond the sum
        # rounds back to now from 1.7e7 s on, and a timer due exactly now would never run.
        self._clock_resolution = max(1e-9, math.ulp(now))

    def _next_timer(self) -> float | None:
        # The loop passes a difference to select(), and adding it again loses the last bit; the
        # heap has the exact moment, cancelled timers at its head being dropped by the loop.
        timers = cast("list[asyncio.TimerHandle]", self._scheduled)  # type: ignore[attr-defined]
        while timers and timers[0].cancelled():
            heapq.heappop(timers)._scheduled = False  # type: ignore[attr-defined]  # noqa: SLF001 - as asyncio does
            self._timer_cancelled_count -= 1  # type: ignore[attr-defined]
        return timers[0].when() if timers else None

    def _wait(self, poll: Callable[[float | None], _Events]) -> _Events:
        # Asked before polling: work that ended until now has already written to the self-pipe.
        foreign = () if self._elapsing else self.pending_foreign_work()
        events = poll(0)
        if events:
            return events
        if foreign:
            return self._wait_really(poll, foreign)
        if self._idle_waiters:
            waiters, self._idle_waiters = self._idle_waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)
            return events
        moment = self._next_timer()
        if moment is not None:
            self._set_time(max(self._now, moment))
            return events
        sockets = self._could_bring_something()
        if sockets:
            return self._wait_really(poll, sockets)
        raise self._deadlock()

    def _wait_really(
        self, poll: Callable[[float | None], _Events], pending: tuple[str, ...]
    ) -> _Events:
        limit = None if self._patience is None else monotonic() + self._patience
        while True:
            left = None if limit is None else limit - monotonic()
            if left is not None and left <= 0:
                raise ForeignWorkError(
                    f"virtual time stood still for {self._patience:g} s, waiting for "
                    f"{', '.join(pending)}: let the work end, or pass the time with "
                    "`await loop.elapse(seconds)`",
                    pending=pending,
                    patience=cast("float", self._patience),
                )
            events = poll(left)
            if events:
                return events

    def _could_bring_something(self) -> tuple[str, ...]:
        files = cast("selectors.BaseSelector", self._selector).get_map()  # type: ignore[attr-defined]
        count = len(files) - self._own_files
        found = [f"{count} open file(s) or socket(s)"] if count > 0 else []
        if self._signal_handlers:  # type: ignore[attr-defined]
            found.append("signal handlers")
        return tuple(found)

    def _deadlock(self) -> DeadlockError:
        waiting = tuple(sorted(_where(task) for task in asyncio.all_tasks(self)))
        others = [t.name for t in threading.enumerate() if t is not threading.current_thread()]
        hint = (
            f" Live threads: {', '.join(others)}; if one of them is to wake the loop, hold the "
            "clock with `loop.foreign_work()` meanwhile."
            if others
            else ""
        )
        tasks = "".join(f"\n  {line}" for line in waiting) or " no task at all"
        return DeadlockError(
            f"deadlock at virtual time {self._now:g} s: nothing is ready or scheduled, and no "
            f"foreign work is pending, so these would wait for ever:{tasks}\n"
            f"Set the event that they wait for, or give the wait a timeout.{hint}",
            waiting=waiting,
        )


VIRTUAL_ASYNCIO: tuple[str, dict[str, Any]] = ("asyncio", {"loop_factory": VirtualTimeLoop})
"""What an ``anyio_backend`` fixture returns to run its tests on virtual time."""

if TYPE_CHECKING:
    _Events = list[tuple[selectors.SelectorKey, int]]


class _JumpingSelector(selectors.DefaultSelector):
    """The system's selector, except that the loop decides what a wait means."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> _Events:
        if timeout is not None and timeout <= 0:
            return super().select(timeout)
        return self._loop._wait(super().select)  # noqa: SLF001 - the other half of the loop


def _nothing() -> None:
    """Run on the loop to make it look again."""


def _where(task: asyncio.Task[Any]) -> str:
    frames: Sequence[Any] = task.get_stack(limit=1)
    if not frames:
        return f"{task.get_name()} has not started"
    frame = traceback.extract_stack(frames[-1], limit=1)[-1]
    return f"{task.get_name()} waits in {frame.name}, {frame.filename}:{frame.lineno}"
