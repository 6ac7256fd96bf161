"""``fleetmon status``: the fleet as it is now, and what is the matter with it."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING

from fleetmon.cli import _fleet as fleet
from fleetmon.cli import _out as out
from fleetmon.cli import _words as words

if TYPE_CHECKING:
    from fleetmon.control.protocol import SnapshotShape

DEGRADED = 10
"""Exit code of ``--check`` for a degraded fleet; failed is one more."""

_EVERY = 5.0
_FASTEST, _SLOWEST = 0.2, 86_400.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--check", action="store_true", help="exit with 0 healthy, 10 degraded, 11 failed"
    )
    parser.add_argument(
        "--watch",
        action="store_true",
        help="go on: events and warnings as they come, and every few seconds what has changed",
    )
    parser.add_argument(
        "--every",
        type=_seconds,
        default=_EVERY,
        metavar="SECONDS",
        help=f"with --watch: between two looks at the agents (default: {_EVERY:g})",
    )
    fleet.where(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print it; returns the exit code."""
    if arguments.watch:
        if arguments.check:
            out.complain("status", "--check answers once; leave out --watch")
            return fleet.USAGE
        from fleetmon.cli import _watch

        return fleet.answered("status", lambda: _watch.watch(arguments))
    return fleet.answered("status", lambda: _status(arguments))


def _status(arguments: argparse.Namespace) -> int:
    whole = arguments.json or arguments.jsonl  # which is never cut
    snapshot = fleet.connect(arguments).snapshot(brief=not whole)
    if whole:
        out.say_json(snapshot)
    else:
        out.say(*_lines(snapshot, out.Style(wanted=not arguments.no_color)))
    if not arguments.check or not snapshot["health"]:
        return fleet.DONE
    return DEGRADED + snapshot["health"] - 1


def _lines(snapshot: SnapshotShape, style: out.Style) -> list[str]:
    agents = snapshot["agents"]
    room = out.room()
    first = [
        words.heading(snapshot, agents, style),
        *words.alarms(snapshot, agents, snapshot["clock"], style),
    ]
    lines = list(first)
    if agents:
        lines += words.agent_table(agents, style, room and room[0])
    left_out = snapshot.get("left_out", 0)
    if left_out:
        shown = "that do not run as usual, the worst first; " if agents else ""
        lines.append(f"({shown}{left_out:,} more agents: fleetmon agents)")
    if room is not None and len(lines) >= room[1]:
        # what matters most has gone up and away: it comes again where one looks
        lines += first if len(first) < room[1] // 2 else first[:1]
    return lines


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not _FASTEST <= seconds <= _SLOWEST:
        message = f"{text!r} is no interval; give seconds from {_FASTEST:g}, for example 5"
        raise argparse.ArgumentTypeError(message)
    return seconds
