"""``fleetmon tui``: its options. The dashboard is the package ``fleetmon_tui``, loaded late."""

from __future__ import annotations

import argparse
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from fleetmon.cli import _fleet as fleet
from fleetmon.cli import _out as out

if TYPE_CHECKING:
    from collections.abc import Collection

    from fleetmon.control.client import Client

THEMES = ("night", "day", "colour-blind", "monochrome")
"""Names of themes."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    fleet.where(parser, json=False)
    parser.add_argument(
        "--replay", metavar="FILE", type=Path, help="show a recording in place of a running fleet"
    )
    parser.add_argument("--read-only", action="store_true", help="refuse every command")
    parser.add_argument("--theme", choices=THEMES, default="", help="default: night")
    parser.add_argument("--ascii", action="store_true", help="draw without Unicode")
    parser.add_argument("--no-mouse", action="store_true", help="leave the mouse to the terminal")
    parser.add_argument(
        "--rate", metavar="HZ", type=float, default=4.0, help="frames a second (default: 4)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Show the dashboard; returns the exit code."""
    if find_spec("textual") is None:
        out.complain("tui", 'the dashboard needs Textual; install it: pip install "fleetmon[tui]"')
        return fleet.FAILED
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        out.complain("tui", "needs a terminal; without one: fleetmon status --watch")
        return fleet.USAGE
    if arguments.no_color:
        os.environ["NO_COLOR"] = "1"
    from fleetmon_tui.start import Options, run

    options = Options(
        read_only=arguments.read_only,
        theme=arguments.theme,
        ascii=arguments.ascii,
        mouse=not arguments.no_mouse,
        rate=arguments.rate,
        replay=arguments.replay,
    )

    def locate(name: str | None, but: Collection[int] = ()) -> Client:
        if arguments.fleet is None and arguments.url is None and name is not None:
            # stay with the fleet that was seen first
            return fleet.connect(argparse.Namespace(**{**vars(arguments), "fleet": name}), but=but)
        return fleet.connect(arguments, but=but)

    return run(options, locate)
