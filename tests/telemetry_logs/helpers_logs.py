"""Tasks and events as a log sees them, and a sink that is stuck."""

from __future__ import annotations

import io
import threading
from types import SimpleNamespace

from fleetmon.events import Event, EventKind
from fleetmon.hooks import Identified
from fleetmon.numbers import SUCCEEDED


class FakeTask(SimpleNamespace, Identified):
    pass


def make_task(task_id=1, **fields):
    base = {
        "id": task_id,
        "agent_id": "APEX",
        "task_type": "review",
        "generation": 3,
        "attempt": 1,
        "started_at": 100.0,
        "ended_at": 100.25,
        "outcome": SUCCEEDED,
        "error_type": "",
        "error": None,
        "ids": f"{0xABC:032x}{0xDEF:016x}",
    }
    return FakeTask(**(base | fields))


def make_event(kind=EventKind.LAPSED, **data):
    return Event(7, 1_790_000_000.5, 5.0, kind, "APEX", 3, 9, data)


class Stuck(io.StringIO):
    def __init__(self):
        super().__init__()
        self.entered, self.gate = threading.Event(), threading.Event()

    def write(self, text):
        self.entered.set()
        self.gate.wait(10)
        return super().write(text)
