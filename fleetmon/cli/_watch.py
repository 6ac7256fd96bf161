"""``fleetmon status --watch``: everything that the dashboard shows, as lines that only grow.

For screen readers and logs: nothing is ever overwritten. First the whole fleet; then events and
warnings as they come, and at every turn the agents whose row has changed.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from fleetmon.cli import _fleet as fleet
from fleetmon.cli import _out as out
from fleetmon.cli import _words as words
from fleetmon.control.mirror import Mirror
from fleetmon.control.protocol import SCHEMA, NoFleetError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping

    from fleetmon.control.client import Client
    from fleetmon.rows import AgentRow

_AGAIN = 1.0  # seconds between two tries to reach a fleet that was lost


def watch(arguments: argparse.Namespace) -> int:
    """Print until the fleet ends; returns the exit code.

    Raises:
        ControlError: it cannot be reached in the first place.
    """
    client = fleet.connect(arguments)
    if arguments.json or arguments.jsonl:
        for frame in client.stream(events=0, rate=_rate(arguments.every)):
            out.say_json({"schema": SCHEMA, **frame})
        return fleet.DONE
    screen = _Screen(out.Style(wanted=not arguments.no_color), arguments.every)
    known: str | None = None
    while True:
        try:
            _follow(client, screen, arguments)
        except NoFleetError as error:
            known = screen.mirror.epoch if known is None else known
            if known is None:
                raise
            screen.lost(str(error))
        else:
            return fleet.DONE
        time.sleep(_AGAIN)
        client = _found(arguments, client)


def _follow(client: Client, screen: _Screen, arguments: argparse.Namespace) -> None:
    mirror = screen.mirror
    seen = mirror.event_seq if mirror.epoch is not None else None
    for frame in client.stream(
        mirror.since, epoch=mirror.epoch, events=seen, rate=_rate(arguments.every)
    ):
        screen.take(frame)


def _found(arguments: argparse.Namespace, client: Client) -> Client:
    # a fleet that was started again has another socket
    try:
        return fleet.connect(arguments)
    except NoFleetError:
        return client


def _rate(every: float) -> float:
    return min(10.0, max(0.2, 1.0 / every))


class _Screen:
    """Prints what is new in a mirror."""

    def __init__(
        self, style: out.Style, every: float, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.mirror = Mirror()
        self._style = style
        self._every = every
        self._now = now
        self._due = 0.0
        self._warned: dict[tuple[str, str], str] = {}
        self._letters = 0
        self._away = False

    def lost(self, why: str) -> None:
        """Say once that what stands above is not the present any more."""
        if not self._away:
            since = words.clock(self.mirror.wall)
            out.say(f"-- connection lost ({out.clean(why)}); what stands above is of {since}")
        self._away = True

    def take(self, frame: Mapping[str, Any]) -> None:
        """Take a frame and print what it brings."""
        mirror, now = self.mirror, self._now()
        before = mirror.epoch
        mirror.apply(frame, now)
        kind = frame["type"]
        if kind == "hello" and before is not None:
            again = "again" if before == mirror.epoch else "a new life of it"
            out.say(f"-- connected to {out.clean(mirror.name)} ({again})")
            self._away = False
            if before != mirror.epoch:
                self._warned.clear()
                self._due = 0.0
        elif kind == "events":
            if frame["lost"]:
                out.say(f"... {frame['lost']} events were not kept for this reader")
            out.say(*(words.event(e) for e in frame["events"]))
        elif kind == "end":
            out.say(f"-- the fleet has ended: {out.clean(mirror.ended)}")
        if kind == "fleet":
            self._warnings(frame)
        if mirror.complete and mirror.fleet is not None and now >= self._due and kind != "end":
            self._rows(now, whole=not self._due)
            self._due = now + self._every

    def _warnings(self, frame: Mapping[str, Any]) -> None:
        there = {(w["rule"], w["agent_id"]): w for w in frame["warnings"]}
        clock = self.mirror.now(self._now())
        for key, told in there.items():
            if self._warned.get(key) != told["text"]:
                seconds = clock - told["since"]
                out.say(words.warning(told, seconds, self._style))
        for rule, agent_id in self._warned.keys() - there.keys():
            out.say(f"- {out.clean(agent_id) or 'fleet'}: {rule} is over")
        self._warned = {key: told["text"] for key, told in there.items()}
        if frame["dead_letters"] != self._letters:
            self._letters = frame["dead_letters"]
            many = words.several(self._letters, "dead letter")
            out.say(f"! {many}: fleetmon dead-letters")

    def _rows(self, now: float, *, whole: bool) -> None:
        mirror = self.mirror
        changed = mirror.take_changes()
        rows = [r for r in mirror.rows.values() if whole or r.agent_id in changed]
        gone = sorted(changed - mirror.rows.keys())
        if gone:
            out.say(f"- removed: {', '.join(out.clean(name) for name in gone)}")
        if not rows:
            return
        clock = mirror.now(now)
        facts = {**(mirror.fleet or {}), **(mirror.hello or {})}
        every = [shape(r, clock) for r in mirror.rows.values()]
        out.say(f"{words.clock(mirror.wall)} {words.heading(facts, every, self._style)}")
        out.say(*words.agent_table([shape(r, clock) for r in rows], self._style))


def shape(row: AgentRow, clock: float) -> dict[str, Any]:
    """Return of a row what :mod:`fleetmon.cli._words` prints; ``clock`` is the supervisor's."""
    told = row._asdict()
    task = {"task_type": row.task, "seconds": clock - row.task_since, "note": row.task_note}
    told["tasks"] = [task] if row.task else []
    told["retry_in"] = None if row.retry_at is None else max(0.0, row.retry_at - clock)
    return told
