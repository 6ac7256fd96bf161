"""What the behaviour tests share: a fleet on the virtual clock, and its books read from /metrics.

The books are read as a stranger would: over ASGI, as text, with Prometheus' own parser.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fleetmon import (
    AgentSpec,
    Backoff,
    DeadLetteredError,
    Intensity,
    SharedCause,
    Shutdown,
    Supervisor,
    SupervisorSettings,
    TaskCancelledError,
    TaskTimeoutError,
)
from fleetmon.testing import current_clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from fleetmon import Agent, Event, Task

UNLIMITED = Intensity(max_restarts=10**9, period=1.0)
QUICK = Backoff(floor=0.0, base=0.1, cap=0.2)


def spec(**values: Any) -> AgentSpec:
    """Return a spec that restarts quickly and without limit; ``values`` go before."""
    return AgentSpec(**{"intensity": UNLIMITED, "backoff": QUICK, **values})


@contextlib.asynccontextmanager
async def fleet_on(
    *, virtual: bool = True, tracer: Any = None, log: Any = None, **settings: Any
) -> AsyncIterator[Supervisor]:
    """Run a supervisor without shared cause; on the virtual clock unless told otherwise.

    Leaves only when the books of every agent, read from /metrics, balance.
    """
    values: dict[str, Any] = {
        "shared_cause": SharedCause(enabled=False),
        "shutdown": Shutdown(drain=0.0, stop=5.0 if virtual else 0.5),
        "seed": 1,
        **settings,
    }
    clock = current_clock() if virtual else None
    supervisor = Supervisor(SupervisorSettings(**values), clock=clock, tracer=tracer, log=log)
    async with supervisor:
        yield supervisor
        (await Scrapes(supervisor).take()).check()
    (await Scrapes(supervisor).take()).check()


async def get(app: Any, path: str = "/metrics") -> tuple[int, str]:
    """Ask an ASGI application for a page; returns status and text."""
    status, parts = 0, []
    gone = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        else:
            parts.append(message["body"])

    scope = {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b""}
    await app(scope, receive, send)
    return status, b"".join(parts).decode()


@dataclass
class Books:
    """What the text of /metrics says, by agent."""

    text: str
    assigned: Counter[str] = field(default_factory=Counter)
    outcomes: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    observed: Counter[str] = field(default_factory=Counter)
    queued: Counter[str] = field(default_factory=Counter)
    in_flight: Counter[str] = field(default_factory=Counter)
    values: dict[tuple[str, tuple[tuple[str, str], ...]], float] = field(default_factory=dict)
    counters: dict[tuple[str, tuple[tuple[str, str], ...]], float] = field(default_factory=dict)

    @classmethod
    def of(cls, text: str) -> Books:
        """Parse the text."""
        books = cls(text)
        for family in text_string_to_metric_families(text):
            for name, labels, value, *_ in family.samples:
                key = (name, tuple(sorted(labels.items())))
                assert key not in books.values, f"{key} appears twice"
                books.values[key] = value
                if family.type in {"counter", "histogram"}:
                    books.counters[key] = value
                agent = labels.get("agent_id", "")
                if name == "agents_tasks_assigned_total":
                    books.assigned[agent] += round(value)
                elif name == "agents_tasks_completed_total":
                    books.outcomes[agent][labels["outcome"]] += round(value)
                elif name == "agents_queue_length":
                    books.queued[agent] = round(value)
                elif name == "agents_tasks_in_flight":
                    books.in_flight[agent] = round(value)
        return books

    def value(self, name: str, **labels: str) -> float:
        """Return one sample."""
        return self.values[name, tuple(sorted(labels.items()))]

    def check(self, *, idle: bool = False) -> None:
        """Assert that every agent's books balance; ``idle``: that nothing waits or runs."""
        for agent, assigned in self.assigned.items():
            ended = sum(self.outcomes[agent].values())
            left = self.queued[agent] + self.in_flight[agent]
            assert assigned == ended + left, (
                f"{agent}: assigned {assigned}, outcomes {dict(self.outcomes[agent])}, "
                f"queued {self.queued[agent]}, in flight {self.in_flight[agent]}"
            )
            assert min(self.queued[agent], self.in_flight[agent]) >= 0
            assert not (idle and left), f"{agent}: {left} tasks have not ended"


class Scrapes:
    """Scrapes one supervisor again and again; its counters must never go back."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._app = supervisor.metrics_app()
        self._before: dict[Any, float] = {}

    async def take(self) -> Books:
        """Scrape once."""
        status, text = await get(self._app)
        assert status == 200
        books = Books.of(text)
        for key, value in self._before.items():
            assert books.counters.get(key, -1.0) >= value, f"{key} went back from {value}"
        self._before = books.counters
        return books


def outcome_of(future: asyncio.Future[Any] | asyncio.Task[Any]) -> str:
    """Name the outcome of a task as its caller has learned it."""
    assert future.done()
    if future.cancelled():
        return "cancelled"
    error = future.exception()
    if error is None:
        return "succeeded"
    if isinstance(error, TaskTimeoutError):
        return "timed_out"
    if isinstance(error, DeadLetteredError):
        return "dead_lettered"
    return "cancelled" if isinstance(error, TaskCancelledError) else "failed"


def events_of(
    fleet: Supervisor, kind: str, agent_id: str | None = None, **data: Any
) -> list[Event]:
    """Return the events of a kind so far."""
    return [
        e
        for e in fleet.recent_events()
        if e.kind == kind
        and agent_id in (None, e.agent_id)
        and all(e.data.get(key) == value for key, value in data.items())
    ]


class Stubborn:
    """Handlers that hold on until released (or 1000 s), whatever cancels them."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.begun: list[tuple[Any, int]] = []
        self.ended: list[tuple[Any, int]] = []
        self.active: Counter[Any] = Counter()
        self.overlap = 0

    async def handle(self, task: Task) -> Any:
        """Swallow every cancellation of a first attempt; later ones succeed at once."""
        self.begun.append((task.payload, task.attempt))
        self.active[task.payload] += 1
        self.overlap = max(self.overlap, self.active[task.payload])
        now = asyncio.get_running_loop().time
        until = now() + 1000
        try:
            while task.attempt == 1 and not self.release.is_set() and now() < until:
                with contextlib.suppress(asyncio.CancelledError, TimeoutError):
                    await asyncio.wait_for(self.release.wait(), until - now())
        finally:
            self.active[task.payload] -= 1
            self.ended.append((task.payload, task.attempt))
        return task.attempt


def raising(error: Callable[[], BaseException]) -> Callable[..., Any]:
    """Return a function that raises, whatever it is called with."""

    def function(*_: object, **__: object) -> Any:
        raise error()

    return function


class FatalError(RuntimeError):
    """Brings its agent down."""

    fatal = True


class Sleeper:
    """Takes as many seconds as the payload says, and returns it."""

    async def handle(self, task: Task) -> Any:
        """Sleep."""
        await asyncio.sleep(task.payload)
        return task.payload


class Worker:
    """Does what the payload says: sleeps so many seconds, brings its agent down, or succeeds."""

    def __init__(self) -> None:
        self.begun: list[object] = []

    async def handle(self, task: Task) -> int:
        """Work; returns which attempt this was."""
        self.begun.append((task.payload, task.attempt))
        if isinstance(task.payload, (int, float)):
            await asyncio.sleep(task.payload)
        elif task.payload == "fatal":
            raise FatalError(task.payload)
        elif task.payload == "once" and task.attempt == 1:
            await asyncio.sleep(1e5)
        return task.attempt


def now() -> float:
    """Return the time of the running loop."""
    return asyncio.get_running_loop().time()


async def crash(agent: Agent) -> None:
    """Bring an agent down by a task that says so."""
    with pytest.raises(FatalError):
        await agent.run("crash", "fatal")
    await asyncio.sleep(0.001)  # its other tasks take a turn of the loop to end


async def until(condition: Callable[[], Any], timeout: float = 5.0) -> Any:
    """Wait in real time for what a thread or a process brings about; returns what it was."""
    async with asyncio.timeout(timeout):
        while not (found := condition()):
            await asyncio.sleep(0.005)
    return found
