"""One life of an observed agent: the host owns it; we call back to recover and to probe it.

``recover`` and ``probe`` may be synchronous (they then run in a thread, since they may block) or
asynchronous. Ending such a life ends nothing of the host's: it only moves the fence.
"""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

from fleetmon.errors import FleetmonError
from fleetmon.runtime import verification
from fleetmon.runtime.live import live_timeout
from fleetmon.runtime.product import kind_of
from fleetmon.runtime.threads import run_in_daemon

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetmon.runtime.core import AgentCore


class ObservedIncarnation:
    """The span between two recoveries of an observed agent."""

    __slots__ = (
        "_asked",
        "_core",
        "abandoned",
        "busy",
        "end_reason",
        "ending",
        "generation",
        "started",
    )

    has_handle = False
    settled = True
    leaks = 0
    fast_call = None
    takes_payload = False

    def __init__(self, core: AgentCore) -> None:
        """Make a life that has not begun."""
        self._core = core
        self.generation = core.generation
        self.started = False
        self.ending = False
        self.abandoned = False
        self.busy = 0
        self.end_reason = ""
        self._asked: list[asyncio.Task[None]] = []

    @property
    def has_probe(self) -> bool:
        """Whether the host gave a probe."""
        return self._core.observed_probe is not None

    @property
    def verifiable(self) -> bool:
        """Whether waiting for a sign of life may time out.

        With neither callback only the host can bring the agent back: then its next progress,
        whenever that is, is the verification.
        """
        return self._core.observed_probe is not None or self._core.observed_recover is not None

    @property
    def over(self) -> bool:
        """There is nothing of ours to wait for."""
        return True

    def owns(self, aio: asyncio.Task[Any]) -> bool:
        """Whether this is a task that calls the host back."""
        return aio in self._asked

    def begin(self) -> None:
        """First life: it is up already. Later ones: call ``recover``."""
        core = self._core
        if core.generation == 1 or core.observed_recover is None:
            self._up()
            return
        deadline = core.spec.deadlines.start
        self._ask(self._recover(core.observed_recover, deadline))

    def _up(self) -> None:
        if not self.ending:
            self.started = True
            self._core.machine.started(self)

    async def _recover(self, recover: Callable[[], object], deadline: float) -> None:
        try:
            async with live_timeout(self._core.fleet, deadline):
                await _call(recover)
        except Exception as error:  # noqa: BLE001 - whatever it raises is a failed attempt
            if not self.ending:
                self._core.machine.ended_by_itself(self, error)
            return
        self._up()

    def probe(self, timeout: float) -> None:
        """Ask the host's probe; the machine gets the result."""
        probe = self._core.observed_probe
        if probe is not None:
            self._ask(self._probe(probe, timeout))

    async def _probe(self, probe: Callable[[], object], timeout: float) -> None:  # noqa: ASYNC109 - in the fleet's time
        error: BaseException | None = None
        try:
            async with live_timeout(self._core.fleet, timeout):
                answer = await _call(probe)
            if answer is not None and not answer:
                error = FleetmonError(f"the probe of {self._core.agent_id!r} said no")
        except Exception as raised:  # noqa: BLE001 - whatever it raises is its answer
            error = raised
        if not self.ending:
            verification.probe_result(self._core, self, error)

    def ping(self) -> None:
        """``recover`` has returned and nothing has lapsed since: that has to be enough."""
        if not self.ending:
            verification.alive(self._core, self)

    def end(self) -> None:
        """Move the fence; the host's work goes on as the host likes."""
        self.ending = True
        current = asyncio.current_task() if _in_loop() else None
        for task in self._asked:
            if task is not current:
                task.cancel()
        self._core.machine.gone(self)

    def _ask(self, coroutine: Any) -> None:
        self._asked = [task for task in self._asked if not task.done()]
        self._asked.append(self._core.fleet.loop.create_task(coroutine))


def _in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def _call(function: Callable[[], object]) -> object:
    if kind_of(function) == "async":
        return await function()  # type: ignore[misc]
    answer = await run_in_daemon(function)
    return await answer if inspect.isawaitable(answer) else answer
