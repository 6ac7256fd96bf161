"""Agents in whose every word the marker stands; one of them lives in a worker process."""

from __future__ import annotations

import asyncio
import time

MARKER = "MARKER-7f3a9c"


class LeakError(RuntimeError):
    """Quotes what was worked on, and carries it along."""

    def __init__(self, text):
        super().__init__(f"cannot digest {text!r}", text)
        self.payload = text
        self.add_note(f"seen: {text}")


def fails(text):
    error = LeakError(text)
    error.__cause__ = ValueError(text)
    raise error


class Leaky:
    """Does with its payload what the task type says."""

    async def start(self):
        if self.wanted(MARKER + " start"):
            raise LeakError(MARKER)

    def wanted(self, _what):
        return False

    def probe(self):
        fails(MARKER)

    async def handle(self, task):
        how, text = task.task_type, task.payload
        task.progress(f"at {text}")
        if how == "raise":
            fails(text)
        if how == "fail":
            task.fail("returned_failure", LeakError(text))
        if how == "hang":
            await asyncio.sleep(3600)
        return {"result": text}


class Synchronous:
    """In a thread, or in a process of its own."""

    def handle(self, task):
        task.progress(f"at {task.payload}")
        if task.task_type == "raise":
            fails(task.payload)
        if task.task_type == "sleep":
            time.sleep(0.01)
        return {"result": task.payload}


class Body:
    """Takes its work itself, and goes down over it."""

    async def serve(self, agent):
        agent.heartbeat(f"beat {MARKER}")
        async for task in agent.tasks():
            if task.task_type == "raise":
                fails(task.payload)
            task.done(task.payload)


class NeverStarts(Leaky):
    """Says in its start what it should not."""

    def wanted(self, _what):
        return True


class StopsBadly(Leaky):
    """Says it in its stop."""

    def stop(self):
        fails(MARKER)
