"""What can be counted in instructions: ways to run a task, by name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeAlias

from benchmarks.unit import Body, noop, unit

Mode: TypeAlias = Callable[[], AbstractAsyncContextManager[Body]]


@asynccontextmanager
async def bare() -> AsyncIterator[Body]:
    """Run the UNIT, which the others contain: a task that does nothing, awaited."""
    yield unit


@asynccontextmanager
async def reference() -> AsyncIterator[Body]:
    """Run the plain reference implementation around the same task."""
    from benchmarks.reference import Reference

    with Reference() as ref:
        run, create_task = ref.run, asyncio.create_task

        async def body(iterations: int) -> None:
            for number in range(iterations):
                await create_task(run("APEX", "code_review", str(number), noop))

        yield body


@asynccontextmanager
async def ours_run() -> AsyncIterator[Body]:
    """Run a task of an owned agent through ``agent.run``: metrics, 10 % spans, a log line."""
    from benchmarks.tasks import hall

    async with hall(counting=True) as owned:
        yield owned.run


@asynccontextmanager
async def ours_task() -> AsyncIterator[Body]:
    """Run ``with agent.task`` around the host's await, in a task as the reference is."""
    from benchmarks.tasks import hall

    async with hall(counting=True) as host:
        around, create_task = host.agent.task, asyncio.create_task

        async def work() -> None:
            with around("code_review"):
                await noop()

        async def body(iterations: int) -> None:
            for _ in range(iterations):
                await create_task(work())

        yield body


MODES: dict[str, Mode] = {
    "bare": bare,
    "reference": reference,
    "ours_run": ours_run,
    "ours_task": ours_task,
}
"""What can be counted, by name: an async context manager that gives the loop to be run."""
