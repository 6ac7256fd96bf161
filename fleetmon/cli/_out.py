"""Words on a terminal: what may be printed, in which colour, and tables that are never cut."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}

Paint = "Callable[[str, str, str], str]"


class Style:
    """Colours for a terminal, and nothing for everything else.

    Attributes:
        on: whether words are coloured at all. No word's meaning depends on it.
    """

    def __init__(self, *, wanted: bool = True) -> None:
        """Look whether standard output is a terminal and nobody objects.

        Args:
            wanted: ``False`` for ``--no-color``; ``NO_COLOR`` and ``TERM=dumb`` are heeded too.
        """
        self.on = (
            wanted
            and not os.environ.get("NO_COLOR")
            and os.environ.get("TERM") != "dumb"
            and sys.stdout.isatty()
        )

    def __call__(self, text: str, *names: str) -> str:
        """Return text in a style: ``bold``, ``dim``, ``red``, ``green``, ``yellow``, ``cyan``."""
        if not self.on or not names:
            return text
        return f"\x1b[{';'.join(_CODES[name] for name in names)}m{text}\x1b[0m"


def room() -> tuple[int, int] | None:
    """Return columns and lines of the terminal on standard output; ``None`` where it is none."""
    try:
        size = os.get_terminal_size(sys.stdout.fileno()) if sys.stdout.isatty() else None
    except (OSError, ValueError):
        return None
    # a terminal that does not know its size says 0
    return (size.columns, size.lines) if size and size.columns and size.lines else None


def clean(text: object) -> str:
    """Return text without what would steer a terminal; names and reasons come from others."""
    return "".join(c if c.isprintable() else "?" for c in str(text))


def say(*lines: str) -> None:
    """Write lines on standard output, at once."""
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def say_json(value: Any) -> None:
    """Write one JSON value on a line of standard output."""
    say(json.dumps(value))


def complain(command: str, message: str) -> None:
    """Write one line on standard error."""
    sys.stderr.write(f"fleetmon {command}: {clean(' '.join(message.split()))}\n")
    sys.stderr.flush()


def table(
    names: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: frozenset[str] = frozenset(),
    paint: Callable[[str, str, str], str] | None = None,
) -> list[str]:
    """Return a table, a line a row, never cut.

    Args:
        names: heads of the columns.
        rows: cells, clean already.
        right: columns that stand to the right.
        paint: called with a column's name, its cell and the cell as it is padded; gives what is
            printed.
    """
    whole = [names, *rows]
    widths = [max(len(row[at]) for row in whole) for at in range(len(names))]
    lines = []
    for number, row in enumerate(whole):
        cells = []
        for at, (name, cell, width) in enumerate(zip(names, row, widths, strict=True)):
            last = at == len(names) - 1
            padded = cell.rjust(width) if name in right else cell if last else cell.ljust(width)
            cells.append(paint(name, cell, padded) if paint and number else padded)
        lines.append("  ".join(cells).rstrip())
    return lines
