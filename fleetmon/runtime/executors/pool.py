"""Daemon threads of one agent's own, and a way to leave a stuck one behind.

anyio's and asyncio's shared threads would let one agent starve the others, and a stuck one would
keep the interpreter from exiting. All bookkeeping happens in the loop; threads only run jobs.
"""

from __future__ import annotations

import asyncio
import threading
from contextvars import copy_context
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from fleetmon.errors import WorkerDiedError
from fleetmon.runtime.executors.base import portable

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context


class Job:
    """One call on its way through a thread.

    Attributes:
        claim: taken by whoever comes first: the thread that runs it or the caller who gives up.
        detached: nobody waits any more; the thread counts as leaked until it is done.
    """

    __slots__ = (
        "alone",
        "arguments",
        "claim",
        "context",
        "detached",
        "error",
        "function",
        "future",
        "result",
    )

    def __init__(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        future: asyncio.Future[Any],
        *,
        alone: bool = False,
    ) -> None:
        """Take the caller's context along, so that tracing contexts pass."""
        self.function = function
        self.arguments = arguments
        self.future = future
        self.alone = alone
        self.context: Context = copy_context()
        self.claim = threading.Lock()
        self.detached = False
        self.result: Any = None
        self.error: Exception | None = None


class ThreadPool:
    """Up to ``limit`` threads, started when needed and reused.

    Belongs to the loop in which it was made; every method is called there.
    """

    def __init__(self, name: str, limit: int, leaked: Callable[[int], None]) -> None:
        """Start no thread yet.

        Args:
            name: begins the threads' names.
            limit: threads that are reused.
            leaked: told of threads left behind (+1) and of those that ended after all (-1).
        """
        self._loop = asyncio.get_running_loop()
        self._name = name
        self._limit = limit
        self._leaked = leaked
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._jobs: set[Job] = set()  # queued, or at work in a reused thread
        self._lone: set[Job] = set()  # at work in a thread of their own
        self._threads = 0
        self._started = 0
        self._closed = False

    async def run(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        control: bool = False,
        detach: bool = True,
    ) -> Any:
        """Run ``function(*arguments)`` in a thread and return what it returns.

        Args:
            function: runs in a copy of the caller's context.
            arguments: positional.
            control: takes a thread of its own for once rather than wait behind busy ones.
            detach: on cancel leave a running call behind and return at once; otherwise wait for
                its end before the cancellation goes on.

        Raises:
            WorkerDiedError: the pool was abandoned meanwhile.
            Exception: what ``function`` raised, made safe by :func:`portable`.
        """
        if control and len(self._jobs) >= self._limit:
            return await self.run_alone(function, *arguments, detach=detach)
        self._check_open()
        job = Job(function, arguments, self._loop.create_future())
        self._jobs.add(job)
        if len(self._jobs) > self._threads and self._threads < self._limit:
            self._threads += 1
            self._spawn(self._work)
        self._queue.put(job)
        return await self._outcome(job, detach=detach)

    async def run_alone(self, function: Callable[..., Any], *arguments: Any, detach: bool) -> Any:
        """Do as :meth:`run` in a thread of its own, for a body that runs for long."""
        self._check_open()
        job = Job(function, arguments, self._loop.create_future(), alone=True)
        self._lone.add(job)
        self._spawn(lambda: self._perform(job))
        return await self._outcome(job, detach=detach)

    def close(self) -> None:
        """Let idle threads end; jobs still running are left behind."""
        if self._closed:
            return
        self._closed = True
        for job in [*self._jobs, *self._lone]:
            self._abandon(job)
            if not job.future.done():
                job.future.set_exception(
                    WorkerDiedError(f"{self._name}: its threads were abandoned while it worked")
                )
        for _ in range(self._started):
            self._queue.put(None)

    def _check_open(self) -> None:
        if self._closed:
            raise WorkerDiedError(f"{self._name}: its threads are already released")

    def _spawn(self, target: Callable[[], object]) -> None:
        self._started += 1
        threading.Thread(target=target, name=f"{self._name}-{self._started}", daemon=True).start()

    async def _outcome(self, job: Job, *, detach: bool) -> Any:
        # virtual time stands still while a thread works; a body's own thread may work for ever
        guard = None if job.alone else getattr(self._loop, "foreign_work", None)
        try:
            if guard is None:
                return await job.future
            with guard(self._name):
                return await job.future
        except asyncio.CancelledError:
            if detach:
                self._abandon(job)
            elif not self._withdraw(job):
                await self._wait_out(job)
            raise

    async def _wait_out(self, job: Job) -> None:
        job.future = self._loop.create_future()
        while not job.future.done():
            try:
                await asyncio.wait((job.future,))
            except asyncio.CancelledError:  # told once already; the work decides when it ends
                continue
        job.future.exception()  # looked at, so that asyncio does not complain

    def _withdraw(self, job: Job) -> bool:
        """Take back a job that no thread has begun; True also when it is over already."""
        if job not in self._jobs and job not in self._lone:
            return True
        if not job.claim.acquire(blocking=False):
            return False
        self._forget(job)
        return True

    def _forget(self, job: Job) -> None:
        self._jobs.discard(job)
        self._lone.discard(job)

    def _abandon(self, job: Job) -> None:
        """Take a job back or, if it runs, leave it behind; its thread is leaked until then."""
        if self._withdraw(job):
            return
        job.detached = True
        self._forget(job)
        self._threads -= not job.alone
        self._leaked(1)

    def _work(self) -> None:
        """Body of a pool thread."""
        while (job := self._queue.get()) is not None:
            if not self._perform(job):
                return
            del job  # an idle thread keeps no result alive

    def _perform(self, job: Job) -> bool:
        """Run one job here and send its outcome; False when the loop is gone."""
        if not job.claim.acquire(blocking=False):
            return True
        try:
            job.result = job.context.run(job.function, *job.arguments)
        except BaseException as error:  # noqa: BLE001 - SystemExit too is the job's, not the thread's
            job.error = portable(error)
        try:
            self._loop.call_soon_threadsafe(self._deliver, job)
        except RuntimeError:  # the loop was closed: nobody waits
            return False
        return True

    def _deliver(self, job: Job) -> None:
        if job.detached:
            self._leaked(-1)
            self._threads += not job.alone
        else:
            self._forget(job)
            if not job.future.done():
                if job.error is None:
                    job.future.set_result(job.result)
                else:
                    job.future.set_exception(job.error)
        job.result = job.error = None  # the thread may still hold the job
        if self._threads > self._limit and not self._closed:  # one came back that was replaced
            self._threads -= 1
            self._queue.put(None)
