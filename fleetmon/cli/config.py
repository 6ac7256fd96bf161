"""``fleetmon config``: how the fleet is set up, and where its agents differ; never a secret."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fleetmon.cli import _fleet as fleet
from fleetmon.cli import _out as out
from fleetmon.control.protocol import SCHEMA

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "name", metavar="NAME", nargs="?", help="everything that holds for this agent"
    )
    parser.add_argument(
        "--key", metavar="KEY", default="", help="keys that begin so only, such as intensity"
    )
    fleet.where(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print it; returns the exit code."""
    return fleet.answered("config", lambda: _config(arguments))


def _config(arguments: argparse.Namespace) -> int:
    client = fleet.connect(arguments)
    config = client.config()
    told: Mapping[str, Any] = config
    if arguments.name is not None:
        agent_id = client.agent(arguments.name)["agent_id"]
        own = config["agents"].get(agent_id, {})
        told = {
            "schema": SCHEMA,
            "agent_id": agent_id,
            "spec": {**config["settings"]["defaults"], **own},
        }
    if arguments.json or arguments.jsonl:
        out.say_json(told)
        return fleet.DONE
    if arguments.name is not None:
        lines = list(_flat(told["spec"], ""))
    else:
        lines = list(_flat(told["settings"], ""))
        for agent_id, own in told["agents"].items():
            lines += _flat(own, f"agents.{agent_id}.")
    out.say(*(line for line in lines if line.startswith(arguments.key)))
    return fleet.DONE


def _flat(value: Mapping[str, Any], name: str) -> Iterator[str]:
    for key, inner in value.items():
        if isinstance(inner, dict) and inner:
            yield from _flat(inner, f"{name}{key}.")
        else:
            yield out.clean(f"{name}{key} = {json.dumps(inner, ensure_ascii=False)}")
