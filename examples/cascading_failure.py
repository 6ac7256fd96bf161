"""Pathology: a cascading failure. Six agents lose the database that they share.

Restarting all of them against a database that is down helps nobody. When most of the fleet lapses
with one cause, the shared-cause breaker opens: one agent is let through as a probe, the others
wait. The probe's success lets them follow, a few at a time.

Prints::

    the database goes down
    breaker open: one cause, 6 agents in the fleet
    probes sent to the database while it was down: 1
    the database is back
    breaker closed
    all 6 running, health [0, 0, 0, 0, 0, 0]
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fleetmon import AgentSpec, Backoff, EventKind, SharedCause, Supervisor, SupervisorSettings

if TYPE_CHECKING:
    from fleetmon import Body


class Database:
    """What all of them need."""

    def __init__(self) -> None:
        """Start up."""
        self.broken = asyncio.Event()
        self.refused = 0

    def connect(self) -> None:
        """Refuse while it is down."""
        if self.broken.is_set():
            self.refused += 1
            raise ConnectionError("the database is down")


class Worker:
    """Needs the database all the time."""

    def __init__(self, database: Database) -> None:
        """Know the database."""
        self.database = database

    async def serve(self, agent: Body) -> None:
        """Connect, report, and fail with the connection."""
        self.database.connect()
        agent.heartbeat("connected")
        await self.database.broken.wait()
        raise ConnectionError("the database is down")


async def main() -> None:
    """Take the database down, and bring it back."""
    settings = SupervisorSettings(
        shared_cause=SharedCause(cooldown=0.1, cooldown_cap=0.1),
        defaults=AgentSpec(backoff=Backoff(floor=0.05, base=0.1)),
    )
    database = Database()
    async with Supervisor(settings) as fleet:
        events = fleet.events()
        workers = [await fleet.add(f"WORKER-{n}", lambda: Worker(database)) for n in range(6)]
        print("the database goes down")
        database.broken.set()
        async for event in events:
            if event.kind is EventKind.SHARED_CAUSE_OPENED:
                print(f"breaker open: one cause, {event.data['agents']} agents in the fleet")
            if event.kind is EventKind.SHARED_CAUSE_PROBE:
                break
        async for event in events:  # the probe fails, and nobody else was sent
            if event.kind is EventKind.LAPSED:
                break
        print("probes sent to the database while it was down:", database.refused)
        print("the database is back")
        database.broken.clear()
        verified, closed = 0, False
        async for event in events:
            if event.kind is EventKind.SHARED_CAUSE_CLOSED:
                closed = True
                print("breaker closed")
            verified += event.kind is EventKind.VERIFIED
            if closed and verified == len(workers):
                break
        running = [worker for worker in workers if worker.snapshot().lifecycle == "running"]
        print(f"all {len(running)} running, health {[w.snapshot().health for w in workers]}")


if __name__ == "__main__":
    asyncio.run(main())
