"""Real programs in a real terminal: tmux on a socket of its own, fleets in their own directory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

DEADLINE = 40.0
"""Seconds for anything to appear; what takes longer has failed."""

_OF_THE_OUTSIDE = {"TMUX", "NO_COLOR", "COLUMNS", "LINES"}

FLEETMON = Path(sys.executable).with_name("fleetmon")


class Terminal:
    """One terminal of a given size, in which programs of this test run."""

    def __init__(self, width, height):
        if shutil.which("tmux") is None:
            pytest.skip("tmux is not installed (make system-packages, Debian: tmux)")
        self.directory = Path(tempfile.mkdtemp(prefix="fm-", dir="/tmp"))
        self._tmux = ["tmux", "-S", str(self.directory / "tmux"), "-f", os.devnull]
        self._size = ("-x", str(width), "-y", str(height))
        self._processes = []
        self.environment = {
            **{k: v for k, v in os.environ.items() if k not in _OF_THE_OUTSIDE},
            "XDG_RUNTIME_DIR": str(self.directory), "TMPDIR": str(self.directory),
            "TERM": "xterm-256color", "LC_ALL": "C.UTF-8", "PYTHONWARNINGS": "default",
        }  # fmt: skip

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._call("kill-server", check=False)
        for process in self._processes:
            process.kill()
            process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _call(self, *words, check=True):
        done = subprocess.run(
            [*self._tmux, *words], check=False, capture_output=True, text=True, timeout=30,
            env=self.environment,
        )  # fmt: skip
        if check and done.returncode:
            pytest.fail(f"tmux {' '.join(words)}: {done.stderr}")
        return done.stdout

    def background(self, *words):
        """Run a fleetmon command outside of the terminal; returns its process."""
        process = subprocess.Popen(
            [FLEETMON, *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, env=self.environment,
        )  # fmt: skip
        self._processes.append(process)
        return process

    def run(self, *words, **variables):
        """Run a fleetmon command in the terminal."""
        told = " ".join(f"{k}={v}" for k, v in variables.items())
        command = f"{told} {FLEETMON} {' '.join(words)}; echo left with $?; exec cat"
        self._call("new-session", "-d", *self._size, command.strip())
        self._call("set-option", "-g", "status", "off", check=False)

    def program(self):
        """Return the process id of what runs in the terminal."""
        shell = self._call("list-panes", "-F", "#{pane_pid}").strip()
        return int(Path(f"/proc/{shell}/task/{shell}/children").read_text().split()[0])

    def press(self, *keys):
        """Press keys, by tmux's names."""
        self._call("send-keys", *keys)

    def enter(self, opener, text):
        """Open a line to type in with a key, and enter a text there, whatever it held."""
        self.press(opener, "C-u")
        self.press("-l", text)
        self.press("Enter")

    def resize(self, width, height):
        """Make the terminal another size."""
        self._call("resize-window", "-x", str(width), "-y", str(height))

    def screen(self, *, styles=False):
        """Return what stands on the screen."""
        return self._call("capture-pane", "-p", *(["-e"] if styles else []))

    def wait(self, condition, what):
        """Wait until something holds that is not on the screen."""
        end = time.monotonic() + DEADLINE
        while not condition():
            if time.monotonic() > end:
                pytest.fail(f"{what} did not come about within {DEADLINE} s:\n{self.screen()}")
            time.sleep(0.05)

    def until(self, condition, what=""):
        """Wait until a text is on the screen, or a condition of it holds; returns the screen."""
        end = time.monotonic() + DEADLINE
        while True:
            screen = self.screen()
            found = condition in screen if isinstance(condition, str) else condition(screen)
            if found:
                return screen
            if time.monotonic() > end:
                pytest.fail(f"{what or condition!r} did not appear within {DEADLINE} s:\n{screen}")
            time.sleep(0.05)
