"""``fleetmon dead-letters``: the tasks that were given up, oldest first."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from fleetmon.cli import _operate as operate
from fleetmon.control.protocol import SCHEMA

if TYPE_CHECKING:
    import argparse


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    operate.where(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print them; returns the exit code."""
    return operate.answered("dead-letters", lambda: _dead_letters(arguments))


def _dead_letters(arguments: argparse.Namespace) -> int:
    letters = operate.connect(arguments).dead_letters()
    if arguments.json:
        operate.say_json({"schema": SCHEMA, "dead_letters": letters})
        return operate.DONE
    for letter in letters:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(letter["at"]))
        operate.say(
            operate.clean(
                f"{letter['task_id']:>6} {at} {letter['agent_id']:<12} {letter['task_type']}: "
                f"{letter['reason']} ({letter['attempts']} attempts) {letter['payload']}"
                f"{' [cut]' if letter['payload_cut'] else ''}"
            )
        )
    if not letters:
        operate.say("no dead letters")
    return operate.DONE
