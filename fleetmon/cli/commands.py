"""``fleetmon restart NAME`` and the other seven commands that agents take.

One module for all: they differ in the word that the fleet gets.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from fleetmon.cli import _fleet as fleet
from fleetmon.cli import _out as out
from fleetmon.cli import _pick as pick
from fleetmon.control.client import order
from fleetmon.control.protocol import SCHEMA, RequestError

if TYPE_CHECKING:
    from fleetmon.control.client import Client, Order
    from fleetmon.control.protocol import AgentShape, AnswerShape

    Answer = AnswerShape | dict[str, Any]

_TIMEOUT = 30.0
_MARGIN = 2.0  # seconds in which the fleet's own word that time is up may still arrive
_FIRST = 0.05  # seconds for each of many commands before the next one is sent


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    pick.selectors(parser, every=True)
    parser.add_argument("--reason", default="", help="for the audit trail")
    parser.add_argument(
        "--wait", action="store_true", help="until it has come about, as a verified recovery"
    )
    parser.add_argument(
        "--timeout", type=seconds, default=_TIMEOUT, metavar="SECONDS", help="default: 30"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--dry-run", action="store_true", help="say what would be touched only")
    fleet.where(parser)


def run(arguments: argparse.Namespace) -> int:
    """Carry the command out; returns the exit code."""
    name = arguments.command
    confusion = pick.confusion(arguments)
    if confusion:
        out.complain(name, confusion)
        return fleet.USAGE
    return fleet.answered(name, lambda: _command(name, arguments))


def _command(name: str, arguments: argparse.Namespace) -> int:
    client = fleet.connect(arguments)
    # who names agents need not have the thousands of others
    snapshot = client.snapshot(brief=bool(arguments.names))
    strange = pick.unknown_state(arguments, snapshot["agents"])
    if strange:
        out.complain(name, strange)
        return fleet.USAGE
    agents = pick.chosen(client, snapshot, arguments)
    whose = out.clean(snapshot["name"])
    if not agents:
        out.complain(name, f"no agent of {whose!r} is selected; nothing to do")
        if arguments.json:
            out.say_json({"schema": SCHEMA, "answers": []})
        return fleet.DONE
    if arguments.dry_run:
        if arguments.json or arguments.jsonl:
            out.say_json({"schema": SCHEMA, "command": name, "would_touch": list(agents)})
        else:
            out.say(*_list(name, whose, agents), "dry run: nothing was done")
        return fleet.DONE
    if not arguments.yes:
        if not sys.stdin.isatty():
            out.complain(name, "nobody can be asked here; add --yes, or --dry-run to look first")
            return fleet.USAGE
        if not _agreed(name, whose, agents):
            return fleet.FAILED
    orders = [
        order(
            name,
            agent_id,
            epoch=snapshot["epoch"],
            actor=actor(),
            reason=arguments.reason,
            wait=arguments.wait,
            timeout=arguments.timeout if arguments.wait else None,
        )
        for agent_id in agents
    ]
    work = _Work(client, arguments, len(orders))
    try:
        return work.carry_out(orders)
    except KeyboardInterrupt:
        work.interrupted()
        raise


def _list(name: str, whose: str, agents: dict[str, AgentShape]) -> list[str]:
    count = f"{len(agents)} agent{'s' if len(agents) > 1 else ''}"
    return [
        f"{name} {count} of {whose}:",
        *(
            f"  {out.clean(k)} ({a['lifecycle']}{_busy(a['in_flight'], a['queued'])})"
            for k, a in agents.items()
        ),
    ]


def _busy(in_flight: int, queued: int) -> str:
    told = [f"{n} {word}" for n, word in ((in_flight, "in flight"), (queued, "waiting")) if n]
    return f", {' and '.join(told)}" if told else ""


def _agreed(name: str, whose: str, agents: dict[str, AgentShape]) -> bool:
    told = _list(name, whose, agents)  # of which the first line may have left the screen
    sys.stderr.write("\n".join(told) + f"\n{told[0].rstrip(':')}? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() in {"y", "yes"}:
        return True
    out.complain(name, "nothing was done")
    return False


class _Work:
    """Sends orders and stays until they are answered, telling how far it is."""

    def __init__(self, client: Client, arguments: argparse.Namespace, count: int) -> None:
        self._client = client
        self._arguments = arguments
        self._count = count
        self._answers: dict[str, Answer] = {}
        self._waits: dict[str, str] = {}
        self._line = ""  # what stands on the terminal's last line

    def carry_out(self, orders: list[Order]) -> int:
        arguments = self._arguments
        until = time.monotonic() + arguments.timeout + (_MARGIN if arguments.wait else 0)
        if len(orders) > 1:  # all on their way before the first is waited for
            orders = [one for one in orders if not self._settled(one)]
        for one in orders:
            try:
                left = max(0.0, until - time.monotonic())
                answer = self._client.command(one, limit=left, waiting=self._waiting)
            except RequestError as error:
                answer = _trouble(one, error)  # type: ignore[assignment] # told as an answer
            self._told(one, answer)
        self._progress("")
        if arguments.json and not arguments.jsonl:
            out.say_json({"schema": SCHEMA, "answers": list(self._answers.values())})
        return max(_code(a, waited=arguments.wait) for a in self._answers.values())

    def interrupted(self) -> None:
        """Say what becomes of the orders for which nobody waits any more."""
        self._progress("")
        out.complain(
            self._arguments.command,
            f"interrupted with {len(self._answers)} of {self._count} answered; what was sent goes "
            "on, and `fleetmon events --kind command` tells of it",
        )

    def _settled(self, one: Order) -> bool:
        try:
            answer = self._client.send(one, hold=_FIRST)
        except RequestError as error:
            self._told(one, _trouble(one, error))
            return True
        if answer["result"] == "pending":
            return False
        self._told(one, answer)
        return True

    def _told(self, one: Order, answer: Answer) -> None:
        self._answers[one.agent_id] = answer
        self._progress("")
        if self._arguments.jsonl:
            out.say_json(answer)
        elif not self._arguments.json:
            out.say(_words(answer))
        if len(self._answers) < self._count:
            self._progress(f"{len(self._answers)} of {self._count} done")

    def _waiting(self, answer: AnswerShape) -> None:
        who, why = answer["agent_id"], answer["reason"]
        if sys.stderr.isatty():
            done = f"{len(self._answers)} of {self._count} done; " if self._count > 1 else ""
            self._progress(f"{done}{who} ({answer['state']}): {why}")
        elif who not in self._waits:
            out.complain(self._arguments.command, f"{who}: waits: {why}")
        self._waits[who] = why

    def _progress(self, text: str) -> None:
        # one line that is written over, on a terminal only
        if not sys.stderr.isatty():
            return
        if self._line or text:
            width = os.get_terminal_size(sys.stderr.fileno()).columns - 1
            sys.stderr.write(f"\r\x1b[K{out.clean(text)[:width]}")
            sys.stderr.flush()
        self._line = text


def _trouble(one: Order, error: RequestError) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "result": "error",
        "command": one.command,
        "agent_id": one.agent_id,
        "state": "",
        "settled": None,
        "reason": str(error),
        "exit_code": fleet.code_of(error),
    }


def _code(answer: Answer, *, waited: bool) -> int:
    result = answer["result"]
    if result == "error":
        return int(answer["exit_code"])  # type: ignore[typeddict-item] # one of _trouble's
    if result == "rejected":
        return fleet.REFUSED
    if result == "pending" or (waited and answer["settled"] is False):
        return fleet.FAILED
    return fleet.DONE


def _words(answer: Answer) -> str:
    result = answer["result"]
    who = f"{answer['agent_id']}: {answer['command']}"
    if result == "accepted":
        said = {True: "done", False: "accepted, but it has not come about", None: "accepted"}
        text = f"{who} {said[answer['settled']]}; now {answer['state']}"
    elif result == "noop":
        text = f"{who}: nothing to do: {answer['reason']}"
    elif result == "pending":
        text = f"{who} still waits and goes on: {answer['reason']}"
    else:
        text = f"{who} refused: {answer['reason']}"
    return out.clean(text)


def actor() -> str:
    """Return who sits at this terminal, for the audit trail."""
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name[:100]
    except KeyError:
        return f"uid {os.geteuid()}"


def seconds(text: str) -> float:
    """Return the value of an option ``--timeout``."""
    try:
        told = float(text)
    except ValueError:
        told = math.nan
    if not 0 < told <= 86_400:  # noqa: PLR2004 - a day
        message = f"{text!r} is no time; give seconds above 0, a day at most"
        raise argparse.ArgumentTypeError(message)
    return told
