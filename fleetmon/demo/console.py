"""What people see: plain lines, and on a terminal a few more that are rewritten in place."""

from __future__ import annotations

import os
import shutil
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_NARROWEST = 20
_COLOURS = {"injected": "33", "detected": "36", "recovered": "32", "wrong": "31"}


class Console:
    """Writes lines; keeps the live ones last. Safe from any thread.

    Attributes:
        live: live lines are shown: the stream is a terminal that can move its cursor.
    """

    def __init__(self, stream: TextIO, environ: Mapping[str, str] | None = None) -> None:
        """Look at the stream and at ``NO_COLOR`` and ``TERM``."""
        environ = os.environ if environ is None else environ
        self._stream = stream
        terminal = False
        with suppress(ValueError):  # closed
            terminal = stream.isatty()
        self.live = terminal and environ.get("TERM") not in (None, "", "dumb")
        self._colour = self.live and not environ.get("NO_COLOR")
        self._shown: list[str] = []
        self._lock = threading.Lock()

    def say(self, text: str) -> None:
        """Write one line that stays."""
        with self._lock:
            shown, self._shown = self._shown, []
            self._write(self._rewind(len(shown)) + self._painted(text) + "\n")
            self._draw(shown)

    def show(self, lines: Sequence[str]) -> None:
        """Replace the live lines; nothing where there are none."""
        if not self.live:
            return
        with self._lock:
            # without wrapping, or the cursor would not find its way back
            width = max(_NARROWEST, shutil.get_terminal_size().columns) - 1
            cut = [line if len(line) <= width else line[: width - 1] + "…" for line in lines]
            if cut == self._shown:
                return
            rewind = self._rewind(len(self._shown))
            self._shown = []
            self._draw(cut, rewind)

    def clear(self) -> None:
        """Take the live lines away."""
        with self._lock:
            shown, self._shown = self._shown, []
            if shown:
                self._write(self._rewind(len(shown)))

    def _draw(self, lines: list[str], before: str = "") -> None:
        if lines:
            # one write for all of it: a terminal that draws in between would flicker
            self._write(before + "".join(f"{line}\x1b[K\n" for line in lines))
            self._shown = lines

    @staticmethod
    def _rewind(lines: int) -> str:
        return f"\x1b[{lines}A\r\x1b[J" if lines else ""

    def _painted(self, text: str) -> str:
        if not self._colour:
            return text
        for word, colour in _COLOURS.items():
            if text.startswith(f"fault  {word}"):
                return f"\x1b[{colour}m{text}\x1b[0m"
        return text

    def _write(self, text: str) -> None:
        with suppress(OSError, ValueError):  # nobody looks any more: no reason to stop the work
            self._stream.write(text)
            self._stream.flush()
