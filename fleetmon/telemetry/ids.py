"""Trace and span ids, as text of hexadecimal digits."""

from __future__ import annotations

import os
from random import randbytes

# Trace ids drawn in blocks, as text: a draw, the comparison that samples and the digits of a log
# line come to half of what they would from a number. Random as those of the SDK's own generator.
_BLOCK = 128
_drawn: list[str] = []
take = _drawn.pop
if hasattr(os, "register_at_fork"):  # or parent and child would hand out the same
    os.register_at_fork(after_in_child=_drawn.clear)


def draw() -> str:
    """Return 32 hex digits, neither half of them zero."""
    try:
        return take()
    except IndexError:
        pass
    digits = "0" * 16
    while digits.find("0" * 16) >= 0:
        digits = randbytes(16 * _BLOCK).hex(" ", 16)  # noqa: S311 - ids, not secrets
    drawn = digits.split(" ")
    own = drawn.pop()
    _drawn.extend(drawn)  # which other threads may have used up before this returns
    return own
