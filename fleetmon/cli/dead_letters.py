"""``fleetmon dead-letters``: the tasks that were given up, oldest first, and another try."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fleetmon.cli import _fleet as fleet
from fleetmon.cli import _out as out
from fleetmon.cli import _words as words
from fleetmon.control.protocol import SCHEMA

if TYPE_CHECKING:
    import argparse


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    fleet.where(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print them; returns the exit code."""
    return fleet.answered("dead-letters", lambda: _list(arguments))


def _list(arguments: argparse.Namespace) -> int:
    letters = fleet.connect(arguments).dead_letters()
    if arguments.jsonl:
        for letter in letters:
            out.say_json({"schema": SCHEMA, **letter})
    elif arguments.json:
        out.say_json({"schema": SCHEMA, "dead_letters": letters})
    else:
        out.say(*(_words(letter) for letter in letters) if letters else ("no dead letters",))
    return fleet.DONE


def _words(letter: Any) -> str:
    return out.clean(
        f"{letter['task_id']:>6} {words.moment(letter['at'])} {letter['agent_id']:<12} "
        f"{letter['task_type']}: {letter['reason']} ({letter['attempts']} attempts) "
        f"{letter['payload']}{' [cut]' if letter['payload_cut'] else ''}"
    )
