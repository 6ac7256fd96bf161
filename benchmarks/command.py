"""Row 19: what an operator waits for: ``fleetmon status`` from cold, a fleet of forty answering."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.table import Goal, Row
from fleetmon import Supervisor, SupervisorSettings
from fleetmon.settings import Control

ROOT = Path(__file__).resolve().parent.parent

_BARE = (sys.executable, "-c", "pass")
_STATUS = (sys.executable, "-m", "fleetmon", "status")
_TIME_LIMIT = 60  # seconds
_AGENTS = 40


def from_cold(turns: int) -> list[tuple[float, float]]:
    """Return seconds of a bare interpreter and of ``fleetmon status``, turn by turn."""
    before = {name: os.environ.get(name) for name in ("XDG_RUNTIME_DIR", "TMPDIR")}
    with tempfile.TemporaryDirectory(prefix="fm-") as directory:
        os.environ.update(dict.fromkeys(before, directory))
        try:
            settings = SupervisorSettings(name="bench", control=Control(enabled=True))
            with Supervisor.start_in_thread(settings) as fleet:
                for number in range(_AGENTS):
                    fleet.attach(f"AGENT-{number}")
                return [(_seconds(_BARE), _seconds(_STATUS)) for _ in range(turns)]
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def _seconds(command: tuple[str, ...]) -> float:
    began = time.perf_counter()
    subprocess.run(
        command,
        stdout=subprocess.DEVNULL,
        check=True,
        timeout=_TIME_LIMIT,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
    )
    return time.perf_counter() - began


def rows_of_status(*, quick: bool) -> list[Row]:
    """Measure row 19: the median of the ratios within a turn, and the time beside it."""
    turns = from_cold(5 if quick else 21)
    ours = median(status for _, status in turns)
    bare = median(bare for bare, _ in turns)
    return [
        Row(
            "19",
            "fleetmon status from cold, 40 agents (bar: 200 ms on a quiet machine)",
            f"{ours * 1e3:.0f} ms, worst {max(status for _, status in turns) * 1e3:.0f} ms",
            f"python -c pass {bare * 1e3:.0f} ms",
            median(status / bare for bare, status in turns),
            Goal("<=", 8),
            Goal("<=", 6),
        )
    ]
