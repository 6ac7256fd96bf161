"""Agents that restart together: OTP's ``one_for_all`` and ``rest_for_one``.

The others are stopped in reverse order of dependency, the agent that lapsed comes back by its own
backoff, then they are started forward. When one of them fails half-way, those already back are
stopped again and the whole counts as one failed attempt of the agent that lapsed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetmon.policy.strategy import DependencyGraph
from fleetmon.policy.transitions import Actual, Desired

if TYPE_CHECKING:
    import asyncio

    from fleetmon.runtime.core import AgentCore
    from fleetmon.runtime.fleet import Fleet

_UP = (Actual.RUNNING, Actual.RECOVERING)
_DOWN = (Actual.BACKING_OFF, Actual.STOPPED, Actual.QUARANTINED)


class Groups:
    """Carries out group restarts, one for each agent that lapsed."""

    def __init__(self, fleet: Fleet) -> None:
        """Start with no dependencies known."""
        self.graph = DependencyGraph({})
        self._fleet = fleet
        self._running: dict[str, asyncio.Task[None]] = {}

    def lapsed(self, core: AgentCore, delay: float) -> bool:
        """Begin a group restart if the agent's strategy asks for one; returns whether it does."""
        if core.spec.strategy == "one_for_one":
            return False
        cores = self._fleet.cores
        members = [cores[a] for a in self.graph.affected(core.agent_id) if a in cores]
        members = [m for m in members if m.machine.desired is Desired.RUN and m.mode == "owned"]
        if not members:
            return False
        old = self._running.get(core.agent_id)
        if old is not None and not old.done():
            old.cancel()
        self._running[core.agent_id] = self._fleet.loop.create_task(
            self._restart(core, members, delay)
        )
        return True

    async def _restart(  # noqa: C901 - one procedure, told in order
        self, core: AgentCore, members: list[AgentCore], delay: float
    ) -> None:
        for member in reversed(members):
            member.machine.hold()
            await self._until(member, _DOWN)
        core.machine.rejoin(delay)
        while core.machine.actual not in _UP:
            if core.machine.desired is not Desired.RUN:
                break
            await core.machine.change()
        if core.machine.desired is not Desired.RUN:
            for member in members:
                member.machine.release(start=False)
            return
        back: list[AgentCore] = []
        for member in members:
            if member.spec.restart == "temporary":
                member.machine.bystander()  # bystanders of that kind are not revived
                continue
            generation = member.generation
            member.machine.release(start=True)
            await self._until(member, (*_UP, *_DOWN))
            if member.machine.desired is not Desired.RUN:
                continue
            if member.machine.actual not in _UP or member.generation != generation + 1:
                for other in [*reversed(back), member]:
                    other.machine.hold()
                core.machine.lapse(f"restarting {member.agent_id!r} with it failed", "start_failed")
                return
            back.append(member)

    @staticmethod
    async def _until(core: AgentCore, states: tuple[Actual, ...]) -> None:
        while core.machine.actual not in states:
            await core.machine.change()

    def close(self) -> None:
        """Give up what is under way."""
        for task in self._running.values():
            task.cancel()
