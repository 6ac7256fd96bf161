"""The hall: :class:`Supervisor`, what an embedding program meets."""

from __future__ import annotations

import asyncio
import inspect
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, Self

from fleetmon.agent import Agent
from fleetmon.errors import SpecError
from fleetmon.events import EventKind
from fleetmon.policy.transitions import Actual, Command
from fleetmon.results import ShutdownReport
from fleetmon.runtime import commands, shutdown
from fleetmon.runtime.fleet import DECLARED, OBSERVED, OWNED, Fleet, default_clock
from fleetmon.runtime.handover import hand_over
from fleetmon.runtime.outlook import Outlook
from fleetmon.runtime.scan import scan
from fleetmon.runtime.watchdog import Watchdog
from fleetmon.settings import SupervisorSettings
from fleetmon.spec import AgentSpec
from fleetmon.supervisor.commanding import Commanding
from fleetmon.supervisor.looking import Looking
from fleetmon.supervisor.serving import Serving
from fleetmon.supervisor.working import Working
from fleetmon.tables import values_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from prometheus_client import CollectorRegistry

    from fleetmon.background import BackgroundSupervisor
    from fleetmon.control.server import ControlServer
    from fleetmon.hooks import FleetRecorder, TaskLog, TaskTracer
    from fleetmon.policy.classify import Verdict
    from fleetmon.relay import News
    from fleetmon.roster import Roster
    from fleetmon.telemetry.server import MetricsServer

_SCAN_EVERY = 0.25  # seconds between looks at hangs where no watchdog thread does it


class Clock(Protocol):
    """Time for a supervisor: seconds, both."""

    def monotonic(self) -> float:
        """Return a clock that never goes back."""

    def time(self) -> float:
        """Return seconds since the epoch."""


class Supervisor(Commanding, Looking, Serving, Working):
    """Keeps a fleet of agents at work, measured, and recovering by itself.

    Use it as an asynchronous context manager in the loop that the agents live in. It starts a
    watchdog thread and, if ``settings.metrics.listen`` says so, a metrics server in a thread of its
    own; it touches no signal handler, no global registry, no logger and no tracer provider.

    Attributes:
        settings: as given.
        report: how it ended, once it has.
    """

    def __init__(
        self,
        settings: SupervisorSettings | None = None,
        *,
        roster: Roster | None = None,
        clock: Clock | None = None,
        classifier: Callable[[BaseException], Verdict | None] | None = None,
        registry: CollectorRegistry | None = None,
        tracer: TaskTracer | None = None,
        log: TaskLog | None = None,
        recorder: FleetRecorder | None = None,
    ) -> None:
        """Make a supervisor that has started nothing.

        Args:
            settings: see :class:`SupervisorSettings`.
            roster: agents that are on the metrics from the first scrape, with their aliases.
            clock: another source of time; a virtual one also replaces the watchdog thread.
            classifier: judges errors before the built-in one; ``None`` from it declines.
            registry: further collectors to serve on ``/metrics``; ours is not registered on it.
            tracer: turns tasks into spans.
            log: turns ends of tasks and events into log lines.
            recorder: keeps a record on disk; see :class:`fleetmon.Recorder`.
        """
        self.settings = settings or SupervisorSettings()
        monotonic, wall = default_clock() if clock is None else (clock.monotonic, clock.time)
        self._virtual = clock is not None
        self._fleet = Fleet(
            self.settings,
            roster=roster,
            monotonic=monotonic,
            wall=wall,
            classifier=classifier,
        )
        self._fleet.use_tracer(tracer)
        self._fleet.observers.use_log(log)
        self._outlook = Outlook(self._fleet)
        self._fleet.bus.hooks = tuple(h.event for h in (tracer, log, recorder) if h is not None)
        self._fleet.recorder = recorder
        if recorder is not None:
            self._fleet.observers.join(recorder)
        self._registry = registry
        if registry is not None:
            self._fleet.counted = partial(_received, registry)
        self._watchdog: Watchdog | None = None
        self._server: MetricsServer | None = None
        self._control: ControlServer | None = None
        self._scanner: asyncio.TimerHandle | None = None
        self._ending: asyncio.Future[ShutdownReport] | None = None
        self.report: ShutdownReport | None = None

    # -- life ------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Start in the running loop.

        Raises:
            ListenError: the metrics address cannot be had; nothing is left running then.
            ControlError: nor is anything when the control plane has no place for its socket.
            RecordError: nor when a recorder that is ``required`` cannot write.
        """
        fleet = self._fleet
        if self.settings.metrics.listen is not None:
            from fleetmon.telemetry.server import MetricsServer  # uvicorn only where wanted

            server = MetricsServer(self.metrics_app(), self.settings.metrics.listen)
            server.start()
            self._server = server
        if self.settings.control.enabled or self.settings.control.listen is not None:
            self._open_control()
        if fleet.recorder is not None:
            self._open_record(fleet.recorder)
        fleet.open()
        if self.settings.watchdog.enabled and not self._virtual:
            self._watchdog = Watchdog(fleet)
            self._watchdog.start()
        else:
            self._scan()
        return self

    def _open_record(self, recorder: FleetRecorder) -> None:
        from fleetmon.runtime.survey import Survey

        try:
            recorder.start(Survey(self._fleet, self.warnings))
        except BaseException:
            if self._server is not None:
                self._server.close()
            if self._control is not None:
                self._control.close()
            raise

    def _open_control(self) -> None:
        from fleetmon.control.server import ControlServer

        try:
            control = ControlServer(self)
            control.start()
        except BaseException:
            if self._server is not None:
                self._server.close()
            raise
        self._control = control

    def _scan(self) -> None:
        scan(self._fleet)
        self._scanner = self._fleet.call_later(_SCAN_EVERY, self._scan)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Drain, then stop, both bounded; :attr:`report` names what had to be left behind.

        With an exception on its way there is no draining: what runs is stopped at once.
        """
        await self.shutdown(drain=None if error is None else 0.0)

    async def drain(self, seconds: float | None = None) -> None:
        """Refuse new work and let what was accepted finish, for ``seconds`` at most."""
        limit = self.settings.shutdown.drain if seconds is None else seconds
        await shutdown.drain(self._fleet, limit)

    async def shutdown(
        self, *, drain: float | None = None, stop: float | None = None
    ) -> ShutdownReport:
        """Drain and stop; a second call returns the first one's report.

        Args:
            drain: seconds; the settings' by default.
            stop: seconds; the settings' by default.
        """
        fleet = self._fleet
        if self.report is not None:
            return self.report
        if fleet.phase in ("new", "stopped"):
            self.report = ShutdownReport(0.0, 0, ())
            return self.report
        if self._ending is None:
            self._ending = asyncio.ensure_future(self._shut_down(drain, stop))
        work = self._ending
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            # the host is in a hurry: no more draining, but the deadlines of stopping hold
            fleet.refuse()
            fleet.hurry()
            await _finish(work)
            raise

    async def _shut_down(self, drain: float | None, stop: float | None) -> ShutdownReport:
        fleet = self._fleet
        began = fleet.now()
        await self.drain(drain)
        cancelled = await shutdown.stop(
            fleet, self.settings.shutdown.stop if stop is None else stop
        )
        report = self.report = shutdown.report(fleet, began, cancelled)
        if self._scanner is not None:
            self._scanner.cancel()
        if self._watchdog is not None:
            self._watchdog.stop()
        fleet.bus.publish(
            EventKind.FLEET_STOPPED,
            data={
                "seconds": round(report.seconds, 3),
                "left_behind": [f"{x.what} {x.agent_id}: {x.detail}" for x in report.left_behind],
            },
        )
        if self._server is not None:
            self._server.close()
        fleet.bus.close()
        if self._control is not None:
            self._control.close()  # after the bus: streams have been told that it is over
        if fleet.recorder is not None:
            await asyncio.to_thread(fleet.recorder.close)
        fleet.close()
        return report

    @classmethod
    def start_in_thread(
        cls, settings: SupervisorSettings | None = None, **options: Any
    ) -> BackgroundSupervisor:
        """Start a supervisor in a background thread, for a host without a loop of its own.

        Returns:
            A :class:`BackgroundSupervisor` with the same ``attach``, ``task`` and ``watch``, and
            synchronous commands; call its ``close()``.
        """
        from fleetmon.background import BackgroundSupervisor

        return BackgroundSupervisor(cls(settings, **options))

    # -- agents ----------------------------------------------------------------------------------

    async def add(
        self,
        agent_id: str,
        factory: Callable[[], Any],
        *,
        spec: AgentSpec | None = None,
        failed: Callable[[Any], bool] | None = None,
    ) -> Agent:
        """Add an agent that the supervisor starts, owns and restarts; returns once it has started.

        Args:
            agent_id: its id, a label value.
            factory: class or callable, synchronous or not, called without arguments for every
                incarnation. Its product is a plain callable (called with the payload), or an
                object with any of ``start()``, ``serve(agent)``, ``handle(task)``, ``probe()`` and
                ``stop()``.
            spec: how it is run and kept alive; the settings' ``defaults`` otherwise.
            failed: tells from a result that the task failed without raising.

        Raises:
            AgentStartError: its first start failed; nothing is registered then.
            DuplicateAgentError: the id is taken.
            UnknownAgentError: not on the roster, and unknown agents are refused.
            SpecError: something cannot be carried out.
            NotRunningError: not entered, or draining already.
        """
        fleet = self._fleet
        if not callable(factory):
            msg = f"factory={factory!r} is not callable; pass a class or a function"
            raise SpecError(msg, field="factory", value=factory)
        _callable_without_arguments(factory)
        loop = fleet.loop
        core = fleet.admit(agent_id, spec, OWNED)
        core.factory = factory
        core.failing = failed
        first: asyncio.Future[None] = loop.create_future()
        core.machine.start_first(first)
        try:
            await first
        except asyncio.CancelledError:
            core.machine.first = None
            core.machine.command(Command.STOP)
            fleet.discard(core)
            raise
        except BaseException:
            fleet.discard(core, forget=True)
            raise
        if core.journal is not None:
            await hand_over(core)
        return Agent(self, core)

    def attach(
        self,
        agent_id: str,
        *,
        recover: Callable[[], Any] | None = None,
        probe: Callable[[], Any] | None = None,
        capacity: int | None = None,
        spec: AgentSpec | None = None,
    ) -> Agent:
        """Attach an agent that the host owns; from any thread, also before the start.

        Args:
            agent_id: its id, a label value.
            recover: called to bring it back; a synchronous one runs in a thread.
            probe: asks whether it is well: raises or returns something false when it is not.
            capacity: tasks at once, so that utilization means something.
            spec: thresholds and limits.

        Raises:
            DuplicateAgentError, UnknownAgentError, SpecError: as :meth:`add`.
        """
        for name, function in (("recover", recover), ("probe", probe)):
            if function is not None and not callable(function):
                msg = f"{name}={function!r} is not callable; pass a function or leave it out"
                raise SpecError(msg, field=name, value=function)
        fleet = self._fleet
        if capacity is not None:
            base = (spec or self.settings.defaults).model_dump(exclude_unset=True)
            spec = AgentSpec(**{**base, "capacity": capacity})
        core = fleet.admit(agent_id, spec, OBSERVED)
        core.observed_recover = recover
        core.observed_probe = probe
        fleet.post(core.machine.start_first, None)
        return Agent(self, core)

    def agent(self, name: str) -> Agent:
        """Return the handle of an agent by id or alias; raises :class:`UnknownAgentError`."""
        return Agent(self, self._fleet.find(name))

    @property
    def agents(self) -> tuple[Agent, ...]:
        """All agents, declared ones included, in order of registration."""
        return tuple(Agent(self, c) for c in values_of(self._fleet.cores) if not c.removed)

    @property
    def membership(self) -> int:
        """A number that is another one once an agent has come or gone, for those who look often."""
        return self._fleet.membership

    async def remove(self, agent_id: str, *, reason: str = "", actor: str = "") -> None:
        """Stop an agent, bounded, and let it go; its counters stay on the metrics.

        Raises:
            UnknownAgentError: there is none of that name.
        """
        core = self._fleet.find(agent_id)
        if core.mode == DECLARED:
            msg = f"agent {core.agent_id!r} has not been added; there is nothing to remove"
            raise SpecError(msg, field="agent_id", value=agent_id)
        commands.audit(core, "remove", actor=actor, reason=reason, result="accepted")
        core.machine.command(Command.STOP)
        while core.machine.actual is not Actual.STOPPED:
            await core.machine.change()
        self._fleet.discard(core)


def _callable_without_arguments(factory: Callable[[], Any]) -> None:
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):  # some callables in C do not tell
        return
    try:
        signature.bind()
    except TypeError as error:
        name = getattr(factory, "__qualname__", repr(factory))
        msg = (
            f"factory {name} {error}: it is called without arguments and makes the agent; "
            f"pass lambda: {name} if it is the agent itself"
        )
        raise SpecError(msg, field="factory", value=factory) from None


async def _finish(work: asyncio.Future[Any]) -> None:
    # bounded by the deadlines of shutdown itself, whatever the caller's scope does meanwhile
    from anyio import CancelScope

    with CancelScope(shield=True):
        await asyncio.wait([work])


def _received(registry: CollectorRegistry, news: list[News]) -> None:
    """Count on ``registry`` what exporters counted in a worker process."""
    from fleetmon.exporters import receive

    receive(registry, news)
