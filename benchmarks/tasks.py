"""Rows 1 to 4: what supervision and telemetry add to a task.

Run as ``python -m benchmarks.tasks``. Everything is on unless the name says otherwise: metrics,
spans under the SDK's ``ParentBased(TraceIdRatioBased(0.1))`` with a batch processor, ids for every
task, one JSON line a task. CPU is that of the whole process, and the threads that render lines and
export spans have finished before a turn ends: nothing is left for the next candidate to pay.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

from benchmarks import instructions
from benchmarks.reference import NullExporter
from benchmarks.table import Goal, Row
from benchmarks.unit import interleave, noop, unit
from fleetmon import AgentSpec, Supervisor, SupervisorSettings
from fleetmon.settings import Watchdog
from fleetmon.telemetry.logs import JsonLog
from fleetmon.telemetry.tracing import OTelTracer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from benchmarks.unit import Timings
    from fleetmon import Agent
    from fleetmon.hooks import FleetRecorder

UNITS = 200  # in a millisecond, at the 5 µs a UNIT at which the goals were stated
LINES = 20_000  # tasks between two flushes: the log's queue takes 65,536 lines
_AS_IT_COMES = 0.25  # seconds that a log gathers lines unless told otherwise
_FOR_COUNTING = 3_600.0  # seconds: threads then wake by amount, not by the clock


class Acting:
    """An owned agent that does nothing, or whatever ``work`` is."""

    work: Callable[[], Awaitable[None]] = staticmethod(noop)

    async def handle(self, task: object) -> None:
        """Do a task."""
        del task
        await type(self).work()


class Host(NamedTuple):
    """A supervisor with one agent, and the two ways to have a task done."""

    agent: Agent
    flush: Callable[[], None]

    async def run(self, iterations: int) -> None:
        """Have the agent do so many tasks, each in a task of its own, through the mailbox."""
        run = self.agent.run
        left = iterations
        while left > 0:
            for _ in range(min(left, LINES)):
                await run("code_review", None)
            self.flush()
            left -= LINES

    async def around(self, iterations: int) -> None:
        """Await the host's own coroutine inside ``with agent.task``, so many times."""
        task = self.agent.task
        left = iterations
        while left > 0:
            for _ in range(min(left, LINES)):
                with task("code_review"):
                    await noop()
            self.flush()
            left -= LINES


@asynccontextmanager
async def hall(
    *,
    tracing: bool = True,
    log: bool = True,
    counting: bool = False,
    watchdog: bool = True,
    factory: type[Acting] | None = None,
    recorder: FleetRecorder | None = None,
) -> AsyncIterator[Host]:
    """Open a supervisor with one owned agent.

    Args:
        tracing: whether tasks get ids and a tenth of them a recorded span.
        log: whether each task gets a line, written to the null device.
        counting: nothing runs by the clock, so that instructions can be counted.
        watchdog: whether the watchdog's thread looks at anything; what it takes is row 12.
        factory: makes the agent.
        recorder: keeps a record.
    """
    provider = TracerProvider(sampler=ParentBased(TraceIdRatioBased(0.1)), shutdown_on_exit=False)
    provider.add_span_processor(
        BatchSpanProcessor(
            NullExporter(),
            max_queue_size=65_536,
            max_export_batch_size=512,
            schedule_delay_millis=_FOR_COUNTING * 1_000 if counting else 5_000,
        )
    )
    asleep = counting or not watchdog  # rather than switched off: then a timer of the loop's scans
    settings = SupervisorSettings(
        watchdog=Watchdog(idle_interval=_FOR_COUNTING) if asleep else Watchdog()
    )
    with Path(os.devnull).open("w", encoding="utf-8") as sink:  # noqa: ASYNC230 - never blocks
        lines = JsonLog("bench", stream=sink, interval=_FOR_COUNTING if counting else _AS_IT_COMES)

        def flush() -> None:
            if counting:
                return  # it would wait out the interval; close() writes what is left
            if log and not lines.flush(30.0):
                raise TimeoutError("the log was not written within 30 s")
            if tracing:
                provider.force_flush()

        try:
            async with Supervisor(
                settings,
                tracer=OTelTracer(provider) if tracing else None,
                log=lines if log else None,
                recorder=recorder,
            ) as fleet:
                spec = AgentSpec(capacity=10_000, task_types=("code_review",))
                agent = await fleet.add("APEX", factory or Acting, spec=spec)
                yield Host(agent, flush)
        finally:
            provider.shutdown()
            lines.close(60.0)
    if lines.dropped:
        raise RuntimeError(f"the log dropped lines, so the figures are too good: {lines.dropped}")


async def timings(*, iterations: int, rounds: int) -> Timings:
    """Measure rows 1 and 2 in turns."""
    async with AsyncExitStack() as stack:
        lit = await stack.enter_async_context(hall())
        dark = await stack.enter_async_context(hall(tracing=False))
        numbers = await stack.enter_async_context(hall(tracing=False, log=False))
        return await interleave(
            {
                "unit": unit,
                "run": lit.run,
                "task": lit.around,
                "task, tracing off": dark.around,
                "run, numbers only": numbers.run,
                "task, numbers only": numbers.around,
            },
            iterations=iterations,
            rounds=rounds,
        )


def rows_of_timings(*, quick: bool) -> list[Row]:
    """Measure rows 1 and 2."""
    random.seed(0)
    t = asyncio.run(timings(iterations=2_000, rounds=5 if quick else 61))
    a_unit = f"UNIT {t.seconds('unit') * 1e6:.2f} µs"

    def row(key: str, what: str, name: str, goal: float, stretch: float) -> Row:
        return Row(
            key,
            what,
            f"{t.seconds(name) * 1e6:.2f} µs",
            a_unit,
            t.ratio(name),
            Goal("<=", goal),
            Goal("<=", stretch),
        )

    return [
        row("1", "task through run(): numbers, 10 % spans, log line", "run", 2.5, 1.8),
        Row(
            "1b",
            "the same with numbers only",
            f"{t.seconds('run, numbers only') * 1e6:.2f} µs",
            a_unit,
            t.ratio("run, numbers only"),
        ),
        row("2a", "with agent.task() around the host's await", "task", 1.6, 1.0),
        row("2b", "the same with tracing off", "task, tracing off", 0.7, 0.45),
        Row(
            "2c",
            "the same with numbers only",
            f"{t.seconds('task, numbers only') * 1e6:.2f} µs",
            a_unit,
            t.ratio("task, numbers only"),
        ),
    ]


def rows_of_counts(*, quick: bool) -> list[Row]:
    """Measure row 3, and row 4 as far as it can be counted."""
    figures, reason = (
        _counted() if not quick else ({}, "left out by --quick, valgrind takes a minute")
    )
    bare = figures.get("bare", 0.0)
    millisecond = UNITS * bare
    reference = figures.get("reference", 0.0) - bare

    def row(
        key: str, what: str, mode: str, per: tuple[str, float], goals: tuple[Goal, Goal]
    ) -> Row:
        if reason:
            return Row(key, what, goal=goals[0], stretch=goals[1], reason=reason)
        added, (peer, base) = figures[mode] - bare, per
        return Row(key, what, f"{added:,.0f}", peer, added / base, goals[0], goals[1])

    plain = f"reference {reference:,.0f}", reference
    share = f"{UNITS} UNIT, {millisecond:,.0f}", millisecond / 100
    third = Goal("<=", 1 / 8), Goal("<=", 1 / 14)
    fourth = Goal("<=", 0.4), Goal("<=", 0.25)
    within = f"to a task of {UNITS} UNIT, 1 ms at 5 µs, %"
    return [
        row("3a", "instructions added by agent.task()", "ours_task", plain, third),
        row("3b", "instructions added by run()", "ours_run", plain, third),
        row("4a", f"instructions added by agent.task() {within}", "ours_task", share, fourth),
        row("4b", f"instructions added by run() {within}", "ours_run", share, fourth),
    ]


def _counted() -> tuple[dict[str, float], str]:
    """Return instructions a task by mode, or why they could not be counted."""
    found = _frozen()
    modes = [m for m in ("bare", "reference", "ours_task", "ours_run") if m not in found]
    try:
        with ThreadPoolExecutor(2) as pool:  # counts do not mind company
            return found | dict(zip(modes, pool.map(instructions.count, modes), strict=True)), ""
    except instructions.CannotCountError as error:
        return {}, str(error)


def _frozen() -> dict[str, float]:
    # what is not ours does not change in the same surroundings: the committed count stands
    stored = json.loads(instructions.FIGURES.read_text(encoding="utf-8"))
    if instructions.differences(stored["counted_with"]):
        return {}
    return {mode: stored["instructions"][mode] for mode in ("bare", "reference")}


def main() -> None:
    """Print rows 1 to 4, as far as they are of tasks that do nothing."""
    from benchmarks.table import render_text

    rows = [*rows_of_timings(quick=False), *rows_of_counts(quick=False)]
    print(render_text(rows), end="")


if __name__ == "__main__":
    main()
