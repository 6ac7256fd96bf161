"""Sample agents, importable by worker processes."""

from __future__ import annotations

import asyncio
import contextvars
import faulthandler
import functools
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

COLOUR = contextvars.ContextVar("colour", default="none")


class Unpicklable(Exception):  # noqa: N818 - the host's own naming
    """An error that pickles but does not unpickle, with facts for a classifier."""

    def __init__(self, code, *, retry):
        super().__init__(f"broken with {code}")
        self.error_code = code
        self.is_retryable = retry
        self.lock = threading.Lock()


class CustomError(ValueError):
    """An error that travels as it is."""

    def __init__(self, code):
        super().__init__(code)
        self.code = code


def sync_job(payload):  # noqa: C901, PLR0911, PLR0912 - a table of tricks
    """A plain callable with many tricks, chosen by the payload."""
    match payload:
        case ["add", a, b]:
            return a + b
        case ["pid"]:
            return os.getpid(), os.getppid(), signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        case ["modules"]:
            return sorted(sys.modules)
        case ["raise", "custom"]:
            raise CustomError(7)
        case ["raise", "unpicklable"]:
            raise Unpicklable("E42", retry=True)
        case ["raise", name]:
            raise {
                "exit": SystemExit(3),
                "interrupt": KeyboardInterrupt(),
                "stop": StopIteration(5),
                "cancelled": asyncio.CancelledError(),
            }[name]
        case ["lambda"]:
            return lambda: None
        case ["big", size]:
            return b"x" * size
        case ["segv"]:
            faulthandler._sigsegv()
        case ["kill"]:
            os.kill(os.getpid(), signal.SIGKILL)
        case ["exit"]:
            os._exit(7)
        case ["sleep", marker]:
            Path(marker).touch()
            time.sleep(600)
        case ["regex", marker]:
            Path(marker).touch()
            re.match(r"(a+)+$", "a" * 64 + "b")  # holds the interpreter lock for ages
        case ["child", path]:
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            Path(path).write_text(str(child.pid))
            time.sleep(600)
        case ["colour"]:
            return COLOUR.get()
    return None


def make_sync():
    """Factory of the plain callable."""
    return sync_job


class AsyncAgent:
    """Asynchronous, with every hook; notes what happened in a file."""

    def __init__(self, log=None):
        self.log = log
        self.note("built")

    def note(self, text):
        if self.log:
            with Path(self.log).open("a") as file:
                file.write(text + "\n")

    async def start(self):
        self.note("started")

    async def handle(self, task):
        match task.payload:
            case "hang":
                self.note("hanging")
                try:
                    await asyncio.sleep(600)
                finally:
                    self.note(f"hang ended, cancelled={task.cancelled}")
            case "block":
                time.sleep(600)
            case "cancel myself":
                raise asyncio.CancelledError
            case "facts":
                task.progress("half")
                left = None if task.deadline is None else task.deadline - time.monotonic()
                return task.id, task.task_type, task.attempt, left, task.carrier
            case "thread":
                return threading.current_thread().name
        return task.payload

    async def probe(self):
        return True

    async def stop(self):
        self.note("stopped")


class Streamer:
    """Generators of both kinds."""

    closed = 0

    def count(self, payload):
        try:
            yield from range(payload)
        finally:
            type(self).closed += 1

    async def acount(self, payload):
        try:
            for number in range(payload):
                await asyncio.sleep(0)
                yield number
        finally:
            type(self).closed += 1


class Puller:
    """A body that pulls tasks."""

    async def serve(self, agent):
        agent.heartbeat("ready")
        async for task in agent.tasks():
            if task.payload == "forget":
                continue
            if task.payload == "leave":
                task.done("left")
                return
            async with task:
                if task.payload == "fail":
                    task.fail(CustomError(9))
                task.done(task.payload * 2)


class SyncPuller:
    """The same without a loop."""

    def serve(self, agent):
        for task in agent.tasks():
            with task:
                task.done(task.payload + 1)


def broken_factory():
    """Raises at start."""
    raise CustomError(11)


def exiting_factory():
    """Ends the worker at start."""
    os._exit(9)


def wrapped(function):
    """A synchronous wrapper around a coroutine function."""

    @functools.wraps(function)
    def call(*arguments):
        return function(*arguments)

    return call


class Wrapped:
    """An asynchronous handler behind a synchronous wrapper."""

    @wrapped
    async def handle(self, task):
        await asyncio.sleep(0)
        return task.payload
