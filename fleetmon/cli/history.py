"""``fleetmon history AGENT``: what happened to one agent, out of a record, over all its lives."""

from __future__ import annotations

import argparse
import os
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from fleetmon.cli import _out as out
from fleetmon.cli import _words as words
from fleetmon.cli._fleet import DONE, NO_AGENT, USAGE
from fleetmon.control.protocol import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleetmon.record.reader import LifeSpan, Recording
    from fleetmon.rows import AgentRow

VARIABLE = "FLEETMON_RECORD"
"""Environment variable with the record to read; ``--record`` wins over it."""

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_OUTCOMES = ("succeeded", "failed", "cancelled", "timed_out", "dead_lettered")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("name", metavar="AGENT", help="its id")
    parser.add_argument(
        "--record", metavar="FILE", help=f"the record to read (default: ${VARIABLE})"
    )
    parser.add_argument(
        "--last", metavar="TIME", type=_duration, help="of the last 90s, 15m, 2h or 7d only"
    )
    parser.add_argument(
        "--tasks", metavar="N", type=_count, default=10, help="its last tasks (default: 10)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object, with its schema")
    parser.add_argument("--jsonl", action="store_true", help="one JSON object an event")
    parser.add_argument("--no-color", action="store_true", help="taken for other commands' sake")


def run(arguments: argparse.Namespace) -> int:
    """Print it; returns the exit code."""
    path = arguments.record or os.environ.get(VARIABLE)
    if not path:
        out.complain("history", f"name the record with --record FILE or in {VARIABLE}")
        return USAGE
    from fleetmon.record import Recording

    with Recording(path) as record:
        agent_id = _known(record, arguments.name)
        if agent_id is None:
            return NO_AGENT
        since = 0.0 if arguments.last is None else record.span()[1] - arguments.last
        if arguments.json:
            out.say_json(_whole(record, agent_id, since, arguments.tasks))
        elif arguments.jsonl:
            for event in record.events(since, agent=agent_id):
                out.say_json({"schema": SCHEMA, **event._asdict()})
        else:
            for line in _lines(record, agent_id, since, arguments.tasks):
                out.say(out.clean(line))
    return DONE


def _known(record: Recording, name: str) -> str | None:
    """Return the id that a name means; says so where there is none."""
    names = record.agents()
    wanted = name.removeprefix("@")
    for agent_id in names:
        if agent_id == wanted:
            return agent_id
    for agent_id in names:
        if agent_id.casefold() == wanted.casefold():
            return agent_id
    near = get_close_matches(wanted.upper(), names, 3) or get_close_matches(wanted, names, 3)
    hint = f"; did you mean {', '.join(near)}?" if near else ""
    out.complain("history", f"{record.path} knows no agent {name!r}{hint}")
    return None


def _rows(record: Recording, agent_id: str) -> Iterator[tuple[LifeSpan, AgentRow | None]]:
    """Yield each life with the agent's row as it stood last."""
    for life in record.lives():
        try:
            row = record.at(life.last, life=life.life).row(agent_id)
        except LookupError:
            row = None
        yield life, row


def _whole(record: Recording, agent_id: str, since: float, tasks: int) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "agent_id": agent_id,
        "lives": [
            {**life._asdict(), "row": None if row is None else row._asdict()}
            for life, row in _rows(record, agent_id)
            if life.last >= since
        ],
        "events": [e._asdict() for e in record.events(since, agent=agent_id)],
        "warnings": [w._asdict() for w in record.warnings(since) if w.agent_id == agent_id],
        "tasks": [t._asdict() for t in record.tasks(agent_id, since=since, limit=tasks)],
        "interrupted": [t._asdict() for t in record.interrupted() if t.agent_id == agent_id],
        "gaps": [g._asdict() for g in record.gaps(since)],
        "forgotten": _forgotten(record, since),
    }


def _lines(record: Recording, agent_id: str, since: float, tasks: int) -> Iterator[str]:
    yield agent_id
    if room := _forgotten(record, since):
        between = f"{words.moment(room['since'])} and {words.moment(room['until'])}"
        yield f"what happened between {between} was forgotten to make room"
    for life, row in _rows(record, agent_id):
        if life.last >= since:
            yield from _life(record, agent_id, life, row, since)
    from fleetmon.record.shapes import CLOCK_SET_BACK

    for gap in record.gaps(since):
        between = f"between {words.moment(gap.since)} and {words.moment(gap.until)}"
        if CLOCK_SET_BACK in gap.lost:
            yield f"the clock was set back: times {between} occur twice"
            continue
        lost = ", ".join(f"{n} {kind}" for kind, n in gap.lost.items())
        yield f"the record lacks {lost} {between}"
    recent = record.tasks(agent_id, since=since, limit=tasks)
    if recent:
        yield "last tasks:"
    for done in recent:
        took = f"after {done.ended - done.began:.3f} s" if done.generation else "while it waited"
        why = f" ({done.error_type})" if done.error_type else ""
        yield (
            f"  {words.moment(done.ended)}  {done.task_id:>6} {done.task_type} "
            f"{done.outcome.replace('_', ' ')}{why} {took}"
        )


def _forgotten(record: Recording, since: float) -> dict[str, float] | None:
    found = record.forgotten()
    if found is None or found[1] < since:
        return None
    return {"since": found[0], "until": found[1]}


def _life(
    record: Recording, agent_id: str, life: LifeSpan, row: AgentRow | None, since: float
) -> Iterator[str]:
    yield (
        f"{words.moment(life.began)}  {life.name} began to be recorded (process {life.pid}, "
        f"life {life.life})"
    )
    for event in record.events(max(since, life.began), agent=agent_id):
        if event.life == life.life:
            yield "  " + words.event(event._asdict(), who=False)
    if row is not None:
        counts = ", ".join(
            f"{getattr(row, name)} {name.replace('_', ' ')}"
            for name in _OUTCOMES
            if getattr(row, name)
        )
        yield f"  {row.assigned} tasks accepted: {counts or 'none has ended'}"
    for task in record.interrupted():
        if (task.agent_id, task.epoch) == (agent_id, life.epoch):
            what = "waited" if task.waiting else "was at work"
            yield (
                f"  task {task.task_id} ({task.task_type}, attempt {task.attempt}) {what} since "
                f"{words.clock(task.since)}; its end: {task.fate.replace('_', ' ')}"
            )
    if life.ended:
        said = {"crashed": "the process crashed", "stopped": "the fleet was stopped"}
        yield f"{words.moment(life.last)}  {said.get(life.ended, 'the recording was ended')}"


def _duration(text: str) -> float:
    number, unit = (text[:-1], text[-1:]) if text[-1:] in _UNITS else (text, "s")
    if not number.isascii() or not number.isdecimal() or int(number) <= 0:
        msg = f"{text!r} is no time; give 90s, 15m, 2h or 7d"
        raise argparse.ArgumentTypeError(msg)
    return float(int(number) * _UNITS[unit])


def _count(text: str) -> int:
    if not text.isascii() or not text.isdecimal():
        msg = f"{text!r} is no number of tasks"
        raise argparse.ArgumentTypeError(msg)
    return int(text)
