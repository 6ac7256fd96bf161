"""Restart types and strategies (behaviour 7)."""

from __future__ import annotations

import asyncio

import pytest
from helpers_fleet import fleet_of, steady

from fleetmon import Intensity
from fleetmon.testing import ScriptedAgent, Step

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]

CRASH = Step.crash()
NORMAL = Step.succeed()


def once(*, after: float = 5.0) -> ScriptedAgent:
    """Return an agent that crashes once, after some seconds."""
    return ScriptedAgent(serve=[[Step.wait(after), CRASH], Step.hang()])


def calm(**scripts: object) -> ScriptedAgent:
    """Return an agent that never crashes by itself."""
    return ScriptedAgent(**{"serve": [Step.hang()], **scripts})


class TestTypes:
    @pytest.mark.parametrize(
        ("restart", "end", "lives", "lifecycle", "health"),
        [
            ("permanent", NORMAL, 2, "running", 0),
            ("permanent", CRASH, 2, "running", 0),
            ("transient", NORMAL, 1, "stopped", 0),
            ("transient", CRASH, 2, "running", 0),
            ("temporary", NORMAL, 1, "stopped", 0),
            ("temporary", CRASH, 1, "stopped", 2),
        ],
    )
    async def test_07_a_restart_type_decides_by_the_kind_of_end(
        self, clock, *, restart, end, lives, lifecycle, health
    ):
        agent = ScriptedAgent(serve=[[Step.wait(1), end], Step.hang()])
        async with fleet_of() as (fleet, _):
            handle = await fleet.add("A", agent, spec=steady(restart=restart))
            await asyncio.sleep(100)
            now = handle.snapshot()
            assert (agent.lives, now.lifecycle, now.health) == (lives, lifecycle, health)

    async def test_07_a_body_that_cancels_itself_has_crashed(self, clock):
        agent = ScriptedAgent(serve=[Step.fail(asyncio.CancelledError), Step.hang()])
        async with fleet_of() as (fleet, cap):
            await fleet.add("A", agent, spec=steady(restart="transient"))
            await cap.wait_for("verified", "A")
            assert agent.lives == 2
            assert "cancelled itself" in fleet.agent("A").snapshot().last_lapse.error

    async def test_07_a_permanent_body_that_keeps_ending_normally_is_exhausted_too(self, clock):
        async with fleet_of() as (fleet, cap):
            spec = steady(intensity=Intensity(max_restarts=2, period=100))
            await fleet.add("A", ScriptedAgent(serve=[NORMAL]), spec=spec)
            await cap.wait_for("quarantined", "A")
            assert len(cap.of("lapsed")) == 3

    async def test_07_an_ended_agent_stays_down_until_it_is_started(self, clock):
        agent = ScriptedAgent(serve=[NORMAL, Step.hang()])
        async with fleet_of() as (fleet, cap):
            handle = await fleet.add("A", agent, spec=steady(restart="transient"))
            await cap.wait_for("stopped", "A")
            await asyncio.sleep(1000)
            assert agent.lives == 1
            await handle.start(wait=True)
            assert handle.snapshot().lifecycle == "running"


class TestOneForAll:
    async def test_07_one_for_all_restarts_its_group_and_nobody_else(self, clock):
        agents = {"A": once(), "B": calm(), "C": calm(), "X": calm()}
        async with fleet_of() as (fleet, cap):
            for name, agent in agents.items():
                group = "" if name == "X" else "g"
                spec = steady(strategy="one_for_all", group=group)
                await fleet.add(name, agent, spec=spec)
            await cap.wait_for("lapsed", "A")
            await asyncio.sleep(20)
            assert {name: a.lives for name, a in agents.items()} == {"A": 2, "B": 2, "C": 2, "X": 1}
            assert all(a.health == 0 for a in fleet.snapshot().agents)
            assert [e.agent_id for e in cap.of("lapsed")] == ["A"]  # the others were innocent

    async def test_07_one_for_one_takes_nobody_along(self, clock):
        agents = {"A": once(), "B": calm()}
        async with fleet_of() as (fleet, _):
            await fleet.add("A", agents["A"], spec=steady(group="g"))
            await fleet.add("B", agents["B"], spec=steady(group="g", depends_on=("A",)))
            await asyncio.sleep(20)
            assert (agents["A"].lives, agents["B"].lives) == (2, 1)


class TestRestForOne:
    async def chain(self, fleet, agents, **special):
        """Add agents, each depending on the one before."""
        before: tuple[str, ...] = ()
        for name, agent in agents.items():
            spec = steady(strategy="rest_for_one", depends_on=before, **special.get(name, {}))
            await fleet.add(name, agent, spec=spec)
            before = (name,)

    async def test_07_dependents_stop_in_reverse_order_and_start_forward(self, clock):
        agents = {"A": once(after=5), "B": calm(), "C": calm(), "D": calm()}
        async with fleet_of() as (fleet, cap):
            await self.chain(fleet, agents)
            await cap.wait_for("lapsed", "A")
            await asyncio.sleep(20)
            stopped = [e.agent_id for e in cap.of("stopping") if e.agent_id != "A"]
            started = [e.agent_id for e in cap.of("started") if e.generation == 2]
            assert (stopped, started) == (["D", "C", "B"], ["A", "B", "C", "D"])
            assert all(a.lives == 2 for a in agents.values())

    async def test_07_only_the_rest_is_taken_along(self, clock):
        agents = {"A": calm(), "B": once(), "C": calm()}
        async with fleet_of() as (fleet, _):
            await self.chain(fleet, agents)
            await asyncio.sleep(30)
            assert [a.lives for a in agents.values()] == [1, 2, 2]

    async def test_07_each_starts_only_when_what_it_depends_on_is_up(self, clock):
        slow = [Step.succeed(), Step.wait(3)]  # the second start takes 3 seconds
        agents = {
            "A": ScriptedAgent(start=slow, serve=[[Step.wait(5), CRASH], Step.hang()]),
            "B": calm(start=slow),
            "C": calm(),
        }
        async with fleet_of() as (fleet, cap):
            await self.chain(fleet, agents)
            await cap.wait_for("lapsed", "A")
            await asyncio.sleep(60)
            again = {
                kind: {e.agent_id: e.monotonic for e in cap.of(kind) if e.generation == 2}
                for kind in ("starting", "started")
            }
            assert again["starting"]["A"] == 6  # lapse at 5, one second of backoff
            assert again["starting"]["B"] >= again["started"]["A"] == 9
            assert again["starting"]["C"] >= again["started"]["B"]
            assert all(a.lives == 2 for a in agents.values())

    async def test_07_a_dependent_that_will_not_end_is_given_up_and_the_rest_goes_on(self, clock):
        stubborn = ScriptedAgent(serve=[Step.swallow(500), Step.hang()])
        agents = {"A": once(), "B": stubborn, "C": calm()}
        async with fleet_of() as (fleet, cap):
            await self.chain(fleet, agents)
            await cap.wait_for("lapsed", "A")
            await asyncio.sleep(30)
            assert [a.lives for a in agents.values()] == [2, 2, 2]
            assert fleet.agent("B").snapshot().zombies == 1

    async def test_07_one_that_fails_half_way_stops_those_already_back_and_counts_once(self, clock):
        broken = calm(start=[Step.succeed(), Step.fail(), Step.succeed()])
        agents = {"A": once(), "B": calm(), "C": broken, "D": calm()}
        async with fleet_of() as (fleet, cap):
            await self.chain(fleet, agents)
            await cap.wait_for("lapsed", "A")
            await asyncio.sleep(120)
            now = {a.agent_id: a for a in fleet.snapshot().agents}
            assert {n: a.lifecycle for n, a in now.items()} == dict.fromkeys("ABCD", "running")
            # A: its crash and the one failed attempt; B was started twice more; D only once
            assert len(cap.of("lapsed", "A")) == 2
            assert [a.lives for a in agents.values()] == [3, 3, 3, 2]
            assert all(a.health == 0 for a in now.values())

    async def test_07_a_group_that_never_comes_back_exhausts_the_one_that_lapsed(self, clock):
        agents = {"A": once(), "B": calm(start=[Step.succeed(), Step.fail()])}
        limit = {"intensity": Intensity(max_restarts=3, period=1000)}
        async with fleet_of() as (fleet, cap):
            await self.chain(fleet, agents, A=limit, B=limit)
            await cap.wait_for("quarantined", "A", timeout=500)
            assert len(cap.of("lapsed", "A")) == 4

    async def test_07_temporary_bystanders_are_not_revived(self, clock):
        agents = {"A": once(), "B": calm(), "C": calm()}
        async with fleet_of() as (fleet, _):
            await self.chain(fleet, agents, B={"restart": "temporary"})
            await asyncio.sleep(60)
            assert [a.lives for a in agents.values()] == [2, 1, 2]
            bystander = fleet.agent("B").snapshot()
            assert (bystander.lifecycle, bystander.health) == ("stopped", 0)

    async def test_07_one_that_ended_as_its_type_allows_stays_down_and_fails_nobody(self, clock):
        done = ScriptedAgent(serve=[[Step.wait(1), NORMAL], Step.hang()])
        agents = {"A": once(), "B": done, "C": calm()}
        async with fleet_of() as (fleet, cap):
            await self.chain(fleet, agents, B={"restart": "transient"})
            await asyncio.sleep(60)
            assert [a.lives for a in agents.values()] == [2, 1, 2]
            assert len(cap.of("lapsed")) == 1
            assert fleet.agent("B").snapshot().lifecycle == "stopped"

    async def test_07_a_quarantined_dependent_keeps_its_own_slow_probe(self, clock):
        ill = calm(start=[Step.succeed()], serve=[Step.fail(PermissionError), Step.hang()])
        agents = {"A": once(), "B": ill, "C": calm()}
        async with fleet_of() as (fleet, cap):
            await self.chain(fleet, agents)
            await cap.wait_for("lapsed", "A")
            await asyncio.sleep(20)
            assert fleet.agent("B").snapshot().lifecycle == "quarantined"
            assert fleet.agent("A").snapshot().lifecycle == "running"
            await cap.wait_for("verified", "B", timeout=100)

    @pytest.mark.parametrize("command", ["stop", "pause"])
    async def test_07_what_an_operator_took_down_is_not_revived(self, clock, command):
        agents = {"A": once(), "B": calm(), "C": calm()}
        async with fleet_of() as (fleet, cap):
            await self.chain(fleet, agents)
            await cap.wait_for("backing_off", "A")
            await asyncio.sleep(0.5)
            await fleet.command(command, "B")
            await asyncio.sleep(60)
            assert [a.lives for a in agents.values()] == [2, 1, 2]
            assert fleet.agent("B").snapshot().desired in {"stopped", "paused"}

    async def test_07_held_dependents_can_be_stopped_at_once(self, clock):
        agents = {"A": once(), "B": calm()}
        async with fleet_of() as (fleet, cap):
            await self.chain(fleet, agents)
            await cap.wait_for("backing_off", "A")
            await asyncio.sleep(0.5)
            at = clock.monotonic()
            await fleet.stop("B", wait=True)
            assert clock.monotonic() == at
            await asyncio.sleep(60)
            assert agents["B"].lives == 1
            await fleet.start("B", wait=True)
            await fleet.restart("A", wait=True)
            assert agents["B"].lives == 2

    async def test_07_a_stop_of_the_one_that_lapsed_lets_its_dependents_come_back(self, clock):
        agents = {"A": once(), "B": calm()}
        async with fleet_of() as (fleet, cap):
            await self.chain(fleet, agents)
            await cap.wait_for("backing_off", "A")
            await asyncio.sleep(0.5)
            await fleet.stop("A")
            await asyncio.sleep(60)
            assert fleet.agent("B").snapshot().lifecycle == "running"
            assert fleet.agent("A").snapshot().lifecycle == "stopped"

    async def test_07_dependents_come_back_when_a_second_attempt_succeeds(self, clock):
        first = ScriptedAgent(
            start=[Step.succeed(), Step.fail(), Step.fail(), Step.succeed()],
            serve=[[Step.wait(5), CRASH], Step.hang()],
        )
        agents = {"A": first, "B": calm()}
        async with fleet_of() as (fleet, cap):
            await self.chain(fleet, agents)
            await cap.wait_for("lapsed", "A", count=3)
            await asyncio.sleep(60)
            assert first.lives == 4
            assert fleet.agent("B").snapshot().lifecycle == "running"
            assert agents["B"].lives == 2  # it was not started below a dependency that was down
