"""Declare a fleet in a file: ids, numbers, aliases, task types and overrides of the spec.

Prints::

    Newsroom: EDITOR (Desk), REPORTER (Field)
    @chief is EDITOR, 02 is REPORTER
    EDITOR has capacity 2, REPORTER has 1
    reviewed: a story
    still only declared: REPORTER
    REPORTR: no agent 'REPORTR'; did you mean REPORTER?
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from fleetmon import Supervisor, SupervisorSettings, Task, UnknownAgentError, load_roster


class Editor:
    """Approves everything."""

    async def handle(self, task: Task) -> object:
        """Return what it gets."""
        return task.payload


async def main() -> None:
    """Load the roster and add one of its agents by an alias."""
    roster = load_roster(Path(__file__).with_name("roster.toml"))
    names = (f"{entry.agent_id} ({roster.tier_name(entry.tier)})" for entry in roster)
    print(f"{roster.name}: {', '.join(names)}")
    print(f"@chief is {roster.normalize('@chief')}, 02 is {roster.normalize('02')}")

    settings = SupervisorSettings(unknown_agents="refuse")
    async with Supervisor(settings, roster=roster) as fleet:
        editor = await fleet.add("chief", Editor)
        print(
            f"EDITOR has capacity {editor.spec.capacity}, "
            f"REPORTER has {fleet.agent('REPORTER').spec.capacity}"
        )
        print("reviewed:", await editor.run("review", "a story"))
        declared = [a.agent_id for a in fleet.snapshot().agents if a.mode == "declared"]
        print("still only declared:", *declared)
        try:
            fleet.attach("REPORTR")
        except UnknownAgentError as error:
            print(f"REPORTR: {error}")


if __name__ == "__main__":
    asyncio.run(main())
