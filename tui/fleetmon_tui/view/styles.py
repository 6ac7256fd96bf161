"""Roles and line states as Rich styles, and lines as strips."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from fleetmon_tui.state.text import cells

if TYPE_CHECKING:
    from fleetmon_tui.lines.screen import Drawn
    from fleetmon_tui.state.themes import Theme


class Styles:
    """The styles of one theme, made when first used."""

    def __init__(self, theme: Theme) -> None:
        """Take a theme."""
        self.theme = theme
        self._known: dict[tuple[str, str], Style] = {}

    def of(self, role: str, state: str) -> Style:
        """Return the style of a role on a line in a state."""
        style = self._known.get((role, state))
        if style is None:
            style = self._known[role, state] = self._made(role, state)
        return style

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

    def strip(self, drawn: Drawn) -> Strip:
        """Return a line as Textual paints it; neighbours of one style become one segment."""
        line, state = drawn
        segments: list[Segment] = []
        texts: list[str] = []
        style: Style | None = None
        width = 0
        for text, role in line:
            found = self.of(role, state)
            width += cells(text)
            if found is style:
                texts.append(text)
                continue
            if texts and style is not None:
                segments.append(Segment("".join(texts), style))
            texts, style = [text], found
        if texts and style is not None:
            segments.append(Segment("".join(texts), style))
        return Strip(segments, width)
