"""The handle of one agent, as the embedding program sees it."""

from __future__ import annotations

import asyncio
from threading import get_ident
from typing import TYPE_CHECKING, Any, Protocol, TypedDict, TypeVar

from fleetmon.errors import NotRunningError, QueueFullError, SpecError, TaskTimeoutError
from fleetmon.runtime.phase import WAITING
from fleetmon.runtime.task import Task, current, new_task
from fleetmon.runtime.watch import watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Unpack

    from fleetmon.results import CommandResult
    from fleetmon.rows import AgentRow
    from fleetmon.runtime.core import AgentCore
    from fleetmon.snapshot import AgentSnapshot, Standing
    from fleetmon.spec import AgentSpec

F = TypeVar("F", bound="Callable[..., Any]")


class How(TypedDict, total=False):
    """What every command takes beside its agent; see :meth:`Supervisor.command`."""

    reason: str
    actor: str
    wait: bool
    timeout: float | None
    generation: int | None
    desired: str | None


class _Commander(Protocol):
    async def command(
        self,
        name: str,
        agent_id: str,
        *,
        reason: str = "",
        actor: str = "",
        wait: bool = False,
        timeout: float | None = None,  # noqa: ASYNC109 - as in run
        generation: int | None = None,
        desired: str | None = None,
    ) -> CommandResult: ...


class Agent:
    """One supervised agent. Handles are cheap and equal when they mean the same agent.

    ``task``, ``watch``, ``heartbeat`` and the questions may be used from any thread; ``run``,
    ``submit`` and the commands from any event loop.
    """

    __slots__ = ("_core", "_supervisor")

    def __init__(self, supervisor: _Commander, core: AgentCore) -> None:
        """Use :meth:`Supervisor.add`, :meth:`Supervisor.attach` or :meth:`Supervisor.agent`."""
        self._supervisor = supervisor
        self._core = core

    def __repr__(self) -> str:
        """Name the agent and its state."""
        return f"<Agent {self.agent_id} {self._core.numbers.lifecycle}>"

    def __eq__(self, other: object) -> bool:
        """Same agent of the same supervisor."""
        return isinstance(other, Agent) and other._core is self._core

    def __hash__(self) -> int:
        """Hash as the agent."""
        return hash(id(self._core))

    # -- questions -------------------------------------------------------------------------------

    @property
    def agent_id(self) -> str:
        """Its id, as on the metrics."""
        return self._core.agent_id

    @property
    def generation(self) -> int:
        """Number of its present incarnation; 0 before the first."""
        return self._core.generation

    @property
    def spec(self) -> AgentSpec:
        """How it is run and kept alive."""
        return self._core.spec

    @property
    def accepting(self) -> bool:
        """Whether it takes new tasks; advice for an observed agent."""
        return self._core.accepting

    def snapshot(self) -> AgentSnapshot:
        """Return a frozen picture of it."""
        return self._core.snapshot(self._core.now())

    @property
    def standing(self) -> Standing:
        """How it is in four words, from any thread: cheap, for who asks ten thousand of them."""
        return self._core.standing()

    def revision(self) -> tuple[Any, ...]:
        """Return something that differs once a picture would, but for what moves with time."""
        return self._core.revision()

    def row(self, now: float | None = None) -> AgentRow:
        """Return its picture as a flat row; ``now`` is the supervisor's clock."""
        core = self._core
        return core.row(core.now() if now is None else now)

    # -- work through the mailbox ----------------------------------------------------------------

    async def run(
        self,
        task_type: str,
        payload: Any = None,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the whole wait, queueing included
        wait: bool = True,
    ) -> Any:
        """Have the agent do a task and return its result.

        Args:
            task_type: label; see ``Metrics.task_types`` for how many are told apart.
            payload: what the agent gets.
            timeout: seconds for everything, queueing included. A task that is run by another
                inherits what is left of that one's.
            wait: with a full queue wait for room; ``False`` raises instead.

        Raises:
            TaskRefusedError: paused, draining, stopped, quarantined; full with ``wait=False``.
            TaskTimeoutError: the timeout passed.
            TaskFailedError: the agent went down under it.
            Exception: whatever the work raised, as it is.
        """
        core = self._core
        fleet = core.fleet
        if get_ident() != fleet.thread:
            loop = fleet.loop
            return await _elsewhere(self.run(task_type, payload, timeout=timeout, wait=wait), loop)
        parent = current()
        deadline = None if timeout is None and parent is None else _deadline(core, timeout, parent)
        # new_task() in one piece: a call a task saved
        task = Task()
        task.core = core
        task.id = next(core.task_ids)
        task.agent_id = core.agent_id
        task.task_type = task_type
        try:
            task.slot = core.numbers.types[task_type]
        except (KeyError, TypeError):
            task.slot = core.numbers.type(task_type)
        task.payload = payload
        task.state = WAITING
        task.attempt = 1
        task.generation = 0
        task.cancel_reason = ""
        task.origin = task.failure = task.timer = None
        # what create_future() of any loop comes to, without the call of a function in Python
        future = task.future = asyncio.Future(loop=fleet.home)
        if deadline is not None:
            task.deadline = deadline
            self._arm(task)
        try:
            core.work.put(task)
        except QueueFullError:
            _forget(task)
            if not wait:
                raise
            await self._put_later(task)
        except BaseException:
            _forget(task)
            raise
        try:
            return await future
        except asyncio.CancelledError:
            if not future.done() or future.cancelled():
                core.work.cancel(task, "caller")
            raise

    def call(self, task_type: str, payload: Any = None, *, timeout: float | None = None) -> Any:
        """As :meth:`run`, for synchronous code in a thread other than the supervisor's.

        A handler on the thread executor calls other agents with it.

        Raises:
            NotRunningError: called in the supervisor's own thread, which it would block.
        """
        fleet = self._core.fleet
        if get_ident() == fleet.thread:
            msg = "call() would block the supervisor's own loop; await run() there"
            raise NotRunningError(msg)
        loop = fleet.loop
        return asyncio.run_coroutine_threadsafe(
            self.run(task_type, payload, timeout=timeout), loop
        ).result()

    async def submit(
        self,
        task_type: str,
        payload: Any = None,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - as in run
        wait: bool = True,
    ) -> Task:
        """Hand in a task and return it at once; ``await task`` gives its result later.

        Raises:
            TaskRefusedError: as :meth:`run`; :class:`QueueFullError` with ``wait=False``.
        """
        core = self._core
        fleet = core.fleet
        if get_ident() != fleet.thread:
            msg = "submit() belongs to the supervisor's own loop; use run() from another"
            raise SpecError(msg, field="loop")
        task = new_task(core, task_type, payload, _deadline(core, timeout, current()))
        task.future = fleet.loop.create_future()
        self._arm(task)
        try:
            core.work.put(task)
        except QueueFullError:
            _forget(task)
            if not wait:
                raise
            await self._put_later(task)
        except BaseException:
            _forget(task)
            raise
        return task

    def _arm(self, task: Task) -> None:
        core = self._core
        left = task.remaining()
        if left is not None:
            task.timer = core.fleet.call_later(left, core.work.cancel, task, "timeout")

    async def _put_later(self, task: Task) -> None:
        # the task is not accepted yet: its own timer must not book it
        core = self._core
        while True:
            left = task.remaining()
            try:
                async with asyncio.timeout(left):
                    await core.work.room()
            except TimeoutError:
                msg = f"no room in the queue of {core.agent_id!r} within the timeout"
                raise TaskTimeoutError(msg, agent_id=core.agent_id, task_id=task.id) from None
            try:
                core.work.put(task)
            except QueueFullError:
                continue
            self._arm(task)
            return

    # -- work around the host's own call ---------------------------------------------------------

    def task(self, task_type: str, *, timeout: float | None = None, refuse: bool = False) -> Task:
        """Measure the host's own work: ``with agent.task("train") as task: ...``.

        Args:
            task_type: label.
            timeout: seconds that it may take. It does not stop the work: a ``TimeoutError`` or a
                cancellation after them is booked as timed out.
            refuse: raise while the agent is paused, draining, stopped or quarantined, instead of
                leaving that to the host.
        """
        core = self._core
        if refuse:
            core.work.refuse()
        # own_task() in one piece: a call a task saved
        task = Task()
        task.core = core
        task.id = next(core.task_ids)
        task.agent_id = core.agent_id
        task.task_type = task_type
        try:
            task.slot = core.numbers.types[task_type]
        except (KeyError, TypeError):
            task.slot = core.numbers.type(task_type)
        task.state = WAITING
        task.attempt = 1
        task.generation = core.generation
        task.origin = task.failure = None
        if timeout is not None:
            task.deadline = _deadline(core, timeout, None)
        return task

    def watch(
        self,
        function: F,
        *,
        task_type: str | Callable[..., str] | None = None,
        failed: Callable[[Any], bool] | None = None,
    ) -> F:
        """Return ``function`` with every call measured as a task of this agent.

        Args:
            function: synchronous, coroutine, generator or asynchronous generator function.
            task_type: label, or a function of the call's arguments that gives it; the function's
                name by default.
            failed: tells from a result that the call failed without raising, for example
                ``lambda r: not r.success``.
        """
        return watch(self._core, function, task_type, failed)  # type: ignore[return-value]

    def heartbeat(self, note: object = None) -> None:
        """Say that an observed agent is alive and gets on."""
        self._core.heartbeat(self._core.generation, note)

    # -- commands --------------------------------------------------------------------------------

    async def start(self, **how: Unpack[How]) -> CommandResult:
        """Start it after it was stopped; see :meth:`Supervisor.command` for the arguments."""
        return await self._supervisor.command("start", self.agent_id, **how)

    async def stop(self, **how: Unpack[How]) -> CommandResult:
        """Stop it."""
        return await self._supervisor.command("stop", self.agent_id, **how)

    async def restart(self, **how: Unpack[How]) -> CommandResult:
        """End its incarnation and begin another."""
        return await self._supervisor.command("restart", self.agent_id, **how)

    async def pause(self, **how: Unpack[How]) -> CommandResult:
        """Keep its incarnation, take nothing new."""
        return await self._supervisor.command("pause", self.agent_id, **how)

    async def resume(self, **how: Unpack[How]) -> CommandResult:
        """Take tasks again."""
        return await self._supervisor.command("resume", self.agent_id, **how)

    async def drain(self, **how: Unpack[How]) -> CommandResult:
        """Let it finish, then stop."""
        return await self._supervisor.command("drain", self.agent_id, **how)

    async def quarantine(self, **how: Unpack[How]) -> CommandResult:
        """Take it out until it is reset."""
        return await self._supervisor.command("quarantine", self.agent_id, **how)

    async def reset(self, **how: Unpack[How]) -> CommandResult:
        """Forget streak and conditions; from quarantine this brings it back."""
        return await self._supervisor.command("reset", self.agent_id, **how)


def _deadline(core: AgentCore, timeout: float | None, parent: Task | None) -> float | None:
    if timeout is not None and not timeout > 0:
        msg = f"timeout={timeout!r} must be above 0 seconds, or None to wait for ever"
        raise SpecError(msg, field="timeout", value=timeout)
    own = None if timeout is None else core.now() + timeout
    if parent is None or parent.deadline is None or parent.core.fleet is not core.fleet:
        return own
    return parent.deadline if own is None else min(own, parent.deadline)


def _forget(task: Task) -> None:
    if task.timer is not None:
        task.timer.cancel()
        task.timer = None


async def _elsewhere(coroutine: Any, loop: asyncio.AbstractEventLoop) -> Any:
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, loop))
