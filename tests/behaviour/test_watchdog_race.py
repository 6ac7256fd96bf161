"""A look at the blocker that comes just after the loop is free must not erase whom it blamed."""

from __future__ import annotations

import time

import pytest
from support import events_of, until

from fleetmon import Supervisor
from fleetmon.runtime.watchdog import Watchdog

pytestmark = pytest.mark.anyio


class Blocker:
    async def handle(self, task):
        time.sleep(0.7)


async def test_the_end_of_a_block_names_who_blocked_even_when_the_last_look_came_too_late(
    monkeypatch,
):
    real, looks = Watchdog._owner, []

    def owner(self, watch):
        looks.append(real(self, watch))
        return looks[0] if len(looks) < 3 else (None, None)  # the loop has just moved on

    monkeypatch.setattr(Watchdog, "_owner", owner)
    async with Supervisor() as fleet:
        agent = await fleet.add("a", Blocker)
        await agent.run("x")
        await until(lambda: events_of(fleet, "loop_freed"))
        blocks, freed = events_of(fleet, "loop_blocked"), events_of(fleet, "loop_freed")
    assert [e.agent_id for e in blocks] == ["a"]
    assert [e.agent_id for e in freed] == ["a"]
