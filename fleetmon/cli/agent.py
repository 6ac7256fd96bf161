"""``fleetmon agent NAME``: all there is to know about one agent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fleetmon.cli import _fleet as fleet
from fleetmon.cli import _out as out
from fleetmon.cli import _words as words

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping

_OUTCOMES = {
    "succeeded": "succeeded",
    "failed": "failed",
    "timed_out": "timed out",
    "cancelled": "cancelled",
}

_HISTORY = 20  # events


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("name", metavar="NAME", help="id, alias or number")
    fleet.where(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print it; returns the exit code."""
    return fleet.answered("agent", lambda: _agent(arguments))


def _agent(arguments: argparse.Namespace) -> int:
    agent = fleet.connect(arguments).agent(arguments.name)
    if arguments.json or arguments.jsonl:
        out.say_json(agent)
        return fleet.DONE
    style = out.Style(wanted=not arguments.no_color)
    out.say(style(out.clean(agent["agent_id"]), "bold"))
    out.say(*(f"  {style(f'{name:<12}', 'dim')}  {text}".rstrip() for name, text in _rows(agent)))
    return fleet.DONE


def _rows(agent: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    clean = out.clean
    retry = agent["retry_in"]
    yield (
        "state",
        agent["lifecycle"]
        + ("" if retry is None else f", next try in {words.duration(retry)}")
        + ("" if agent["accepting"] else ", takes no tasks"),
    )
    yield "health", words.HEALTH[agent["health"]]
    yield "wanted", agent["desired"]
    yield "kind", f"{agent['mode']}, executor {agent['executor']}"
    if agent["tier"] is not None:
        yield "tier", f"{agent['tier']} ({clean(agent['field'])})"
    lapses = agent["streak"]
    yield (
        "life",
        f"generation {agent['generation']}, {words.several(agent['restarts'], 'restart')}"
        + (f", {words.several(lapses, 'lapse')} in a row" if lapses else ""),
    )
    yield (
        "work",
        (
            f"{agent['in_flight']} of {agent['capacity']} at once, {agent['queued']} waiting "
            f"(room for {agent['queue_limit']}), {agent['utilization']:.0%} used"
        ),
    )
    yield (
        "tasks",
        (
            f"{agent['assigned']} accepted: "
            + ", ".join(f"{agent[name]} {said}" for name, said in _OUTCOMES.items())
            + f", {words.several(agent['dead_lettered'], 'dead letter')}"
        ),
    )
    if agent.get("p50") is not None:
        yield (
            "durations",
            f"{words.latency(agent['p50'])} median, {words.latency(agent['p95'])} p95",
        )
    for kind, count in agent["failures"].items():
        if count:
            yield "failures", f"{count} {clean(kind)}"
    for task in agent["tasks"]:
        note = f": {clean(task['note'])}" if task["note"] else ""
        time = words.duration(task["seconds"])
        yield "running", f"task {task['task_id']} ({clean(task['task_type'])}) for {time}{note}"
    for found in agent["conditions"]:
        time = words.duration(found["seconds"])
        yield "condition", f"{found['name']} for {time}: {clean(found['reason'])}"
    yield from _past(agent)


def _past(agent: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    clean = out.clean
    lapse = agent["last_lapse"]
    if lapse is not None:
        what, error = (clean(lapse[key] or "") for key in ("reason", "error"))
        kind, _, _ = error.partition(":")  # with which the reason may end already
        what = ": ".join(filter(None, (what.removesuffix(f": {kind}"), error)))
        yield "last lapse", f"{words.moment(lapse['at'])}, generation {lapse['generation']}: {what}"
    for told in agent["recent_tasks"]:
        yield "recent", _ended(told, agent["clock"])
    for told in agent["recent_failures"]:
        yield "failed", f"{_ended(told, agent['clock'])}: {clean(told['error'])}"
        for frame in told["frames"]:
            yield "", f"  {clean(frame)}"
    for told in agent["policy"]:
        yield "policy", clean(told)
    for told in agent["history"][-_HISTORY:]:
        yield "history", words.event(told, who=False)


def _ended(told: Mapping[str, Any], clock: float) -> str:
    ago = words.duration(clock - told["ended"])
    kind = f" ({out.clean(told['error_type'])})" if told["error_type"] else ""
    return (
        f"task {told['task_id']} ({out.clean(told['task_type'])}) {told['outcome']}{kind} after "
        f"{words.latency(told['seconds'])}, {ago} ago"
    )
