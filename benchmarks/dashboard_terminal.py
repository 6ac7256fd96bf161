"""The dashboard as a process in a terminal of its own: what it writes, when, and what it costs."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator

_STEERING = re.compile(rb"\x1b\[[0-9;?<>=]*[A-Za-z]|\x1b[()][A-Z0-9]|\x1b[=>]")
_TICKS = os.sysconf("SC_CLK_TCK")


class Terminal:
    """Runs ``fleetmon tui`` on a pseudo-terminal and reads along.

    Attributes:
        started: monotonic seconds at which it was executed.
    """

    def __init__(self, *options: str, directory: str, width: int = 120, height: int = 40) -> None:
        """Execute it."""
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        environment = {**os.environ, "XDG_RUNTIME_DIR": directory, "TMPDIR": directory,
                       "TERM": "xterm-256color", "COLORTERM": "truecolor"}  # fmt: skip
        environment.pop("NO_COLOR", None)
        program = Path(sys.executable).with_name("fleetmon")
        self._text = bytearray()
        self._changed = threading.Condition()
        self.started = time.monotonic()
        self._process = subprocess.Popen(
            [program, "tui", *options], stdin=slave, stdout=slave, stderr=slave, env=environment,
            start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        """Use as a context manager to be sure that it ends."""
        return self

    def __exit__(self, *_: object) -> None:
        """Kill it."""
        self._process.kill()
        self._process.wait()
        self._reader.join(2)
        with contextlib.suppress(OSError):
            os.close(self._master)

    def _read(self) -> None:
        while True:
            try:
                told = os.read(self._master, 65536)
            except OSError:
                return
            if not told:
                return
            with self._changed:
                self._text += told
                self._changed.notify_all()

    @property
    def written(self) -> int:
        """How many bytes it has written."""
        return len(self._text)

    def press(self, text: str) -> int:
        """Press keys; returns how much had been written before."""
        before = self.written
        os.write(self._master, text.encode())
        return before

    def until(self, pattern: str, *, since: int = 0, limit: float = 20.0) -> float:
        """Return the monotonic time at which text appeared, styles and cursor moves left out.

        Raises:
            TimeoutError: it did not.
        """
        wanted = re.compile(pattern.encode())
        end = time.monotonic() + limit
        while True:
            with self._changed:
                seen = len(self._text)
                text = bytes(self._text[since:])
            now = time.monotonic()
            if wanted.search(_STEERING.sub(b"", text)):
                return now
            if now > end:
                message = f"{pattern!r} did not appear within {limit} s"
                raise TimeoutError(message)
            with self._changed:
                if len(self._text) == seen:
                    self._changed.wait(0.02)

    def cpu(self) -> float:
        """Return the CPU seconds that it has used, all threads together."""
        stat = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="ascii")
        fields = stat.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def resident(self) -> int:
        """Return the bytes of memory that it takes."""
        status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii")
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024


class Fleet:
    """One of the fleets of :mod:`benchmarks.dashboard_fleet`, as a process."""

    def __init__(self, kind: str, agents: int, *rest: str, directory: str) -> None:
        """Start it and wait until it serves."""
        environment = {**os.environ, "XDG_RUNTIME_DIR": directory, "TMPDIR": directory}
        words = [sys.executable, "-m", "benchmarks.dashboard_fleet", kind, str(agents), *rest]
        self._process = subprocess.Popen(
            words, stdout=subprocess.PIPE, text=True, env=environment,
            cwd=Path(__file__).parent.parent,
        )  # fmt: skip
        self.line()

    def line(self) -> str:
        """Return the next line that it prints."""
        out = self._process.stdout
        return "" if out is None else out.readline()

    def kill(self) -> None:
        """Kill it as ``kill -9`` does."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


@contextlib.contextmanager
def fleet(kind: str, agents: int, *rest: str) -> Iterator[tuple[Fleet, str]]:
    """Run a fleet in a directory of its own; yields it and the directory."""
    with tempfile.TemporaryDirectory(prefix="fm-", dir="/tmp") as directory:
        words = [word.replace("{}", directory) for word in rest]
        found = Fleet(kind, agents, *words, directory=directory)
        try:
            yield found, directory
        finally:
            found.kill()
