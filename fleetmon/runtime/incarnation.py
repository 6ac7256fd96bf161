"""One life of an agent: factory, body and clean-up in one asyncio task, fenced by a generation.

An incarnation is over when its own task and every task that it works on have ended. One that
does not end by its deadline is given up: a *zombie*, killed where that is possible, counted
where it is not, and reaped when it ends late.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from fleetmon.errors import FleetmonError
from fleetmon.events import EventKind
from fleetmon.policy.classify import class_of
from fleetmon.runtime import pull, verification
from fleetmon.runtime.body import Body
from fleetmon.runtime.executors.auto import make_executor
from fleetmon.runtime.live import LiveTimer, live_timeout
from fleetmon.runtime.task import running_aio_task
from fleetmon.tables import values_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fleetmon.errors import WorkerDiedError
    from fleetmon.relay import News
    from fleetmon.runtime.core import AgentCore
    from fleetmon.runtime.executors.base import Executor
    from fleetmon.runtime.task import Task


class SelfCancelledError(FleetmonError):
    """A body raised ``CancelledError`` although nobody had asked it to end."""


class Incarnation:
    """A life of an owned agent; also the host that its executor reports to.

    Attributes:
        busy: tasks of this life that have not really ended, abandoned ones included.
        ending: asked to end.
        abandoned: given up at the deadline.
        leaks: threads that still run abandoned work of this life.
        pulled: tasks that the body took by itself and has not finished.
    """

    __slots__ = (
        "_begun",
        "_deadline",
        "_life",
        "_over",
        "_probe",
        "abandoned",
        "agent_id",
        "busy",
        "core",
        "end_reason",
        "ending",
        "executor",
        "fast_call",
        "generation",
        "handle",
        "has_handle",
        "leaks",
        "pulled",
        "settled",
        "started",
        "takes_payload",
    )

    verifiable = True

    def __init__(self, core: AgentCore) -> None:
        """Make a life that has not begun."""
        self.core = core
        self.agent_id = core.agent_id
        self.generation: int = core.generation
        factory = core.factory
        assert factory is not None  # noqa: S101 - owned agents have one; see Fleet.add
        self.handle = Body(self)
        self.executor: Executor = make_executor(
            core.place or core.spec.executor, factory, core.spec, self
        )
        self.fast_call: Callable[[Any], Awaitable[Any]] | None = None
        self.takes_payload = False
        self.started = False
        self.settled = False
        self.ending = False
        self.abandoned = False
        self.busy = 0
        self.end_reason = ""
        self.leaks = 0
        self.has_handle = False
        self.pulled: dict[int, Task] = {}
        self._begun = False
        self._over = False
        self._life: asyncio.Task[None] | None = None
        self._probe: asyncio.Task[None] | None = None
        self._deadline: LiveTimer | None = None

    # -- its life --------------------------------------------------------------------------------

    def begin(self) -> None:
        """Begin, in an asyncio task of its own."""
        loop = self.core.fleet.loop
        self._life = loop.create_task(self._live())
        loop.call_soon(self._settle_in)

    def _settle_in(self) -> None:
        # the first turn is over: an agent that is up and well by now has cost no timer
        self.settled = True
        core = self.core
        if self.ending or self.over:
            return
        if not self.started:
            self._deadline = LiveTimer(core.fleet, core.spec.deadlines.start, self._start_late)
        elif core.machine.incarnation is self:
            verification.arm_timers(core)

    async def _live(self) -> None:  # noqa: C901 - one life, told in order
        core = self.core
        executor = self.executor
        self._begun = True
        error: BaseException | None = None
        try:
            await executor.start()
            self._up()
            if executor.has_serve:
                await executor.serve()
            else:
                await self._wait_for_end()
        except asyncio.CancelledError as cancelled:
            if not self.ending:
                error = SelfCancelledError(f"{self.agent_id!r} cancelled itself")
                error.__cause__ = cancelled
        except BaseException as raised:  # noqa: BLE001 - an agent may raise whatever it likes
            error = raised
        pull.give_back(core.work, self, lapse=not self.ending)
        if not self.started:
            executor.kill()  # never came up: nothing to ask politely
        elif self._needs_stop():
            if not self.ending:  # the machine hears of it first, so that a deadline runs
                core.machine.ended_by_itself(self, error)
            try:
                await executor.stop()
            except BaseException as raised:  # noqa: BLE001 - its clean-up may do so too
                self._noted(raised)
        self._over = True
        if self.ending:
            self.check_gone()
        else:
            core.machine.ended_by_itself(self, error)
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise error

    def _up(self) -> None:
        self._disarm()
        executor = self.executor
        self.started = True
        self.fast_call = executor.fast_call
        self.takes_payload = executor.takes_payload
        self.has_handle = executor.has_handle
        if executor.kind == "inline" and isinstance(self.core.factory, type):
            self.core.place = "inline"  # a class decides once for all its lives
        if self.ending:
            self._arm_deadline()
        else:
            self.core.machine.started(self)

    def _wait_for_end(self) -> asyncio.Future[None]:
        closing: asyncio.Future[None] = self.core.fleet.loop.create_future()
        return closing

    def _needs_stop(self) -> bool:
        executor: Any = getattr(self.executor, "chosen", self.executor)
        return bool(executor.kind != "inline" or executor.surface.stop is not None)

    def _noted(self, error: BaseException) -> None:
        if not isinstance(error, asyncio.CancelledError):
            self.core.event(EventKind.LATE_RESULT, {"what": "stop()", "error": class_of(error)})

    # -- its end ---------------------------------------------------------------------------------

    @property
    def over(self) -> bool:
        """Nothing of this life runs any more."""
        return self._over and not self.busy

    def owns(self, aio: asyncio.Task[Any]) -> bool:
        """Whether this is the asyncio task of its life or of its probe."""
        return aio is self._life or aio is self._probe

    def end(self) -> None:
        """Ask it to end; :meth:`Machine.gone` follows, by the stop deadline at the latest."""
        self.ending = True
        if self._probe is not None:
            self._probe.cancel()
        if self.over:
            self.check_gone()
            return
        life = self._life
        if life is not None and not self._begun:
            life.cancel()  # it has not had its first step, and will have none
            self._over = True
            self.check_gone()
        elif life is None or life.done() or life is running_aio_task():
            self._arm_deadline()
        elif pull.wake(self.core.work):
            # it waits for work: let it leave by itself first
            half = self.core.spec.deadlines.stop / 2
            self._deadline = LiveTimer(self.core.fleet, half, self._end_harder)
        else:
            life.cancel()
            self._arm_deadline()

    def _arm_deadline(self) -> None:
        self._disarm()
        self._deadline = LiveTimer(self.core.fleet, self.core.spec.deadlines.stop, self.give_up)

    def _end_harder(self) -> None:
        if self._life is not None and not self._life.done():
            self._life.cancel()
        half = self.core.spec.deadlines.stop / 2
        self._deadline = LiveTimer(self.core.fleet, half, self.give_up)

    def check_gone(self) -> None:
        """Report the end, or reap, once nothing of this life is left."""
        if not self.over:
            return
        if self.abandoned:
            self.core.fleet.reaped(self)
        elif self.ending:
            self._disarm()
            self.core.machine.gone(self)

    def give_up(self) -> None:
        """The deadline has passed: kill what can be killed, fence the rest, go on without it."""
        self._disarm()
        if self.abandoned or self.over:
            return
        self.executor.kill()
        self.abandoned = True
        core = self.core
        for task in values_of(core.inflight):
            if task.incarnation is self:
                core.work.abandon(task)
        core.fleet.buried(self)
        core.machine.gone(self)

    def _start_late(self) -> None:
        seconds = self.core.spec.deadlines.start
        reason = f"not up within {seconds:g} s; raise deadlines.start or mend its start"
        self.core.machine.start_late(self, FleetmonError(reason))

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    # -- verification ----------------------------------------------------------------------------

    @property
    def has_probe(self) -> bool:
        """Whether the product can be asked."""
        return self.executor.has_probe

    def probe(self, timeout: float) -> None:
        """Ask the product; the machine gets the result."""
        self._probe = self.core.fleet.loop.create_task(self._ask(timeout))

    def ping(self) -> None:
        """Ask the executor whether it is there at all."""
        self.probe(self.core.spec.deadlines.probe)

    async def _ask(self, timeout: float) -> None:  # noqa: ASYNC109 - it is bounded
        core = self.core
        own = self.executor.has_probe
        error: BaseException | None = None
        try:
            async with live_timeout(self.core.fleet, timeout):
                if not await self.executor.probe():
                    error = FleetmonError(f"the probe of {self.agent_id!r} said no")
        except Exception as raised:  # noqa: BLE001 - whatever a probe raises is its answer
            error = raised
        if self.ending or self._over:
            return
        if own or error is not None:
            verification.probe_result(core, self, error)
        else:
            verification.alive(core, self)

    # -- what its executor reports ---------------------------------------------------------------

    def heartbeat(self, note: str | None = None) -> None:
        """A body in a worker process is alive."""
        self.core.heartbeat(self.generation, note)

    def progress(self, task_id: int, note: str) -> None:
        """A task gets on."""
        task = self.core.inflight.get(task_id)
        if task is not None:
            task.progress(note)

    async def next_task(self) -> Task | None:
        """The next task for a body in a worker process."""
        return await pull.take(self.core.work, self)

    def settle(self, task: Any, result: Any, error: BaseException | None) -> None:
        """The outcome of a task that a body in a worker process had taken."""
        pull.settle(self.core.work, self, task, result, error)

    def died(self, error: WorkerDiedError) -> None:
        """The worker has ended by itself."""
        if self.ending or self.abandoned:
            return
        self.core.machine.worker_died(self, error)

    def counted(self, news: list[News]) -> None:
        """Pass on what exporters counted in the worker process."""
        if (take := self.core.fleet.counted) is not None:
            with suppress(Exception):  # a clash of names loses counts, not the agent
                take(news)

    def leaked(self, threads: int) -> None:
        """Threads run on with abandoned work, or have come back."""
        self.leaks += threads
        self.core.fleet.leaked(self.core, threads)
        if self.leaks == 0:
            self.core.work.unpark(self)
