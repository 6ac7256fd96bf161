"""Frames out of a recording, as of where its time line stands."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from fleetmon.errors import FleetmonError
from fleetmon.record.reader import Recording
from fleetmon.record.shapes import CLOCK_SET_BACK
from fleetmon_tui.state.timeline import Timeline

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from fleetmon.record.reader import Picture
    from fleetmon_tui.source import Told
    from fleetmon_tui.state.orders import Question

_BEFORE = 600.0  # seconds of events before a jump's target that are told
_EVENTS = 1000
_TASKS = 20
_LEAD = 1.0  # seconds before a warning to which "next warning" goes while it plays
_APART = 0.01  # seconds by which another warning is another place to go to
_STILL = 2.0  # seconds between two looks at a recording that may still be written
_BACK = ("lapsed", "starting", "verified", "backing_off", "quarantined", "command", "stopped",
         "shared_cause_opened", "condition_raised", "start_failed", "recovering")  # fmt: skip


class Replay:
    """Reads a recording, whenever it is asked where the time line has got to.

    Attributes:
        timeline: of the recording.
        first: set at once: a recording does not keep anybody waiting.
    """

    def __init__(self, path: Path, now: float) -> None:
        """Open it; raises :class:`~fleetmon.errors.FleetmonError` where it cannot be read."""
        self._recording = Recording(path)
        first, last = self._recording.span()
        self.timeline = Timeline(first, last, now)
        self.first = threading.Event()
        self.first.set()
        self._shown = -1.0
        self._life = -1
        self._seq = 0
        self._looked = 0.0

    def start(self, wake: Callable[[], None]) -> None:
        """Do nothing: the screen looks by itself while the time line moves."""

    def take(self) -> list[Told]:
        """Return the picture of now, if it is another than before."""
        now = time.monotonic()
        if now - self._looked > _STILL:
            self._looked = now
            self.timeline.last = max(self.timeline.last, self._recording.span()[1])
        at = self.timeline.at(now)
        if at == self._shown:
            return []
        picture = self._recording.at(at)
        events = self._events(picture, at)
        fresh, self._shown = events is None, at
        told = self._since(at - _BEFORE, at) if events is None else events
        self._life = picture.life.life
        frame = {
            "type": "picture",
            "rows": picture.rows,
            "facts": picture.facts,
            "clock": picture.clock,
            "at": picture.at,
            "events": told,
            "fresh": fresh,
            "state": picture.state,
            "name": picture.life.name,
            "pid": picture.life.pid,
        }
        return [(frame, now, picture.at)]

    def _events(self, picture: Picture, at: float) -> list[dict[str, Any]] | None:
        """Return what happened since the last picture; nothing where it does not lead here."""
        step = at - self._shown
        if picture.life.life != self._life or not 0 < step <= 120:  # noqa: PLR2004 - seconds; further is a jump
            return None
        return self._since(self._shown, at)

    def _since(self, since: float, until: float) -> list[dict[str, Any]]:
        found = self._recording.events(since, until, limit=_EVENTS)
        told = [event._asdict() for event in found]
        lacks = [g._asdict() for g in self._recording.gaps(since, until) if g.since >= since]
        lost = self._recording.forgotten()
        if lost is not None and since <= lost[1] <= until:
            lacks.append({"since": lost[0], "until": lost[1], "lost": {}})
        if lacks:
            told += [_told(gap) for gap in lacks]
            told.sort(key=lambda event: event["at"])
        return told

    def details(self, agent_id: str) -> Future[dict[str, Any]]:
        """Return what the recording tells of an agent."""
        future: Future[dict[str, Any]] = Future()
        at = self._shown
        try:
            ends = self._recording.tasks(agent_id, since=at - _BEFORE, until=at, limit=_TASKS)
            history = self._recording.events(0.0, at, agent=agent_id, kinds=_BACK, limit=50)
            failed = self._recording.events(
                0.0, at, agent=agent_id, kinds=("task_failed", "lapsed"), limit=10
            )
        except FleetmonError as error:
            future.set_exception(error)
            return future
        tasks = [
            {"task_type": e.task_type, "outcome": e.outcome, "error_type": e.error_type,
             "at": e.ended, "seconds": e.ended - e.began if e.began else None}
            for e in ends
        ]  # fmt: skip
        failures = [{"at": e.at, "kind": e.kind.replace("_", " "), **e.data} for e in failed]
        events = [event._asdict() for event in reversed(history)]
        future.set_result(
            {"recent_tasks": tasks, "recent_failures": failures[::-1], "history": events}
        )
        return future

    def letters(self) -> Future[list[dict[str, Any]]]:
        """Return the tasks that were given up until now, as their events tell of them."""
        future: Future[list[dict[str, Any]]] = Future()
        try:
            found = self._recording.events(0.0, self._shown, kinds=("dead_lettered",), limit=200)
        except FleetmonError as error:
            future.set_exception(error)
            return future
        future.set_result(
            [
                {"task_id": e.task_id, "agent_id": e.agent_id, "at": e.at,
                 "task_type": e.data.get("task_type", ""), "attempts": e.data.get("attempts", 1),
                 "reason": e.data.get("reason", "")}
                for e in found
            ]
        )  # fmt: skip
        return future

    def send(self, number: int, question: Question, reason: str) -> None:
        """Do nothing: the past takes no commands."""

    def choose(self, fleet: str) -> None:
        """Do nothing: a recording is of one fleet."""

    def seek(self, word: str, what: object, now: float) -> bool:
        """Go to the next warning, or the one before; returns whether there is one."""
        if word != "warning":
            return True
        at = self.timeline.at(now)
        lead = _LEAD if self.timeline.playing else 0.0  # standing still, nothing would come
        if what == 1:
            found = self._recording.next_warning(at + lead + _APART)
        else:
            earlier = [w for w in self._recording.warnings(0.0, at) if w.since < at - lead - _APART]
            found = max(earlier, key=lambda w: w.since, default=None)
        if found is not None:
            self.timeline.seek(found.since - (lead if what == 1 else 0.0), now)
        return found is not None

    def close(self) -> None:
        """Close the file."""
        self._recording.close()


def _told(gap: Mapping[str, Any]) -> dict[str, Any]:
    back = gap["lost"].get(CLOCK_SET_BACK)
    if back is None:
        return {"seq": 0, "at": gap["until"], "kind": "record_lacks", "data": gap["lost"]}
    return {"seq": 0, "at": gap["since"], "kind": CLOCK_SET_BACK, "data": {"seconds": back}}
