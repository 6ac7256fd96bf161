"""The lines around every view: connection, counts, trouble, messages, keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetmon_tui.state import keys
from fleetmon_tui.state.text import age, clean, cut, duration, fit_line, several, width_of
from fleetmon_tui.state.words import HEALTH, HEALTH_ROLES

if TYPE_CHECKING:
    from fleetmon_tui.state.dashboard import Dashboard
    from fleetmon_tui.state.text import Line

VIEWS = ("fleet", "events", "warnings", "letters")
"""Views with a number of their own."""

_LAGS = 0.05  # seconds of loop lag from which the header says so
_PATH = 2  # parts of a file's path that a banner shows


def header(dashboard: Dashboard, now: float, width: int) -> Line:
    """Return the first line: fleet, connection, how many are well, warnings."""
    glyphs = dashboard.glyphs
    name = clean(dashboard.hello.get("name", "")) or "fleetmon"
    link, role = dashboard.link.sentence(now, glyphs)
    if dashboard.replay:
        told = dashboard.recorded
        link, role = f"{glyphs.play} recording", "key"
        if told in {"gap", "stopped", "crashed"}:
            link, role = f"{glyphs.play} recording: {told}", "bad" if told == "crashed" else "warn"
    warnings = len(dashboard.alarms.all)
    told = f"{glyphs.warning} {warnings} warning{'s' if warnings != 1 else ''}"
    right: Line = [
        ("  ", ""),
        (told if warnings else "no warnings", dashboard.alarms.worst),
        (" ", ""),
    ]
    for wide in (True, False):
        left: Line = [(" ", ""), (name if wide else cut(name, 16, glyphs.cut), "title"), ("  ", "")]
        left += [(link, role), ("  ", ""), *_counts(dashboard, wide=wide)]
        if width_of(left) + width_of(right) <= width:
            break
    room = width - width_of(right)
    return [*fit_line(left, room, glyphs.cut), *right]


def _counts(dashboard: Dashboard, *, wide: bool) -> Line:
    glyphs = dashboard.glyphs
    total = len(dashboard.store)
    if dashboard.store.loading and dashboard.link.attached:
        return [(f"loading, {total} agents so far", "warn")]
    if not total:
        return [("no agents", "quiet")]
    many = f"{total} agent{'s' if total != 1 else ''}"
    line: Line = [(many if wide else str(total), "")]
    marks = (glyphs.healthy, glyphs.degraded, glyphs.failed)
    for at, count in enumerate(dashboard.counts):
        if count or wide:
            word = f" {HEALTH[at]}" if wide else ""
            role = HEALTH_ROLES[at] if count else "quiet"
            line += [("  ", ""), (f"{marks[at]} {count}{word}", role)]
    return line


def trouble(dashboard: Dashboard, now: float) -> tuple[str, str]:
    """Return the one sentence about the fleet that everybody has to see, and its role."""
    link, fleet, glyphs = dashboard.link, dashboard.fleet, dashboard.glyphs
    if link.state == "stale":
        silent = age(link.silent(now))
        said = f"nothing heard for {silent}: what you see may be old; commands are refused"
        return said, "warn"
    if link.state in {"disconnected", "ended"}:
        reason = clean(link.reason) or "the connection is gone"
        return f"{reason}; looking for it again, commands are refused", "bad"
    if link.state == "connecting":
        start = ("start one in another terminal: fleetmon demo", "quiet")
        choose = ("several fleets run here: choose one (:fleet)", "warn")
        return choose if link.several else start
    blocked = fleet.get("blocked")
    if blocked:
        who = clean(blocked["agent_id"]) or "something that is no agent's task"
        task = f" ({clean(blocked['task_type'])})" if blocked["task_type"] else ""
        file = "/".join(clean(blocked["file"]).split("/")[-_PATH:])
        seconds = max(blocked["seconds"], dashboard.clock(now) - blocked.get("since", 1e18))
        where = f"{file}:{blocked['line']} in {clean(blocked['function'])}"
        told = f"event loop blocked {duration(seconds)} by {who}{task} at {where}"
        return f"{glyphs.warning} {told}", "bad"
    if fleet.get("shared_cause_open"):
        return f"{glyphs.warning} many agents fell for one reason; restarts wait for a probe", "bad"
    return "", ""


def tabs(dashboard: Dashboard, now: float, width: int, view: str, title: str = "") -> Line:
    """Return the second line: the views, and what is to be known about the fleet."""
    glyphs = dashboard.glyphs
    line: Line = [(" ", "")]
    said, role = trouble(dashboard, now)
    # trouble has to be read: the last view's name makes room for it
    for at, name in enumerate(VIEWS[:-1] if said and view != VIEWS[-1] else VIEWS, 1):
        on = name == view
        line += [(f"{at}", "key"), (f"[{name}]" if on else f" {name} ", "tab" if on else "")]
        line.append((" ", ""))
    if title:
        line += [("  ", ""), (clean(title), "title")]
    if said:
        room = width - width_of(line) - 2
        return fit_line([*line, ("  ", ""), (cut(said, room, glyphs.cut), role)], width, glyphs.cut)
    facts = _facts(dashboard)
    right: Line = []
    for text, fact_role in facts:
        piece: Line = [("  ", ""), (text, fact_role)]
        if width_of(line) + width_of(right) + width_of(piece) + 1 <= width:
            right += piece
    return [*fit_line(line, width - width_of(right) - 1, glyphs.cut), *right, (" ", "")]


def _facts(dashboard: Dashboard) -> list[tuple[str, str]]:
    fleet = dashboard.fleet
    facts: list[tuple[str, str]] = []
    if dashboard.read_only:
        facts.append(("read-only", "key"))
    phase = fleet.get("phase", "running")
    if phase != "running":
        facts.append((str(phase), "warn"))
    for key, one, many, role in (
        ("recovering", "recovering", "recovering", "warn"),
        ("dead_letters", "dead letter", "dead letters", "warn"),
        ("zombies", "zombie", "zombies", "bad"),
    ):
        count = fleet.get(key, 0)
        if count:
            facts.append((several(count, one, many), role))
    if dashboard.journal.missed:
        facts.append((f"{dashboard.journal.missed} events missed", "warn"))
    drops = fleet.get("drops")
    dropped = sum(drops.values()) if isinstance(drops, dict) else drops or 0
    if dropped:
        facts.append((f"{dropped} dropped", "warn"))
    lag = fleet.get("loop_lag", 0.0)
    if fleet:
        facts.append((f"loop lag {duration(lag)}", "warn" if lag >= _LAGS else "quiet"))
    if dashboard.hello:
        facts.append((f"process {dashboard.hello.get('pid', '?')}", "quiet"))
    return facts


def status(
    dashboard: Dashboard, now: float, width: int, *, kept: Line, left: Line, right: str
) -> Line:
    """Return the line above the keys.

    Args:
        dashboard: has the message, if there is one.
        now: monotonic seconds.
        width: cells.
        kept: what stands there always, such as the filter.
        left: what stands there unless there is a message.
        right: which lines are in sight.
    """
    glyphs = dashboard.glyphs
    text, role = dashboard.message(now)
    told: Line = [(" ", ""), *kept, *([(text, role or "title")] if text else left)]
    room = width - len(right) - 1
    return [*fit_line(told, room, glyphs.cut), (right, "quiet"), (" ", "")]


def footer(dashboard: Dashboard, width: int, view: str) -> Line:
    """Return the last line: the keys that matter here."""
    line: Line = [(" ", "")]
    found = keys.hints(view, replay=dashboard.replay)
    if dashboard.read_only:
        found = [hint for hint in found if hint[1] not in {"restart", "commands", "retry"}]
    for key, word in found:
        piece: Line = [(key, "key"), (f" {word}  ", "quiet")]
        if width_of(line) + width_of(piece) <= width:
            line += piece
    return fit_line(line, width, dashboard.glyphs.cut)
