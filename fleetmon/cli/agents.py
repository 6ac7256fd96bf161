"""``fleetmon agents``: one row an agent, all or a selection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetmon.cli import _operate as operate
from fleetmon.control.protocol import SCHEMA

if TYPE_CHECKING:
    import argparse


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    operate.where(parser)
    parser.add_argument("--tier", type=int, metavar="N", help="of this tier only")
    parser.add_argument("--failed", action="store_true", help="failed and quarantined ones only")


def run(arguments: argparse.Namespace) -> int:
    """Print them; returns the exit code."""
    return operate.answered("agents", lambda: _agents(arguments))


def _agents(arguments: argparse.Namespace) -> int:
    snapshot = operate.connect(arguments).snapshot()
    agents = operate.selected(snapshot["agents"], tier=arguments.tier, failed=arguments.failed)
    if arguments.json:
        operate.say_json({"schema": SCHEMA, "agents": agents})
    else:
        operate.say(*operate.table(agents))
    return operate.DONE
