"""Pathology: a poison task. It brings down every incarnation that touches it.

With ``in_flight="requeue"`` a task that goes down with its agent is delivered again, up to
``max_deliveries`` times. Then it is a dead letter, which can be looked at and retried by hand.

Prints::

    good work before: 4
    dead letter: parse of 'poison', 2 deliveries: its agent went down under it 2 times
    good work after: 6
    retried by hand, after the fix: 12
    succeeded 3, dead-lettered 1, redelivered 1
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fleetmon import AgentSpec, Backoff, DeadLetteredError, Supervisor

if TYPE_CHECKING:
    from fleetmon import Body

fixed = False


class Parser:
    """Pulls its tasks; an error in its body takes the incarnation down."""

    async def serve(self, agent: Body) -> None:
        """Double the length of each text."""
        async for task in agent.tasks():
            if task.payload == "poison" and not fixed:
                raise RuntimeError("the parser's memory is corrupted")
            task.done(2 * len(task.payload))


async def main() -> None:
    """Submit good work around a poison task."""
    global fixed  # noqa: PLW0603 - stands for the new version that somebody deploys
    async with Supervisor() as fleet:
        spec = AgentSpec(in_flight="requeue", max_deliveries=2, backoff=Backoff(floor=0, base=0.01))
        parser = await fleet.add("PARSER", Parser, spec=spec)
        print("good work before:", await parser.run("parse", "ab"))
        try:
            await parser.run("parse", "poison")
        except DeadLetteredError:
            (letter,) = fleet.dead_letters()
            print(
                f"dead letter: {letter.task_type} of {letter.payload!r}, "
                f"{letter.attempts} deliveries: {letter.reason}"
            )
        print("good work after:", await parser.run("parse", "abc"))
        fixed = True
        print("retried by hand, after the fix:", await fleet.retry_dead_letter(letter.task_id))
        now = parser.snapshot()
        print(
            f"succeeded {now.succeeded}, dead-lettered {now.dead_lettered}, "
            f"redelivered {now.numbers.redelivered}"
        )


if __name__ == "__main__":
    asyncio.run(main())
