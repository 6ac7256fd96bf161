"""The thread that looks at event loops: how late they are, who blocks them, and where.

It asks each loop to answer. One that does not is blocked: the running task tells which agent, the
thread's frames tell file and line. Time for which a loop was blocked is taken off every deadline
but the blocker's.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from fleetmon.events import EventKind
from fleetmon.runtime.gil import InterpreterWatch
from fleetmon.runtime.scan import scan
from fleetmon.tables import values_of

if TYPE_CHECKING:
    from types import FrameType

    from fleetmon.runtime.core import AgentCore
    from fleetmon.runtime.fleet import Fleet
    from fleetmon.runtime.task import Task

_SCAN_EVERY = 0.25
_STACK_LINES = 12
_CALMER = 5


class Blame(NamedTuple):
    """Who holds a loop, as far as it is known."""

    agent: AgentCore | None
    task: Task | None
    file: str
    line: int
    function: str
    stack: tuple[str, ...]

    def where(self) -> str:
        """Return ``file:line in function``."""
        return f"{self.file}:{self.line} in {self.function}" if self.file else "an unknown line"


class _LoopWatch:
    """One loop: the question that is out, and the episode of blocking that is on."""

    __slots__ = ("_asked", "_fleet", "blame", "blocked_since", "counted", "loop", "main", "thread")

    def __init__(
        self, fleet: Fleet, loop: asyncio.AbstractEventLoop, thread: int, *, main: bool
    ) -> None:
        self._fleet = fleet
        self.loop = loop
        self.thread = thread
        self.main = main
        self._asked = 0.0
        self.blocked_since = 0.0
        self.counted = 0.0
        self.blame: Blame | None = None

    @property
    def waiting(self) -> bool:
        return self._asked > 0.0

    def ask(self) -> bool:
        """Send the question; returns whether the loop still exists."""
        self._asked = self._fleet.now()
        try:
            self.loop.call_soon_threadsafe(self._answer)
        except RuntimeError:
            return False
        return True

    def _answer(self) -> None:  # in the watched loop
        asked, self._asked = self._asked, 0.0
        if self.main and asked:
            lag = self._fleet.now() - asked
            self._fleet.lag = lag
            self._fleet.lag_max = max(self._fleet.lag_max, lag)
            if lag > self._fleet.settings.watchdog.blocked_after and not self.blocked_since:
                # blocked so hard that the watchdog could not look; forgive that time as well
                self._fleet.blocked_total += lag

    def forget(self) -> None:
        self._asked = 0.0

    def late(self, now: float) -> float:
        asked = self._asked
        return now - asked if asked else 0.0


class Watchdog:
    """A daemon thread; harmless to start twice, bounded to stop."""

    def __init__(self, fleet: Fleet) -> None:
        """Prepare for the fleet's loop and every other on which it sees a task."""
        self._fleet = fleet
        self._settings = fleet.settings.watchdog
        self._watches: dict[asyncio.AbstractEventLoop, _LoopWatch] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._next_scan = 0.0
        self._interpreter: InterpreterWatch | None = None
        if self._settings.faulthandler:
            self._interpreter = InterpreterWatch(self._settings.blocked_after)

    def start(self) -> None:
        """Start the thread."""
        fleet = self._fleet
        self._watches[fleet.loop] = _LoopWatch(fleet, fleet.loop, fleet.thread, main=True)
        self._thread = threading.Thread(target=self._run, name="fleetmon-watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread; it is gone within a second."""
        self._stop.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(1.0)
            self._thread = None

    def _run(self) -> None:
        try:
            self._watch()
        finally:
            if self._interpreter is not None:
                self._interpreter.close()

    def _watch(self) -> None:
        idle, busy = self._settings.idle_interval, self._settings.busy_interval
        if self._interpreter is not None:
            self._interpreter.renew()
        pause = idle
        while not self._pause(pause):
            blocked = self._look()
            if self._interpreter is not None:
                self._interpreter.renew()
            late = False
            for watch in values_of(self._watches):
                if watch.waiting:
                    late = True  # a whole interval without an answer: look closely
                elif not watch.ask():
                    if watch.blocked_since:
                        self._freed(watch, self._fleet.now())
                    del self._watches[watch.loop]
            # once it is known who blocks, it need not be asked a hundred times a second
            pause = min(idle, _CALMER * busy) if blocked else busy if late else idle
            self._adopt()
            now = self._fleet.now()
            if now >= self._next_scan:
                self._next_scan = now + _SCAN_EVERY
                try:
                    scan(self._fleet)
                except Exception:  # noqa: BLE001 - a watchdog must outlive what it looks at
                    self._fleet.bus.hook_errors += 1

    def _pause(self, seconds: float) -> bool:
        began = self._fleet.now()
        stopped = self._stop.wait(seconds)
        if self._interpreter is not None:
            # overslept: somebody kept the interpreter, and at this very moment is still running
            over = self._fleet.now() - began - seconds
            if over > self._settings.blocked_after:
                self._held(self._interpreter, {w: self._owner(w) for w in self._watches.values()})
        return stopped

    def _adopt(self) -> None:
        for loop, thread in self._fleet.elsewhere.items():
            known = self._watches.get(loop)
            if (known is None or known.thread != thread) and not loop.is_closed():
                self._watches[loop] = _LoopWatch(self._fleet, loop, thread, main=False)

    def _look(self) -> bool:
        """Look at the loops that have not answered; returns whether one is blocked."""
        blocked = False
        now = self._fleet.now()
        for watch in self._watches.values():
            late = watch.late(now)
            if late and not watch.loop.is_running():
                watch.forget()  # nobody runs it just now: that is not blocking
                late = 0.0
            if late > self._settings.blocked_after:
                blocked = True
                self._blocked(watch, now, late)
            elif watch.blocked_since and not late:
                self._freed(watch, now)
        return blocked

    def _held(
        self,
        interpreter: InterpreterWatch,
        owners: dict[_LoopWatch, tuple[AgentCore | None, Task | None]],
    ) -> None:
        # this thread could not run either: a call in C kept the interpreter lock
        stacks = interpreter.stacks()
        for watch, (core, task) in owners.items():
            stack = stacks.get(watch.thread)
            if not stack:
                continue
            file, line, function = stack[0]
            self._fleet.bus.publish(
                EventKind.LOOP_BLOCKED,
                core.agent_id if core else "",
                core.generation if core else 0,
                task.id if task else 0,
                {
                    "seconds": self._settings.blocked_after,
                    "file": file,
                    "line": line,
                    "function": function,
                    "task_type": task.slot.task_type if task else "",
                    "stack": [f"{f}:{n} in {name}" for f, n, name in stack[:_STACK_LINES]],
                    "interpreter_held": True,
                },
            )

    def _blocked(self, watch: _LoopWatch, now: float, late: float) -> None:
        fleet = self._fleet
        first = not watch.blocked_since
        if first:
            watch.blocked_since = watch.counted = now - late
        if watch.main:
            fleet.blocked_total += now - watch.counted
        seconds, watch.counted = now - watch.counted, now
        blame = self.blame(watch)
        if blame.agent is None and watch.blame is not None:
            blame = watch.blame  # free again, and our question has not had its turn yet
        changed = first or watch.blame is None or watch.blame.agent is not blame.agent
        if changed and watch.blame is not None and watch.blame.agent is not None:
            watch.blame.agent.clear_condition("blocked_loop")
        watch.blame = blame
        core = blame.agent
        if core is not None and watch.waiting:
            core.numbers.add_blocked(seconds)
            self._mark(watch, blame, now)
        if changed:
            fleet.bus.publish(
                EventKind.LOOP_BLOCKED,
                core.agent_id if core else "",
                core.generation if core else 0,
                blame.task.id if blame.task else 0,
                {
                    "seconds": round(late, 3),
                    "file": blame.file,
                    "line": blame.line,
                    "function": blame.function,
                    "task_type": blame.task.slot.task_type if blame.task else "",
                    "stack": list(blame.stack),
                },
            )

    def _mark(self, watch: _LoopWatch, blame: Blame, now: float) -> None:
        core = blame.agent
        if core is None:
            return
        limit = self._settings.hard_after
        task = blame.task
        if task is not None:
            hang = core.spec.task_limits.get(task.task_type, core.spec.hang)
            limit = min(limit, hang.hard or limit)
        held = now - watch.blocked_since
        what = f"task {task.id} ({task.slot.task_type})" if task is not None else "its body"
        core.raise_condition(
            "blocked_loop",
            f"{what} blocks the event loop at {blame.where()}",
            hard=held > limit,
        )

    def _freed(self, watch: _LoopWatch, now: float) -> None:
        fleet = self._fleet
        if watch.main:
            fleet.blocked_total += now - watch.counted
        seconds = now - watch.blocked_since
        core = watch.blame.agent if watch.blame else None
        watch.blocked_since = watch.counted = 0.0
        watch.blame = None
        if core is not None:
            core.clear_condition("blocked_loop")
        fleet.bus.publish(
            EventKind.LOOP_FREED,
            core.agent_id if core else "",
            data={"seconds": round(seconds, 3)},
        )

    # -- blame -----------------------------------------------------------------------------------

    def blame(self, watch: _LoopWatch) -> Blame:
        """Say who runs in that loop's thread right now."""
        frame = sys._current_frames().get(watch.thread)  # noqa: SLF001 - the documented way
        core, task = self._owner(watch)
        if frame is None:
            return Blame(core, task, "", 0, "", ())
        found: list[str] = []
        outer: FrameType | None = frame
        while outer is not None and len(found) < _STACK_LINES:
            code = outer.f_code
            found.append(f"{code.co_filename}:{outer.f_lineno} in {code.co_name}")
            outer = outer.f_back
        stack = tuple(found)  # innermost first
        inner: FrameType = frame
        return Blame(
            core, task, inner.f_code.co_filename, inner.f_lineno or 0, inner.f_code.co_name, stack
        )

    def _owner(self, watch: _LoopWatch) -> tuple[AgentCore | None, Task | None]:
        aio: asyncio.Task[Any] | None = asyncio.current_task(watch.loop)
        best: Task | None = None
        for core in values_of(self._fleet.cores):
            for task in values_of(core.inflight):
                ours = task.aio is aio if aio is not None else task.aio is None
                if ours and task.thread == watch.thread and (best is None or task.id > best.id):
                    best = task
        if best is not None:
            return best.core, best
        if aio is not None and watch.main:
            for core in values_of(self._fleet.cores):
                incarnation = core.machine.incarnation
                if incarnation is not None and incarnation.owns(aio):
                    return core, None
        return None, None
