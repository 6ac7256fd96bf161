"""Pictures of all dashboards with data of this suite's scene: ``python pictures.py [DIRECTORY]``.

Two minutes: the demonstration goes through all of its faults first. For review where no Grafana
runs; against a stack of your own take ``deploy/grafana/preview.py``.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import shorten
from running import DEPLOY
from scene import FACTOR, RATE_INTERVAL, Scene

sys.path.insert(0, str(DEPLOY / "grafana"))
import preview


def main(out: Path) -> None:
    """Draw them and say what had no data."""
    with tempfile.TemporaryDirectory() as directory, Scene(Path(directory)) as scene:
        scene.wait_until(100)
        source = preview.Source(
            f"http://{scene.prometheus.address}",
            100,
            rate_interval=RATE_INTERVAL,
            change=lambda expr: shorten.expression(expr, FACTOR),
        )
        for uid, empty in preview.draw_all(source, out).items():
            told = f"; nothing in: {', '.join(empty)}" if empty else ""
            sys.stdout.write(f"{out / uid}.png{told}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/dashboards"))
