"""Who is to blame: the line of the agent's own code in a stack, live or dumped by faulthandler."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

_STDLIB = str(Path(os.__file__).parent)  # sysconfig would say the same, but loads slowly
_OURS = str(Path(__file__).parent)
_PRODUCT = str(Path(__file__).parent.parent / "product.py")
_HEAD = re.compile(r"^(Current thread|Thread) 0x[0-9a-fA-F]+.*\(most recent call first\):$")
_FRAME = re.compile(r'^  File "(?P<file>.*)", line (?P<line>\d+) in (?P<function>.+)$')


def is_agents(filename: str) -> bool:
    """Tell whether a file is neither the standard library's nor part of the executors."""
    if filename.startswith(("<", _OURS)) or filename == _PRODUCT:
        return False
    return not filename.startswith(_STDLIB) or "site-packages" in filename


def blame_frame(frame: FrameType | None) -> str:
    """Give ``file:line in function`` of the innermost frame of an agent's code, or ``""``."""
    while frame is not None:
        if is_agents(frame.f_code.co_filename):
            return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
        frame = frame.f_back
    return ""


def blame_dump(dump: str) -> str:
    """Give ``file:line in function`` to blame in a dump by :mod:`faulthandler`, or ``""``.

    The thread that faulted (faulthandler's "Current thread") comes first, then the others as
    dumped; in each the innermost frame of the agent's own code counts. Only the last dump in the
    text is read.
    """
    begin = max(dump.rfind("Fatal Python error"), 0)
    current: list[str] = []
    others: list[str] = []
    into = others
    found = True  # of the thread being read
    for line in dump[begin:].splitlines():
        head = _HEAD.match(line)
        if head:
            into = current if head[1] == "Current thread" else others
            found = False
            continue
        frame = _FRAME.match(line)
        if frame and not found and is_agents(frame["file"]):
            into.append(f"{frame['file']}:{frame['line']} in {frame['function']}")
            found = True
    return next(iter(current + others), "")
