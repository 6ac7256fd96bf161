"""What the commands that look at a running fleet share: where it is, exit codes, words."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from fleetmon.control.client import Client, find
from fleetmon.control.protocol import AmbiguousFleetError, ControlError, NoFleetError, RequestError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from fleetmon.control.protocol import AgentShape, SnapshotShape

DONE = 0
FAILED = 1
USAGE = 2
NO_FLEET = 3
NO_AGENT = 4
REFUSED = 5

HEALTH = ("healthy", "degraded", "failed")
"""Words for ``health``."""

_COLUMNS = ("AGENT", "TIER", "STATE", "HEALTH", "TASK", "QUEUE", "USE", "OK", "FAILED", "RESTARTS")
_RIGHT = frozenset({"TIER", "QUEUE", "USE", "OK", "FAILED", "RESTARTS"})


def where(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which fleet is meant, and ``--json``."""
    parser.add_argument("--fleet", metavar="NAME", help="name or process id, where several run")
    parser.add_argument("--url", metavar="unix:PATH", help="the fleet's socket itself")
    parser.add_argument("--json", action="store_true", help="one JSON object, with its schema")


def connect(arguments: argparse.Namespace) -> Client:
    """Return a client for the fleet that is meant; raises :class:`ControlError`."""
    url = arguments.url
    if url is None:
        return Client(find(arguments.fleet).socket)
    path = url.removeprefix("unix:")
    if path == url or not path:
        message = f"--url {url!r} is no socket; give unix:PATH"
        raise AmbiguousFleetError(message)
    return Client(path)


def answered(command: str, work: Callable[[], int]) -> int:
    """Return the exit code of ``work``; what goes wrong with the fleet is told in one line."""
    try:
        return work()
    except ControlError as error:
        complain(command, str(error))
        return code_of(error)


def code_of(error: ControlError) -> int:
    """Return the exit code for what went wrong."""
    if isinstance(error, AmbiguousFleetError):
        return USAGE
    if isinstance(error, NoFleetError):
        return NO_FLEET
    if isinstance(error, RequestError):
        if error.code == "unknown_agent":
            return NO_AGENT
        if error.code in {"refused", "another_life"}:
            return REFUSED
    return FAILED


def complain(command: str, message: str) -> None:
    """Write one line on standard error."""
    sys.stderr.write(f"fleetmon {command}: {clean(' '.join(message.split()))}\n")


def say(*lines: str) -> None:
    """Write lines on standard output, at once."""
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def say_json(value: Any) -> None:
    """Write one JSON value on a line of standard output."""
    say(json.dumps(value))


def clean(text: object) -> str:
    """Return text without what would steer a terminal; names and reasons come from others."""
    return "".join(c if c.isprintable() else "?" for c in str(text))


def heading(snapshot: SnapshotShape) -> list[str]:
    """Return the lines that stand above a fleet: counts, and everything that is the matter."""
    agents = [a for a in snapshot["agents"] if a["mode"] != "declared"]
    counts = [sum(a["health"] == level for a in agents) for level in range(3)]
    told = ", ".join(f"{n} {word}" for n, word in zip(counts, HEALTH, strict=True) if n) or "none"
    lines = [
        (
            f"{clean(snapshot['name'])}: {snapshot['phase']}, {len(agents)} agents: {told} "
            f"(process {snapshot['pid']})"
        )
    ]
    blocked = snapshot["blocked"]
    if blocked is not None:
        who = clean(blocked["agent_id"]) or "something that is no agent's task"
        task = f" with {clean(blocked['task_type'])}" if blocked["task_type"] else ""
        lines.append(
            f"! the event loop is blocked for {blocked['seconds']:.1f} s by {who}{task} at "
            f"{clean(blocked['file'])}:{blocked['line']} in {clean(blocked['function'])}"
        )
    if snapshot["shared_cause_open"]:
        lines.append("! most of the fleet fell for one reason; restarts wait for one probe")
    if snapshot["dead_letters"]:
        lines.append(f"! {snapshot['dead_letters']} dead letters")
    lines.extend(
        f"! {clean(a['agent_id'])}: {c['name']} for {c['seconds']:.1f} s: {clean(c['reason'])}"
        for a in agents
        for c in a["conditions"]
    )
    return lines


def table(agents: Sequence[AgentShape]) -> list[str]:
    """Return agents as a table, never cut."""
    rows: list[Sequence[str]] = [_COLUMNS, *(_row(agent) for agent in agents)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(_COLUMNS))]
    return [
        "  ".join(
            cell.rjust(width) if name in _RIGHT else cell.ljust(width)
            for name, cell, width in zip(_COLUMNS, row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]


def _row(agent: AgentShape) -> tuple[str, ...]:
    tasks = agent["tasks"]
    doing = f"{clean(tasks[0]['task_type'])} {tasks[0]['seconds']:.1f} s" if tasks else "-"
    if len(tasks) > 1:
        doing += f" +{len(tasks) - 1}"
    state = agent["lifecycle"]
    if agent["retry_in"] is not None:
        state += f" {agent['retry_in']:.1f} s"
    if agent["mode"] == "declared":
        state = "declared"
    return (
        clean(agent["agent_id"]),
        "-" if agent["tier"] is None else str(agent["tier"]),
        state,
        "-" if agent["mode"] == "declared" else HEALTH[agent["health"]],
        doing,
        str(agent["queued"]),
        f"{agent['utilization']:.0%}",
        str(agent["succeeded"]),
        str(agent["failed"]),
        str(agent["restarts"]),
    )


def selected(
    agents: Sequence[AgentShape], *, tier: int | None = None, failed: bool = False
) -> list[AgentShape]:
    """Return the agents of a tier, or those that do not serve, or both."""
    return [
        agent
        for agent in agents
        if tier in (None, agent["tier"])
        and (not failed or agent["health"] == 2 or agent["lifecycle"] == "quarantined")  # noqa: PLR2004
    ]
