"""Row 4 by the clock: what supervision and telemetry add to a task that takes a millisecond.

Run as ``python -m benchmarks.millisecond``. Everything is on, as in rows 1 to 3. A task may work
for its millisecond, alone in the loop, so that each beginning and end comes after a millisecond of
something else; or it may wait for it, with as many others as a small fleet has agents.
"""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import AsyncExitStack
from statistics import fmean, median
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.reference import Reference
from benchmarks.table import Row
from benchmarks.tasks import UNITS, Acting, hall
from benchmarks.unit import interleave, unit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence
    from typing import Any

    from benchmarks.unit import Body, Timings

MILLISECOND = 0.001
AT_ONCE = 40  # tasks that wait together
_NOISE = 50e-6  # seconds; a pair further from the median was disturbed by the machine


class Millisecond(NamedTuple):
    """What one task of about a millisecond costs, CPU seconds.

    Attributes:
        plain: without us.
        run: through ``agent.run``, all threads.
        around: inside ``agent.task``, all threads.
        reference: with the telemetry of ``reference.py`` around it, which all runs in the loop's
            thread but for batches of spans.
        others: how much of both was used outside the loop's thread, for lines and spans.
    """

    plain: float
    run: float
    around: float
    reference: float
    others: float

    def added(self, way: float) -> float:
        """Return what a way adds, as a share of the plain task."""
        return (way - self.plain) / self.plain


async def millisecond(*, pairs: int) -> Millisecond:
    """Measure row 4: plain, through ``run``, inside ``task`` and the reference, task by task.

    The loop's own thread is measured for each task; the mean of the differences within a turn is
    taken, without the turns that the machine disturbed. What the other threads used is shared out
    over all of our tasks.
    """
    steps = _calibrated()

    async def spin() -> None:
        for _ in steps:
            pass

    class Spinning(Acting):
        work = staticmethod(spin)

    async with AsyncExitStack() as stack:
        host = await stack.enter_async_context(hall(watchdog=False, factory=Spinning))
        reference = stack.enter_context(Reference())
        run, task, create_task = host.agent.run, host.agent.task, asyncio.create_task

        async def around() -> None:
            with task("code_review"):
                await spin()

        ways: list[Callable[[], Awaitable[None]]] = [
            lambda: create_task(spin()),
            lambda: run("code_review"),
            lambda: create_task(around()),
            lambda: create_task(reference.run("APEX", "code_review", "1", spin)),
        ]
        taken: list[list[float]] = [[], [], [], []]
        clock = time.thread_time
        process, thread = time.process_time(), clock()
        for turn in range(pairs):
            for index in (0, 1, 2, 3) if turn % 2 else (3, 2, 1, 0):
                began = clock()
                await ways[index]()
                taken[index].append(clock() - began)
        host.flush()
        others = (time.process_time() - process - (clock() - thread)) / (2 * pairs)
    plain = median(taken[0])
    return Millisecond(
        plain,
        plain + _difference(taken[1], taken[0]) + others,
        plain + _difference(taken[2], taken[0]) + others,
        plain + _difference(taken[3], taken[0]),
        others,
    )


def _calibrated() -> range:
    # a fixed amount of work, about a millisecond of CPU: time itself would hide what is added
    trial = range(20_000)
    usual = median(_spun(trial) for _ in range(200))
    return range(round(len(trial) * MILLISECOND / usual))


def _spun(steps: range) -> float:
    began = time.thread_time()
    for _ in steps:
        pass
    return time.thread_time() - began


def _difference(ours: Sequence[float], plain: Sequence[float]) -> float:
    found = [one - other for one, other in zip(ours, plain, strict=True)]
    middle = median(found)
    # of an even number of pairs, half on either side of a gap, none may lie near the middle
    return fmean([each for each in found if abs(each - middle) <= _NOISE] or [middle])


async def waiting(*, iterations: int, rounds: int) -> Timings:
    """Measure tasks that wait for a millisecond, ``AT_ONCE`` of them under way at any time."""
    sleep, create_task = asyncio.sleep, asyncio.create_task

    async with hall() as host:
        task = host.agent.task

        async def plain() -> None:
            await sleep(MILLISECOND)

        async def around() -> None:
            with task("code_review"):
                await sleep(MILLISECOND)

        def together(way: Callable[[], Coroutine[Any, Any, None]]) -> Body:
            async def body(iterations: int) -> None:
                for _ in range(iterations // AT_ONCE):
                    await asyncio.gather(*[create_task(way()) for _ in range(AT_ONCE)])
                host.flush()

            return body

        candidates = {"unit": unit, "plain": together(plain), "around": together(around)}
        return await interleave(candidates, iterations=iterations, rounds=rounds)


def rows_of_millisecond(*, quick: bool) -> list[Row]:
    """Measure row 4, in per cent."""
    random.seed(0)
    m = asyncio.run(millisecond(pairs=300 if quick else 3_000))
    t = asyncio.run(waiting(iterations=2_000, rounds=5 if quick else 61))

    def row(key: str, what: str, way: float) -> Row:
        return Row(
            key,
            what,
            f"{(way - m.plain) * 1e6:.1f} µs, {m.others * 1e6:.1f} in threads",
            f"reference {(m.reference - m.plain) * 1e6:.1f} µs, {100 * m.added(m.reference):.2f} %",
            100 * m.added(way),
        )

    return [
        row("4c", "CPU added by agent.task() to 1 ms of work, alone in the loop, %", m.around),
        row("4d", "the same by run(), %", m.run),
        Row(
            "4e",
            f"by agent.task() to 1 ms of waiting, {AT_ONCE} at once, % of {UNITS} UNIT",
            f"{(t.seconds('around') - t.seconds('plain')) * 1e6:.1f} µs",
            f"UNIT {t.seconds('unit') * 1e6:.2f} µs",
            100 * t.added("around", "plain") / UNITS,
        ),
    ]


def main() -> None:
    """Print row 4."""
    from benchmarks.table import render_text

    print(render_text(rows_of_millisecond(quick=False)), end="")


if __name__ == "__main__":
    main()
