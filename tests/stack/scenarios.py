"""Agents with one fault on demand, a small fleet for each; run by ``host.py``.

The faults are the agents' own, as real ones would be: nothing here touches a number or reports an
event.
"""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from fleetmon import (
    AgentSpec,
    Backoff,
    Deadlines,
    Intensity,
    Quarantine,
    Supervisor,
    SupervisorSettings,
    Verification,
)
from fleetmon.settings import Metrics, SharedCause

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from prometheus_client import CollectorRegistry

    from fleetmon import Agent, Event, Task

QUICK = Backoff(floor=0.01, base=0.1, cap=0.3)
FOR_EVER = Intensity(max_restarts=1_000_000, period=60)


class BrokenError(Exception):
    """The fault."""


class Outage(Exception):  # noqa: N818 - what all share is gone
    """The fault of everybody."""

    fatal = True


class Scenario:
    """One fleet; ``broken`` is read by its agents in any thread."""

    settings: dict[str, Any] = {}  # noqa: RUF012 - never changed
    registry: CollectorRegistry | None = None

    def __init__(self) -> None:
        self.broken = False
        self.fleet: Supervisor
        self.tasks: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def serving(self, name: str, port: int) -> AsyncIterator[None]:
        """Run the fleet for the length of the block, with its metrics on the port."""
        settings = SupervisorSettings(
            name=f"drill-{name}",
            metrics=Metrics(listen=f"127.0.0.1:{port}"),
            defaults=AgentSpec(verify=Verification(idle_after=0.2, timeout=2, stable_for=2)),
            **self.settings,
        )
        async with Supervisor(settings, registry=self.registry) as self.fleet:
            await self.start()
            yield
            for task in self.tasks:
                task.cancel()
            await self.fleet.shutdown(drain=0, stop=1)

    async def start(self) -> None:
        """Add the agents."""

    async def on_break(self) -> None:
        self.broken = True

    async def on_mend(self) -> None:
        self.broken = False

    def feed(self, agent: Agent, every: Callable[[], float], lanes: int = 1) -> None:
        """Give an agent work for as long as this runs."""

        async def lane() -> None:
            while True:
                with suppress(Exception):  # failing is what some of them are for
                    await agent.run("work", None)
                await asyncio.sleep(every())

        self.tasks += [asyncio.ensure_future(lane()) for _ in range(lanes)]


class Errors(Scenario):
    """Three tasks in ten fail; once mended there is twenty times the traffic.

    With that the error budget of days is back above its limit within minutes.
    """

    async def start(self) -> None:
        count = 0

        async def handle(task: Task) -> None:
            nonlocal count
            count += 1
            if self.broken and count % 10 < 3:
                raise BrokenError

        for name in ("ERR1", "ERR2"):
            agent = await self.fleet.add(
                name,
                lambda: handle_with(handle),
                spec=AgentSpec(max_consecutive_failures=None, capacity=10),
            )
            self.feed(agent, lambda: 0.1 if self.broken or not self.mended else 0.005, lanes=2)

    mended = False

    async def on_mend(self) -> None:
        await super().on_mend()
        self.mended = True


class Slow(Scenario):
    """A task takes 6 seconds instead of a twentieth of one."""

    async def start(self) -> None:
        async def handle(task: Task) -> None:
            await asyncio.sleep(6 if self.broken else 0.05)

        agent = await self.fleet.add(
            "SLOW", lambda: handle_with(handle), spec=AgentSpec(capacity=20)
        )
        self.feed(agent, lambda: 0.05, lanes=20)


class Quarantined(Scenario):
    """A body meets an error that a restart cannot mend, once; nothing probes it afterwards."""

    async def start(self) -> None:
        scenario = self

        class Guard:
            async def serve(self, agent: Any) -> None:
                while not scenario.broken:
                    await asyncio.sleep(0.05)
                    agent.heartbeat()
                scenario.broken = False
                raise PermissionError("the key was refused")

        await self.fleet.add(
            "GUARD", Guard, spec=AgentSpec(quarantine=Quarantine(probe_interval=None))
        )

    async def on_mend(self) -> None:
        await self.fleet.agent("GUARD").reset(reason="mended by hand")


class NotRecovering(Scenario):
    """Crashes, and then no start works."""

    async def start(self) -> None:
        scenario = self

        class Agent:
            async def start(self) -> None:
                if scenario.broken:
                    raise BrokenError

            async def serve(self, agent: Any) -> None:
                while not scenario.broken:
                    await asyncio.sleep(0.05)
                    agent.heartbeat()
                raise BrokenError

        await self.fleet.add("LAZARUS", Agent, spec=AgentSpec(backoff=QUICK, intensity=FOR_EVER))


class Blocking(Scenario):
    """Keeps the loop from running nearly all the time."""

    async def start(self) -> None:
        async def handle(task: Task) -> None:
            if self.broken:
                time.sleep(2.5)

        agent = await self.fleet.add("BLOCKER", lambda: handle_with(handle))
        self.feed(agent, lambda: 0.05)


class Stalled(Scenario):
    """Hangs on something, with work waiting."""

    async def start(self) -> None:
        self.go_on = asyncio.Event()
        self.go_on.set()

        async def handle(task: Task) -> None:
            await self.go_on.wait()

        agent = await self.fleet.add("STUCK", lambda: handle_with(handle))
        self.feed(agent, lambda: 0.1, lanes=4)

    async def on_break(self) -> None:
        self.go_on.clear()

    async def on_mend(self) -> None:
        self.go_on.set()


class Mass(Scenario):
    """Ten agents lose the one thing that they share."""

    settings = {"shared_cause": SharedCause(cooldown=0.5, cooldown_cap=1.0)}  # noqa: RUF012 - never changed

    async def start(self) -> None:
        scenario = self

        class Agent:
            async def start(self) -> None:
                if scenario.broken:
                    raise Outage

            async def serve(self, agent: Any) -> None:
                while not scenario.broken:
                    await asyncio.sleep(0.05)
                    agent.heartbeat()
                raise Outage

        for number in range(10):
            await self.fleet.add(
                f"MASS{number}", Agent, spec=AgentSpec(backoff=QUICK, intensity=FOR_EVER)
            )


class LeftOvers(Scenario):
    """A task that will not end, one that is given up, and a subscriber that is too slow."""

    async def start(self) -> None:
        self.release = asyncio.Event()
        self.unblock = threading.Event()
        scenario = self

        class Stubborn:
            async def handle(self, task: Task) -> None:
                while scenario.broken and not scenario.release.is_set():
                    try:
                        await scenario.release.wait()
                    except asyncio.CancelledError:
                        continue

        class Fragile:
            async def serve(self, agent: Any) -> None:
                async for task in agent.tasks():
                    if scenario.broken:
                        raise BrokenError
                    task.done()

        await self.fleet.add(
            "STUBBORN", Stubborn, spec=AgentSpec(deadlines=Deadlines(stop=0.2), backoff=QUICK)
        )
        await self.fleet.add(
            "FRAGILE", Fragile, spec=AgentSpec(in_flight="dead_letter", backoff=QUICK)
        )
        await self.fleet.add("CHATTY", lambda: handle_with(nothing))
        self.subscription = self.fleet.subscribe(self.slowly, limit=10)

    def slowly(self, event: Event) -> None:
        if self.broken:
            self.unblock.wait()

    async def on_break(self) -> None:
        self.broken = True
        stubborn, fragile, chatty = map(self.fleet.agent, ("STUBBORN", "FRAGILE", "CHATTY"))
        await stubborn.submit("work", None)
        await fragile.submit("work", None)
        await asyncio.sleep(0.2)
        await stubborn.restart(reason="it does not end")

        async def chat() -> None:
            while self.broken:
                await chatty.pause()
                await chatty.resume()
                await asyncio.sleep(0.05)

        self.tasks.append(asyncio.ensure_future(chat()))

    async def on_mend(self) -> None:
        self.broken = False
        self.release.set()
        self.unblock.set()
        for letter in self.fleet.dead_letters():
            await self.fleet.retry_dead_letter(letter.task_id)


class Idle(Scenario):
    """Nothing is the matter, until the process ends."""

    async def start(self) -> None:
        agent = await self.fleet.add("IDLE", lambda: handle_with(nothing))
        self.feed(agent, lambda: 0.2)


SCENARIOS: dict[str, type[Scenario]] = {
    "errors": Errors,
    "slow": Slow,
    "quarantined": Quarantined,
    "not-recovering": NotRecovering,
    "blocking": Blocking,
    "stalled": Stalled,
    "mass": Mass,
    "left-overs": LeftOvers,
    "down": Idle,
}


async def nothing(task: Task) -> None:
    """Do the task: there is nothing to do."""


def handle_with(handle: Callable[[Task], Awaitable[None]]) -> Any:
    """Return an agent that handles tasks so."""

    class Handler:
        async def handle(self, task: Task) -> None:
            await handle(task)

    return Handler()
