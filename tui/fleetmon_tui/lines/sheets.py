"""The lines of what opens above the footer, and what a click on them means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetmon_tui.state.sheets import Ask, Palette, Prompt
from fleetmon_tui.state.text import fit, fit_line, width_of, wrapped

if TYPE_CHECKING:
    from fleetmon_tui.state.edit import Edit
    from fleetmon_tui.state.text import Glyphs, Line

_NAMES = 4  # lines of names at most
CHOICES = 8
"""Lines of a palette."""


def lines(sheet: Prompt | Ask | Palette, width: int, glyphs: Glyphs) -> list[Line]:
    """Return the lines of a sheet; a prompt has one."""
    if isinstance(sheet, Prompt):
        return [_typed(sheet.label, sheet.edit, width, glyphs)]
    found = _ask(sheet, width, glyphs) if isinstance(sheet, Ask) else _palette(sheet, width, glyphs)
    return [fit_line(line, width, glyphs.cut) for line in found]


def _typed(label: str, edit: Edit, width: int, glyphs: Glyphs) -> Line:
    before, under, after = edit.shown()
    room = width - len(label) - 4
    before = before[-room:]
    line: Line = [(f" {label}", "key"), (before, "title"), (under, "caret"), (after, "title")]
    return fit_line(line, width, glyphs.cut)


def _ask(ask: Ask, width: int, glyphs: Glyphs) -> list[Line]:
    question = ask.question
    names = wrapped(question.names, width - 4)
    if len(names) > _NAMES:
        names = [*names[: _NAMES - 1], names[_NAMES - 1] + f" {glyphs.cut}"]
    found: list[Line] = [_title(question.title, "bad", width, glyphs)]
    found += [[("  ", ""), (part, "name")] for part in names]
    found += [[("  ", ""), (part, "quiet")] for part in wrapped(question.effect, width - 4)]
    reason: Line = [("  reason: ", "key" if ask.chosen == "reason" else "quiet")]
    if ask.chosen == "reason":
        before, under, after = ask.reason.shown()
        reason += [(before, ""), (under, "caret"), (after, "")]
    else:
        reason.append((ask.reason.text or f"none {glyphs.dash} tab to type one", "quiet"))
    found.append(reason)
    found.append([("  ", ""), *_buttons(ask), ("   y do it, n or esc cancel, tab choose", "quiet")])
    return found


def _buttons(ask: Ask) -> Line:
    line: Line = []
    for name, word in (("cancel", "Cancel"), ("do", ask.question.title.rstrip("?"))):
        chosen = ask.chosen == name
        text = f"[ {word} ]" if chosen else f"  {word}  "
        line += [(text, "chosen" if chosen else ""), (" ", "")]
    return line


def clicked(ask: Ask, x: int) -> str:
    """Return the button at a cell of a question's last line: ``cancel``, ``do`` or nothing."""
    cancel, _, do, *_ = _buttons(ask)
    at = 2
    if at <= x < at + width_of([cancel]):
        return "cancel"
    at += width_of([cancel]) + 1
    return "do" if at <= x < at + width_of([do]) else ""


def _palette(palette: Palette, width: int, glyphs: Glyphs) -> list[Line]:
    top = max(0, min(palette.at - CHOICES // 2, len(palette.found) - CHOICES))
    told = f"{len(palette.found)} of them, enter takes one, esc closes"
    found: list[Line] = [_title(told, "title", width, glyphs)]
    for at in range(top, top + CHOICES):
        if at >= len(palette.found):
            found.append([])
            continue
        choice = palette.found[at]
        here = at == palette.at
        pointer = f" {glyphs.cursor} " if here else "   "
        text = fit(choice.text, width - 12, glyphs.cut)
        hint = fit(choice.hint, 8, "", right=True)
        found.append([(pointer, "key"), (text, "chosen" if here else ""), (hint, "key")])
    found.append(_typed(f"{palette.label} ", palette.edit, width, glyphs))
    return found


def _title(text: str, role: str, width: int, glyphs: Glyphs) -> Line:
    rule = glyphs.rule * max(0, width - len(text) - 4)
    return [(f"{glyphs.rule} ", "rule"), (text, role), (f" {rule}", "rule")]
