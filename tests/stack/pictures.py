"""Pictures of all dashboards with data of this suite's scene: ``python pictures.py [DIRECTORY]``.

Two minutes: the demonstration goes through all of its faults first. For review where no Grafana
runs; against a stack of your own take ``deploy/grafana/preview.py``.
"""

from __future__ import annotations

import json
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import logstore
import programs
import shorten
from running import DEPLOY
from scene import FACTOR, RATE_INTERVAL, Scene

sys.path.insert(0, str(DEPLOY / "grafana"))
import preview


def main(out: Path) -> None:
    """Draw them and say what had no data."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        logs = None
        tool = programs.loki()
        if isinstance(tool, programs.Tool):
            (directory / "logs").mkdir()
            logs = stack.enter_context(logstore.running(tool, directory / "logs"))
        file = directory / "fleet.jsonl"
        scene = stack.enter_context(Scene(directory / "scene", "--log", str(file)))
        scene.wait_until(100)
        if logs is not None:
            whole = file.read_text().rpartition("\n")[0]
            logs.push(json.loads(line) for line in whole.splitlines())
        source = preview.Source(
            f"http://{scene.prometheus.address}",
            100,
            rate_interval=RATE_INTERVAL,
            change=lambda expr: shorten.expression(expr, FACTOR),
            loki=f"http://{logs.address}" if logs is not None else "",
        )
        for uid, empty in preview.draw_all(source, out).items():
            told = f"; nothing in: {', '.join(empty)}" if empty else ""
            sys.stdout.write(f"{out / uid}.png{told}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/dashboards"))
