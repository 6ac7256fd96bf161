"""``fleetmon events``: what happened, oldest first, and with ``--watch`` what happens."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from fleetmon.cli import _fleet as fleet
from fleetmon.cli import _out as out
from fleetmon.cli import _words as words
from fleetmon.control.protocol import SCHEMA, NoFleetError, RequestError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from fleetmon.control.client import Client

_AGAIN = 10  # times that a lost connection is tried again, a second apart
_DIGITS = 18


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--agent", metavar="NAME", action="append", help="of this agent only")
    parser.add_argument(
        "--kind", metavar="KIND", action="append", help="of this kind only, such as lapsed"
    )
    parser.add_argument("--since", type=_number, metavar="SEQ", help="after this event")
    parser.add_argument("--last", type=_number, metavar="N", help="the last N only")
    parser.add_argument(
        "--record", metavar="FILE", help="keep a record of the whole fleet there, until Ctrl-C"
    )
    parser.add_argument("--watch", action="store_true", help="go on with what happens from now")
    fleet.where(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print them; returns the exit code."""
    if arguments.last is not None and arguments.watch:
        out.complain("events", "--last and --watch: give --since with --watch instead")
        return fleet.USAGE
    if arguments.record is not None:
        from fleetmon.cli._record import keep

        return fleet.answered("events", lambda: keep(arguments))
    return fleet.answered("events", lambda: _events(arguments))


def _events(arguments: argparse.Namespace) -> int:
    client = fleet.connect(arguments)
    for kind in arguments.kind or ():
        _known(kind)
    agents = [client.agent(name)["agent_id"] for name in arguments.agent or ()]
    kept: list[Mapping[str, Any]] = []
    for line in _lines(client, arguments, agents):
        if line["type"] not in {"event", "lost"}:
            continue
        if arguments.watch:
            _print(line, arguments)
        else:
            kept.append(line)
    if arguments.last is not None:
        kept = kept[len(kept) - min(len(kept), arguments.last) :]
    if arguments.json and not arguments.watch and not arguments.jsonl:
        out.say_json({"schema": SCHEMA, "events": kept})
    elif not arguments.watch:
        for line in kept:
            _print(line, arguments)
    return fleet.DONE


def _known(kind: str) -> None:
    """Say so if a kind may be misspelt; a newer fleet may have kinds that are not known here."""
    from fleetmon.events import EventKind

    kinds = [str(known) for known in EventKind]
    if kind not in kinds:
        from difflib import get_close_matches

        near = get_close_matches(kind, kinds, 2)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(kinds)}"
        out.complain("events", f"no kind {kind!r} is known here; {hint}")


def _lines(
    client: Client, arguments: argparse.Namespace, agents: Sequence[str]
) -> Iterator[Mapping[str, Any]]:
    """Yield the lines of a stream, taken up again where a connection was lost."""
    import time

    since, epoch, lost = arguments.since or 0, None, 0
    while True:
        try:
            for line in client.events(
                since,
                epoch=epoch,
                follow=arguments.watch,
                agents=agents,
                kinds=arguments.kind or (),
            ):
                lost = 0
                told: Mapping[str, Any] = line
                if told["type"] == "hello":
                    if epoch not in (None, told["epoch"]):
                        since = 0  # another life counts from one again
                    epoch = told["epoch"]
                elif told["type"] in {"event", "lost", "heartbeat"}:
                    since = told["seq"]
                yield told
        except (NoFleetError, RequestError) as error:
            # before the first line, or without --watch, there is nothing to take up
            if isinstance(error, RequestError) or not arguments.watch or epoch is None:
                raise
            lost += 1
            if lost > _AGAIN:
                raise
            out.complain("events", f"{error}; trying again")
            time.sleep(1.0)
        else:
            return


def _print(line: Mapping[str, Any], arguments: argparse.Namespace) -> None:
    if arguments.jsonl or arguments.json:
        out.say_json({"schema": SCHEMA, **line})
    elif line["type"] == "event":
        out.say(words.event(line))
    else:
        out.say(f"... {line['lost']} events are not kept any more")


def _number(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > _DIGITS:
        message = f"{text!r} is no number; give a whole one, such as the seq of an event"
        raise argparse.ArgumentTypeError(message)
    return int(text)
