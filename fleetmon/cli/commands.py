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

from fleetmon.cli import _operate as operate
from fleetmon.control.client import order
from fleetmon.control.protocol import SCHEMA, RequestError

if TYPE_CHECKING:
    from fleetmon.control.client import Client, Order
    from fleetmon.control.protocol import AgentShape, AnswerShape

_TIMEOUT = 30.0
_MARGIN = 2.0  # seconds in which the fleet's own word that time is up may still arrive
_FIRST = 0.05  # seconds for each of many commands before the next one is sent


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    operate.where(parser)
    parser.add_argument("names", metavar="NAME", nargs="*", help="agents by id or alias")
    parser.add_argument("--tier", type=int, metavar="N", help="all agents of this tier")
    parser.add_argument("--failed", action="store_true", help="all failed and quarantined agents")
    parser.add_argument("--all", action="store_true", help="all agents")
    parser.add_argument("--reason", default="", help="for the audit trail")
    parser.add_argument("--wait", action="store_true", help="until it has come about")
    parser.add_argument(
        "--timeout", type=_seconds, default=_TIMEOUT, metavar="SECONDS", help="default: 30"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--dry-run", action="store_true", help="say what would be touched only")


def run(arguments: argparse.Namespace) -> int:
    """Carry the command out; returns the exit code."""
    name = arguments.command
    if bool(arguments.names) == bool(
        arguments.all or arguments.failed or arguments.tier is not None
    ):
        operate.complain(name, "name agents, or select them with --tier, --failed or --all")
        return operate.USAGE
    return operate.answered(name, lambda: _command(name, arguments))


def _command(name: str, arguments: argparse.Namespace) -> int:
    client = operate.connect(arguments)
    snapshot = client.snapshot()
    agents: dict[str, AgentShape] = {}
    if arguments.names:
        for given in arguments.names:
            agent = client.agent(given)
            agents[agent["agent_id"]] = agent
    else:
        there = [a for a in snapshot["agents"] if a["mode"] != "declared"]
        picked = operate.selected(there, tier=arguments.tier, failed=arguments.failed)
        agents = {a["agent_id"]: a for a in picked}
    fleet = operate.clean(snapshot["name"])
    if not agents:
        operate.complain(name, f"no agent of {fleet!r} is selected; nothing to do")
        return operate.DONE
    if arguments.dry_run:
        if arguments.json:
            operate.say_json({"schema": SCHEMA, "command": name, "would_touch": list(agents)})
        else:
            operate.say(*_list(name, fleet, agents), "dry run: nothing was done")
        return operate.DONE
    if not arguments.yes and not _agreed(name, fleet, agents):
        return operate.USAGE if not sys.stdin.isatty() else operate.FAILED
    orders = [
        order(
            name,
            agent_id,
            epoch=snapshot["epoch"],
            actor=_actor(),
            reason=arguments.reason,
            wait=arguments.wait,
            timeout=arguments.timeout if arguments.wait else None,
        )
        for agent_id in agents
    ]
    return _carry_out(client, orders, arguments)


def _list(name: str, fleet: str, agents: dict[str, AgentShape]) -> list[str]:
    count = f"{len(agents)} agent{'s' if len(agents) > 1 else ''}"
    return [
        f"{name} {count} of {fleet}:",
        *(f"  {operate.clean(k)} ({a['lifecycle']})" for k, a in agents.items()),
    ]


def _agreed(name: str, fleet: str, agents: dict[str, AgentShape]) -> bool:
    if not sys.stdin.isatty():
        operate.complain(name, "nobody can be asked here; add --yes, or --dry-run to look first")
        return False
    sys.stderr.write("\n".join(_list(name, fleet, agents)) + "\nGo on? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() in {"y", "yes"}:
        return True
    operate.complain(name, "nothing was done")
    return False


def _carry_out(client: Client, orders: list[Order], arguments: argparse.Namespace) -> int:
    answers: dict[str, AnswerShape | dict[str, Any]] = {}
    until = time.monotonic() + arguments.timeout + (_MARGIN if arguments.wait else 0)
    worst = operate.DONE
    waits: dict[str, str] = {}

    def waiting(answer: AnswerShape) -> None:
        if waits.get(answer["agent_id"]) is None:
            waits[answer["agent_id"]] = answer["reason"]
            text = f"{answer['agent_id']}: waits: {answer['reason']}"
            operate.complain(arguments.command, text)

    if len(orders) > 1:  # all on their way before the first is waited for
        orders = [one for one in orders if not _settled(client, one, answers)]
    for one in orders:
        try:
            left = max(0.0, until - time.monotonic())
            answers[one.agent_id] = client.command(one, limit=left, waiting=waiting)
        except RequestError as error:
            answers[one.agent_id] = _trouble(one, error)
    for answer in answers.values():
        worst = max(worst, _code(answer, waited=arguments.wait))
    if arguments.json:
        operate.say_json({"schema": SCHEMA, "answers": list(answers.values())})
    else:
        operate.say(*(_words(answer) for answer in answers.values()))
    return worst


def _settled(client: Client, one: Order, answers: dict[str, AnswerShape | dict[str, Any]]) -> bool:
    try:
        answer = client.send(one, hold=_FIRST)
    except RequestError as error:
        answers[one.agent_id] = _trouble(one, error)
        return True
    if answer["result"] == "pending":
        return False
    answers[one.agent_id] = answer
    return True


def _trouble(one: Order, error: RequestError) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "result": "error",
        "command": one.command,
        "agent_id": one.agent_id,
        "state": "",
        "settled": None,
        "reason": str(error),
        "exit_code": operate.code_of(error),
    }


def _code(answer: AnswerShape | dict[str, Any], *, waited: bool) -> int:
    result = answer["result"]
    if result == "error":
        return int(answer["exit_code"])  # type: ignore[typeddict-item] # one of _trouble's
    if result == "rejected":
        return operate.REFUSED
    if result == "pending" or (waited and answer["settled"] is False):
        return operate.FAILED
    return operate.DONE


def _words(answer: AnswerShape | dict[str, Any]) -> str:
    result = answer["result"]
    who = f"{answer['agent_id']}: {answer['command']}"
    if result == "accepted":
        said = {True: "done", False: "accepted, but it has not come about", None: "accepted"}
        text = f"{who} {said[answer['settled']]}; now {answer['state']}"
    elif result == "noop":
        text = f"{who}: nothing to do: {answer['reason']}"
    elif result == "pending":
        text = f"{who} waits: {answer['reason']}"
    else:
        text = f"{who} refused: {answer['reason']}"
    return operate.clean(text)


def _actor() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name[:100]
    except KeyError:
        return f"uid {os.geteuid()}"


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= 86_400:  # noqa: PLR2004 - a day
        message = f"{text!r} is no time; give seconds above 0, a day at most"
        raise argparse.ArgumentTypeError(message)
    return seconds
