"""The phases of a task."""

from __future__ import annotations

WAITING, RUNNING, ENDED = range(3)
