"""What writing the examples brought to light, each reduced to its cause."""

from __future__ import annotations

import asyncio
import threading

import pytest

from fleetmon import EventKind, SpecError, Supervisor
from fleetmon.runtime.watchdog import Watchdog, _LoopWatch

pytestmark = pytest.mark.anyio


async def test_a_loop_that_is_free_again_but_has_not_answered_yet_is_not_reported_a_second_time():
    class Blocker:
        async def handle(self, task):
            look()  # as the watchdog's thread would, while this holds the loop

    def look() -> None:
        thread = threading.Thread(target=watchdog._look)
        thread.start()
        thread.join()

    async with Supervisor() as fleet:
        inner = fleet._fleet
        watchdog = Watchdog(inner)
        watch = _LoopWatch(inner, inner.loop, inner.thread, main=True)
        watchdog._watches[inner.thread] = watch
        blocker = await fleet.add("BLOCKER", Blocker)
        watch._asked = inner.now() - 1.0
        await blocker.run("think")
        await asyncio.to_thread(watchdog._look)  # the loop rests; the answer is still on its way
        blocked = [e.agent_id for e in fleet.recent_events() if e.kind is EventKind.LOOP_BLOCKED]
        watch._answer()
        watchdog._look()
    assert blocked == ["BLOCKER"]


async def test_run_and_submit_of_an_observed_agent_are_refused_instead_of_waiting_for_ever():
    async with Supervisor() as fleet:
        tensor = fleet.attach("TENSOR")
        with pytest.raises(SpecError, match=r"TENSOR.*watch"):
            await tensor.run("train", timeout=1)
        with pytest.raises(SpecError, match=r"TENSOR.*watch"):
            await tensor.submit("train", timeout=1)
        assert tensor.snapshot().assigned == 0
