"""Row 15: what a record adds to row 1, a task with numbers, spans and a log line.

Run as ``python -m benchmarks.recording``. CPU is that of the whole process, the thread that writes
and what SQLite does included; a turn is about as long as the time between two commits, and ends
when everything has been committed.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.table import Goal, Row
from benchmarks.tasks import hall
from benchmarks.unit import interleave, unit
from fleetmon import Recorder

if TYPE_CHECKING:
    from benchmarks.unit import Timings

GOAL = 1.1  # times row 1


async def timings(directory: Path, *, iterations: int, rounds: int) -> Timings:
    """Measure row 1 with and without a record, in turns."""
    recorder = Recorder(directory / "fleet.db")
    async with AsyncExitStack() as stack:
        plain = await stack.enter_async_context(hall())
        host = await stack.enter_async_context(hall(recorder=recorder))

        def flush() -> None:
            host.flush()
            if not recorder.flush(30.0):
                raise TimeoutError("the record was not written within 30 s")

        recorded = host._replace(flush=flush)
        found = await interleave(
            {"unit": unit, "run": plain.run, "recorded": recorded.run},
            iterations=iterations,
            rounds=rounds,
        )
    told = recorder.reading()
    if any(told.drops.values()) or told.errors:
        raise RuntimeError(f"the record lacks something, so the figures are too good: {told}")
    return found


def rows_of_recording(*, quick: bool) -> list[Row]:
    """Measure row 15."""
    random.seed(0)
    with tempfile.TemporaryDirectory(prefix="fleetmon-bench-") as directory:
        t = asyncio.run(timings(Path(directory), iterations=20_000, rounds=3 if quick else 45))
    return [
        Row(
            "15",
            "row 1 with a record on disk, over row 1",
            f"{t.seconds('recorded') * 1e6:.2f} µs",
            f"row 1 {t.seconds('run') * 1e6:.2f} µs",
            t.ratio("recorded", "run"),
            Goal("<=", GOAL),
        )
    ]


def main() -> None:
    """Print row 15."""
    from benchmarks.table import render_text

    print(render_text(rows_of_recording(quick=False)), end="")


if __name__ == "__main__":
    main()
