"""Roles and line states as Rich styles, and lines as strips."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

if TYPE_CHECKING:
    from fleetmon_tui.lines.screen import Drawn
    from fleetmon_tui.state.themes import Theme


class Styles:
    """The styles of one theme, made when first used."""

    def __init__(self, theme: Theme) -> None:
        """Take a theme."""
        self.theme = theme
        self._known: dict[tuple[str, str], tuple[Style, bool]] = {}

    def of(self, role: str, state: str) -> Style:
        """Return the style of a role on a line in a state."""
        return self._of(role, state)[0]

    def _of(self, role: str, state: str) -> tuple[Style, bool]:
        # with it, whether a blank looks the same in this style as in any other of the line
        found = self._known.get((role, state))
        if found is None:
            style = self._made(role, state)
            blank = not (style.reverse or style.underline)
            found = self._known[role, state] = (style, blank)
        return found

    def _made(self, role: str, state: str) -> Style:
        theme = self.theme
        look = theme.looks.get(role) or theme.looks[""]
        if state == "old" and role not in {"bad", "warn", "chosen", "caret"}:
            look = theme.looks["old"]
        elif state == "old":
            look = look._replace(dim=True, bold=False)
        ground = theme.grounds.get(state, theme.grounds.get("", ""))
        reverse = look.reverse or (theme.plain and state == "cursor")
        return Style(
            color=look.color or None,
            bgcolor=ground or None,
            bold=look.bold or (theme.plain and state == "marked") or None,
            dim=(look.dim and not reverse) or None,
            reverse=reverse or None,
            underline=look.underline or None,
        )

    def strip(self, drawn: Drawn, width: int) -> Strip:
        """Return a line as Textual paints it; neighbours of one style become one segment.

        Args:
            drawn: the line.
            width: its cells.
        """
        line, state = drawn
        known = self._known
        segments: list[Segment] = []
        texts: list[str] = []
        style: Style | None = None
        open_to_blanks = False
        for text, role in line:
            if open_to_blanks and text == " ":
                texts.append(text)
                continue
            found, blank = known.get((role, state)) or self._of(role, state)
            if found is style:
                texts.append(text)
                continue
            if texts:
                segments.append(Segment("".join(texts), style))
            texts, style, open_to_blanks = [text], found, blank
        if texts:
            segments.append(Segment("".join(texts), style))
        return Strip(segments, width)
