"""The whole screen as lines: as many as it is high, each with a state for its background."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from fleetmon_tui.lines import agent, fleet, frame, help, lists, sheets  # noqa: A004 - our own
from fleetmon_tui.state.sheets import Ask, Palette, Prompt
from fleetmon_tui.state.text import age, fit_line, width_of
from fleetmon_tui.state.ui import VIEWS, Item, scrolled

if TYPE_CHECKING:
    from fleetmon_tui.state.text import Line
    from fleetmon_tui.state.ui import Ui

NARROWEST, LOWEST = 40, 10
"""Cells and lines below which the dashboard asks for a larger terminal."""

Drawn = tuple["Line", str]
"""A line and its state: ``cursor``, ``marked``, ``old`` (not to be believed) or nothing."""


class Areas(NamedTuple):
    """Where things stand, for the mouse."""

    body: int  # first line of the body
    height: int  # its lines
    headings: int  # line of the headings, -1 without
    sheet: int  # first line of the sheet, -1 without
    foot: int  # line of the keys


def areas(ui: Ui, height: int) -> Areas:
    """Return where things stand on a screen of that height."""
    above = 3 if ui.view == "fleet" else 2
    below = 2 + (1 if ui.timeline is not None else 0)
    sheet_lines = 0
    if isinstance(ui.sheet, Ask | Palette):
        sheet_lines = len(sheets.lines(ui.sheet, ui.width, ui.dashboard.glyphs))
    body = max(1, height - above - below - sheet_lines)
    sheet = above + body if sheet_lines else height - 2 if ui.sheet is not None else -1
    return Areas(above, body, 2 if ui.view == "fleet" else -1, sheet, height - 1)


def compose(ui: Ui, now: float, width: int, height: int) -> list[Drawn]:
    """Return the screen.

    Lays the screen out as a side effect: the body's height and what is in sight, so that the cursor
    always is.

    Args:
        ui: what to show.
        now: monotonic seconds.
        width: cells.
        height: lines.
    """
    glyphs = ui.dashboard.glyphs
    if width < NARROWEST or height < LOWEST:
        told = f"fleetmon needs {NARROWEST}x{LOWEST}, this is {width}x{height}"
        blank: list[Drawn] = [(fit_line([], width, ""), "")] * (height - 1)
        return [(fit_line([(told, "warn")], width, glyphs.cut), ""), *blank]
    ui.width = width
    where = areas(ui, height)
    ui.height = where.height
    title = {"agent": f"agent {ui.agent_id}", "help": "help"}.get(ui.view, "")
    body, position = _body(ui, now, width, where.height)
    drawn: list[Drawn] = [
        (frame.header(ui.dashboard, now, width), "bar"),
        (frame.tabs(ui.dashboard, now, width, ui.view, title), "bar"),
    ]
    if ui.view == "fleet":
        shown = fleet.columns(ui.dashboard, width - 1, ui.skipped)
        drawn.append((fleet.headings(ui.dashboard, shown, width), ""))
    drawn += body
    if isinstance(ui.sheet, Ask | Palette):
        drawn += [(line, "sheet") for line in sheets.lines(ui.sheet, width, glyphs)]
    if ui.timeline is not None:
        drawn.append((_timeline(ui, now, width), "bar"))
    if isinstance(ui.sheet, Prompt):
        drawn.append((sheets.lines(ui.sheet, width, glyphs)[0], "sheet"))
    else:
        drawn.append((_status(ui, now, width, position), ""))
    drawn.append((frame.footer(ui.dashboard, width, ui.view), "bar"))
    return drawn[:height]


def _body(ui: Ui, now: float, width: int, height: int) -> tuple[list[Drawn], str]:
    dashboard = ui.dashboard
    old = not dashboard.link.usable and not dashboard.replay
    if ui.view == "fleet":
        total = len(dashboard.listing.lines)
        ui.top = scrolled(ui.top, dashboard.selection.line, height, total)
        shown = fleet.columns(dashboard, width - 1, ui.skipped)
        moment = dashboard.moment(now)
        found = [
            fleet.line(dashboard, at, shown, moment, width - 1)
            for at in range(ui.top, min(total, ui.top + height))
        ]
        position = fleet.position(dashboard, ui.top, height)
        return _finished(ui, found, width, height, old=old, top=ui.top, total=total), position
    page = ui.pages[ui.view]
    items = _items(ui, now, width)
    free = ui.view in {"agent", "help"}
    if free:
        page.items = items
        page.top = page.at = max(0, min(page.top, len(items) - height))
    else:
        page.show(items, height)
    sight = items[page.top : page.top + height]
    pointed = [
        (_pointed(ui, item.line, here=not free and page.top + n == page.at), not free
         and page.top + n == page.at)
        for n, item in enumerate(sight)
    ]  # fmt: skip
    found = [(line, "cursor" if here else "") for line, here in pointed]
    total = len(items)
    position = f"{page.top + 1 if total else 0}-{min(total, page.top + height)} of {total}"
    return _finished(ui, found, width, height, old=old, top=page.top, total=total), position


def _items(ui: Ui, now: float, width: int) -> list[Item]:
    dashboard = ui.dashboard
    if ui.view == "agent":
        items, ui.pages["agent"].sections = agent.lines(
            dashboard, ui.agent_id, ui.details, width - 1, now
        )
        return items
    if ui.view == "events":
        return lists.events(dashboard, width - 1)
    if ui.view == "warnings":
        return lists.warnings(dashboard, width - 1, now)
    if ui.view == "letters":
        return lists.letters(dashboard, ui.letters, width - 1)
    told = help.lines(dashboard.glyphs, replay=ui.timeline is not None)
    return [Item(line) for line in told]


def _pointed(ui: Ui, line: Line, *, here: bool) -> Line:
    # with every style stripped the cursor still shows
    if not here or not line:
        return [(ui.dashboard.glyphs.cursor, "key")] if here else line
    (first, role), *rest = line
    return [(ui.dashboard.glyphs.cursor, "key"), (first[1:], role), *rest]


def _finished(
    ui: Ui, found: list[Drawn], width: int, height: int, *, old: bool, top: int, total: int
) -> list[Drawn]:
    """Fit the lines, draw the scroll bar, fill up, and dim what is not to be believed."""
    glyphs = ui.dashboard.glyphs
    scrolls = total > height
    first = last = 0
    if scrolls:
        size = max(1, round(height * height / total))
        first = round((height - size) * top / (total - height))
        last = first + size
    drawn: list[Drawn] = []
    for at in range(height):
        line, state = found[at] if at < len(found) else ([], "")
        bar = (glyphs.here if glyphs.name == "ascii" else "┃") if first <= at < last else " "
        if ui.view != "fleet" or not line:  # agents' lines come in the width that is wanted
            line = fit_line(line, width - 1, glyphs.cut)
        fitted = [*line, (bar, "rule")]
        drawn.append((fitted, state or "old" if old else state))
    return drawn


def _status(ui: Ui, now: float, width: int, position: str) -> Line:
    dashboard = ui.dashboard
    kept: Line = []
    left: Line = []
    if ui.view == "fleet":
        short = bool(dashboard.message(now)[0])
        kept, left = fleet.facts(dashboard, short=short), fleet.order(dashboard)
    elif ui.view == "events":
        if dashboard.events_filter.text:
            kept = [(f"/{dashboard.events_filter.text}", "key"), ("  ", "")]
        following = ui.pages["events"].follow
        left = [("following the newest" if following else "standing still, f follows", "quiet")]
    asked = {"agent": ui.details, "letters": ui.letters}.get(ui.view)
    if asked is not None and not dashboard.replay:
        late = now - asked[1]
        if late > 5.0:  # noqa: PLR2004 - as in lines/agent.py
            told = "these letters" if ui.view == "letters" else "lists below"
            kept = [(f"{told} are {age(late)} old", "warn"), ("  ", "")]
    if ui.view not in VIEWS:
        left = [("esc goes back", "quiet")]
    return frame.status(dashboard, now, width, kept=kept, left=left, right=position)


def _timeline(ui: Ui, now: float, width: int) -> Line:
    timeline, glyphs = ui.timeline, ui.dashboard.glyphs
    if timeline is None:
        return []
    at = timeline.at(now)
    mark = glyphs.play if timeline.playing else glyphs.pause
    word = "playing" if timeline.playing else "paused"
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
    left: Line = [(f" {mark} {word} {timeline.speed:g}x  ", "key"), (stamp, "title"), ("  ", "")]
    end = time.strftime("%H:%M:%S", time.localtime(timeline.last))
    right: Line = [(f"  {end} ", "quiet")]
    room = max(4, width - width_of(left) - width_of(right))
    span = max(1e-9, timeline.last - timeline.first)
    spot = min(room - 1, int((at - timeline.first) / span * room))
    line: Line = [
        *left,
        (glyphs.rule * spot, "rule"),
        (glyphs.here, "key"),
        (glyphs.rule * (room - spot - 1), "rule"),
        *right,
    ]
    return fit_line(line, width, glyphs.cut)
