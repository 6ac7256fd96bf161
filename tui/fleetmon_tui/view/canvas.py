"""The one widget: a screen of lines, of which those are painted again that changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fleetmon_tui.lines.screen import Drawn
    from fleetmon_tui.view.styles import Styles


class Canvas(Widget):
    """Shows lines. It decides nothing and knows nothing of fleets."""

    DEFAULT_CSS = "Canvas { width: 100%; height: 100%; background: ansi_default; }"

    def __init__(self, styles: Styles, resized: Callable[[], None]) -> None:
        """Begin empty; ``resized`` is called when there is more or less room."""
        super().__init__()
        self._resized = resized
        self.looks = styles
        self.drawn: Sequence[Drawn] = ()
        self.painted = 0
        self._width = 0
        self._strips: dict[int, Strip] = {}  # lines as last painted, as far as they still hold

    def draw(self, drawn: Sequence[Drawn], width: int) -> int:
        """Show lines, each of so many cells; returns how many are painted again."""
        before = self.drawn
        self.drawn = drawn
        if len(before) != len(drawn) or width != self._width:
            self._width = width
            self._strips.clear()
            self.refresh()
            return len(drawn)
        # one region for each run of lines that differ
        regions: list[Region] = []
        start = -1
        for at, line in enumerate(drawn):
            if line != before[at]:
                self._strips.pop(at, None)
                if start < 0:
                    start = at
            elif start >= 0:
                regions.append(Region(0, start, width, at - start))
                start = -1
        if start >= 0:
            regions.append(Region(0, start, width, len(drawn) - start))
        if regions:
            self.refresh(*regions)
        return sum(region.height for region in regions)

    def on_resize(self) -> None:
        """Ask for lines that fit."""
        self._resized()

    def dress(self, styles: Styles) -> None:
        """Paint everything in another theme."""
        self.looks = styles
        self._strips.clear()
        self.refresh()

    def render_lines(self, crop: Region) -> list[Strip]:
        """Return lines; there are no borders, paddings or tints that Textual would have to add."""
        lines = [self.render_line(y) for y in crop.line_range]
        for each in self.get_line_filters():
            lines = [line.apply_filter(each, self.background_colors[1]) for line in lines]
        if crop.column_span != (0, self._width):
            lines = [line.crop(*crop.column_span) for line in lines]
        return lines

    def render_line(self, y: int) -> Strip:
        """Return one line."""
        strip = self._strips.get(y)
        if strip is None:
            if y >= len(self.drawn):
                return Strip.blank(self.size.width, self.looks.of("", ""))
            self.painted += 1
            strip = self._strips[y] = self.looks.strip(self.drawn[y], self._width)
        return strip
