"""The lines of the events and warnings views, each with the agent that enter opens."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from fleetmon_tui.state.alarms import role as role_of
from fleetmon_tui.state.text import age, clean, fit, wrapped
from fleetmon_tui.state.ui import Item

if TYPE_CHECKING:
    from fleetmon_tui.state.dashboard import Dashboard
    from fleetmon_tui.state.journal import Entry
    from fleetmon_tui.state.text import Line

_AGENT = 11
_STACK = 12  # lines of a stack at most


def events(dashboard: Dashboard, width: int) -> list[Item]:
    """Return the events that pass the filter, oldest first."""
    entries = dashboard.journal.shown(dashboard.events_filter)
    return [Item(_event(e, dashboard, width), e.agent_id) for e in entries]


def _event(entry: Entry, dashboard: Dashboard, width: int) -> Line:
    at = time.strftime("%H:%M:%S", time.localtime(entry.at))
    cut = dashboard.glyphs.cut
    room = max(10, width - 9 - _AGENT - 4)
    who = entry.agent_id or ("fleet" if entry.kind else "")
    return [
        (f" {at} ", "quiet"),
        (fit(who, _AGENT, cut), "name" if entry.agent_id else "quiet"),
        (" ", ""),
        (fit(entry.text, room, cut), entry.role),
    ]


def warnings(dashboard: Dashboard, width: int, now: float) -> list[Item]:
    """Return the warnings: for each rule a sentence for all, then one for each agent."""
    clock = dashboard.clock(now)
    cut = dashboard.glyphs.cut
    items: list[Item] = []
    if not dashboard.alarms.all:
        items.append(Item([(" nothing is the matter", "ok")]))
    for text in dashboard.alarms.summaries:
        items.extend(Item([(f" {part}", "title")]) for part in wrapped(text, width - 2))
    if dashboard.alarms.summaries:
        items.append(Item([]))
    for rule, alarms in dashboard.alarms.rules().items():
        items.append(
            Item([(f" {dashboard.glyphs.warning} {rule.replace('_', ' ')}", role_of(alarms[0])),
                  (f"  {len(alarms)}", "quiet")])
        )  # fmt: skip
        for alarm in alarms:
            first, *more = wrapped(alarm.text, max(20, width - _AGENT - 14)) or [""]
            who = fit(alarm.agent_id or "fleet", _AGENT, cut)
            since = age(clock - alarm.since).rjust(6)
            line: Line = [("   ", ""), (who, "name"), (f" {since}  ", "quiet")]
            items.append(Item([*line, (first, role_of(alarm))], alarm.agent_id))
            items.extend(
                Item([(" " * (_AGENT + 12), ""), (part, role_of(alarm))], alarm.agent_id)
                for part in more
            )
            if rule.startswith("blocked"):
                items.extend(_stack(dashboard, alarm.agent_id, width))
        items.append(Item([]))
    return items[:-1] if len(items) > 1 else items


def letters(
    dashboard: Dashboard, told: tuple[list[dict[str, Any]], float] | None, width: int
) -> list[Item]:
    """Return the dead letters: two lines each, newest first."""
    cut, dash = dashboard.glyphs.cut, dashboard.glyphs.dash
    if told is None:
        usable = dashboard.link.usable or dashboard.replay
        said = f"asking the fleet{cut}" if usable else "not known: no live connection"
        return [Item([(f" {said}", "quiet")])]
    if not told[0]:
        return [Item([(" no task was given up", "ok")])]
    items: list[Item] = []
    for letter in reversed(told[0]):
        at = time.strftime("%H:%M:%S", time.localtime(letter["at"]))
        who, task_id = clean(letter["agent_id"]), int(letter["task_id"])
        attempts = letter["attempts"]
        tries = f"after {attempts} attempt{'s' if attempts != 1 else ''}"
        kind = clean(letter["task_type"])
        line: Line = [(f" {at} ", "quiet"), (fit(who, _AGENT, cut), "name"), (" ", ""),
                      (f"#{task_id} {kind}", ""), (f" {tries}: ", "quiet"),
                      (clean(letter["reason"]), "bad")]  # fmt: skip
        items.append(Item(line, who, task_id))
        payload = clean(letter.get("payload", "")) or f"{dash} payload not recorded"
        if letter.get("payload_cut"):
            payload += f" {cut} (cut)"
        below = fit(payload, max(10, width - _AGENT - 13), cut)
        items.append(Item([(" " * (_AGENT + 11), ""), (below, "quiet")], who, task_id))
    return items


def _stack(dashboard: Dashboard, agent_id: str, width: int) -> list[Item]:
    for entry in reversed(dashboard.journal.entries):
        if entry.kind == "loop_blocked" and entry.agent_id == agent_id and entry.stack:
            cut = dashboard.glyphs.cut
            return [
                Item([(fit(f"       {text}", width - 1, cut), "quiet")], agent_id)
                for text in entry.stack[-_STACK:]
            ]
    return []
