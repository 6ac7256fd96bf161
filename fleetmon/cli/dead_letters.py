"""``fleetmon dead-letters``: the tasks that were given up, oldest first, and another try."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, Any

from fleetmon.cli import _fleet as fleet
from fleetmon.cli import _out as out
from fleetmon.cli import _words as words
from fleetmon.control.client import retry
from fleetmon.control.protocol import SCHEMA, RequestError

if TYPE_CHECKING:
    from fleetmon.control.client import Client
    from fleetmon.control.protocol import DeadLetterShape, RetryShape

_TIMEOUT = 60.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "action", nargs="?", choices=("list", "retry"), default="list", help="list is the default"
    )
    parser.add_argument("task", metavar="TASK", nargs="*", type=_number, help="numbers of tasks")
    parser.add_argument("--agent", metavar="NAME", help="of this agent only")
    group = parser.add_argument_group("trying again")
    group.add_argument("--all", action="store_true", help="all that there are")
    group.add_argument("--to", metavar="NAME", help="hand them to this agent instead")
    group.add_argument("--reason", default="", help="for the audit trail")
    group.add_argument(
        "--timeout",
        type=_seconds,
        default=_TIMEOUT,
        metavar="SECONDS",
        help=f"stay so long until they have ended (default: {_TIMEOUT:g})",
    )
    group.add_argument("--yes", action="store_true", help="do not ask")
    group.add_argument("--dry-run", action="store_true", help="say what would be tried only")
    fleet.where(parser)


def run(arguments: argparse.Namespace) -> int:
    """List or retry them; returns the exit code."""
    if arguments.action == "list":
        return fleet.answered("dead-letters", lambda: _list(arguments))
    if bool(arguments.task) == bool(arguments.all or arguments.agent):
        text = "retry what? give numbers of tasks, --agent NAME or --all"
        out.complain("dead-letters", text)
        return fleet.USAGE
    return fleet.answered("dead-letters", lambda: _retry(arguments))


def _letters(client: Client, arguments: argparse.Namespace) -> list[DeadLetterShape]:
    letters = client.dead_letters()
    if arguments.agent is not None:
        agent_id = client.agent(arguments.agent)["agent_id"]
        letters = [letter for letter in letters if letter["agent_id"] == agent_id]
    if arguments.task:
        letters = [letter for letter in letters if letter["task_id"] in arguments.task]
    return letters


def _list(arguments: argparse.Namespace) -> int:
    letters = _letters(fleet.connect(arguments), arguments)
    if arguments.jsonl:
        for letter in letters:
            out.say_json({"schema": SCHEMA, **letter})
    elif arguments.json:
        out.say_json({"schema": SCHEMA, "dead_letters": letters})
    else:
        out.say(*(_line(letter) for letter in letters) if letters else ("no dead letters",))
    return fleet.DONE


def _line(letter: DeadLetterShape) -> str:
    return out.clean(
        f"{letter['task_id']:>6} {words.moment(letter['at'])} {letter['agent_id']:<12} "
        f"{letter['task_type']}: {letter['reason']} ({letter['attempts']} attempts) "
        f"{letter['payload']}{' [cut]' if letter['payload_cut'] else ''}"
    )


def _retry(arguments: argparse.Namespace) -> int:
    client = fleet.connect(arguments)
    letters = _letters(client, arguments)
    missing = sorted(set(arguments.task) - {letter["task_id"] for letter in letters})
    if missing:
        said = ", ".join(map(str, missing))
        out.complain("dead-letters", f"no dead letter {said}; `fleetmon dead-letters` lists them")
        return fleet.FAILED
    to = None if arguments.to is None else client.agent(arguments.to)["agent_id"]
    if not letters or arguments.dry_run:
        if arguments.json or arguments.jsonl:
            tasks = [letter["task_id"] for letter in letters]
            out.say_json({"schema": SCHEMA, "command": "retry", "would_touch": tasks})
        else:
            end = "dry run: nothing was done" if letters else "no dead letters; nothing to do"
            out.say(*(_line(letter) for letter in letters), end)
        return fleet.DONE
    if not arguments.yes and not _agreed(letters):
        return fleet.FAILED if sys.stdin.isatty() else fleet.USAGE
    return _carry_out(client, letters, to, arguments)


def _agreed(letters: list[DeadLetterShape]) -> bool:
    if not sys.stdin.isatty():
        out.complain("dead-letters", "nobody can be asked here; add --yes, or --dry-run")
        return False
    many = words.several(len(letters), "dead letter")
    lines = [f"retry {many}:", *map(_line, letters), f"retry {many}? [y/N] "]
    sys.stderr.write("\n".join(lines))
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() in {"y", "yes"}:
        return True
    out.complain("dead-letters", "nothing was done")
    return False


def _carry_out(
    client: Client, letters: list[DeadLetterShape], to: str | None, arguments: argparse.Namespace
) -> int:
    from fleetmon.cli.commands import actor

    until = time.monotonic() + arguments.timeout
    answers: list[Any] = []
    worst = fleet.DONE
    for letter in letters:
        wanted = retry(letter["task_id"], agent_id=to, actor=actor(), reason=arguments.reason)
        try:
            answer: Any = client.retry(wanted, limit=max(0.0, until - time.monotonic()))
        except RequestError as error:
            answer = {
                "schema": SCHEMA,
                "result": "refused",
                "task_id": letter["task_id"],
                "agent_id": to or letter["agent_id"],
                "reason": str(error),
            }
            worst = max(worst, fleet.code_of(error))
        if answer["result"] in {"failed", "pending"}:
            worst = max(worst, fleet.FAILED)
        answers.append(answer)
        if arguments.jsonl:
            out.say_json(answer)
        elif not arguments.json:
            out.say(_words(answer))
    if arguments.json and not arguments.jsonl:
        out.say_json({"schema": SCHEMA, "answers": answers})
    return worst


def _words(answer: RetryShape) -> str:
    why = f": {answer['reason']}" if answer["reason"] else ""
    what = "still waits and goes on" if answer["result"] == "pending" else answer["result"]
    return out.clean(f"{answer['task_id']}: retry by {answer['agent_id'] or '-'} {what}{why}")


def _number(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 18:  # noqa: PLR2004 - 64 bits
        message = f"{text!r} is no task; give its number, as `fleetmon dead-letters` shows it"
        raise argparse.ArgumentTypeError(message)
    return int(text)


def _seconds(text: str) -> float:
    from fleetmon.cli.commands import seconds

    return seconds(text)
