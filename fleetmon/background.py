"""A supervisor in a thread of its own, for hosts without an event loop."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Self

from fleetmon.errors import NotRunningError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from fleetmon.agent import Agent
    from fleetmon.results import CommandResult, ShutdownReport
    from fleetmon.snapshot import FleetSnapshot
    from fleetmon.spec import AgentSpec
    from fleetmon.supervisor import Supervisor


class BackgroundSupervisor:
    """What :meth:`Supervisor.start_in_thread` returns; every method may be called in any thread.

    Attributes:
        supervisor: the supervisor itself, for what is not repeated here.
    """

    def __init__(self, supervisor: Supervisor) -> None:
        """Start the thread; returns once the supervisor runs, or raises why it does not."""
        self.supervisor = supervisor
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing: asyncio.Event | None = None
        self._error: BaseException | None = None
        self._lock = threading.Lock()
        ready = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(ready,), name="fleetmon-supervisor", daemon=True
        )
        self._thread.start()
        ready.wait()
        if self._error is not None:
            self._thread.join()
            raise self._error

    def _run(self, ready: threading.Event) -> None:
        try:
            asyncio.run(self._main(ready))
        except BaseException as error:  # noqa: BLE001 - travels to the thread that started us
            self._error = error
        finally:
            self._loop = None
            ready.set()

    async def _main(self, ready: threading.Event) -> None:
        closing = self._closing = asyncio.Event()
        async with self.supervisor:
            self._loop = asyncio.get_running_loop()
            ready.set()
            await closing.wait()

    def _call(self, coroutine: Coroutine[Any, Any, Any], timeout: float | None = None) -> Any:
        loop = self._loop
        if loop is None:
            coroutine.close()
            msg = f"supervisor {self.supervisor.settings.name!r} is closed; start another"
            raise NotRunningError(msg)
        if threading.current_thread() is self._thread:
            coroutine.close()
            msg = "called from the supervisor's own thread; await the Supervisor's method instead"
            raise NotRunningError(msg)
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(timeout)

    def attach(self, agent_id: str, **options: Any) -> Agent:
        """Attach an agent of the host's; see :meth:`Supervisor.attach`."""
        return self.supervisor.attach(agent_id, **options)

    def add(
        self,
        agent_id: str,
        factory: Callable[[], Any],
        *,
        spec: AgentSpec | None = None,
        failed: Callable[[Any], bool] | None = None,
    ) -> Agent:
        """Add an agent that the supervisor owns; see :meth:`Supervisor.add`."""
        agent: Agent = self._call(self.supervisor.add(agent_id, factory, spec=spec, failed=failed))
        return agent

    def agent(self, name: str) -> Agent:
        """Return an agent's handle; see :meth:`Supervisor.agent`."""
        return self.supervisor.agent(name)

    def remove(self, agent_id: str) -> None:
        """Stop an agent and let it go."""
        self._call(self.supervisor.remove(agent_id))

    def run(
        self, agent_id: str, task_type: str, payload: Any = None, *, timeout: float | None = None
    ) -> Any:
        """Have an agent do a task, and wait for its result; see :meth:`Agent.run`."""
        return self._call(self.agent(agent_id).run(task_type, payload, timeout=timeout))

    def command(self, name: str, agent_id: str, **how: Any) -> CommandResult:
        """Carry out a command; see :meth:`Supervisor.command`."""
        result: CommandResult = self._call(self.supervisor.command(name, agent_id, **how))
        return result

    def snapshot(self) -> FleetSnapshot:
        """Return a frozen picture of the fleet."""
        return self.supervisor.snapshot()

    @property
    def metrics_url(self) -> str:
        """Where ``/metrics`` is served."""
        return self.supervisor.metrics_url

    def close(self) -> ShutdownReport | None:
        """Drain, stop and end the thread, bounded by the settings; a second call does nothing."""
        if threading.current_thread() is self._thread:
            if self._closing is not None:
                self._closing.set()
            msg = "closing, but not waited for: called from the supervisor's own thread"
            raise NotRunningError(msg)
        with self._lock:
            loop, closing = self._loop, self._closing
            if loop is not None and closing is not None:
                loop.call_soon_threadsafe(closing.set)
            self._thread.join()
        return self.supervisor.report

    def __enter__(self) -> Self:
        """Use as a context manager to be sure that it is closed."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()
