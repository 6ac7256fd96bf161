"""Which agents are meant: by name, or by what they have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from fleetmon.control.client import Client
    from fleetmon.control.protocol import AgentShape, SnapshotShape

_FAILED = 2  # health


def selectors(parser: argparse.ArgumentParser, *, every: bool) -> None:
    """Add the options; ``every`` adds ``--all``, for commands that touch what they select."""
    group = parser.add_argument_group("which agents")
    group.add_argument(
        "names", metavar="NAME", nargs="*", help="by id, alias or number, as APEX, @apex or 01"
    )
    group.add_argument(
        "--tier", type=int, metavar="N", action="append", help="of this tier; may be repeated"
    )
    group.add_argument(
        "--state", metavar="STATE", action="append", help="in this state, such as paused; likewise"
    )
    group.add_argument("--failed", action="store_true", help="that have failed or are quarantined")
    if every:
        group.add_argument("--all", action="store_true", help="all of them")


def confusion(arguments: argparse.Namespace) -> str:
    """Return why the options make no sense for a command that touches agents, or nothing."""
    some = bool(arguments.failed or arguments.tier or arguments.state)
    if arguments.all and (some or arguments.names):
        return "--all selects every agent; leave out the names and the other selectors"
    if arguments.names and some:
        return "give names, or select with --tier, --state and --failed, not both"
    if not (arguments.names or some or arguments.all):
        return "name agents, or select them with --tier, --state, --failed or --all"
    return ""


def chosen(
    client: Client, snapshot: SnapshotShape, arguments: argparse.Namespace
) -> dict[str, AgentShape]:
    """Return the agents that are meant, by id, in the fleet's order.

    Raises:
        RequestError: a name is unknown; the fleet tells the nearest ones.
    """
    if not arguments.names:
        return {a["agent_id"]: a for a in matching(snapshot["agents"], arguments)}
    there = {a["agent_id"]: a for a in snapshot["agents"]}
    found: dict[str, AgentShape] = {}
    for name in arguments.names:
        agent = there.get(name) or client.agent(name)  # which knows aliases and numbers
        found[agent["agent_id"]] = agent
    return found


def unknown_state(arguments: argparse.Namespace, agents: Iterable[AgentShape]) -> str:
    """Return what is wrong with ``--state``, if it is a state that nobody is ever in.

    A newer fleet may have states that this command line does not know: one in which an agent is
    right.
    """
    strange = set(arguments.state or ()) - {agent["lifecycle"] for agent in agents}
    if strange:
        from fleetmon.numbers import LIFECYCLES

        for state in sorted(strange.difference(LIFECYCLES)):
            from difflib import get_close_matches

            near = get_close_matches(state, LIFECYCLES, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(LIFECYCLES)}"
            return f"no state {state!r}; {hint}"
    return ""


def matching(agents: Iterable[AgentShape], arguments: argparse.Namespace) -> list[AgentShape]:
    """Return the agents that every given selector fits; declared ones only where nothing is."""
    some = arguments.tier or arguments.state or arguments.failed
    return [
        agent
        for agent in agents
        if (not arguments.tier or agent["tier"] in arguments.tier)
        and (not arguments.state or agent["lifecycle"] in arguments.state)
        and (not arguments.failed or failed(agent))
        and (agent["mode"] != "declared" or not (some or getattr(arguments, "all", False)))
    ]


def failed(agent: AgentShape) -> bool:
    """Return whether an agent does not serve for reasons of fault."""
    return agent["health"] == _FAILED or agent["lifecycle"] == "quarantined"
