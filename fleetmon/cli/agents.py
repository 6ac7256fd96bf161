"""``fleetmon agents``: one row an agent, all or a selection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetmon.cli import _fleet as fleet
from fleetmon.cli import _out as out
from fleetmon.cli import _pick as pick
from fleetmon.cli import _words as words
from fleetmon.control.protocol import SCHEMA

if TYPE_CHECKING:
    import argparse


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    pick.selectors(parser, every=False)
    parser.add_argument("--names", dest="bare", action="store_true", help="their ids and no more")
    fleet.where(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print them; returns the exit code."""
    return fleet.answered("agents", lambda: _agents(arguments))


def _agents(arguments: argparse.Namespace) -> int:
    client = fleet.connect(arguments)
    snapshot = client.snapshot()
    strange = pick.unknown_state(arguments, snapshot["agents"])
    if strange:
        out.complain("agents", strange)
        return fleet.USAGE
    found = pick.chosen(client, snapshot, arguments)
    agents = pick.matching(found.values(), arguments)
    if arguments.jsonl:
        for agent in agents:
            out.say_json({"schema": SCHEMA, **agent})
    elif arguments.json:
        out.say_json({"schema": SCHEMA, "agents": agents})
    elif arguments.bare:
        out.say(*(out.clean(agent["agent_id"]) for agent in agents))
    else:
        columns = (out.room() or (None,))[0]
        out.say(*words.agent_table(agents, out.Style(wanted=not arguments.no_color), columns))
    return fleet.DONE
