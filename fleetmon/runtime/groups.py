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

_DOWN = frozenset((Actual.BACKING_OFF, Actual.STOPPED, Actual.QUARANTINED))


class Groups:
    """Carries out group restarts, one for each agent that lapsed."""

    def __init__(self, fleet: Fleet) -> None:
        """Start with no dependencies known."""
        self.graph = DependencyGraph({})
        self._fleet = fleet
        self._running: dict[str, asyncio.Task[None]] = {}

    def lapsed(self, core: AgentCore, delay: float | None) -> bool:
        """Begin a group restart if the agent's strategy asks for one; returns whether it does.

        Args:
            core: who lapsed.
            delay: seconds of its own backoff; ``None`` when it is quarantined instead: then the
                others wait until a probe brings it back.
        """
        if core.spec.strategy == "one_for_one":
            return False
        cores = self._fleet.cores
        members = [cores[a] for a in self.graph.affected(core.agent_id) if a in cores]
        members = [m for m in members if _takes_part(m)]
        old = self._running.pop(core.agent_id, None)
        if old is not None and not old.done():
            old.cancel()
        if not members:
            return False
        self._running[core.agent_id] = self._fleet.loop.create_task(
            self._restart(core, members, delay)
        )
        return True

    async def _restart(  # noqa: C901 - one procedure, told in order
        self, core: AgentCore, members: list[AgentCore], delay: float | None
    ) -> None:
        for member in reversed(members):
            member.machine.hold()
            while member.machine.actual not in _DOWN:
                await member.machine.change()
        if delay is not None:
            core.machine.rejoin(delay)
        while not _is_up(core):
            if core.machine.desired is not Desired.RUN:
                for member in members:
                    member.machine.release()
                return
            await core.machine.change()
        for member in members:
            if not await self._bring_back(member):
                for other in reversed(members):
                    other.machine.hold()
                core.machine.lapse(f"restarting {member.agent_id!r} with it failed", "start_failed")
                return
        for member in members:
            member.machine.release()

    @staticmethod
    async def _bring_back(member: AgentCore) -> bool:
        machine = member.machine
        if member.spec.restart == "temporary":
            machine.bystander()  # those are not revived
            return True
        if not machine.rise():
            return True  # not wanted any more
        while not _is_up(member) and machine.actual not in _DOWN:
            await machine.change()
        # one that ended as its restart type allows has failed nobody
        return machine.actual is not Actual.BACKING_OFF or machine.desired is not Desired.RUN

    def close(self) -> None:
        """Give up what is under way."""
        for task in self._running.values():
            task.cancel()


def _is_up(core: AgentCore) -> bool:
    machine = core.machine
    incarnation = machine.incarnation
    return (
        machine.actual in (Actual.RUNNING, Actual.RECOVERING)
        and incarnation is not None
        and incarnation.started
    )


def _takes_part(core: AgentCore) -> bool:
    # who is down of its own accord stays down, and in quarantine keeps its own slow probe
    machine = core.machine
    return (
        core.mode == "owned"
        and machine.desired is Desired.RUN
        and machine.actual not in (Actual.STOPPED, Actual.QUARANTINED)
    )
