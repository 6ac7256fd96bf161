"""The demonstration's agents: one job each, in a thread, a process, on the loop, or as a body.

An assignment may carry a fault. Then the agent really suffers it, on the way that real trouble
would take: nothing here reports an event or touches a number.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from fleetmon.demo.jobs import JOBS, fallback_job
from fleetmon.demo.services import Services
from fleetmon.errors import FleetmonError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fleetmon.demo.corpus import Corpus
    from fleetmon.demo.jobs import Facts, Job

QUICK = frozenset(
    ["CRYPTO", "LEDGER", "OMNISCIENT", "ORBIT", "PRISM", "PULSE", "SENTRY", "VELOCITY"]
)
"""Jobs that take a millisecond or two a file: fit for the event loop itself."""


_UNASKED = 10.0  # times as long as after it does who swallows a cancellation wait for one


class InjectedCrashError(FleetmonError):
    """A fault: the agent goes down by itself, for a reason of its own."""

    fatal = True

    def __init__(self, code: str) -> None:
        """Crash for the reason ``code``, which no other agent shares."""
        super().__init__(f"injected crash {code}; the demonstration was asked for chaos")
        self.error_code = code


class SharedOutageError(FleetmonError):
    """A fault: what all agents depend on is gone, for one and the same reason."""

    fatal = True

    def __init__(self) -> None:
        """Lose the shared resource."""
        super().__init__("the shared store is gone; the demonstration was asked for chaos")


@dataclass(frozen=True, slots=True)
class Assignment:
    """What an agent is to do: one verb of its job on one file.

    Attributes:
        verb: type of task as the job knows it.
        path: the file.
        fault: kind of fault to suffer instead, empty for none.
        code: names a crash, so that two have two causes.
        seconds: how long a fault lasts that ends by itself.
    """

    verb: str
    path: str
    fault: str = ""
    code: str = ""
    seconds: float = 0.0


class Task(Protocol):
    """The part of a task that agents read, in this process and in a worker's."""

    @property
    def payload(self) -> Assignment:
        """The assignment."""

    @property
    def attempt(self) -> int:
        """1 for the first delivery."""


class PulledTask(Task, Protocol):
    """A task that a body took by itself."""

    def done(self, result: object = None) -> None:
        """End it, successfully."""

    def fail(self, error_type: str = "", error: BaseException | None = None) -> None:
        """Let it end as failed."""


class BodyHandle(Protocol):
    """The part of the agent's handle that a body uses."""

    def tasks(self) -> AsyncIterator[PulledTask]:
        """Iterate over submitted tasks."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What it takes to make an agent's job, anew for every incarnation; can be pickled.

    Attributes:
        agent_id: decides the job.
        corpus: the files.
        seed: of the job's choices.
        directory: for services of its own; None where the fleet's are used.
    """

    agent_id: str
    corpus: Corpus
    seed: int
    directory: Path | None = None

    @property
    def job(self) -> type[Job]:
        """The agent's job, or another's where its name says nothing."""
        return JOBS.get(self.agent_id) or fallback_job(self.agent_id)

    def build(self, services: Services | None) -> Job:
        """Make the job."""
        if services is None:
            services = Services(self.seed, self.directory)
        return self.job(self.corpus, self.seed, services)


class SyncAgent:
    """Works in a thread or, with ``services`` and ``release`` left out, in a process."""

    def __init__(
        self,
        recipe: Recipe,
        services: Services | None = None,
        release: threading.Event | None = None,
    ) -> None:
        """Get ready; ``release`` ends hangs early, when the demonstration is over."""
        self._job = recipe.build(services)
        self._release = release or threading.Event()

    def handle(self, task: Task) -> Facts:
        """Do one task on one file."""
        assignment = task.payload
        if assignment.fault and task.attempt == 1:
            self._suffer(assignment)
        return self._job.run(assignment.verb, Path(assignment.path))

    def _suffer(self, assignment: Assignment) -> None:
        if assignment.fault == "dying_process":
            os.kill(os.getpid(), signal.SIGKILL)
        elif assignment.fault == "hang":
            self._release.wait(assignment.seconds)
        else:
            _go_down(assignment)


class AsyncAgent:
    """Works on the supervisor's own loop; what takes longer goes to a thread from there."""

    def __init__(self, recipe: Recipe, services: Services, release: threading.Event) -> None:
        """Get ready; ``release`` ends even stubborn faults, when the demonstration is over."""
        self._job = recipe.build(services)
        self._release = release
        self._quick = self._job.name in QUICK

    async def handle(self, task: Task) -> Facts:
        """Do one task on one file."""
        assignment = task.payload
        if assignment.fault and task.attempt == 1:
            await self._suffer(assignment)
        path = Path(assignment.path)
        if self._quick:
            return self._job.run(assignment.verb, path)
        return await asyncio.to_thread(self._job.run, assignment.verb, path)

    async def _suffer(self, assignment: Assignment) -> None:
        if assignment.fault == "blocked_loop":
            time.sleep(assignment.seconds)  # noqa: ASYNC251 - the very mistake to be found
        elif assignment.fault == "hang":
            await asyncio.sleep(assignment.seconds)
        elif assignment.fault == "swallowed_cancellation":
            await self._insist(assignment.seconds)
        else:
            _go_down(assignment)

    async def _insist(self, seconds: float) -> None:
        """Stay until cancelled, and for so long after that; in the end without it, too."""
        end = time.monotonic() + _UNASKED * seconds
        asked = False
        while (left := end - time.monotonic()) > 0 and not self._release.is_set():
            try:
                await asyncio.sleep(left)
            except asyncio.CancelledError:  # the very mistake to be survived
                if not asked:
                    asked, end = True, time.monotonic() + seconds


class PullingAgent:
    """Has a body that takes its tasks by itself, one after the other."""

    def __init__(self, recipe: Recipe, services: Services) -> None:
        """Get ready."""
        self._job = recipe.build(services)

    async def serve(self, agent: BodyHandle) -> None:
        """Take tasks until the incarnation is to end."""
        from fleetmon.demo.checks import is_spoiled

        async for task in agent.tasks():
            assignment = task.payload
            # Poison is in the task itself: it brings down whoever takes it, every time.
            if assignment.fault == "poison_task" or (assignment.fault and task.attempt == 1):
                _go_down(assignment)
            try:
                facts = await asyncio.to_thread(
                    self._job.run, assignment.verb, Path(assignment.path)
                )
            except Exception as error:  # noqa: BLE001 - a bad file fails its task, not the body
                task.fail("exception", error)
            else:
                if is_spoiled(facts):
                    task.fail("returned_failure")
                else:
                    task.done(facts)


def _go_down(assignment: Assignment) -> None:
    if assignment.fault == "mass_failure":
        raise SharedOutageError
    raise InjectedCrashError(assignment.code)
