"""``fleetmon events``: what happened, oldest first, and with ``--watch`` what happens."""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING, Any, cast

from fleetmon.cli import _operate as operate
from fleetmon.control.protocol import SCHEMA

if TYPE_CHECKING:
    from fleetmon.control.protocol import EventShape


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    operate.where(parser)
    parser.add_argument("--jsonl", action="store_true", help="one JSON object a line")
    parser.add_argument("--since", type=_number, default=0, metavar="SEQ", help="after this event")
    parser.add_argument("--watch", action="store_true", help="go on with what happens from now")


def run(arguments: argparse.Namespace) -> int:
    """Print them; returns the exit code."""
    return operate.answered("events", lambda: _events(arguments))


def _events(arguments: argparse.Namespace) -> int:
    whole: list[Any] = []
    client = operate.connect(arguments)
    for line in client.events(arguments.since, follow=arguments.watch):
        if line["type"] not in {"event", "lost"}:
            continue
        if arguments.jsonl or (arguments.json and arguments.watch):
            operate.say_json({"schema": SCHEMA, **line})
        elif arguments.json:
            whole.append(line)
        elif line["type"] == "event":
            operate.say(_words(line))
        else:
            operate.say(f"... {cast('dict[str, Any]', line)['lost']} events are not kept any more")
    if arguments.json and not arguments.jsonl and not arguments.watch:
        operate.say_json({"schema": SCHEMA, "events": whole})
    return operate.DONE


def _words(event: EventShape) -> str:
    at = time.strftime("%H:%M:%S", time.localtime(event["at"]))
    data = " ".join(
        f"{key}={value if isinstance(value, str) else json.dumps(value)}"
        for key, value in event["data"].items()
        if value not in ("", None) and key != "stack"
    )
    who = event["agent_id"] or "-"
    return operate.clean(f"{event['seq']:>6} {at} {event['kind']:<18} {who:<12} {data}".rstrip())


def _number(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 18:  # noqa: PLR2004
        message = f"{text!r} is no sequence number; give the seq of an event"
        raise argparse.ArgumentTypeError(message)
    return int(text)
