"""The hall: :class:`Supervisor`, what an embedding program meets."""

from __future__ import annotations

import asyncio
import inspect
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, Self

from fleetmon.agent import Agent
from fleetmon.errors import NotRunningError, SpecError
from fleetmon.events import Event, EventKind
from fleetmon.policy.explain import Explanation, worst_case
from fleetmon.policy.transitions import Actual, Command
from fleetmon.results import Accepted, CommandResult, ShutdownReport
from fleetmon.runtime import commands, shutdown
from fleetmon.runtime.fleet import DECLARED, OBSERVED, OWNED, Fleet, default_clock
from fleetmon.runtime.handover import hand_over
from fleetmon.runtime.outlook import Outlook
from fleetmon.runtime.scan import scan
from fleetmon.runtime.watchdog import Watchdog
from fleetmon.settings import SupervisorSettings
from fleetmon.spec import AgentSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from types import TracebackType

    from prometheus_client import CollectorRegistry
    from typing_extensions import Unpack

    from fleetmon.agent import How
    from fleetmon.background import BackgroundSupervisor
    from fleetmon.control.server import ControlServer
    from fleetmon.hooks import EndObserver, FleetRecorder, TaskLog, TaskTracer
    from fleetmon.policy.classify import Verdict
    from fleetmon.relay import News
    from fleetmon.roster import Roster
    from fleetmon.runtime.bus import EventStream, Subscription
    from fleetmon.snapshot import DeadLetter, FleetSnapshot, InterruptedTask, Warnings
    from fleetmon.telemetry.app import ASGIApp
    from fleetmon.telemetry.collector import FleetCollector
    from fleetmon.telemetry.server import MetricsServer

_SCAN_EVERY = 0.25  # seconds between looks at hangs where no watchdog thread does it


class Clock(Protocol):
    """Time for a supervisor: seconds, both."""

    def monotonic(self) -> float:
        """Return a clock that never goes back."""

    def time(self) -> float:
        """Return seconds since the epoch."""


class Supervisor:
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
        self._fleet.tracer = tracer
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
        return tuple(Agent(self, c) for c in tuple(self._fleet.cores.values()) if not c.removed)

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

    # -- commands --------------------------------------------------------------------------------

    async def command(
        self,
        name: str,
        agent_id: str,
        *,
        reason: str = "",
        actor: str = "",
        wait: bool = False,
        timeout: float | None = None,  # noqa: ASYNC109 - how long to wait for the outcome
        generation: int | None = None,
        desired: str | None = None,
    ) -> CommandResult:
        """Carry out a command, from any event loop: the one path for code, terminal and dashboard.

        Args:
            name: ``start``, ``stop``, ``restart``, ``pause``, ``resume``, ``drain``,
                ``quarantine`` or ``reset``.
            agent_id: id or alias.
            reason: for the audit event.
            actor: who asks, for the audit event.
            wait: wait until what was asked for has come about, for example a verified recovery.
            timeout: seconds to wait at most; ``None``: as long as it takes.
            generation: refuse unless this is still the incarnation that the caller saw.
            desired: refuse unless this is what is wanted of it just now; ``run``, unless an
                operator has asked for something else.

        Returns:
            :class:`Accepted`, :class:`NoOp` or :class:`Rejected`; an accepted one says in
            ``settled`` whether it came about, if ``wait`` was asked for.

        Raises:
            UnknownAgentError: there is no such agent.
            SpecError: there is no such command.
        """
        fleet = self._fleet
        wanted = commands.named(name)
        core = fleet.find(agent_id)
        if threading.get_ident() != fleet.thread:
            loop = fleet.loop
            again = self.command(
                name,
                agent_id,
                reason=reason,
                actor=actor,
                wait=wait,
                timeout=timeout,
                generation=generation,
                desired=desired,
            )
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(again, loop))
        result = commands.apply(
            fleet,
            core,
            wanted,
            actor=actor,
            reason=reason,
            generation=generation,
            desired=desired,
        )
        if wait and isinstance(result, Accepted):
            return await commands.outcome(core, wanted, timeout)
        return result

    async def start(self, agent_id: str, **how: Unpack[How]) -> CommandResult:
        """Start an agent; arguments as :meth:`command`."""
        return await self.command("start", agent_id, **how)

    async def stop(self, agent_id: str, **how: Unpack[How]) -> CommandResult:
        """Stop an agent."""
        return await self.command("stop", agent_id, **how)

    async def restart(self, agent_id: str, **how: Unpack[How]) -> CommandResult:
        """End an agent's incarnation and begin another; spends no restart budget."""
        return await self.command("restart", agent_id, **how)

    async def pause(self, agent_id: str, **how: Unpack[How]) -> CommandResult:
        """Let an agent take nothing new."""
        return await self.command("pause", agent_id, **how)

    async def resume(self, agent_id: str, **how: Unpack[How]) -> CommandResult:
        """Let a paused or drained agent take tasks again."""
        return await self.command("resume", agent_id, **how)

    async def drain_agent(self, agent_id: str, **how: Unpack[How]) -> CommandResult:
        """Let an agent finish, then stop (``drain`` is the whole fleet's)."""
        return await self.command("drain", agent_id, **how)

    async def quarantine(self, agent_id: str, **how: Unpack[How]) -> CommandResult:
        """Take an agent out until it is reset."""
        return await self.command("quarantine", agent_id, **how)

    async def reset(self, agent_id: str, **how: Unpack[How]) -> CommandResult:
        """Forget an agent's streak and conditions; from quarantine this brings it back."""
        return await self.command("reset", agent_id, **how)

    # -- looking ---------------------------------------------------------------------------------

    def snapshot(self, *, agents: bool = True) -> FleetSnapshot:
        """Return a frozen picture of the fleet, from any thread.

        Args:
            agents: ``False`` leaves them out, for whoever wants to know about the fleet alone.
        """
        return self._fleet.snapshot(agents=agents)

    def warnings(self) -> Warnings:
        """Return what an operator should know, from any thread.

        Rules look at conditions, recent events and counters; the first call looks at all events
        that are kept, later ones at what came since.
        """
        return self._outlook.look()

    def explain(self, policy: AgentSpec | str | None = None) -> Explanation:
        """Say in seconds how long a failing agent can take until it is quarantined.

        Args:
            policy: a spec, an agent's name, or ``None`` for the settings' defaults.
        """
        if policy is None:
            return worst_case(self.settings.defaults)
        if isinstance(policy, str):
            return worst_case(self._fleet.find(policy).spec)
        return worst_case(policy)

    def subscribe(
        self, callback: Callable[[Event], object], *, limit: int = 10_000
    ) -> Subscription:
        """Call ``callback`` with every event from now on, in a thread of its own.

        One that raises, blocks or lags harms only itself; see ``lost`` and ``errors``.
        """
        return self._fleet.bus.subscribe(callback, limit)

    def events(self, *, limit: int = 10_000) -> EventStream:
        """Return an asynchronous iterator over events from now on."""
        return self._fleet.bus.stream(limit)

    def recent_events(self, since: int = 0) -> tuple[Event, ...]:
        """Return the kept events with a sequence number above ``since``, oldest first."""
        return self._fleet.bus.recent(since)

    def observe(self, observer: EndObserver) -> None:
        """Call ``observer.ended(task)`` at every end of a task, on the hot path; from any thread.

        Meant for what keeps a note and works later; an error is counted and dropped.
        """
        self._fleet.observers.join(observer)

    def unobserve(self, observer: EndObserver) -> None:
        """Undo :meth:`observe`; no harm if it is not there."""
        self._fleet.observers.leave(observer)

    def dead_letters(self) -> tuple[DeadLetter, ...]:
        """Return the tasks that were given up, oldest first."""
        return tuple(self._fleet.dead_letters)

    def interrupted(self) -> tuple[InterruptedTask, ...]:
        """Return the tasks that a crash of the process has cut off; empty without a recorder.

        Those that the latest crash left, and older ones that still wait for their agent. With
        ``AgentSpec(after_crash="redeliver")`` they are delivered once more when their agent is
        added; of the others nobody knows whether they did what they were to do.
        """
        recorder = self._fleet.recorder
        return () if recorder is None else recorder.interrupted()

    async def retry_dead_letter(
        self, task_id: int, agent_id: str | None = None, *, actor: str = "", reason: str = ""
    ) -> Any:
        """Run a dead letter again, as a new task of the same or another agent.

        Args:
            task_id: of the letter.
            agent_id: who is to do it; by default who had it before.
            actor: who asks, for the audit event.
            reason: why, for the audit event.

        Returns what the task returns; the letter is gone once the task was accepted.

        Raises:
            LookupError: there is no such letter.
            TaskRefusedError: the agent does not take it; the letter is kept.
        """
        fleet = self._fleet
        if threading.get_ident() != fleet.thread:
            loop = fleet.loop
            again = self.retry_dead_letter(task_id, agent_id, actor=actor, reason=reason)
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(again, loop))
        letter = next((x for x in fleet.dead_letters if x.task_id == task_id), None)
        if letter is None:
            msg = f"no dead letter {task_id}; see dead_letters()"
            raise LookupError(msg)
        agent = self.agent(agent_id or letter.agent_id)
        task = await agent.submit(letter.task_type, letter.payload, wait=False)
        # accepted, and nothing has run in between: only now is the letter answered
        kept = [x for x in fleet.dead_letters if x is not letter]
        fleet.dead_letters.clear()
        fleet.dead_letters.extend(kept)
        core = self._fleet.find(agent.agent_id)
        detail = f"dead letter {task_id}"
        commands.audit(core, "retry", actor=actor, reason=reason, result="accepted", detail=detail)
        return await task

    # -- metrics ---------------------------------------------------------------------------------

    def collector(self) -> FleetCollector:
        """Return an ordinary collector, for hosts that render by themselves."""
        from fleetmon.telemetry.collector import FleetCollector

        return FleetCollector(self._fleet)

    def metrics_app(self, *, cache: bool | None = None) -> ASGIApp:
        """Return an ASGI application with ``/metrics``, ``/healthz`` and ``/readyz``, to mount.

        Args:
            cache: as ``settings.metrics.cache``, which is the default.
        """
        from fleetmon.telemetry.app import metrics_app

        if cache is None:
            cache = self.settings.metrics.cache
        return metrics_app(self._fleet, registry=self._registry, cache=cache)

    # -- control plane ---------------------------------------------------------------------------

    def control_app(
        self, *, token: str | None = None, hosts: Collection[str] | None = None
    ) -> ASGIApp:
        """Return the control plane as an ASGI application, to mount in the host's own.

        It carries commands, so the host says who may ask. Serve it from one event loop only; each
        call returns another one, which knows no command of the others.

        Args:
            token: asked for as ``Authorization: Bearer``; ``None`` leaves that to the host.
            hosts: names that ``Host`` may have; ``None`` leaves that to the host.
        """
        from fleetmon.control.app import ControlPlane
        from fleetmon.control.secrets import Token

        plane = ControlPlane(self)
        return plane.app(hosts=hosts, token=None if token is None else Token(token))

    @property
    def control_path(self) -> str:
        """The control plane's socket; raises :class:`NotRunningError` when there is none."""
        if self._control is None or not self._control.path:
            msg = "no control socket is served; set settings.control.enabled"
            raise NotRunningError(msg)
        return self._control.path

    @property
    def control_url(self) -> str:
        """Where it is served on TCP; raises :class:`NotRunningError` when it is not."""
        if self._control is None or not self._control.url:
            msg = "the control plane is not served on TCP; set settings.control.listen to HOST:PORT"
            raise NotRunningError(msg)
        return self._control.url

    @property
    def metrics_url(self) -> str:
        """Where ``/metrics`` is served; raises :class:`NotRunningError` when it is not."""
        if self._server is None:
            msg = "metrics are not served; set settings.metrics.listen to HOST:PORT"
            raise NotRunningError(msg)
        return f"{self._server.url}/metrics"


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
