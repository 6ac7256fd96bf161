"""``fleetmon agent NAME``: all there is to know about one agent."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from fleetmon.cli import _operate as operate

if TYPE_CHECKING:
    import argparse

    from fleetmon.control.protocol import AgentShape


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    operate.where(parser)
    parser.add_argument("name", metavar="NAME", help="id or alias")


def run(arguments: argparse.Namespace) -> int:
    """Print it; returns the exit code."""
    return operate.answered("agent", lambda: _agent(arguments))


def _agent(arguments: argparse.Namespace) -> int:
    agent = operate.connect(arguments).agent(arguments.name)
    if arguments.json:
        operate.say_json(agent)
    else:
        operate.say(*_lines(agent))
    return operate.DONE


def _lines(agent: AgentShape) -> list[str]:
    clean = operate.clean
    retry = agent["retry_in"]
    rows = [
        ("state", agent["lifecycle"] + ("" if retry is None else f", next try in {retry:.1f} s")),
        ("health", operate.HEALTH[agent["health"]]),
        ("wanted", agent["desired"]),
        ("kind", f"{agent['mode']}, executor {agent['executor']}"),
        ("tier", "-" if agent["tier"] is None else f"{agent['tier']} ({clean(agent['field'])})"),
        ("generation", f"{agent['generation']}, {agent['restarts']} restarts"),
        (
            "work",
            (
                f"{agent['in_flight']} of {agent['capacity']} at once, {agent['queued']} waiting "
                f"(room for {agent['queue_limit']}), {agent['utilization']:.0%} used"
            ),
        ),
        (
            "tasks",
            (
                f"{agent['assigned']} accepted: {agent['succeeded']} succeeded, "
                f"{agent['failed']} failed, {agent['timed_out']} timed out, "
                f"{agent['cancelled']} cancelled, {agent['dead_lettered']} dead letters"
            ),
        ),
    ]
    rows.extend(("failures", f"{n} {clean(kind)}") for kind, n in agent["failures"].items() if n)
    rows.extend(
        ("running", f"{clean(t['task_type'])} for {t['seconds']:.1f} s {clean(t['note'])}".rstrip())
        for t in agent["tasks"]
    )
    rows.extend(
        ("warning", f"{c['name']} for {c['seconds']:.1f} s: {clean(c['reason'])}")
        for c in agent["conditions"]
    )
    lapse = agent["last_lapse"]
    if lapse is not None:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(lapse["at"]))
        what = ": ".join(clean(x) for x in (lapse["reason"], lapse["error"]) if x)
        rows.append(("last lapse", f"{at}, generation {lapse['generation']}: {what}"))
    return [clean(agent["agent_id"]), *(f"  {name:<10}  {text}" for name, text in rows)]
