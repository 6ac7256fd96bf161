"""``fleetmon status``: the fleet as it is now, and what is the matter with it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from fleetmon.cli import _operate as operate

if TYPE_CHECKING:
    import argparse

_DEGRADED = 10  # exit codes of --check
_EVERY = 2.0  # seconds


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    operate.where(parser)
    parser.add_argument(
        "--check", action="store_true", help="exit with 0 healthy, 10 degraded, 11 failed"
    )
    parser.add_argument("--watch", action="store_true", help=f"again every {_EVERY:g} s")


def run(arguments: argparse.Namespace) -> int:
    """Print it; returns the exit code."""
    return operate.answered("status", lambda: _status(arguments))


def _status(arguments: argparse.Namespace) -> int:
    client = operate.connect(arguments)
    while True:
        snapshot = client.snapshot()
        if arguments.json:
            operate.say_json(snapshot)
        else:
            operate.say(*operate.heading(snapshot), *operate.table(snapshot["agents"]))
        if not arguments.watch:
            break
        time.sleep(_EVERY)
        if not arguments.json:
            operate.say("")
    if not arguments.check or not snapshot["health"]:
        return operate.DONE
    return _DEGRADED + snapshot["health"] - 1
