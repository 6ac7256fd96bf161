"""Real programs beside a test: started, listened to, asked over HTTP, and surely ended."""

from __future__ import annotations

import os
import queue
import re
import subprocess
import threading
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Sequence

T = TypeVar("T")

ROOT = Path(__file__).parents[2]


class Program:
    """A program of this test's own; its standard error is read as it comes."""

    def __init__(self, command: Sequence[str], *, out: int = subprocess.PIPE) -> None:
        self.process = subprocess.Popen(
            command,
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self.said: list[str] = []
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)
            self._lines.put(line)
        self._lines.put("")

    def wait_for(self, pattern: str, within: float = 20.0) -> str:
        """Return group 1 of the first line that matches."""
        until = time.monotonic() + within
        while (left := until - time.monotonic()) > 0:
            try:
                line = self._lines.get(timeout=left)
            except queue.Empty:
                break
            if found := re.search(pattern, line):
                return found[1]
            if not line:  # it ended
                break
        pytest.fail(f"{pattern!r} was not said: {''.join(self.said)}")

    def ask_to_end(self, number: signal.Signals, within: float = 20.0) -> str:
        """Send a signal and return the standard output; who does not end is killed."""
        assert self.process.stdout is not None
        late = threading.Timer(within, self.process.kill)
        late.start()
        try:
            self.process.send_signal(number)
            out = self.process.stdout.read()  # until the program is gone
            self.process.wait(within)
        finally:
            late.cancel()
        self._reader.join(within)
        return out

    def end(self) -> None:
        """Leave nothing behind, whatever happened."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._reader.join(5)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


def fetch(address: str, path: str, accept: str = "*/*") -> tuple[str, str]:
    """Return the body and the content type; no proxy of the environment is asked."""
    connection = HTTPConnection(address, timeout=10)
    try:
        connection.request("GET", path, headers={"Accept": accept})
        answer = connection.getresponse()
        body = answer.read().decode()
        assert answer.status == 200, body
        return body, answer.getheader("Content-Type", "")
    finally:
        connection.close()


def eventually(look: Callable[[], T], within: float = 20.0) -> T:
    """Return the first answer that is true; the other side is a program with a clock of its own."""
    pause = threading.Event()
    until = time.monotonic() + within
    while not (answer := look()):
        assert time.monotonic() < until, f"still {answer!r} after {within} s"
        pause.wait(0.05)
    return answer
