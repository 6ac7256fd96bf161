"""Counts instructions per task with callgrind, and holds them against the committed figures.

Counts repeat where times do not. Each mode runs in a process of its own, once with few and once
with many iterations; the difference, divided by the iterations between, is what one task costs,
start-up and clean-up cancelled out. Run it as::

    python -m benchmarks.instructions [MODE ...]   compare with benchmarks/instructions.json
    python -m benchmarks.instructions --update     write that file anew
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import platform
import random
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from benchmarks.modes import MODES

FIGURES = Path(__file__).parent / "instructions.json"
TOLERANCE = 0.02  # callgrind repeats within 0.5 %; the rest is room for patch releases
# Enough tasks between the two for the garbage collector's work to be shared out: traced with
# ``gc.callbacks``, 10,000 tasks of ours bring about four passes over the youngest generation and
# none over all that lives; of the reference 17, for the spans and lines that wait.
FEW, MANY = 2_000, 12_000
TIME_LIMIT = 600.0  # seconds for one process; valgrind runs some fifty times slower

# Versions whose change moves the figures of a mode without a change of ours.
PARTS = ("prometheus-client", "opentelemetry-sdk", "structlog")


class CannotCountError(Exception):
    """Counting is impossible here; the message says why."""


@dataclass(frozen=True)
class Comparison:
    """One mode's figure beside the committed one, both in instructions per iteration.

    Attributes:
        mode: its name.
        now: what was counted here.
        committed: what the file says; `None` if it says nothing.
    """

    mode: str
    now: float
    committed: float | None

    @property
    def drift(self) -> float | None:
        """Return the change against the committed figure, as a share of it."""
        return None if self.committed is None else self.now / self.committed - 1

    @property
    def within(self) -> bool:
        """Say whether the figure is no more than the tolerance away, in either direction."""
        return self.drift is not None and abs(self.drift) <= TOLERANCE


def count(mode: str, *, few: int = FEW, many: int = MANY) -> float:
    """Return the instructions that one iteration of a mode takes.

    Raises:
        CannotCountError: without valgrind, or if the counted process failed.
    """
    return (_collect(mode, many) - _collect(mode, few)) / (many - few)


def surroundings() -> dict[str, str]:
    """Return what the figures depend on besides our sources."""
    return {
        "python": ".".join(platform.python_version_tuple()[:2]),
        "machine": platform.machine(),
        **{name: ".".join(version(name).split(".")[:2]) for name in PARTS},
    }


def differences(committed: dict[str, str]) -> list[str]:
    """Say in which respects the committed figures were counted elsewhere."""
    return [
        f"{name} is {here} here and {there} in {FIGURES.name}"
        for name, here in surroundings().items()
        if (there := committed.get(name, "unknown")) != here
    ]


def _collect(mode: str, iterations: int) -> int:
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise CannotCountError("valgrind is not installed (Debian: valgrind)")
    root = Path(__file__).resolve().parent.parent
    # A fixed environment: its size moves the stack, hence addresses, hence hashes of objects.
    env = {
        "PATH": os.defpath,
        "HOME": tempfile.gettempdir(),
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": os.pathsep.join([str(root), str(root / "tui")]),
        "LC_ALL": "C.UTF-8",
    }
    tool = [valgrind, "--tool=callgrind", f"--callgrind-out-file={os.devnull}"]
    worker = [sys.executable, "-m", "benchmarks.instructions", "--worker", mode, str(iterations)]
    try:
        done = subprocess.run(
            tool + worker,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIME_LIMIT,
            env=env,
            cwd=root,
        )
    except subprocess.TimeoutExpired:
        raise CannotCountError(f"{mode} took more than {TIME_LIMIT:g} s") from None
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode != 0 or found is None:
        raise CannotCountError(f"{mode} ended with {done.returncode}: {done.stderr[-500:]}")
    return int(found[1])


async def _work(mode: str, iterations: int) -> None:
    random.seed(0)  # which traces are sampled, the same in every process
    async with MODES[mode]() as body:
        # Start-up leaves the collector anywhere in its cycle: whether the one pass that importing
        # has brought about falls within the counted tasks would be chance. From here on every
        # collection is of the tasks' own making, and counted, for every mode alike.
        gc.collect()
        await body(iterations)


def _load() -> tuple[dict[str, str], dict[str, float]]:
    with contextlib.suppress(FileNotFoundError):
        stored = json.loads(FIGURES.read_text(encoding="utf-8"))
        return stored["counted_with"], stored["instructions"]
    return {}, {}


def _save(figures: dict[str, float]) -> None:
    text = json.dumps({"counted_with": surroundings(), "instructions": figures}, indent=2)
    FIGURES.write_text(text + "\n", encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    """Count, print and compare; return 0 if all is within tolerance, 1 if not, 2 if impossible."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions")
    parser.add_argument("modes", nargs="*", metavar="MODE", help=", ".join(MODES))
    parser.add_argument("--update", action="store_true", help="write the figures to the file")
    parser.add_argument("--worker", nargs=2, metavar=("MODE", "N"), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.worker:
        asyncio.run(_work(options.worker[0], int(options.worker[1])))
        return 0
    if unknown := [mode for mode in options.modes if mode not in MODES]:
        parser.error(f"no such mode: {', '.join(unknown)}; there are {', '.join(MODES)}")
    try:
        counted = {mode: count(mode) for mode in options.modes or MODES}
    except CannotCountError as error:
        print(f"not run: {error}")
        return 2
    where, committed = _load()
    if options.update:
        # Figures of other modes stay only if they were counted in the same surroundings.
        where, kept = surroundings(), committed if where == surroundings() else {}
        committed = {**kept, **counted}
        _save(committed)
    return _report(counted, where, committed)


def _report(counted: dict[str, float], where: dict[str, str], committed: dict[str, float]) -> int:
    rows = [Comparison(mode, now, committed.get(mode)) for mode, now in counted.items()]
    added = {mode: now - counted["bare"] for mode, now in counted.items() if "bare" in counted}
    for row in rows:
        line = f"{row.mode:<24} {row.now:>12,.0f} instructions a task"
        if "reference" in added and row.mode != "bare":
            line += f", adds {added[row.mode] / added['reference']:.4f} of the reference"
        if row.drift is not None:
            line += f", {row.drift:+.2%} against the committed figure"
        print(line)
    if elsewhere := differences(where) if where else ["there are no committed figures yet"]:
        print(f"not compared: {'; '.join(elsewhere)}")
        return 0
    off = [row.mode for row in rows if not row.within]
    if off:
        print(f"outside ±{TOLERANCE:.0%}, or not committed: {', '.join(off)}; see --update")
    return 1 if off else 0


if __name__ == "__main__":
    sys.exit(main())
