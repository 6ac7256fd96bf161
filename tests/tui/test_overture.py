"""The first screen, before the screen library is there: what is typed by then is not lost."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import sys
import termios

import pytest

from fleetmon_tui.overture import stage

TYPED = b"r\r\x1a"  # a key, Enter, Ctrl-Z


@contextlib.contextmanager
def terminal(monkeypatch):
    """Put standard input and output on a terminal; gives what stands for its keyboard."""
    keys, ours = pty.openpty()
    with (
        os.fdopen(ours, "rb", buffering=0) as stdin,
        os.fdopen(os.dup(ours), "w", encoding="utf-8") as stdout,
        monkeypatch.context() as patched,
    ):
        patched.setattr(sys, "stdin", stdin)
        patched.setattr(sys, "stdout", stdout)
        yield keys
    os.close(keys)


def leave_by_an_error():
    with stage() as there:
        assert there
        raise ZeroDivisionError


def test_what_is_typed_by_then_waits_for_the_program_also_a_ctrl_z(monkeypatch):
    with terminal(monkeypatch) as keyboard, stage() as there:
        assert there
        os.write(keyboard, TYPED)
        assert select.select([sys.stdin], [], [], 5.0)[0], "the terminal kept it"
        assert os.read(sys.stdin.fileno(), 16) == TYPED


def test_the_terminal_is_given_back_as_it_was(monkeypatch):
    with terminal(monkeypatch):
        before = termios.tcgetattr(sys.stdin.fileno())
        with pytest.raises(ZeroDivisionError):
            leave_by_an_error()
        assert termios.tcgetattr(sys.stdin.fileno()) == before
