"""Work in a process of the agent's own, which can be killed for real."""

from __future__ import annotations

import asyncio
import itertools
import pickle
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, Any, Literal

from fleetmon.errors import SpecError, TaskFailedError, WorkerDiedError
from fleetmon.runtime.executors.launch import Process
from fleetmon.runtime.executors.remote import pack_task
from fleetmon.runtime.executors.wire import (
    Channel,
    FrameError,
    Kind,
    dumps,
    loads,
    names_main,
    unpack_error,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetmon.runtime.executors.base import ExecutorHost, Work
    from fleetmon.runtime.product import Terms

_EXIT_GRACE = 2.0  # seconds for the interpreter to end after the product has stopped
_TERM_GRACE = 0.5  # seconds between SIGTERM and SIGKILL
_CLOSED_GRACE = 1.0  # seconds from a closed link to SIGKILL


class ProcessExecutor:
    """Runs the agent in a fresh interpreter; several tasks at once up to the spec's capacity.

    The factory, payloads, results and exceptions travel by pickle (at most 64 MiB each). In the
    worker asynchronous work runs on the main thread's loop, synchronous work in threads. Ctrl-C
    does not reach the worker; it ends with the supervisor's process, however that ends.
    """

    kind: Literal["process"] = "process"
    fast_call: None = None

    def __init__(self, factory: Callable[[], Any], spec: Terms, host: ExecutorHost) -> None:
        """Keep what is needed; nothing runs before :meth:`start`."""
        self._factory = factory
        self._spec = spec
        self._host = host
        self.has_serve = self.has_handle = self.has_probe = self.takes_payload = False
        self._process: Process | None = None
        self._channel: Channel
        self._loop: asyncio.AbstractEventLoop
        self._numbers = itertools.count(1)
        self._pending: dict[int, asyncio.Future[Any]] = {}
        self._served: dict[int, Work] = {}
        self._pulls: dict[int, asyncio.Task[None]] = {}
        self._started = False
        self._asked_to_end = False
        self._killed = False
        self._trouble = ""

    @property
    def pid(self) -> int | None:
        """Process id of the worker, ``None`` before the start."""
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Start the process, build the product there and run its ``start``.

        Raises:
            SpecError: the factory does not pickle or cannot be found by the worker, the product
                cannot be used, or this executor was started before.
            WorkerDiedError: the process ended meanwhile.
            Exception: what the factory or ``start`` raised.
        """
        if self._process is not None:
            raise SpecError("a process executor starts once; make a new one for each incarnation")
        hello = self._greeting()
        self._loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                title = f"fleetmon-worker:{self._host.agent_id}:{self._host.generation}"
                self._process = Process(title, theirs, self._exited)
        except BaseException:
            ours.close()
            raise
        self._channel = Channel(ours, self._on_frame, self._on_end)
        ready = self._loop.create_future()
        self._pending[0] = ready
        self._channel.send(Kind.HELLO, 0, hello)
        try:
            facts = await ready
        except BaseException:
            self.kill()
            raise
        self.has_serve, self.has_handle, self.has_probe, self.takes_payload = facts
        self._started = True

    async def serve(self) -> None:
        """Run the body in the worker to its end; raises :class:`WorkerDiedError` if it dies."""
        await self._request(Kind.SERVE)

    async def call(self, task: Work) -> Any:
        """Run one task in the worker.

        Cancelling asks the worker to cancel and waits for the work's end there; who wants it to
        end for certain calls :meth:`kill`.

        Raises:
            TaskFailedError: payload or result cannot travel.
            WorkerDiedError: the worker ended before the task.
            RemoteError: an exception that does not pickle, in words.
            Exception: what the handler raised.
        """
        try:
            body = dumps(pack_task(task, time.monotonic()), f"the payload of task {task.id}")
        except FrameError as error:
            raise self._unsendable(str(error), task.id) from error
        try:
            return await self._request(Kind.CALL, body)
        except FrameError as error:
            raise self._unsendable(
                str(error).replace("the result", "its result"), task.id
            ) from None

    async def probe(self) -> bool:
        """Ask the product's probe; without one, go through the worker's loop or thread."""
        return bool(await self._request(Kind.PROBE, patient=False))

    async def stop(self) -> None:
        """Run the product's ``stop``, then end the process: politely, by SIGTERM, by SIGKILL.

        The process is reaped when this returns. When it is cancelled the process is killed.
        """
        process = self._process
        if process is None:
            return
        polite = self._started and not self._killed and process.exitcode is None
        self._asked_to_end = True
        failure: Exception | None = None
        try:
            if polite:
                try:
                    await self._request(Kind.STOP, patient=False)
                except Exception as error:  # noqa: BLE001 - raised below, after the end
                    failure = error
            await self._end(process, _EXIT_GRACE if polite else 0)
        except asyncio.CancelledError:
            process.kill()
            raise
        if failure is not None:
            raise failure

    async def blame(self) -> str:
        """Say where the worker is, as ``file:line in function``, also when it is stuck in C."""
        process = self._process
        if process is None:
            return ""
        return await process.blame() or process.blamed

    def kill(self) -> None:
        """SIGKILL the worker and what it started; it is reaped by the loop as soon as it ended."""
        self._asked_to_end = self._killed = True
        if self._process is not None:
            self._process.kill()

    @staticmethod
    async def _end(process: Process, grace: float) -> None:
        """Wait for the end and hasten it step by step."""
        if not await process.wait(grace):
            process.terminate()
            if not await process.wait(_TERM_GRACE):
                process.kill()
                await process.ended.wait()

    def _greeting(self) -> bytes:
        try:
            factory = pickle.dumps(self._factory, protocol=5)
        except Exception as error:
            raise SpecError(
                f"factory {self._factory!r} does not pickle ({error}); a process executor needs a "
                "class or function at the top level of a module, or a functools.partial of one",
                field="factory",
                value=self._factory,
            ) from error
        main = _main_file()
        if not main and names_main(factory):
            raise SpecError(
                f"factory {self._factory!r} lives in an interactive __main__, which a worker "
                "process cannot import; move it into a module",
                field="factory",
                value=self._factory,
            )
        return dumps(
            (
                factory,
                self._spec.handler,
                self._spec.capacity,
                self._host.agent_id,
                self._host.generation,
                main,
                list(sys.argv),
            ),
            f"factory {self._factory!r}",
        )

    async def _request(self, kind: Kind, body: bytes = b"", *, patient: bool = True) -> Any:
        """Ask the worker and await its answer; on cancel, a patient one awaits the work's end."""
        process = self._process
        if process is None or process.exitcode is not None:
            raise self._death()
        number = next(self._numbers)
        future: asyncio.Future[Any] = self._loop.create_future()
        self._pending[number] = future
        self._channel.send(kind, number, body)
        try:
            return await future
        except asyncio.CancelledError:
            if patient and number in self._pending:
                await self._cancel(number)
            elif self._pending.pop(number, None):
                self._channel.send(Kind.CANCEL, number)
            raise

    async def _cancel(self, number: int) -> None:
        """Ask the worker to cancel, and wait until it says so, or ends."""
        future = self._pending[number] = self._loop.create_future()
        self._channel.send(Kind.CANCEL, number)
        while not future.done():
            try:
                await asyncio.wait((future,))
            except asyncio.CancelledError:  # told once already; kill() is for the impatient
                continue
        if not future.cancelled():
            future.exception()  # looked at, so that asyncio does not complain

    def _on_frame(self, kind: int, number: int, body: bytes) -> None:
        if kind == Kind.BEAT:
            self._host.heartbeat(pickle.loads(body))  # noqa: S301 - from our own worker
        elif kind == Kind.PROGRESS:
            self._host.progress(number, pickle.loads(body))  # noqa: S301 - from our own worker
        elif kind == Kind.NEXT:
            self._pulls[number] = self._loop.create_task(self._pull(number))
        elif kind == Kind.UNNEXT:
            if number in self._pulls:
                self._pulls[number].cancel()
        elif kind == Kind.SETTLE:
            self._settle(number, body)
        elif kind == Kind.COUNTS:
            self._host.counted(pickle.loads(body))  # noqa: S301 - from our own worker
        else:
            self._answer(kind, number, body)

    def _answer(self, kind: int, number: int, body: bytes) -> None:
        future = self._pending.pop(number, None)
        if future is None or future.done():
            return
        if kind == Kind.RESULT:
            try:
                future.set_result(loads(body))
            except Exception as error:  # noqa: BLE001 - the result's class is unknown here
                future.set_exception(
                    FrameError(f"the result does not unpickle ({type(error).__name__}: {error})")
                )
        elif kind == Kind.ERROR:
            future.set_exception(unpack_error(body))
        elif kind == Kind.UNSENDABLE:
            future.set_exception(FrameError(body.decode()))
        else:
            future.cancel()

    async def _pull(self, number: int) -> None:
        """Answer a body's wish for a task; it is settled by a later frame."""
        try:
            task = await self._host.next_task()
            body = dumps(None, "nothing")
            if task is not None:
                try:
                    body = dumps(
                        pack_task(task, time.monotonic()), f"the payload of task {task.id}"
                    )
                except FrameError as error:
                    self._host.settle(task, None, self._unsendable(str(error), task.id))
                    self._pulls[number] = self._loop.create_task(self._pull(number))
                    return
                self._served[task.id] = task
            self._channel.send(Kind.RESULT, number, body)
        finally:
            if self._pulls.get(number) is asyncio.current_task():
                del self._pulls[number]

    def _settle(self, task_id: int, body: bytes) -> None:
        task = self._served.pop(task_id, None)
        if task is None:
            return
        result: Any = None
        error: Exception | None = None
        if body[:1] == b"\1":
            try:
                result = loads(body[1:])
            except Exception as broken:  # noqa: BLE001 - the result's class is unknown here
                error = self._unsendable(f"its result does not unpickle: {broken}", task_id)
        else:
            error = unpack_error(body[1:])
        self._host.settle(task, result, error)

    def _on_end(self, trouble: str) -> None:
        """The link is closed although the process may live: it is of no use any more."""
        self._trouble = trouble
        process = self._process
        if process is not None and process.exitcode is None:
            self._loop.call_later(0 if trouble else _CLOSED_GRACE, process.kill)

    def _exited(self) -> None:
        self._channel.drain()
        self._channel.close()
        for pull in self._pulls.values():
            pull.cancel()
        pending, self._pending = self._pending, {}
        for future in pending.values():
            if not future.done():
                future.set_exception(self._death())
        if self._started and not self._asked_to_end:
            self._host.died(self._death())

    def _death(self) -> WorkerDiedError:
        """Say how the worker ended; a new object each time, for each who waits."""
        process = self._process
        code = None if process is None else process.exitcode
        who = f"worker process {self.pid} of agent {self._host.agent_id!r}"
        if code is None:
            return WorkerDiedError(f"{who} is not running; start a new executor")
        how = f"exited with code {code}"
        if code < 0:
            try:
                how = f"was ended by {signal.Signals(-code).name}"
            except ValueError:
                how = f"was ended by signal {-code}"
        blame = process.blamed if process is not None else ""
        place = f" at {blame}" if blame else ""
        hint = ""
        if self._trouble:
            hint = f"; it had sent nonsense: {self._trouble}"
        elif code == -signal.SIGKILL and not self._asked_to_end:
            hint = "; if nobody killed it the kernel was short of memory: see its log"
        return WorkerDiedError(f"{who} {how}{place}{hint}", exitcode=code, blame=blame)

    def _unsendable(self, why: str, task_id: int) -> TaskFailedError:
        return TaskFailedError(
            f"task {task_id} of agent {self._host.agent_id!r}: {why}",
            agent_id=self._host.agent_id,
            task_id=task_id,
        )


def _main_file() -> str:
    """Give the file of the host's main module, ``""`` when there is none to load again."""
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    return file if isinstance(file, str) and file.endswith(".py") else ""
