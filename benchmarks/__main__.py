"""Measures the goals and prints them as one table: ``python -m benchmarks``."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.table import Goal, Row, render_markdown, render_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Section(NamedTuple):
    """Goals that are measured together.

    Attributes:
        goals: their numbers.
        measure: gives the rows; ``quick`` asks for fewer turns and leaves out what takes long.
    """

    goals: frozenset[int]
    measure: Callable[[bool], list[Row]]


def _tasks(quick: bool) -> list[Row]:
    from benchmarks.tasks import rows_of_timings

    return rows_of_timings(quick=quick)


def _counts(quick: bool) -> list[Row]:
    from benchmarks.millisecond import rows_of_millisecond
    from benchmarks.tasks import rows_of_counts

    return [*rows_of_counts(quick=quick), *rows_of_millisecond(quick=quick)]


def _recording(quick: bool) -> list[Row]:
    from benchmarks.recording import rows_of_recording

    return rows_of_recording(quick=quick)


def _crash(quick: bool) -> list[Row]:
    from benchmarks.recovery import rows_of_crash

    return rows_of_crash(quick=quick)


def _storm(quick: bool) -> list[Row]:
    from benchmarks.recovery import rows_of_storm

    return rows_of_storm(quick=quick)


_SCRAPES = {  # agents: goal and stretch of row 7, of row 8, of row 9 (milliseconds)
    40: ("a", (25, 35), (100, 150), None),
    1_000: ("b", (25, 33), (100, 150), (3, 1.5)),
    10_000: ("c", (20, 28), (60, 85), (15, 3)),
}
_LONG = "left out by --quick, since the stock renderer takes seconds"


def _scrape(quick: bool) -> list[Row]:
    from benchmarks.scrape import cost

    rows = []
    for agents, (letter, full, tenth, _) in _SCRAPES.items():
        skip = quick and agents > 1_000
        measured = None if skip else cost(agents)
        for number, what, goals in ((7, "all", full), (8, "a tenth", tenth)):
            row = Row(
                f"{number}{letter}",
                f"scrape of {agents:,} agents, {what} of them changed",
                goal=Goal(">=", goals[0]),
                stretch=Goal(">=", goals[1]),
                reason=_LONG,
            )
            if measured is not None:
                ours = measured.full if number == 7 else measured.tenth
                row = dataclasses.replace(
                    row,
                    ours=f"{ours * 1e3:.2f} ms",
                    peer=f"stock {measured.stock * 1e3:,.0f} ms",
                    measured=measured.stock / ours,
                )
            rows.append(row)
    return sorted(rows, key=lambda row: row.key)


def _stall(quick: bool) -> list[Row]:
    from benchmarks.scrape import stall

    rows = []
    for agents, (letter, _, _, goals) in _SCRAPES.items():
        if goals is None:
            continue
        row = Row(
            f"9{'a' if letter == 'b' else 'b'}",
            f"longest stall of the loop in a scrape of {agents:,}, ms",
            goal=Goal("<=", goals[0]),
            stretch=Goal("<=", goals[1]),
            reason="left out by --quick, since it takes some seconds",
        )
        if not quick or agents <= 1_000:
            found = stall(agents, scrapes=3 if quick else 7)
            row = dataclasses.replace(
                row,
                ours=f"{found.scrape * 1e3:.2f} ms",
                peer=f"no scrape {found.idle * 1e3:.2f} ms",
                measured=found.scrape * 1e3,
            )
        rows.append(row)
    return rows


def _memory(quick: bool) -> list[Row]:
    del quick
    from benchmarks.memory import memory

    found = memory()
    peer = f"children {found.children / 1e3:.1f} kB"
    on, off = found.row10
    what = "memory of an idle agent, text caches"
    return [
        Row(
            "10a",
            f"{what} on",
            f"{found.cached / 1e3:.1f} kB",
            peer,
            on,
            Goal("<=", 1),
            Goal("<=", 0.7),
        ),
        Row(
            "10b",
            f"{what} off",
            f"{found.uncached / 1e3:.1f} kB",
            peer,
            off,
            Goal("<=", 0.4),
            Goal("<=", 0.2),
        ),
    ]


def _growth(quick: bool) -> list[Row]:
    from benchmarks.process import rows_of_growth

    return rows_of_growth(quick=quick)


def _watching(quick: bool) -> list[Row]:
    from benchmarks.process import rows_of_watching

    return rows_of_watching(quick=quick)


def _dashboard(quick: bool) -> list[Row]:
    from benchmarks.dashboard import rows

    return rows(quick=quick)


def _import(quick: bool) -> list[Row]:
    from benchmarks.process import rows_of_import

    return rows_of_import(quick=quick)


def _attached(quick: bool) -> list[Row]:
    from benchmarks.control import rows_of_attached

    return rows_of_attached(quick=quick)


def _stopped(quick: bool) -> list[Row]:
    from benchmarks.control import rows_of_stopped

    return rows_of_stopped(quick=quick)


def _command(quick: bool) -> list[Row]:
    from benchmarks.command import rows_of_status

    return rows_of_status(quick=quick)


SECTIONS = (
    Section(frozenset({1, 2}), _tasks),
    Section(frozenset({3, 4}), _counts),
    Section(frozenset({5}), _crash),
    Section(frozenset({6}), _storm),
    Section(frozenset({7, 8}), _scrape),
    Section(frozenset({9}), _stall),
    Section(frozenset({10}), _memory),
    Section(frozenset({11}), _growth),
    Section(frozenset({12}), _watching),
    Section(frozenset({13}), _dashboard),
    Section(frozenset({14}), _import),
    Section(frozenset({15}), _recording),
    Section(frozenset({16, 17}), _attached),
    Section(frozenset({18}), _stopped),
    Section(frozenset({19}), _command),
)
GOALS = frozenset().union(*(section.goals for section in SECTIONS))


def measure(
    wanted: frozenset[int], *, quick: bool, told: Callable[[str], None] | None = None
) -> list[Row]:
    """Measure goals, one section after the other.

    A section that fails gives one row that says so: the others are still worth printing.

    Args:
        wanted: numbers of goals; sections that have none of them do not run.
        quick: under a minute, with fewer turns.
        told: called with what begins and how long it took.
    """
    rows: list[Row] = []
    for section in SECTIONS:
        chosen = sorted(section.goals & wanted)
        if not chosen:
            continue
        began = time.perf_counter()
        try:
            rows += [row for row in section.measure(quick) if goal_of(row) in wanted]
        except Exception as error:  # noqa: BLE001 - said in its row
            reason = f"{type(error).__name__}: {error}"
            rows += [Row(str(goal), "failed", reason=reason) for goal in chosen]
        if told is not None:
            seconds = time.perf_counter() - began
            told(f"row {', '.join(map(str, chosen))}: {seconds:.0f} s")
    return rows


def goal_of(row: Row) -> int:
    """Return the number of the goal that a row belongs to."""
    return int(row.key.rstrip("abcdefghijklmnop"))


def goals(text: str) -> frozenset[int]:
    """Return the goals that an argument such as ``1,5`` or ``7-9`` names.

    Raises:
        argparse.ArgumentTypeError: there is no such goal.
    """
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        try:
            found.update(range(int(first), int(last or first) + 1))
        except ValueError:
            raise argparse.ArgumentTypeError(f"{part!r} is not a row; try 1,5 or 7-9") from None
    if unknown := found - GOALS:
        raise argparse.ArgumentTypeError(f"no row {min(unknown)}; there are 1 to {max(GOALS)}")
    return frozenset(found)


def surroundings() -> str:
    """Return in one line what the figures depend on."""
    return (
        f"CPython {platform.python_version()}, stock asyncio, {os.cpu_count()} cores, "
        f"{platform.machine()}, load {os.getloadavg()[0]:.1f}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; return 1 if a goal was missed, 0 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rows", type=goals, default=GOALS, help="such as 1,5 or 7-9; default all")
    parser.add_argument("--quick", action="store_true", help="under a minute, with more noise")
    parser.add_argument("--markdown", action="store_true", help="print a table in markdown")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    options = parser.parse_args(argv)
    if sys.flags.dev_mode or os.environ.get("PYTHONASYNCIODEBUG"):
        parser.error("asyncio's debug mode is on, which costs more than what is measured")
    where = surroundings()
    rows = measure(
        options.rows, quick=options.quick, told=lambda said: print(said, file=sys.stderr)
    )
    print(render_markdown(rows) if options.markdown else render_text(rows), end="")
    print(f"\n{where}")
    if options.json is not None:
        found = [
            {**dataclasses.asdict(row), "verdict": row.verdict, "missed": row.missed}
            for row in rows
        ]
        text = json.dumps({"surroundings": where, "quick": options.quick, "rows": found}, indent=2)
        options.json.write_text(text + "\n", encoding="utf-8")
    return 1 if any(row.missed for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
