"""Events: the last ones, what was missed between them, and each as one sentence."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from fleetmon_tui.state.text import age, clean, duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from fleetmon_tui.state.listing import Filter

KEPT = 2000
"""Events kept."""


class Entry(NamedTuple):
    """One line of the events view.

    Attributes:
        seq: of the event; 0 for a line that is about events.
        at: wall clock, seconds.
        agent_id: whom it concerns, empty for the fleet.
        kind: of the event; empty for a line that is about events.
        text: the sentence.
        role: to draw it in.
        stack: lines of code, innermost last, where the event has some.
    """

    seq: int
    at: float
    agent_id: str
    kind: str
    text: str
    role: str
    stack: tuple[str, ...] = ()


class Journal:
    """The last events.

    Attributes:
        entries: oldest first.
        seq: of the newest event.
        missed: events that never came.
    """

    def __init__(self, kept: int = KEPT) -> None:
        """Begin empty."""
        self.entries: deque[Entry] = deque(maxlen=kept)
        self.seq = 0
        self.missed = 0

    def apply(self, events: Iterable[Mapping[str, Any]], lost: int = 0) -> None:
        """Take events, and how many are missing before them."""
        for event in events:
            if lost:
                self.missed += lost
                told = f"{lost} event{'s' if lost != 1 else ''} missed here"
                self.entries.append(Entry(0, event["at"], "", "", told, "warn"))
                lost = 0
            if event["seq"] > self.seq or not event["seq"]:  # the latter is no event of the fleet's
                self.seq = max(self.seq, event["seq"])
                self.entries.append(entry(event))

    def note(self, at: float, text: str) -> None:
        """Put a line of our own between the events."""
        self.entries.append(Entry(0, at, "", "", text, "title"))

    def forget(self) -> None:
        """Expect the events of another life, which count from one again; what is here stays."""
        self.seq = 0

    def clear(self) -> None:
        """Forget all events."""
        self.entries.clear()
        self.seq = 0

    def shown(self, only: Filter) -> list[Entry]:
        """Return the entries that pass a filter, oldest first."""
        if not only:
            return list(self.entries)
        return [e for e in self.entries if only.admits(f"{e.agent_id} {e.kind} {e.text}")]


def entry(event: Mapping[str, Any]) -> Entry:
    """Return an event as a line."""
    kind = str(event["kind"])
    data = event.get("data") or {}
    say = _SAID.get(kind)
    try:
        text = say(data) if say is not None else _anything(kind, data)
    except (KeyError, TypeError, ValueError):  # another version's idea of this kind
        text = _anything(kind, data)
    return Entry(
        int(event["seq"]),
        float(event["at"]),
        clean(event.get("agent_id", "")),
        kind,
        clean(text),
        _role(kind, data),
        _stack(data.get("stack")),
    )


def _stack(told: Any) -> tuple[str, ...]:
    if isinstance(told, str):
        told = told.splitlines()
    if not isinstance(told, list | tuple):
        return ()
    lines: list[str] = []
    for frame in told[-50:]:
        if isinstance(frame, dict):
            where = f"{frame.get('file', '?')}:{frame.get('line', '?')}"
            frame = f"{where} in {frame.get('function', '?')}"  # noqa: PLW2901 - the same in words
        elif isinstance(frame, list | tuple):
            where = ":".join(str(part) for part in frame[:2])
            frame = f"{where} in {frame[2]}" if len(frame) > 2 else where  # noqa: PLR2004, PLW2901 - as above
        lines.extend(clean(part) for part in str(frame).splitlines())
    return tuple(lines)


def _anything(kind: str, data: Mapping[str, Any]) -> str:
    facts = ", ".join(f"{key} {value}" for key, value in data.items() if key != "stack")
    return kind.replace("_", " ") + (f": {facts}" if facts else "")


def _because(data: Mapping[str, Any], *keys: str) -> str:
    told = [str(data[key]) for key in keys if data.get(key)]
    return ": " + ": ".join(dict.fromkeys(told)) if told else ""


def _where(data: Mapping[str, Any]) -> str:
    if not data.get("file"):
        return ""
    return f" at {data['file']}:{data['line']} in {data.get('function', '?')}"


def _lacks(lost: Mapping[str, Any]) -> str:
    if not lost:
        return "what was before this was forgotten: the record keeps within its size and age"
    return "the record lacks " + ", ".join(f"{n} {kind}" for kind, n in lost.items()) + " here"


def _command(data: Mapping[str, Any]) -> str:
    who = f" by {data['actor']}" if data.get("actor") else ""
    why = f" ({data['reason']})" if data.get("reason") else ""
    detail = f": {data['detail']}" if data.get("detail") else ""
    return f"{data['command']}{who}{why}: {data.get('result', '?')}{detail}"


_HEALTH = {0: "healthy", 1: "degraded", 2: "failed"}

_SAID: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "agent_added": lambda _: "added",
    "agent_removed": lambda _: "removed",
    "starting": lambda d: f"starting ({d.get('cause', 'again')}, attempt {d.get('attempt', 1)})",
    "started": lambda _: "started",
    "start_failed": lambda d: "start failed" + _because(d, "error_type", "error"),
    "lapsed": lambda d: "lapsed" + _because(d, "reason", "error_type", "error"),
    "backing_off": lambda d: (
        f"waits {duration(float(d['delay_seconds']))} for its next start, "
        f"lapse {d.get('streak', '?')} in a row"
    ),
    "recovering": lambda _: "recovering, not yet verified",
    "verified": lambda d: f"recovery verified by {d.get('by', 'progress')}",
    "verify_failed": lambda d: "recovery not verified" + _because(d, "reason"),
    "probing": lambda _: "probing",
    "probe_failed": lambda d: "probe failed" + _because(d, "reason", "error"),
    "quarantined": lambda d: "quarantined" + _because(d, "reason"),
    "stopping": lambda d: "stopping" + _because(d, "reason"),
    "stopped": lambda d: "stopped" + _because(d, "reason"),
    "drained": lambda _: "drained",
    "zombie": lambda d: f"an incarnation would not end ({d.get('count', 1)} left behind)",
    "zombie_reaped": lambda _: "an incarnation that would not end has ended",
    "health_changed": lambda d: (
        f"{_HEALTH.get(d['before'], d['before'])} to {_HEALTH.get(d['after'], d['after'])}"
        + _because(d, "reason")
    ),
    "condition_raised": lambda d: str(d["condition"]).replace("_", " ") + _because(d, "reason"),
    "condition_cleared": lambda d: f"no longer {str(d['condition']).replace('_', ' ')}",
    "task_failed": lambda d: f"{d['task_type']} failed" + _because(d, "error_type", "error"),
    "task_hung": lambda d: (
        f"{d['task_type']} without progress for {duration(float(d['seconds']))}"
        f" ({d.get('limit', '')} limit)"
    ),
    "task_redelivered": lambda d: f"task delivered again, attempt {d.get('attempt', '?')}",
    "dead_lettered": lambda d: "task given up" + _because(d, "reason"),
    "late_result": lambda _: "a result of an earlier life came late and was ignored",
    "command": _command,
    "loop_blocked": lambda d: (
        f"blocks the event loop for {duration(float(d['seconds']))}{_where(d)}"
    ),
    "loop_freed": lambda d: f"the event loop is free again after {duration(float(d['seconds']))}",
    "stalled": lambda d: "work waits and nothing finishes" + _because(d, "reason"),
    "shared_cause_opened": lambda d: "one cause behind many failures" + _because(d, "cause"),
    "shared_cause_probe": lambda _: "one agent finds out whether the shared cause is gone",
    "shared_cause_ramping": lambda _: "the shared cause is gone, the rest follows",
    "shared_cause_closed": lambda _: "the shared cause is over",
    "record_lacks": _lacks,
    "clock_set_back": lambda d: (
        f"the clock was set back by {age(float(d['seconds']))} here: what follows bears times that "
        "had been"
    ),
    "fleet_started": lambda _: "the fleet started",
    "fleet_draining": lambda _: "the fleet drains",
    "fleet_stopped": lambda _: "the fleet stopped",
    "thread_leaked": lambda _: "a thread could not be ended and was left behind",
}

_BAD = frozenset({"lapsed", "start_failed", "quarantined", "loop_blocked", "shared_cause_opened",
                  "verify_failed", "dead_lettered", "zombie", "thread_leaked"})  # fmt: skip
_WARN = frozenset({"backing_off", "condition_raised", "task_failed", "task_hung", "stalled",
                   "probe_failed", "record_lacks", "clock_set_back", "late_result",
                   "fleet_draining"})  # fmt: skip
_GOOD = frozenset({"verified", "condition_cleared", "loop_freed", "shared_cause_closed",
                   "zombie_reaped", "fleet_started"})  # fmt: skip


def _role(kind: str, data: Mapping[str, Any]) -> str:
    if kind == "health_changed":
        return {0: "ok", 1: "warn"}.get(data.get("after", 2), "bad")
    if kind == "command":
        return "key"
    if kind in _BAD:
        return "bad"
    if kind in _WARN:
        return "warn"
    return "ok" if kind in _GOOD else ""
