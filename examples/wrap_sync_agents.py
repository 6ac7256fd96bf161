"""Wrap synchronous agents that return failures instead of raising, and that call each other.

``watch`` keeps the method's signature, result and exceptions. ``failed=`` says which results are
failures. Each agent is counted for its own work, also where one calls another or itself.

Prints::

    report on cats: COMPLETED
    report on unicorns: FAILED
    PLANNER assigned 4, succeeded 3, failed 1
    RESEARCHER assigned 3, succeeded 2, failed 1
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import Enum

from fleetmon import Agent, Supervisor

# --- the agents that you already have ------------------------------------------------------------


class Status(Enum):
    """How a request ended."""

    COMPLETED = "completed"
    FAILED = "failed"


@dataclass
class Result:
    """What every agent returns."""

    status: Status
    text: str = ""


class Researcher:
    """Knows a few facts."""

    def process(self, request: str) -> Result:
        """Look a thing up."""
        if request == "unicorns":
            return Result(Status.FAILED)
        return Result(Status.COMPLETED, f"{request} exist")


class Planner:
    """Splits a request and asks the researcher; calls itself for each part."""

    def __init__(self, researcher: Researcher) -> None:
        """Know whom to ask."""
        self.researcher = researcher

    def process(self, request: str) -> Result:
        """Answer a request of one or more topics joined by commas."""
        head, comma, rest = request.partition(",")
        if comma:
            parts = [self.process(head), self.process(rest)]
            good = all(part.status is Status.COMPLETED for part in parts)
            return Result(Status.COMPLETED if good else Status.FAILED)
        return self.researcher.process(request)


# --- what you add --------------------------------------------------------------------------------


def supervise(agent: Researcher | Planner, handle: Agent) -> None:
    """Measure every ``process`` of this instance."""
    agent.process = handle.watch(  # type: ignore[method-assign]
        agent.process, task_type="process", failed=lambda result: result.status is Status.FAILED
    )


async def main() -> None:
    """Call the agents from an asynchronous host."""
    researcher = Researcher()
    planner = Planner(researcher)
    async with Supervisor() as fleet:
        supervise(researcher, fleet.attach("RESEARCHER"))
        supervise(planner, fleet.attach("PLANNER"))

        cats = await asyncio.to_thread(planner.process, "cats,dogs")
        print("report on cats:", cats.status.name)
        unicorns = await asyncio.to_thread(planner.process, "unicorns")
        print("report on unicorns:", unicorns.status.name)

        for name in ("PLANNER", "RESEARCHER"):
            now = fleet.agent(name).snapshot()
            print(f"{name} assigned {now.assigned}, succeeded {now.succeeded}, failed {now.failed}")


if __name__ == "__main__":
    asyncio.run(main())
