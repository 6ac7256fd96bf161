"""The lines of the fleet view."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from fleetmon_tui.state import words
from fleetmon_tui.state.columns import GUTTER, heading, layout, lifecycle
from fleetmon_tui.state.listing import counts
from fleetmon_tui.state.store import ID
from fleetmon_tui.state.text import fit, fit_line

if TYPE_CHECKING:
    from fleetmon_tui.state.columns import Layout, Moment
    from fleetmon_tui.state.dashboard import Dashboard
    from fleetmon_tui.state.store import Row
    from fleetmon_tui.state.text import Line


_MANY = 10  # tasks a second from which on parts of one do not matter
_KEPT = 500  # lines of agents; more than any screen has


def columns(dashboard: Dashboard, width: int, skipped: int = 0) -> Layout:
    """Return the columns that fit."""
    return layout(width, names=dashboard.names, skipped=skipped)


def headings(dashboard: Dashboard, shown: Layout, width: int) -> Line:
    """Return the line of headings."""
    listing = dashboard.listing
    told = " ".join(
        heading(column, cells, dashboard.glyphs, listing.sort, reverse=listing.reverse)
        for column, cells in shown
    )
    return fit_line([(" " * GUTTER + told, "head")], width, dashboard.glyphs.cut)


def column_at(shown: Layout, x: int) -> str:
    """Return the name of the column whose heading stands at a cell."""
    at = GUTTER
    for column, cells in shown:
        at += cells + 1
        if x < at:
            return column.name
    return ""


def line(
    dashboard: Dashboard, at: int, shown: Layout, moment: Moment, width: int
) -> tuple[Line, str]:
    """Return a line of the list in exactly ``width`` cells, and its state.

    The state is ``cursor``, ``marked`` or nothing.
    """
    lines = dashboard.listing.lines
    selection, glyphs = dashboard.selection, dashboard.glyphs
    here = at == selection.line
    pointer = glyphs.cursor if here else " "
    item = lines[at]
    if item < 0:
        group = _group(dashboard, -item - 1, pointer)
        return fit_line(group, width, glyphs.cut), "cursor" if here else ""
    row = dashboard.store.at(item)
    if row is None:
        return [(" " * width, "")], ""
    marked = row[ID] in selection.marks
    pieces = _cells(dashboard, row, item, shown, moment, width)
    pieces[0] = (pointer + (glyphs.mark if marked else " "), "key")
    return pieces, "cursor" if here else "marked" if marked else ""


def _cells(  # noqa: PLR0917 - called for each line of each paint
    dashboard: Dashboard, row: Row, place: int, shown: Layout, moment: Moment, width: int
) -> Line:
    """Return an agent's cells; of a row that is as it was, only those that change with time."""
    cut = dashboard.glyphs.cut
    # the last column may end where the line does; a blank follows all others
    room = width - GUTTER - sum(cells + 1 for _, cells in shown)
    last = len(shown) - 1 if room < 0 else len(shown)
    known = dashboard.cells.get(place)
    fresh = known is None or known[0] is not shown
    pieces = [(" " * GUTTER, "")] * (len(shown) + 1) if fresh or known is None else known[1].copy()
    for at, (column, cells) in enumerate(shown):
        if fresh or column.passes:
            text, role = column.cell(row, place, moment)
            text = fit(text, cells, cut, right=column.right)
            pieces[at + 1] = (text + " " if at < last else text, role)
    if not fresh:
        return pieces
    if room > 0:
        pieces.append((" " * room, ""))
    if len(dashboard.cells) >= _KEPT:
        dashboard.cells.clear()
    dashboard.cells[place] = (shown, pieces.copy())
    return pieces


def _group(dashboard: Dashboard, at: int, pointer: str) -> Line:
    group = dashboard.listing.groups[at]
    glyphs = dashboard.glyphs
    rows = [dashboard.store.rows[place] for place in group.places]
    healthy, degraded, failed = counts(rows)
    mark = glyphs.folded if group.key in dashboard.listing.folded else glyphs.open
    line: Line = [(pointer, "key"), (f"{mark} {group.key}", "title")]
    line.append((f"  {len(rows)} agent{'s' if len(rows) != 1 else ''}", ""))
    for count, role, word in (
        (healthy, "ok", f"{glyphs.healthy} %d healthy"),
        (degraded, "warn", f"{glyphs.degraded} %d degraded"),
        (failed, "bad", f"{glyphs.failed} %d failed"),
    ):
        if count:
            line += [("  ", ""), (word % count, role)]
    states = Counter(lifecycle(row) for row in rows if row is not None)
    told = ", ".join(f"{n} {words.word(s)}" for s, n in states.most_common(3))
    return [*line, (f"  {told}", "quiet")]


def facts(dashboard: Dashboard, *, short: bool) -> Line:
    """Return what the status line always says of the list: filter, marks, range."""
    listing, selection, glyphs = dashboard.listing, dashboard.selection, dashboard.glyphs
    line: Line = []
    if listing.filter.text:
        shown, total = len(listing.admitted), len(dashboard.store)
        line += [(f"/{listing.filter.text}", "key")]
        line.append((f" {shown}/{total}" if short else f" {shown} of {total}", ""))
        if listing.filter.wrong and not short:
            line.append((f" ({listing.filter.wrong})", "warn"))
        line.append(("  ", ""))
    if selection.marks:
        hidden = selection.hidden()
        told = f"{len(selection.marks)}" if short else f"{len(selection.marks)} marked"
        told += f" ({hidden} hidden)" if hidden else ""
        line += [(f"{glyphs.mark} {told}", "key"), ("  ", "")]
    if selection.anchor is not None:
        line += [("range: move, then v", "key"), ("  ", "")]
    return line


def order(dashboard: Dashboard) -> Line:
    """Return how the list is sorted, and what the fleet gets done while it is live."""
    listing = dashboard.listing
    told = f"by {listing.sort}" if listing.sort else "in the order of the roster"
    line: Line = [(told + (", reversed" if listing.reverse else ""), "quiet")]
    rate = dashboard.history.rate() if dashboard.link.usable else None
    if rate is not None:
        line += [("  ", ""), (f"{rate:.{0 if rate >= _MANY else 1}f} tasks/s", "")]
    return line


def position(dashboard: Dashboard, top: int, height: int) -> str:
    """Return which lines are in sight."""
    total = len(dashboard.listing.lines)
    if not total:
        return "no agents" if not dashboard.listing.filter else "none match"
    return f"{top + 1}-{min(total, top + height)} of {total}"
