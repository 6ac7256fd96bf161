"""The lines of the agent view: what it is at, what it did, what happened to it, and its policy."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from fleetmon_tui.state import store as at
from fleetmon_tui.state import words
from fleetmon_tui.state.columns import ended, lifecycle
from fleetmon_tui.state.history import TOP
from fleetmon_tui.state.journal import entry
from fleetmon_tui.state.text import age, clean, cut, duration, fit, several, spark, wrapped
from fleetmon_tui.state.ui import Item

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from fleetmon_tui.state.dashboard import Dashboard
    from fleetmon_tui.state.store import Row
    from fleetmon_tui.state.text import Glyphs, Line

_LABEL = 10
_FRAMES = 12  # of a traceback
_SPARK = 60
_WIDEST = 110  # cells of a sentence before it is wrapped


class _Writer:
    """Collects lines, and where sections begin."""

    def __init__(self, width: int, glyphs: Glyphs, epoch: float) -> None:
        self.items: list[Item] = []
        self.sections: list[int] = []
        self.width = width
        self.glyphs = glyphs
        self.epoch = epoch  # wall clock at which the fleet's clock was zero

    def wall(self, told: Mapping[str, Any]) -> float:
        """Return when something was, whichever clock it was told on."""
        if told.get("at"):
            return float(told["at"])
        return self.epoch + float(told["ended"]) if told.get("ended") else 0.0

    def section(self, title: str, note: str = "") -> None:
        if self.items:
            self.items.append(Item([]))
        self.sections.append(len(self.items))
        rule = self.glyphs.rule * max(0, self.width - len(title) - len(note) - 6)
        line: Line = [(f" {self.glyphs.rule} ", "rule"), (title, "title"), (f" {note} ", "quiet")]
        self.items.append(Item([*line, (rule, "rule")]))

    def fact(self, label: str, text: str, role: str = "") -> None:
        room = min(_WIDEST, max(20, self.width - _LABEL - 4))
        for number, part in enumerate(wrapped(clean(text), room)):
            head = fit("" if number else label, _LABEL, self.glyphs.cut)
            self.items.append(Item([("  ", ""), (head, "quiet"), (" ", ""), (part, role)]))

    def text(self, text: str, role: str = "", indent: int = 2) -> None:
        room = min(_WIDEST, max(20, self.width - indent - 1))
        for part in wrapped(text, room):
            self.items.append(Item([(" " * indent, ""), (part, role)]))

    def line(self, line: Line) -> None:
        self.items.append(Item(line))


def lines(
    dashboard: Dashboard,
    agent_id: str,
    details: tuple[dict[str, Any], float] | None,
    width: int,
    now: float,
) -> tuple[list[Item], list[int]]:
    """Return the lines about one agent, and on which of them a section begins.

    Args:
        dashboard: the fleet.
        agent_id: whom to show.
        details: what the fleet told about it beyond its row, and when, monotonic seconds.
        width: cells of the screen.
        now: monotonic seconds.
    """
    glyphs = dashboard.glyphs
    out = _Writer(width, glyphs, dashboard.wall(now) - dashboard.clock(now))
    row = dashboard.store.get(agent_id)
    if row is None:
        out.section(clean(agent_id))
        out.text("there is no such agent in the fleet now", "warn")
        return out.items, out.sections
    more = details[0] if details is not None else {}
    clock = dashboard.clock(now)
    _now(out, dashboard, row, clock)
    _tasks(out, row, clock, details, now)
    if details is None:
        out.section("More")
        told = "asking the fleet" if dashboard.link.usable else "not known: no live connection"
        out.text(f"{told}{glyphs.cut}", "quiet")
    for title, key, draw in _SECTIONS:
        if key in more:
            found: Sequence[Any] = more[key] or ()
            out.section(title, f"{len(found)}" if key != "policy" else "")
            if found:
                draw(out, found)
            else:
                out.text("none", "quiet")
    return out.items, out.sections


def _now(out: _Writer, dashboard: Dashboard, row: Row, clock: float) -> None:
    glyphs = out.glyphs
    state = lifecycle(row)
    health = 0 if state == "declared" else row[at.HEALTH]
    out.section(clean(row[at.ID]), clean(row[at.FIELD]))
    told = words.state(state, health, glyphs)
    if state != "declared":
        told += f", {words.HEALTH[health]}"
    if row[at.RETRY_AT] is not None:
        told += f"; next try in {age(row[at.RETRY_AT] - clock)}"
    out.fact("state", told, words.role(state, health))
    wanted = "takes tasks" if row[at.ACCEPTING] else "takes no new tasks"
    out.fact("wanted", f"{row[at.DESIRED]}; {wanted}")
    for name, since, reason, *_ in row[at.CONDITIONS]:
        out.fact("condition", f"{words.word(name)} for {age(clock - since)}: {reason}", "warn")
    for alarm in dashboard.alarms.of(row[at.ID]):
        out.fact("warning", alarm.text, "bad" if alarm.severity == "critical" else "warn")
    tier = "" if row[at.TIER] is None else f", tier {row[at.TIER]}"
    number = "" if row[at.NUMBER] is None else f", number {row[at.NUMBER]}"
    out.fact("kind", f"{row[at.MODE]}, executor {row[at.EXECUTOR] or 'of the host'}{tier}{number}")
    out.fact(
        "work",
        f"{row[at.IN_FLIGHT]} of {row[at.CAPACITY]} at once, {row[at.QUEUED]} waiting "
        f"(room for {row[at.QUEUE_LIMIT]})",
    )
    place = dashboard.store.places[row[at.ID]]
    use = f"{round(row[at.UTILIZATION] * 100)}%".rjust(4)
    out.fact("use", f"{use}  {spark(dashboard.history.use(place), _room(out), glyphs, TOP)}")
    rate = dashboard.history.ended(place)
    last = f"{sum(rate[-10:]) / max(1, len(rate[-10:])):.1f}/s".rjust(7)
    out.fact("ended", f"{last}  {spark(rate, _room(out) - 3, glyphs)}")
    out.fact(
        "tasks",
        f"{row[at.ASSIGNED]} accepted, {ended(row)} ended: {row[at.SUCCEEDED]} succeeded, "
        f"{row[at.FAILED]} failed, {row[at.TIMED_OUT]} timed out, {row[at.CANCELLED]} cancelled, "
        f"{several(row[at.DEAD_LETTERED], 'dead letter')}; {row[at.REDELIVERED]} delivered again",
    )
    p50, p95 = (duration(row[x]) or glyphs.dash for x in (at.P50, at.P95))
    out.fact("durations", f"median {p50}, 95th percentile {p95}")
    out.fact(
        "lives",
        f"incarnation {row[at.GENERATION]}, {several(row[at.RESTARTS], 'restart')}, "
        f"{several(row[at.RECOVERIES], 'recovery', 'recoveries')} verified, "
        f"{row[at.RECOVERIES_FAILED]} failed, {several(row[at.STREAK], 'lapse')} in a row, "
        f"{several(row[at.ZOMBIES], 'zombie')}",
    )
    lapse = row[at.LAPSE]
    if lapse:
        when, life, reason, kind, error = lapse[:5]
        what = ": ".join(str(x) for x in (reason, kind, error) if x)
        out.fact("last lapse", f"{_clock(when)} in incarnation {life}: {what}", "warn")


def _room(out: _Writer) -> int:
    return max(10, min(_SPARK, out.width - _LABEL - 12))


def _tasks(
    out: _Writer,
    row: Row,
    clock: float,
    details: tuple[dict[str, Any], float] | None,
    now: float,
) -> None:
    tasks = details[0].get("tasks", ()) if details is not None else ()
    fresh = details is not None and now - details[1] < 5.0  # noqa: PLR2004 - else the row knows better
    if not fresh or not tasks:
        out.section("Tasks now", str(row[at.IN_FLIGHT]))
        if row[at.TASK]:
            note = f"  {clean(row[at.TASK_NOTE])}" if row[at.TASK_NOTE] else ""
            told = f"{clean(row[at.TASK])}  {age(clock - row[at.TASK_SINCE])}{note}"
            out.fact(f"#{row[at.TASK_ID]}", told)
        else:
            out.text("none", "quiet")
        return
    out.section("Tasks now", str(len(tasks)))
    for task in tasks:
        late = now - details[1] if details is not None else 0.0
        attempt = f", attempt {task['attempt']}" if task.get("attempt", 1) > 1 else ""
        note = f"  {task['note']}" if task.get("note") else ""
        told = f"{task['task_type']}  {age(task['seconds'] + late)}{attempt}{note}"
        out.fact(f"#{task['task_id']}", told)


def _recent(out: _Writer, told: Iterable[Mapping[str, Any]]) -> None:
    for task in told:
        outcome = str(task.get("outcome", "?"))
        role = "ok" if outcome == "succeeded" else "quiet" if outcome == "cancelled" else "bad"
        error = clean(task.get("error_type") or "")
        when = out.wall(task)
        line: Line = [
            (f"  {_clock(when)} ", "quiet"),
            (fit(clean(task.get("task_type", "")), 20, out.glyphs.cut), ""),
            (fit(duration(task.get("seconds")), 7, "", right=True), ""),
            (f"  {words.word(outcome)}", role),
            (f" {error}" if error else "", "bad"),
        ]
        out.line(line)


def _failures(out: _Writer, told: Iterable[Any]) -> None:
    for failure in told:
        when = out.wall(failure)
        kind = clean(failure.get("error_type") or failure.get("kind") or "")
        error = clean(failure.get("error") or failure.get("message") or "")
        task = clean(failure.get("task_type") or failure.get("kind") or "")
        out.text(f"{_clock(when)} {task}: {kind}{': ' if error else ''}{error}", "bad")
        for frame in (failure.get("frames") or failure.get("traceback") or ())[-_FRAMES:]:
            out.line([("      ", ""), (cut(_frame(frame), out.width - 7, out.glyphs.cut), "quiet")])


def _frame(frame: Any) -> str:
    if isinstance(frame, dict):
        code = f"  {frame['code']}" if frame.get("code") else ""
        told = f"{frame.get('file', '?')}:{frame.get('line', '?')} in {frame.get('function', '?')}"
        return clean(told + code)
    if isinstance(frame, list | tuple):
        return clean(":".join(str(part) for part in frame if part))
    return clean(frame)


def _history(out: _Writer, told: Iterable[Mapping[str, Any]]) -> None:
    for event in told:
        found = entry({"seq": 0, **event})
        room = max(20, out.width - 12)
        first, *rest = wrapped(found.text, room)
        out.line([(f"  {_clock(found.at)} ", "quiet"), (first, found.role)])
        for part in rest:
            out.line([(" " * 11, ""), (part, found.role)])


def _log(out: _Writer, told: Iterable[Any]) -> None:
    for line in told:
        if isinstance(line, dict) and "kind" in line:
            _history(out, [line])
        elif isinstance(line, dict):
            facts = " ".join(f"{key}={value}" for key, value in line.items())
            out.text(clean(facts))
        else:
            out.text(clean(line))


def _policy(out: _Writer, told: Sequence[str] | str) -> None:
    for sentence in [told] if isinstance(told, str) else told:
        out.text(f"{out.glyphs.bullet} {clean(sentence)}")


_SECTIONS: tuple[tuple[str, str, Callable[[_Writer, Any], None]], ...] = (
    ("Recent tasks", "recent_tasks", _recent),
    ("Failures", "recent_failures", _failures),
    ("Restarts, lapses and commands", "history", _history),
    ("Policy", "policy", _policy),
    ("Log", "log", _log),
)


def _clock(when: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(when)) if when else "--:--:--"
