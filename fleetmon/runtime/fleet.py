"""The fleet: every agent, the loop they live in, and what they share.

Everything here runs in the supervisor's loop unless it says otherwise.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import secrets
import threading
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

from fleetmon.errors import NotRunningError
from fleetmon.events import EventKind
from fleetmon.policy.budget import Budget
from fleetmon.policy.classify import Verdict, classify
from fleetmon.policy.transitions import Actual
from fleetmon.runtime.bus import EventBus
from fleetmon.runtime.core import DECLARED, OBSERVED, OWNED, AgentCore
from fleetmon.runtime.gate import RecoveryGate
from fleetmon.runtime.groups import Groups
from fleetmon.runtime.incarnation import Incarnation
from fleetmon.runtime.members import Members
from fleetmon.runtime.observed import ObservedIncarnation
from fleetmon.runtime.observers import Observers
from fleetmon.snapshot import DeadLetter, FleetReading, FleetSnapshot
from fleetmon.tables import values_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fleetmon.hooks import EndObserver, FleetRecorder, TaskTracer
    from fleetmon.numbers import AgentNumbers
    from fleetmon.relay import News
    from fleetmon.roster import Roster
    from fleetmon.runtime.task import Task
    from fleetmon.settings import SupervisorSettings

Classifier = "Callable[[BaseException], Verdict | None]"


class Fleet(Members):
    """All agents of one supervisor, and the numbers source of its metrics.

    Attributes:
        blocked_total: seconds for which the loop was found blocked; what deadlines forgive.
        phase: ``new``, ``running``, ``draining``, ``stopping``, ``stopped``.
    """

    # An attribute in a slot is found in a fraction of the time of one beyond the thirtieth.
    __slots__ = (
        "__weakref__",
        "_classifier",
        "_early",
        "blocked_total",
        "bus",
        "counted",
        "dead_letters",
        "elsewhere",
        "epoch",
        "finish",
        "groups",
        "home",
        "hurried",
        "lag",
        "lag_max",
        "late_results",
        "leaked_threads",
        "log",
        "name",
        "now",
        "observers",
        "phase",
        "recorder",
        "recovery",
        "redeliveries",
        "rng",
        "stock",
        "task_ids",
        "thread",
        "tracer",
        "wall",
        "zombies",
    )

    def __init__(
        self,
        settings: SupervisorSettings,
        *,
        roster: Roster | None,
        monotonic: Callable[[], float],
        wall: Callable[[], float],
        classifier: Callable[[BaseException], Verdict | None] | None,
    ) -> None:
        """Make a fleet that runs nothing yet."""
        super().__init__(settings, roster)
        self.name = settings.name
        self.epoch = secrets.token_hex(8)
        self.now = monotonic
        self.wall = wall
        self.rng = random.Random(settings.seed)  # noqa: S311 - jitter, not secrets
        self.bus = EventBus(settings.event_ring, monotonic, wall)
        self.task_ids = itertools.count(1)
        self.tracer: TaskTracer | None = None
        # ends a span in a context that ends with it
        self.finish: Callable[[Task], bool | None] = _never
        self.log: EndObserver | None = None  # put together by the observers
        self.observers = Observers(self)
        self.counted: Callable[[list[News]], None] | None = None  # what exporters in workers count
        self.recorder: FleetRecorder | None = None
        self.recovery = RecoveryGate(self)
        self.groups = Groups(self)
        self.redeliveries = Budget(settings.restarts.redeliveries, 60.0)
        self.dead_letters: deque[DeadLetter] = deque(maxlen=settings.dead_letters)
        self.late_results = 0
        self.zombies: set[Incarnation] = set()
        self.leaked_threads = 0
        self.blocked_total = 0.0
        self.lag = 0.0
        self.lag_max = 0.0
        self.phase = "new"
        self.hurried = False
        self.thread = 0
        self.home: Any = None  # the loop; None before start and after close
        self.stock = False  # whether its create_task() is the one of asyncio
        self.elsewhere: dict[asyncio.AbstractEventLoop, int] = {}
        self._early: list[tuple[Callable[..., object], tuple[Any, ...]]] = []
        self._classifier = classifier
        _FLEETS.add(self)
        if roster is not None:
            for entry in roster.entries:
                self._register(entry.agent_id, self.spec_of(entry, None), entry, DECLARED)

    def use_tracer(self, tracer: TaskTracer | None) -> None:
        """Take the host's tracer."""
        self.tracer = tracer
        if tracer is not None:
            self.finish = getattr(tracer, "finish", tracer.end)

    # -- the loop --------------------------------------------------------------------------------

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop that the fleet runs in.

        Raises:
            NotRunningError: before start and after close.
        """
        home: asyncio.AbstractEventLoop | None = self.home
        if home is None:
            fix = "enter it with 'async with' first" if self.phase == "new" else "make a new one"
            msg = f"supervisor {self.name!r} is {self.phase}; {fix}"
            raise NotRunningError(msg)
        return home

    def open(self) -> None:
        """Bind to the running loop and carry out what was posted before."""
        if self.phase != "new":
            msg = f"supervisor {self.name!r} was started before; make a new one"
            raise NotRunningError(msg)
        self.home = asyncio.get_running_loop()
        self.stock = type(self.home).create_task is asyncio.BaseEventLoop.create_task
        self.thread = threading.get_ident()
        self.phase = "running"
        early, self._early = self._early, []
        for function, arguments in early:
            function(*arguments)
        self.bus.publish(EventKind.FLEET_STARTED)

    def refuse(self) -> None:
        """Take no new work, for good."""
        self.accepting = False
        for core in self.cores.values():
            core.open = False
            core.attention = True

    def hurry(self) -> None:
        """Cut a drain short: its remaining wait is over at once."""
        self.hurried = True

    def forget_parent(self) -> None:
        """Become a stopped fleet in a forked child; locks may have been held elsewhere."""
        self.accepting = False
        self.phase = "stopped"
        self.home = None
        self.thread = 0
        self._lock = threading.RLock()
        self.bus.forget_parent()
        for core in self.cores.values():
            core.open = False
            core.numbers.renew()

    def close(self) -> None:
        """Let go of the loop; late reports are then only counted."""
        self.recovery.close()
        self.groups.close()
        self.home = None
        self.stock = False
        self.thread = 0  # no thread is its own any more
        self.phase = "stopped"

    def post(self, function: Callable[..., object], *arguments: Any) -> None:
        """Run a function in the loop: now if this is its thread, soon otherwise."""
        loop = self.home
        if loop is None:
            if self.phase == "new":
                self._early.append((function, arguments))
            return
        if threading.get_ident() == self.thread:
            function(*arguments)
            return
        try:
            loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:  # closed between the check and the call
            self.late_results += 1

    def call_later(
        self, delay: float, function: Callable[..., object], *arguments: Any
    ) -> asyncio.TimerHandle:
        """Arm a timer in the loop."""
        return self.loop.call_later(delay, function, *arguments)

    def seen_elsewhere(self, aio: asyncio.Task[Any] | None) -> None:
        """Remember a foreign loop on which a task was seen, for the watchdog; from any thread."""
        if aio is None:
            return
        loop = aio.get_loop()
        thread = threading.get_ident()
        if self.elsewhere.get(loop) != thread:
            known = {x: t for x, t in self.elsewhere.items() if not x.is_closed()}
            self.elsewhere = {**known, loop: thread}

    # -- what the parts report -------------------------------------------------------------------

    def make_incarnation(self, core: AgentCore) -> Incarnation | ObservedIncarnation:
        """Make the next life of an agent."""
        return ObservedIncarnation(core) if core.mode == OBSERVED else Incarnation(core)

    def classify(self, core: AgentCore, error: BaseException) -> Verdict:
        """Judge an error; a classifier of the host's goes first and may decline with ``None``."""
        if self._classifier is not None:
            try:
                verdict = self._classifier(error)
            except Exception:  # noqa: BLE001 - a classifier that raises has no opinion
                verdict = None
            if verdict is not None:
                return verdict
        return classify(error, core.spec.error_types, wall=self.wall())

    def late(self, core: AgentCore, task: Task | None) -> None:  # noqa: ARG002 - for a debugger
        """Count something from an older generation, which changed nothing."""
        self.late_results += 1

    def buried(self, incarnation: Incarnation) -> None:
        """An incarnation would not end and was given up."""
        self.zombies.add(incarnation)
        core = incarnation.core
        core.zombies += 1
        core.raise_condition("zombie", f"{core.zombies} incarnation(s) would not end")
        core.event(EventKind.ZOMBIE, {"count": core.zombies, "generation": incarnation.generation})

    def reaped(self, incarnation: Incarnation) -> None:
        """A zombie has ended late."""
        if incarnation not in self.zombies:
            return
        self.zombies.discard(incarnation)
        core = incarnation.core
        core.zombies -= 1
        if core.zombies:
            core.raise_condition("zombie", f"{core.zombies} incarnation(s) would not end")
        else:
            core.clear_condition("zombie")
        core.event(EventKind.ZOMBIE_REAPED, {"generation": incarnation.generation})
        core.work.unpark(incarnation)

    def leaked(self, core: AgentCore, threads: int) -> None:
        """Threads run on with abandoned work, or have come back."""
        self.leaked_threads += threads
        if threads > 0:
            core.event(EventKind.THREAD_LEAKED, {"threads": self.leaked_threads})

    def bury_task(self, task: Task, reason: str) -> None:
        """Keep a task that was given up, for a look and a retry by hand."""
        self.dead_letters.append(
            DeadLetter(
                task.id,
                task.agent_id,
                task.task_type,
                task.payload,
                task.attempt,
                reason,
                self.wall(),
            )
        )
        task.core.event(
            EventKind.DEAD_LETTERED,
            {
                "task_type": task.slot.task_type,
                "reason": reason,
                "attempts": task.attempt,
                **task.trace(),
            },
            task.id,
        )

    # -- pictures, from any thread ---------------------------------------------------------------

    def agents(self) -> Sequence[AgentNumbers]:
        """Return all numbers, in order of registration, for the metrics."""
        return self._numbers

    def ready(self) -> bool:
        """Whether the fleet is able to serve."""
        return self.phase == "running" and any(
            c.machine.actual in (Actual.RUNNING, Actual.RECOVERING) and not c.removed
            for c in values_of(self.cores)
        )

    def fleet(self) -> FleetReading:
        """Return the numbers about the supervisor itself."""
        return FleetReading(
            self.lag,
            self.lag_max,
            self.blocked_total,
            self.bus.count,
            dict(self.bus.drops),
            self.bus.hook_errors,
            self.late_results,
            len(self.zombies),
            self.leaked_threads,
            len(self.dead_letters),
            len(self.recovery.active),
            self.recovery.control.state not in ("closed", "ramping"),
            _dropped(self.observers.log),
            _dropped(self.tracer),
            None if self.recorder is None else self.recorder.reading(),
        )

    def snapshot(self, *, agents: bool = True) -> FleetSnapshot:
        """Return a frozen picture, each agent consistent in itself; without agents if asked to."""
        now = self.now()
        cores = values_of(self.cores) if agents else ()
        return FleetSnapshot(
            self.name,
            self.epoch,
            self.bus.count,
            self.wall(),
            now,
            self.phase,
            tuple(c.snapshot(now) for c in cores if not c.removed),
            self.fleet(),
        )


_FLEETS: weakref.WeakSet[Fleet] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    # threads, loop and ports stayed with the parent: the child has no supervisor, and says so
    for fleet in tuple(_FLEETS):
        fleet.forget_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def default_clock() -> tuple[Callable[[], float], Callable[[], float]]:
    """Return the clocks of a real fleet: monotonic and wall, in seconds."""
    return time.monotonic, time.time


__all__ = ["DECLARED", "OBSERVED", "OWNED", "Fleet", "default_clock"]


def _never(_task: Task) -> None:
    """Stand where nothing is traced."""


def _dropped(teller: object) -> dict[str, int]:
    """Return what a log or a tracer says that it has lost; nothing when it does not say."""
    try:
        return {str(k): int(n) for k, n in dict(getattr(teller, "dropped", ())).items()}
    except Exception:  # noqa: BLE001 - the host's code: a scrape must not fail for it
        return {}
