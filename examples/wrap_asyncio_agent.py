"""Wrap an existing asyncio agent that has its own loop and queue, without changing its class.

The agent reports failure in its result instead of raising, and its ``run()`` loop belongs to the
host. fleetmon measures each task and, after three failures in a row, calls back to recover it.

Prints::

    t1 summarise: ok
    t2 summarise: no model for t2
    t3 translate: no model for t3
    t4 summarise: no model for t4
    recovered: a new run() loop was started
    t5 translate: ok
    assigned 5, succeeded 2, failed 3
    restarts 1, health 0
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

from fleetmon import Agent, AgentSpec, Backoff, EventKind, Supervisor

# --- the engine that you already have ------------------------------------------------------------


@dataclass
class EngineTask:
    """A task as the engine knows it."""

    task_id: str
    task_type: str
    timeout: float = 5.0


@dataclass
class EngineResult:
    """What the engine's agents return: they do not raise."""

    success: bool
    error: str = ""


class WriterAgent:
    """An agent with a queue and a long-running loop."""

    def __init__(self) -> None:
        """Start with a loaded model."""
        self.queue: asyncio.Queue[EngineTask] = asyncio.Queue()
        self.model_loaded = True

    async def execute_task(self, task: EngineTask) -> EngineResult:
        """Do one task; failure is a result."""
        await asyncio.sleep(0)
        if not self.model_loaded:
            return EngineResult(success=False, error=f"no model for {task.task_id}")
        return EngineResult(success=True)

    async def run(self) -> None:
        """Work through the queue for ever."""
        while True:
            task = await self.queue.get()
            try:
                result = await asyncio.wait_for(self.execute_task(task), task.timeout)
                print(f"{task.task_id} {task.task_type}: {result.error or 'ok'}")
            finally:
                self.queue.task_done()


# --- what you add --------------------------------------------------------------------------------


def supervise(agent: WriterAgent, handle: Agent) -> None:
    """Measure every ``execute_task`` of this instance."""
    execute = agent.execute_task

    async def measured(task: EngineTask) -> EngineResult:
        with handle.task(task.task_type) as measure:
            result = await execute(task)
            if not result.success:
                measure.fail()
        return result

    agent.execute_task = measured  # type: ignore[method-assign]


async def main() -> None:
    """Let the writer lose its model, and watch it come back."""
    writer = WriterAgent()
    loop = asyncio.create_task(writer.run())

    async def recover() -> None:
        nonlocal loop
        loop.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await loop
        writer.model_loaded = True
        loop = asyncio.create_task(writer.run())
        print("recovered: a new run() loop was started")

    async with Supervisor() as fleet:
        spec = AgentSpec(max_consecutive_failures=3, backoff=Backoff(floor=0, base=0.01))
        handle = fleet.attach("WRITER", recover=recover, spec=spec)
        supervise(writer, handle)
        events = fleet.events()

        await writer.queue.put(EngineTask("t1", "summarise"))
        await writer.queue.join()
        writer.model_loaded = False
        for task in (
            EngineTask("t2", "summarise"),
            EngineTask("t3", "translate"),
            EngineTask("t4", "summarise"),
        ):
            await writer.queue.put(task)
        await writer.queue.join()

        async for event in events:
            if event.kind is EventKind.RECOVERING:
                break
        await writer.queue.put(EngineTask("t5", "translate"))
        await writer.queue.join()

        now = handle.snapshot()
        print(f"assigned {now.assigned}, succeeded {now.succeeded}, failed {now.failed}")
        print(f"restarts {now.numbers.restarts}, health {now.health}")
        loop.cancel()


if __name__ == "__main__":
    asyncio.run(main())
