"""Rows 11, 12 and 14: what the whole process pays: memory, threads that watch, start-up.

Run as ``python -m benchmarks.process``. Each figure comes from a process of its own, so that what
ran before cannot hide growth or lend its imports.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.table import Goal, Row

ROOT = Path(__file__).resolve().parent.parent
AGENTS = 40  # that the watchdog looks after
WARM_UP = 50_000  # tasks after which rings, queues and pools have their size
OURS = "import fleetmon"
ALL_OF_OURS = "from fleetmon import AgentSpec, Supervisor, SupervisorSettings"
PEERS = "import asyncio, prometheus_client, structlog, pydantic, opentelemetry.sdk.trace"
_TIME_LIMIT = 300.0  # seconds for one process


async def growth(tasks: int, *, warm_up: int = WARM_UP) -> int:
    """Return by how many bytes resident memory grows over so many tasks, with all telemetry."""
    from benchmarks.tasks import hall

    async with hall() as host:
        await host.run(warm_up)
        gc.collect()
        before = resident()
        await host.run(tasks)
        gc.collect()
        return resident() - before


def resident() -> int:
    """Return this process' resident memory, bytes.

    Raises:
        OSError: there is no ``/proc`` here.
    """
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def watching(*, seconds: float, blocked: bool) -> float:
    """Return the share of a core (0 to 1) that a supervisor of idle agents uses.

    Args:
        seconds: how long it is looked at.
        blocked: a task of one agent blocks the loop meanwhile (without using CPU), so that the
            watchdog looks as often as it ever does and finds somebody to blame.
    """
    from benchmarks.tasks import Acting
    from fleetmon import Supervisor

    async with Supervisor() as fleet:
        agents = [await fleet.add(f"agent-{number:02d}", Acting) for number in range(AGENTS)]
        await asyncio.sleep(2.0 if not blocked else 0.2)  # until verified, and no timer is left
        if not blocked:
            began = time.process_time()
            await asyncio.sleep(seconds)
            return (time.process_time() - began) / seconds
        with agents[0].task("blocks"):
            time.sleep(1.0)  # noqa: ASYNC251 - by now the episode has begun
            began = time.process_time()
            time.sleep(seconds)  # noqa: ASYNC251 - this is the case that is measured
            return (time.process_time() - began) / seconds


def imported(statement: str) -> float:
    """Return the seconds that an import statement takes in a fresh interpreter."""
    program = f"import time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t)"
    return float(_run([sys.executable, "-c", program]))


def rows_of_growth(*, quick: bool) -> list[Row]:
    """Measure row 11 in MB."""
    tasks = 50_000 if quick else 1_000_000
    what, goal, stretch = f"memory growth over {tasks:,} tasks, MB", Goal("<=", 3), Goal("<=", 1)
    if not Path("/proc/self/statm").exists():
        return [Row("11", what, goal=goal, stretch=stretch, reason="there is no /proc here")]
    megabytes = _worker("growth", tasks) / 1e6
    return [Row("11", what, f"{megabytes:.2f} MB", "", megabytes, goal, stretch)]


def rows_of_watching(*, quick: bool) -> list[Row]:
    """Measure row 12 in per cent of a core."""
    seconds = 1.0 if quick else 5.0
    idle = 100 * _worker("idle", seconds)
    busy = 100 * _worker("blocked", seconds)
    return [
        Row(
            "12a",
            "watchdog and probe, loop idle, % of a core",
            f"{idle:.2f} %",
            "",
            idle,
            Goal("<=", 0.5),
            Goal("<=", 0.25),
        ),
        Row(
            "12b",
            "watchdog and probe, loop blocked, % of a core",
            f"{busy:.2f} %",
            "",
            busy,
            Goal("<=", 1),
            Goal("<=", 0.5),
        ),
    ]


def rows_of_import(*, quick: bool) -> list[Row]:
    """Measure row 14: interleaved, median of the ratios within a turn."""
    statements = (PEERS, OURS, ALL_OF_OURS)
    turns = [[imported(s) for s in statements] for _ in range(3 if quick else 11)]
    rows = []
    for key, index, what in (
        ("14a", 1, OURS),
        ("14b", 2, ALL_OF_OURS),
    ):
        rows.append(
            Row(
                key,
                what,
                f"{median(turn[index] for turn in turns) * 1e3:.0f} ms",
                f"peers {median(turn[0] for turn in turns) * 1e3:.0f} ms",
                median(turn[index] / turn[0] for turn in turns),
                Goal("<=", 1.3),
                Goal("<=", 1.1),
            )
        )
    return rows


def _run(command: list[str]) -> str:
    path = os.pathsep.join([str(ROOT), str(ROOT / "tui")])
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=_TIME_LIMIT,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{command} ended with {done.returncode}: {done.stderr[-1000:]}")
    return done.stdout


def _worker(what: str, amount: float) -> float:
    return float(json.loads(_run([sys.executable, "-m", "benchmarks.process", what, str(amount)])))


def _work(what: str, amount: float) -> float:
    coroutine: Any
    if what == "growth":
        coroutine = growth(int(amount))
    else:
        coroutine = watching(seconds=amount, blocked=what == "blocked")
    return float(asyncio.run(coroutine))


def main(arguments: list[str]) -> None:
    """Print rows 11, 12 and 14, or work for one of them."""
    from benchmarks.table import render_text

    if arguments:
        print(json.dumps(_work(arguments[0], float(arguments[1]))))
        return
    rows = [
        *rows_of_growth(quick=False),
        *rows_of_watching(quick=False),
        *rows_of_import(quick=False),
    ]
    print(render_text(rows), end="")


if __name__ == "__main__":
    main(sys.argv[1:])
