"""What a click means, by where it falls. No Textual in here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetmon_tui.lines import fleet, sheets
from fleetmon_tui.lines.screen import areas
from fleetmon_tui.state.columns import GUTTER
from fleetmon_tui.state.sheets import Ask, Palette
from fleetmon_tui.state.ui import VIEWS

if TYPE_CHECKING:
    from fleetmon_tui.state.sheets import Effect
    from fleetmon_tui.state.ui import Ui

_TABS_AT = 1  # cell at which the first view's name begins
_COUNT = 20  # cells on the right of the header in which warnings are counted


def clicked(ui: Ui, x: int, y: int, height: int, now: float, *, double: bool) -> list[Effect]:
    """Do what a click means; returns what the program has to do.

    Args:
        ui: the screen.
        x: cell.
        y: line.
        height: lines of the screen.
        now: monotonic seconds.
        double: the second of two quick ones.
    """
    where = areas(ui, height)
    sheet = ui.sheet
    if isinstance(sheet, Ask):
        last = where.sheet + len(sheets.lines(sheet, ui.width, ui.dashboard.glyphs)) - 1
        button = sheets.clicked(sheet, x) if y == last else ""
        return ui.answer(yes=button == "do", now=now) if button else []
    if isinstance(sheet, Palette):
        return []
    if where.body <= y < where.body + where.height:
        return _line(ui, x, y - where.body, now, double=double)
    action = ""
    if y == 1:
        action = _tab(x)
    elif y == 0 and x > ui.width - _COUNT:
        action = "view warnings"
    elif y == where.headings:
        name = fleet.column_at(fleet.columns(ui.dashboard, ui.width - 1, ui.skipped), x)
        action = f"sort {name}" if name and name != "history" else ""
    return ui.do(action, now) if action else []


def _line(ui: Ui, x: int, at: int, now: float, *, double: bool) -> list[Effect]:
    if ui.view == "fleet":
        selection = ui.dashboard.selection
        if ui.top + at >= len(ui.dashboard.listing.lines):
            return []
        selection.go(ui.top + at)
        if x < GUTTER and not double:
            selection.toggle()
    elif ui.view in VIEWS:
        page = ui.pages[ui.view]
        page.go(page.top + at)
    else:
        return []
    return ui.do("open", now) if double else []


def _tab(x: int) -> str:
    at = _TABS_AT
    for name in VIEWS:
        at += len(name) + 4  # its number, its brackets, a space
        if x < at:
            return f"view {name}"
    return ""
