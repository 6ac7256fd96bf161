"""The first screen, drawn with nothing but the standard library while Textual is still loading.

The same lines that the program draws later, so that real rows are there in a fraction of the time
that the import of the screen library takes. What is typed meanwhile waits for the program.
"""

from __future__ import annotations

import contextlib
import os
import sys
import termios
import tty
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fleetmon_tui.lines.screen import Drawn
    from fleetmon_tui.state.themes import Look, Theme


@contextlib.contextmanager
def stage(*, quiet: bool = False) -> Iterator[bool]:
    """Take the terminal, without echo; whatever happens inside, it is given back as it was.

    Args:
        quiet: leave the terminal alone.

    Yields:
        Whether there is a terminal to draw on.
    """
    if quiet or not (sys.stdin.isatty() and sys.stdout.isatty()):
        yield False
        return
    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)
    try:
        tty.setcbreak(number, termios.TCSANOW)
        modes = termios.tcgetattr(number)
        modes[0] &= ~termios.ICRNL  # an enter that is typed by now shall still be one
        # and a Ctrl-Z, with which the terminal would throw away what waits
        modes[6][termios.VSUSP] = bytes([os.fpathconf(number, "PC_VDISABLE")])
        termios.tcsetattr(number, termios.TCSANOW, modes)
        _write("\x1b[?1049h\x1b[?25l\x1b[H")
        yield True
    finally:
        termios.tcsetattr(number, termios.TCSANOW, before)
        _write("\x1b[?1049l\x1b[?25h\x1b[0m")


def size() -> tuple[int, int]:
    """Return columns and lines of the terminal."""
    found = os.get_terminal_size(sys.stdout.fileno())
    return found.columns, found.lines


def draw(drawn: Sequence[Drawn], theme: Theme) -> None:
    """Write lines to the terminal."""
    true_color = os.environ.get("COLORTERM", "") in {"truecolor", "24bit"}
    parts = ["\x1b[H"]
    for at, (line, state) in enumerate(drawn):
        parts.append(f"\x1b[{at + 1};1H")
        ground = theme.grounds.get(state, theme.grounds.get("", ""))
        for text, role in line:
            look = theme.looks.get(role) or theme.looks[""]
            parts.append(f"\x1b[0{_codes(look, ground, true_color=true_color)}m{text}")
    parts.append("\x1b[0m")
    _write("".join(parts))


def _codes(look: Look, ground: str, *, true_color: bool) -> str:
    codes = ""
    for on, code in ((look.bold, 1), (look.dim, 2), (look.underline, 4), (look.reverse, 7)):
        if on:
            codes += f";{code}"
    if true_color:
        for kind, color in ((38, look.color), (48, ground)):
            if color:
                red, green, blue = (int(color[at : at + 2], 16) for at in (1, 3, 5))
                codes += f";{kind};2;{red};{green};{blue}"
    return codes


def _write(text: str) -> None:
    with contextlib.suppress(OSError):
        sys.stdout.write(text)
        sys.stdout.flush()
