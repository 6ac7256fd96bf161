"""Text in terminal cells: widths, fitting, durations, counts, bars and sparklines.

A :data:`Line` is what every view is made of: pieces of text, each with the name of a role. Roles
become styles in the view; without them the text alone must say everything.
"""

from __future__ import annotations

import time
import unicodedata
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Piece = tuple[str, str]
"""Text and the name of its role; the empty role is plain text."""

Line = list[Piece]
"""One line of the screen."""


class Glyphs(NamedTuple):
    """The characters beyond letters that the dashboard draws with, all one cell wide."""

    name: str
    states: dict[str, str]
    degraded: str
    failed: str
    healthy: str
    cut: str
    full: str
    empty: str
    sparks: str
    cursor: str
    mark: str
    up: str
    down: str
    folded: str
    open: str
    rule: str
    bullet: str
    play: str
    pause: str
    here: str
    warning: str
    dash: str


UNICODE = Glyphs(
    name="unicode",
    states={
        "starting": "◔", "running": "●", "recovering": "◐", "paused": "‖", "draining": "▽",
        "stopping": "▼", "backing_off": "↻", "quarantined": "■", "probing": "◇", "stopped": "○",
        "declared": "·",
    },
    degraded="▲", failed="✖", healthy="✔", cut="…", full="█", empty="░", sparks=" ▁▂▃▄▅▆▇█",
    cursor="▶", mark="✚", up="↑", down="↓", folded="▸", open="▾", rule="─", bullet="·", play="▶",
    pause="‖", here="◆", warning="▲", dash="–",
)  # fmt: skip
"""For terminals that show Unicode."""

ASCII = Glyphs(
    name="ascii",
    states={
        "starting": "^", "running": "*", "recovering": "%", "paused": "=", "draining": "v",
        "stopping": "-", "backing_off": "~", "quarantined": "#", "probing": "?", "stopped": "o",
        "declared": ".",
    },
    degraded="!", failed="X", healthy="+", cut="~", full="#", empty=".", sparks=" _.-=+*%#",
    cursor=">", mark="+", up="^", down="v", folded="+", open="-", rule="-", bullet="-", play=">",
    pause="=", here="|", warning="!", dash="-",
)  # fmt: skip
"""For all others."""

_WIDE = "WF"
_REMEMBERED = 4096  # texts; the same words and bars come again and again
_known: dict[str, int] = {}
_SECOND = 1.0
_MINUTE = 60
_HOUR = 3600
_DAY = 86400


def clean(text: object) -> str:
    """Return text without what would steer a terminal; names and reasons come from others."""
    told = str(text)
    if told.isprintable():
        return told
    return "".join(c if c.isprintable() else " " if c in "\t\n" else "?" for c in told)


def cells(text: str) -> int:
    """Return how many cells of a terminal the text takes."""
    if text.isascii():
        return len(text)
    known = _known.get(text)
    if known is None:
        if len(_known) >= _REMEMBERED:
            _known.clear()
        known = _known[text] = sum(_cell(character) for character in text)
    return known


def _cell(character: str) -> int:
    if character.isascii():
        return 1
    if unicodedata.east_asian_width(character) in _WIDE:
        return 2
    return 0 if unicodedata.category(character) in {"Mn", "Me", "Cf"} else 1


def cut(text: str, width: int, mark: str) -> str:
    """Return the text within ``width`` cells; what is cut off is replaced by ``mark``."""
    if cells(text) <= width:
        return text
    if width <= 0:
        return ""
    kept, used = [], 0
    for character in text:
        used += _cell(character)
        if used > width - 1:
            break
        kept.append(character)
    return "".join(kept) + mark


def fit(text: str, width: int, mark: str, *, right: bool = False) -> str:
    """Return the text in exactly ``width`` cells."""
    if text.isascii():
        if len(text) <= width:
            return text.rjust(width) if right else text.ljust(width)
    else:
        used = cells(text)
        if used <= width:
            space = " " * (width - used)
            return space + text if right else text + space
    text = cut(text, width, mark)
    return text + " " * (width - cells(text))


def width_of(line: Iterable[Piece]) -> int:
    """Return the cells of a line."""
    return sum(cells(text) for text, _ in line)


def fit_line(line: Line, width: int, mark: str) -> Line:
    """Return the line in exactly ``width`` cells."""
    used, kept = 0, []
    for text, role in line:
        took = cells(text)
        if used + took > width:
            kept.append((cut(text, width - used, mark), role))
            used = sum(cells(text) for text, _ in kept)
            break
        kept.append((text, role))
        used += took
    if used < width:
        kept.append((" " * (width - used), ""))
    return kept


def plain(line: Iterable[Piece]) -> str:
    """Return the line's text, as it reads with all styles stripped."""
    return "".join(text for text, _ in line)


def wrapped(text: str, width: int) -> list[str]:
    """Return the text broken into lines of at most ``width`` cells, at spaces where there are."""
    lines: list[str] = []
    rest = text
    while cells(rest) > width > 0:
        at = len(rest)
        used = 0
        for index, character in enumerate(rest):
            used += _cell(character)
            if used > width:
                at = index
                break
        space = rest.rfind(" ", 1, at + 1)
        at = space if space > at // 2 else max(1, at)
        lines.append(rest[:at].rstrip())
        rest = rest[at:].lstrip()
    return [*lines, rest]


def duration(seconds: float | None) -> str:
    """Return a duration in at most five cells, such as ``12ms``, ``4.2s``, ``3m05``, ``2h10``."""
    if seconds is None:
        return ""
    seconds = max(0.0, seconds)
    if seconds < _SECOND:
        return f"{round(seconds * 1000)}ms" if seconds < 0.9995 else "1.0s"
    if seconds < 99.95:
        return f"{seconds:.1f}s" if seconds < 9.95 else f"{seconds:.0f}s"
    if seconds < _HOUR:
        whole = int(seconds)
        return f"{whole // _MINUTE}m{whole % _MINUTE:02}"
    if seconds < _DAY:
        minutes = int(seconds) // _MINUTE
        return f"{minutes // 60}h{minutes % 60:02}"
    days = int(seconds) // _DAY
    return f"{days}d{int(seconds) % _DAY // _HOUR:02}" if days < 100 else f"{days}d"


def age(seconds: float) -> str:
    """Return a duration that counts up or down on the screen: whole seconds below a minute."""
    return f"{max(0, int(seconds))}s" if seconds < _MINUTE else duration(seconds)


def stamp(at: float) -> str:
    """Return a time of day on the wall."""
    return time.strftime("%H:%M:%S", time.localtime(at))


def count(number: int) -> str:
    """Return a count in at most five cells."""
    if number < 100_000:
        return str(number)
    for unit, size in (("k", 1_000), ("M", 1_000_000), ("G", 1_000_000_000)):
        if number < size * 1_000:
            whole = number / size
            return f"{whole:.1f}{unit}" if whole < 100 else f"{whole:.0f}{unit}"
    return "many"


def several(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun, ``1 restart`` or ``3 restarts``."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def bar(ratio: float, width: int, glyphs: Glyphs) -> str:
    """Return a bar of ``width`` cells; anything above zero shows."""
    share = min(1.0, max(0.0, ratio))
    filled = round(share * width) or (1 if share > 0 else 0)
    return glyphs.full * filled + glyphs.empty * (width - filled)


def spark(values: Sequence[int], width: int, glyphs: Glyphs, top: int = 0) -> str:
    """Return a sparkline of the last ``width`` values, right-aligned; blank where all are zero.

    Args:
        values: at least 0, oldest first.
        width: cells.
        glyphs: drawing characters.
        top: value of the highest one; 0 takes the largest of the values.
    """
    steps = len(glyphs.sparks) - 1
    shown = values[-width:]
    highest = top or max(shown, default=0)
    if not any(shown):
        return " " * width
    drawn = "".join(
        glyphs.sparks[1 + min(steps - 1, value * (steps - 1) // highest)] for value in shown
    )
    return " " * (width - len(shown)) + drawn
