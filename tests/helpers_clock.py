"""The real clocks, of which the one on the wall can be turned."""

from __future__ import annotations

import time


class Turned:
    monotonic = staticmethod(time.monotonic)

    def __init__(self):
        self.by = 0.0

    def time(self):
        return time.time() + self.by
