"""A recording host, and tasks, for the executors' tests."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest

_IDS = count(1)


@dataclass
class Task:
    payload: Any
    task_type: str = "test"
    attempt: int = 1
    deadline: float | None = None
    carrier: dict[str, str] | None = None
    id: int = field(default_factory=lambda: next(_IDS))


class Host:
    def __init__(self):
        self.agent_id = "APEX"
        self.generation = 3
        self.handle = object()
        self.beats = []
        self.notes = []
        self.deaths = []
        self.settled = []
        self.leaks = 0
        self.queue = asyncio.Queue()
        self.changed = asyncio.Event()

    def _change(self, into, what):
        into.append(what)
        self.changed.set()

    def heartbeat(self, note=None):
        self._change(self.beats, note)

    def progress(self, task_id, note):
        self._change(self.notes, (task_id, note))

    def next_task(self):
        return self.queue.get()

    def settle(self, task, result, error):
        self._change(self.settled, (task.payload, result, error))

    def died(self, error):
        self._change(self.deaths, error)

    def counted(self, news):
        self.news = [*getattr(self, "news", []), *news]

    def leaked(self, threads):
        self.leaks += threads
        self.changed.set()

    async def until(self, condition):
        async with asyncio.timeout(10):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


@pytest.fixture
def new_task():
    return Task


@pytest.fixture
async def host():
    return Host()
