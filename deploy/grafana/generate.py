"""Write every dashboard to ``dashboards/``; with ``--check`` only say which would change.

    python deploy/grafana/generate.py [--check]

Needs ``grafana-foundation-sdk``, which the extra ``stack`` of fleetmon brings.
"""

from __future__ import annotations

import sys
from pathlib import Path

from boards import BOARDS
from panels import render

_TO = Path(__file__).with_name("dashboards")


def main(arguments: list[str]) -> int:
    """Return 0, or 1 when ``--check`` found a difference."""
    check = arguments == ["--check"]
    if arguments and not check:
        sys.stderr.write(f"unknown arguments {arguments}; there is --check\n")
        return 2
    wanted = {f"{board.uid}.json": render(board) for board in BOARDS}
    there = {path.name: path.read_text(encoding="utf-8") for path in sorted(_TO.glob("*.json"))}
    differ = sorted(name for name in {*wanted, *there} if wanted.get(name) != there.get(name))
    for name in differ:
        sys.stdout.write(f"{'differs' if check else 'written'}: {name}\n")
        if check:
            continue
        if name in wanted:
            (_TO / name).write_text(wanted[name], encoding="utf-8")
        else:
            (_TO / name).unlink()
    return 1 if check and differ else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
