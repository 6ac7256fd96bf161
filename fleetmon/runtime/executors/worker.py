"""Inside the worker process: one agent on an event loop of its own, commanded over a socket.

The main thread runs the loop. A second thread reads the socket, so that the end of the supervisor
is noticed also while the main thread is busy: the process then ends at once, whatever it does.
Synchronous work runs in further threads. Imports as little as it can: it is on the way of every
restart.
"""

from __future__ import annotations

import asyncio
import faulthandler
import itertools
import os
import pickle
import signal
import socket
import sys
import threading
import time
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from fleetmon import relay
from fleetmon.runtime.executors.auto import AutoExecutor
from fleetmon.runtime.executors.remote import WorkerAgent, WorkerTask, answer
from fleetmon.runtime.executors.wire import (
    HEADER,
    FrameError,
    Frames,
    Kind,
    dumps,
    names_main,
    pack_error,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

_CHUNK = 256 * 1024
_PR_SET_PDEATHSIG = 1
_COUNTS_EVERY = 0.5  # seconds from the end of a task to telling what it counted


class Hello(NamedTuple):
    """What the worker is told first; plain values only (it travels as a tuple).

    ``main`` is the file of the host's ``__main__``, empty when there is none.
    """

    factory: bytes
    handler: str
    capacity: int
    agent_id: str
    generation: int
    main: str
    argv: list[str]


class Link:
    """The worker's end of the socket: whole frames, written from any thread."""

    def __init__(self, sock: socket.socket) -> None:
        """Own the connected, blocking socket."""
        self._sock = sock
        self._frames = Frames()
        self._lock = threading.Lock()

    def send(self, kind: Kind, number: int, body: bytes = b"") -> None:
        """Write one frame; blocks while the supervisor does not read."""
        data = HEADER.pack(len(body), kind, number) + body
        with self._lock:
            try:
                self._sock.sendall(data)
            except OSError:  # the supervisor is gone; the reading thread ends the process
                return

    def read(self) -> list[tuple[int, int, bytes]]:
        """Wait for the next frames; an empty list says that the supervisor is gone."""
        while True:
            try:
                data = self._sock.recv(_CHUNK)
            except OSError:
                return []
            if not data:
                return []
            if frames := list(self._frames.feed(data)):
                return frames


class Main:
    """Loads the host's ``__main__`` as ``__mp_main__`` once something pickled refers to it."""

    def __init__(self, path: str) -> None:
        """Note the file; empty when the host has none."""
        self._path = path

    def loads(self, body: bytes) -> Any:
        """Unpickle, after loading the host's main module if the body mentions it."""
        if self._path and names_main(body):
            self._load()
        return pickle.loads(body)  # noqa: S301 - from our own supervisor

    def _load(self) -> None:
        import runpy
        from types import ModuleType

        path, self._path = self._path, ""
        module = ModuleType("__mp_main__")
        module.__dict__.update(runpy.run_path(path, run_name="__mp_main__"))
        sys.modules["__main__"] = sys.modules["__mp_main__"] = module


class Worker:
    """Carries out the supervisor's requests, and is the executor's host on this side."""

    def __init__(self, link: Link, hello: Hello, early: list[tuple[int, int, bytes]]) -> None:
        """Prepare; ``early`` are frames that came along with the greeting."""
        self.agent_id = hello.agent_id
        self.generation = hello.generation
        self.handler = hello.handler
        self.capacity = hello.capacity
        self.handle = WorkerAgent(
            hello.agent_id,
            hello.generation,
            beat=self.heartbeat,
            ask=self._ask,
            take_back=lambda number: link.send(Kind.UNNEXT, number),
        )
        self._hello = hello
        self._link = link
        self._early = early
        self._main = Main(hello.main)
        self._loop: asyncio.AbstractEventLoop
        self._executor: AutoExecutor
        self._running: dict[int, asyncio.Task[None]] = {}
        self._tasks: dict[int, WorkerTask] = {}  # by number of the request
        self._cancelling: set[int] = set()
        self._asked: dict[int, Future[WorkerTask | None]] = {}
        self._numbers = itertools.count(1)
        self._serving = -1
        self._counting = False

    async def run(self) -> None:
        """Start the agent, serve requests until asked to stop."""
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        threading.Thread(target=self._read, name="fleetmon-link", daemon=True).start()
        try:
            factory = self._main.loads(self._hello.factory)
            self._executor = AutoExecutor(factory, self, self, detach=False)
            await self._executor.start()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the supervisor decides
            self._link.send(Kind.ERROR, 0, pack_error(error))
            return
        executor = self._executor
        facts = (executor.has_serve, executor.has_handle, executor.has_probe)
        self._link.send(Kind.RESULT, 0, dumps((*facts, executor.takes_payload), "surface"))
        await self._over.wait()

    # What the executor reports.

    def heartbeat(self, note: str | None = None) -> None:
        """Pass a sign of life on."""
        self._link.send(Kind.BEAT, 0, dumps(None if note is None else str(note), "note"))

    def progress(self, task_id: int, note: str) -> None:
        """Pass progress of a task on."""
        self._link.send(Kind.PROGRESS, task_id, dumps(str(note), "note"))

    def next_task(self) -> Awaitable[WorkerTask | None]:
        """Wait for a task for the body."""
        return asyncio.wrap_future(self._ask()[1])

    def settle(self, task: Any, result: Any, error: BaseException | None) -> None:
        """Pass a pulled task's outcome on."""
        self._settle(task.id, result, error)

    def died(self, error: BaseException) -> None:
        """Nothing dies below this process that it would survive."""

    def counted(self, news: list[relay.News]) -> None:
        """No worker runs below this one."""

    def leaked(self, threads: int) -> None:
        """Threads end with this process."""

    # Requests to the supervisor.

    def _ask(self) -> tuple[int, Future[WorkerTask | None]]:
        number = next(self._numbers)
        future: Future[WorkerTask | None] = Future()
        self._asked[number] = future
        self._link.send(Kind.NEXT, number)
        return number, future

    def _settle(self, task_id: int, result: Any, error: BaseException | None) -> None:
        if error is None:
            try:
                body = b"\1" + dumps(result, f"the result of task {task_id}")
            except FrameError as unsendable:
                error = unsendable
                body = b""
        if error is not None:
            body = b"\0" + pack_error(error)
        self._link.send(Kind.SETTLE, task_id, body)
        self._loop.call_soon_threadsafe(self._count_soon)

    # What exporters count here, told once for a while, and before the end.

    def _count_soon(self) -> None:
        if not self._counting and relay.anybody():
            self._counting = True
            self._loop.call_later(_COUNTS_EVERY, self._tell_counts)

    def _tell_counts(self) -> None:
        self._counting = False
        try:
            news = relay.take()
            if news:
                self._link.send(Kind.COUNTS, 0, dumps(news, "counts"))
        except Exception:  # noqa: BLE001 - counting never harms the work
            return

    # Requests from the supervisor.

    def _read(self) -> None:
        """Body of the reading thread."""
        frames = self._early
        while True:
            for kind, number, body in frames:
                if kind == Kind.RESULT:
                    self._answered(number, body)
                    continue
                try:
                    self._loop.call_soon_threadsafe(self._on_frame, kind, number, body)
                except RuntimeError:  # the loop has ended: this process is about to
                    return
            frames = self._link.read()
            if not frames:
                end_now()

    def _answered(self, number: int, body: bytes) -> None:
        """In the reading thread, so that a blocking body gets its task, too."""
        future = self._asked.pop(number, None)
        if future is None or future.done():
            return
        try:
            facts = self._main.loads(body)
            task = facts and self._task(facts, self._settle)
        except Exception as error:  # noqa: BLE001 - the body that waits for it has to know
            with suppress(InvalidStateError):  # the body was told to end meanwhile
                future.set_exception(error)
            return
        answer(future, task)

    def _on_frame(self, kind: int, number: int, body: bytes) -> None:
        if kind == Kind.CALL:
            self._go(number, self._call(number, body))
        elif kind == Kind.CANCEL:
            self._cancel(number)
        elif kind == Kind.PROBE:
            self._go(number, self._executor.probe())
        elif kind == Kind.SERVE:
            self._serving = number
            self._go(number, self._executor.serve())
        elif kind == Kind.STOP:
            self._go(number, self._stop(), last=True)

    def _go(self, number: int, work: Coroutine[Any, Any, Any], *, last: bool = False) -> None:
        task = self._loop.create_task(self._answer(number, work, last=last))
        self._running[number] = task

    async def _answer(self, number: int, work: Coroutine[Any, Any, Any], *, last: bool) -> None:
        try:
            result = await work
            if last:  # before the answer: the supervisor ends the process after it
                self._tell_counts()
            body = dumps(result, "the result")
        except FrameError as error:
            self._link.send(Kind.UNSENDABLE, number, str(error).encode())
        except asyncio.CancelledError as error:
            if number in self._cancelling:
                self._link.send(Kind.CANCELLED, number)
            else:
                self._link.send(Kind.ERROR, number, pack_error(error))
        except BaseException as error:  # noqa: BLE001 - SystemExit, too, is only the task's failure
            self._link.send(Kind.ERROR, number, pack_error(error))
        else:
            self._link.send(Kind.RESULT, number, body)
        finally:
            self._count_soon()
            self._running.pop(number, None)
            self._tasks.pop(number, None)
            self._cancelling.discard(number)
            if last:
                self._over.set()

    async def _call(self, number: int, body: bytes) -> Any:
        task = self._task(self._main.loads(body))
        task.cancelled = number in self._cancelling
        self._tasks[number] = task
        task.enter()
        return await self._executor.call(task)

    def _task(
        self, facts: Any, settle: Callable[[int, Any, BaseException | None], None] | None = None
    ) -> WorkerTask:
        return WorkerTask(
            facts,
            now=time.monotonic(),
            progress=self.progress,
            agent_id=self.agent_id,
            generation=self.generation,
            settle=settle,
        )

    async def _stop(self) -> None:
        self.handle.end()
        await self._executor.stop()

    def _cancel(self, number: int) -> None:
        running = self._running.get(number)
        if running is None:
            return
        self._cancelling.add(number)
        if number in self._tasks:
            self._tasks[number].cancelled = True
        elif number == self._serving:
            self.handle.end()
        # One turn later: a task cancelled before its first step would end without a word.
        self._loop.call_soon(running.cancel)


def main() -> None:
    """Entry of the worker process: ``argv`` holds socket, fault file and the supervisor's pid."""
    descriptor, faults, parent = (int(text) for text in sys.argv[1:4])
    for inherited in (descriptor, faults):
        os.set_inheritable(inherited, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C belongs to the supervisor
    faulthandler.enable(file=faults, all_threads=True)
    if hasattr(faulthandler, "register"):
        faulthandler.register(signal.SIGUSR1, file=faults, all_threads=True, chain=False)
    die_with(parent)
    link = Link(socket.socket(fileno=descriptor))
    frames = link.read()
    if not frames:
        end_now()
    relay.begin()
    hello = Hello(*pickle.loads(frames[0][2]))  # noqa: S301 - from our own supervisor
    sys.argv[:] = hello.argv
    asyncio.run(Worker(link, hello, frames[1:]).run())


def die_with(parent: int) -> None:
    """Have the kernel kill this process when the supervisor ends (Linux), busy in C or not."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # it ended before the kernel was told
        end_now()


def end_now() -> None:
    """End this process and what it started, without asking the agent."""
    try:
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
    finally:
        os._exit(1)
