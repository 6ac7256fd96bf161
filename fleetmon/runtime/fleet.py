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

from fleetmon.errors import (
    DuplicateAgentError,
    NotRunningError,
    SpecError,
    UnknownAgentError,
)
from fleetmon.events import EventKind
from fleetmon.policy.budget import Budget
from fleetmon.policy.classify import Verdict, classify
from fleetmon.policy.transitions import Actual
from fleetmon.runtime.bus import EventBus
from fleetmon.runtime.core import DECLARED, OBSERVED, OWNED, AgentCore
from fleetmon.runtime.gate import RecoveryGate
from fleetmon.runtime.groups import Groups
from fleetmon.runtime.incarnation import Incarnation
from fleetmon.runtime.observed import ObservedIncarnation
from fleetmon.runtime.observers import Observers
from fleetmon.snapshot import DeadLetter, FleetReading, FleetSnapshot
from fleetmon.tables import values_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fleetmon.hooks import EndObserver, FleetRecorder, TaskTracer
    from fleetmon.numbers import AgentNumbers
    from fleetmon.relay import News
    from fleetmon.roster import Roster, RosterEntry
    from fleetmon.runtime.task import Task
    from fleetmon.settings import SupervisorSettings
    from fleetmon.spec import AgentSpec

Classifier = "Callable[[BaseException], Verdict | None]"


class Fleet:
    """All agents of one supervisor, and the numbers source of its metrics.

    Attributes:
        cores: by id, in order of registration; removed agents stay, for their counters.
        membership: rises whenever an agent comes or goes.
        blocked_total: seconds for which the loop was found blocked; what deadlines forgive.
        phase: ``new``, ``running``, ``draining``, ``stopping``, ``stopped``.
    """

    # An attribute in a slot is found in a fraction of the time of one beyond the thirtieth.
    __slots__ = (
        "__weakref__",
        "_classifier",
        "_early",
        "_lock",
        "_numbers",
        "accepting",
        "blocked_total",
        "bus",
        "cores",
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
        "live",
        "log",
        "membership",
        "name",
        "now",
        "observers",
        "phase",
        "recorder",
        "recovery",
        "redeliveries",
        "rng",
        "roster",
        "settings",
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
        self.settings = settings
        self.name = settings.name
        self.roster = roster
        self.epoch = secrets.token_hex(8)
        self.now = monotonic
        self.wall = wall
        self.rng = random.Random(settings.seed)  # noqa: S311 - jitter, not secrets
        self.bus = EventBus(settings.event_ring, monotonic, wall)
        self.cores: dict[str, AgentCore] = {}
        self.membership = 0
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
        self.accepting = True
        self.hurried = False
        self.live = 0
        self.thread = 0
        self.home: Any = None  # the loop; None before start and after close
        self.stock = False  # whether its create_task() is the one of asyncio
        self.elsewhere: dict[asyncio.AbstractEventLoop, int] = {}
        self._early: list[tuple[Callable[..., object], tuple[Any, ...]]] = []
        self._classifier = classifier
        self._numbers: list[AgentNumbers] = []
        self._lock = threading.RLock()
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

    # -- agents ----------------------------------------------------------------------------------

    def spec_of(self, entry: RosterEntry | None, spec: AgentSpec | None) -> AgentSpec:
        """Return the spec to use: the settings' defaults, then the roster's, then what is given.

        Only fields that were set count, so that a spec which sets one leaves the others alone.
        """
        defaults = self.settings.defaults
        if spec is None and (entry is None or not (entry.spec or entry.task_types)):
            return defaults
        values: dict[str, Any] = {f: getattr(defaults, f) for f in defaults.model_fields_set}
        if entry is not None:
            values |= dict(entry.spec)
            if entry.task_types:
                values.setdefault("task_types", tuple(entry.task_types))
        if spec is not None:
            values |= {f: getattr(spec, f) for f in spec.model_fields_set}
        try:
            return type(defaults)(**values)
        except SpecError as error:
            if entry is None:
                raise
            msg = f"roster entry {entry.agent_id!r}: {error}"
            raise SpecError(msg, field=error.field, value=error.value) from None

    def admit(self, name: str, spec: AgentSpec | None, mode: str) -> AgentCore:
        """Register an agent, or bring a declared or removed one back under its old numbers.

        Raises:
            UnknownAgentError: not on the roster, and unknown agents are refused.
            DuplicateAgentError: already there.
            SpecError: an id that cannot be a label, or a spec that does not fit.
        """
        if not self.accepting:
            msg = f"supervisor {self.name!r} is {self.phase}; agents cannot be added any more"
            raise NotRunningError(msg)
        agent_id, entry = self._identify(name)
        with self._lock:
            core = self.cores.get(agent_id)
            if core is not None and core.mode != DECLARED and not core.removed:
                raise DuplicateAgentError(agent_id)
            chosen = self.spec_of(entry, spec)
            self.groups.graph.add(agent_id, chosen)
            if core is None:
                core = self._register(agent_id, chosen, entry, mode)
            else:
                core.mode = mode
                core.removed = False
                core.set_spec(chosen)
            self.live += 1
            self.membership += 1
        core.event(EventKind.AGENT_ADDED, {"mode": mode})
        return core

    def _identify(self, name: str) -> tuple[str, RosterEntry | None]:
        if not isinstance(name, str) or not name.strip() or len(name) > 64:  # noqa: PLR2004 - a label
            msg = f"agent id {name!r} must be a text of 1 to 64 characters"
            raise SpecError(msg, field="agent_id", value=name)
        try:
            name.encode()
        except UnicodeEncodeError:
            msg = f"agent id {name!r} cannot be encoded as UTF-8; leave out the lone surrogates"
            raise SpecError(msg, field="agent_id", value=name) from None
        if self.roster is None:
            return name, None
        try:
            agent_id = self.roster.normalize(name)
        except UnknownAgentError:
            if self.settings.unknown_agents == "refuse":
                raise
            return name, None
        return agent_id, next(e for e in self.roster.entries if e.agent_id == agent_id)

    def _register(
        self, agent_id: str, spec: AgentSpec, entry: RosterEntry | None, mode: str
    ) -> AgentCore:
        if len(self.cores) >= self.settings.metrics.agents:
            msg = (
                f"agent {agent_id!r} would be number {len(self.cores) + 1}, but metrics.agents "
                f"admits {self.settings.metrics.agents}: raise it or reuse ids"
            )
            raise SpecError(msg, field="metrics.agents", value=self.settings.metrics.agents)
        core = AgentCore(self, agent_id, spec, entry, mode)
        self.cores[agent_id] = core
        self._numbers.append(core.numbers)
        return core

    def discard(self, core: AgentCore, *, forget: bool = False) -> None:
        """Let an agent go; its counters stay, so that they never go back.

        Args:
            core: the agent.
            forget: it never was up: nothing of it stays, unless it was declared before.
        """
        with self._lock:
            if core.removed or core.mode == DECLARED:
                return
            self.live -= 1
            self.membership += 1
            self.groups.graph.remove(core.agent_id)
            core.open = False
            if core.entry is not None:
                core.mode = DECLARED
            elif forget and not core.numbers.types and core.generation == 1:
                core.removed = True
                del self.cores[core.agent_id]
                self._numbers = [n for n in self._numbers if n is not core.numbers]
            else:
                core.removed = True
        core.event(EventKind.AGENT_REMOVED, {})

    def find(self, name: str) -> AgentCore:
        """Return the agent that a name means; raises :class:`UnknownAgentError`."""
        core = self.cores.get(name)
        if core is None and self.roster is not None:
            try:
                core = self.cores.get(self.roster.normalize(name))
            except UnknownAgentError:
                core = None
        if core is None or core.removed:
            from difflib import get_close_matches  # only in the error

            there = [c.agent_id for c in self.cores.values() if not c.removed]
            raise UnknownAgentError(str(name), get_close_matches(str(name), there, 3))
        return core

    def make_incarnation(self, core: AgentCore) -> Incarnation | ObservedIncarnation:
        """Make the next life of an agent."""
        return ObservedIncarnation(core) if core.mode == OBSERVED else Incarnation(core)

    # -- what the parts report -------------------------------------------------------------------

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
