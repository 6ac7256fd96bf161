"""Mass failure: restarts in turn, and the breaker for a shared cause (behaviour 10)."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from helpers_fleet import fleet_of, steady

from fleetmon import Restarts, SharedCause
from fleetmon.testing import ScriptedAgent, Step

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]

FORTY = [f"A{n:02}" for n in range(40)]


class NoBackendError(Exception):
    """The same trouble for everybody."""


class OwnError(Exception):
    """Trouble of one's own."""


HANGS = (Step.hang(),)


async def add_forty(fleet, later=HANGS, error=None, **spec):
    """Add forty agents that all crash after 5 seconds; returns their scripts by name."""
    agents = {}
    for number, name in enumerate(FORTY):
        raised = type(f"Own{number}Error", (OwnError,), {}) if error is None else error
        agents[name] = ScriptedAgent(serve=[[Step.wait(5), Step.crash(raised)], *later])
        await fleet.add(name, agents[name], spec=steady(**spec))
    return agents


def in_progress(cap):
    """Yield how many recoveries are in progress after each event."""
    active: set[str] = set()
    for event in cap.events:
        if event.kind == "starting" and event.data["cause"] in {"recovery", "probe"}:
            active.add(event.agent_id)
        elif event.kind in {"verified", "lapsed", "stopped"}:
            active.discard(event.agent_id)
        yield len(active), event


class TestForty:
    async def test_10_at_most_k_restarts_at_a_time_spread_out(self, clock):
        async with fleet_of(restarts=Restarts(max_concurrent=4, spread=0.25)) as (fleet, cap):
            agents = await add_forty(fleet)
            await cap.until(lambda: len(cap.of("verified")) == 40)
            assert [e.monotonic for e in cap.of("lapsed")] == [5.0] * 40
            assert max(count for count, _ in in_progress(cap)) == 4
            starts = [e.monotonic for e in cap.of("starting") if e.data["cause"] == "recovery"]
            assert all(after - before >= 0.25 - 1e-9 for before, after in pairwise(starts))
            assert all(a.lives == 2 for a in agents.values())
            assert all(a.health == 0 for a in fleet.snapshot().agents)
            # each takes 1 s to be verified, four at a time: ten rounds, and no more
            assert 10 <= clock.monotonic() - 6 <= 13

    async def test_10_a_recovery_that_never_comes_up_gives_its_place_back(self, clock):
        async with fleet_of(restarts=Restarts(max_concurrent=1)) as (fleet, cap):
            slow = ScriptedAgent(start=[Step.succeed(), Step.hang()], serve=[Step.crash()])
            await fleet.add("SLOW", slow, spec=steady())
            await fleet.add(
                "B", ScriptedAgent(serve=[[Step.wait(2), Step.crash()], Step.hang()]), spec=steady()
            )
            await asyncio.sleep(10)
            assert fleet.agent("B").snapshot().lifecycle == "backing_off"
            await cap.wait_for("verified", "B")
            assert 31 <= clock.monotonic() <= 33  # after the deadline of SLOW's start

    async def test_10_many_lapses_with_causes_of_their_own_open_no_breaker(self, clock):
        async with fleet_of(shared_cause=SharedCause()) as (fleet, cap):
            await add_forty(fleet)
            await cap.until(lambda: len(cap.of("verified")) == 40)
            assert not cap.of("shared_cause_opened")


class TestSharedCause:
    SHARED = SharedCause(fraction=0.5, min_agents=5, window=10.0, cooldown=2.0, cooldown_cap=60.0)
    RESTARTS = Restarts(max_concurrent=8, spread=0.0)

    async def test_10_exactly_one_probe_agent_is_let_through_then_the_rest_ramp_up(self, clock):
        async with fleet_of(shared_cause=self.SHARED, restarts=self.RESTARTS) as (fleet, cap):
            agents = await add_forty(fleet, error=NoBackendError)
            opened = await cap.wait_for("shared_cause_opened")
            assert (opened.monotonic, opened.data["agents"]) == (5.0, 40)
            assert "NoBackendError" in opened.data["cause"]
            probe = await cap.wait_for("shared_cause_probe")
            assert probe.monotonic == 7.0  # the cooldown
            await clock.idle()
            assert [n for n, a in agents.items() if a.lives == 2] == [probe.agent_id]
            assert fleet.snapshot().fleet.shared_cause_open
            await cap.until(lambda: len(cap.of("verified")) == 40)
            assert len(cap.of("shared_cause_probe")) == 1
            verified = 0
            for count, event in in_progress(cap):
                verified += event.kind == "verified"
                assert count <= (1 if not verified else min(8, 2 ** (verified - 1)))
            assert all(a.lives == 2 for a in agents.values())
            assert not fleet.snapshot().fleet.shared_cause_open
            assert clock.monotonic() < 20

    async def test_10_a_probe_that_fails_keeps_the_others_down_twice_as_long(self, clock):
        async with fleet_of(shared_cause=self.SHARED, restarts=self.RESTARTS) as (fleet, cap):
            crash = Step.crash(NoBackendError)
            agents = await add_forty(fleet, error=NoBackendError, later=(crash,))
            await cap.wait_for("shared_cause_probe", count=4)
            probes = [e.monotonic for e in cap.of("shared_cause_probe")]
            gaps = [after - before for before, after in pairwise(probes)]
            assert gaps == pytest.approx([4, 8, 16], abs=0.1)
            assert sum(a.lives - 1 for a in agents.values()) == 4  # 36 were spared

    @pytest.mark.parametrize("command", ["stop", "pause", "quarantine", "restart", "remove"])
    async def test_10_an_abandoned_probe_gives_its_place_back(self, clock, command):
        async with fleet_of(shared_cause=self.SHARED, restarts=self.RESTARTS) as (fleet, cap):
            start = [Step.succeed(), Step.wait(20)]
            for name in FORTY:
                lives = ScriptedAgent(
                    start=start, serve=[[Step.wait(5), Step.crash(NoBackendError)], Step.hang()]
                )
                await fleet.add(name, lives, spec=steady())
            probe = await cap.wait_for("shared_cause_probe")
            await asyncio.sleep(1)
            if command == "remove":
                await fleet.remove(probe.agent_id)
            else:
                await fleet.command(command, probe.agent_id)
            others = len(FORTY) - 1
            await cap.until(
                lambda: (
                    len([e for e in cap.of("verified") if e.agent_id != probe.agent_id]) == others
                ),
                timeout=2000,
            )

    async def test_10_an_agent_down_with_another_cause_is_not_held(self, clock):
        async with fleet_of(shared_cause=self.SHARED, restarts=self.RESTARTS) as (fleet, cap):
            own = ScriptedAgent(serve=[[Step.wait(5), Step.crash(OwnError)], Step.hang()])
            await fleet.add("OWN", own, spec=steady())
            await add_forty(fleet, error=NoBackendError)
            event = await cap.wait_for("starting", "OWN", count=2)
            assert event.monotonic == 6.0

    async def test_10_operator_restarts_are_not_held_back(self, clock):
        async with fleet_of(shared_cause=self.SHARED, restarts=self.RESTARTS) as (fleet, cap):
            await add_forty(fleet, error=NoBackendError)
            await cap.wait_for("shared_cause_opened")
            await clock.idle()
            await fleet.restart("A39")
            event = await cap.wait_for("started", "A39", count=2)
            assert event.monotonic == 5.0
