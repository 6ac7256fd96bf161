"""Blame for the one case in which no Python thread can run: a call in C that keeps the interpreter.

Only :mod:`faulthandler`'s own timer, a thread in C, still works then; it writes the stacks into a
file, which is read once Python runs again. The timer is one for the whole process, so this is off
unless the host asks for it (``Watchdog.faulthandler``).
"""

from __future__ import annotations

import faulthandler
import re
import tempfile
from typing import IO

_FRAME = re.compile(r'^  File "(?P<file>.*)", line (?P<line>\d+) in (?P<function>.*)$')
_THREAD = re.compile(r"^(?:Current thread|Thread) 0x(?P<ident>[0-9a-f]+)")


class InterpreterWatch:
    """Keeps a dump on order for as long as the watchdog comes round in time."""

    def __init__(self, seconds: float) -> None:
        """Order a dump whenever nothing renews it for ``seconds``."""
        self._seconds = seconds
        self._file: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - closed by close()

    def renew(self) -> None:
        """Put the dump off."""
        faulthandler.dump_traceback_later(self._seconds, file=self._file)

    def stacks(self) -> dict[int, tuple[tuple[str, int, str], ...]]:
        """Return what was dumped since the last call: by thread, the innermost frame first."""
        self._file.seek(0)
        text = self._file.read()
        if not text:
            return {}
        self._file.seek(0)
        self._file.truncate()
        found: dict[int, list[tuple[str, int, str]]] = {}
        frames: list[tuple[str, int, str]] = []
        for line in text.splitlines():
            head = _THREAD.match(line)
            if head is not None:  # of several dumps the latest counts
                frames = found[int(head["ident"], 16)] = []
            frame = _FRAME.match(line)
            if frame is not None:
                frames.append((frame["file"], int(frame["line"]), frame["function"]))
        return {thread: tuple(stack) for thread, stack in found.items()}

    def close(self) -> None:
        """Cancel the order."""
        faulthandler.cancel_dump_traceback_later()
        self._file.close()
