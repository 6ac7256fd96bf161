"""The supervisor's commands: one path for code, terminal and dashboard."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, cast

from fleetmon.agent import Agent
from fleetmon.results import Accepted, CommandResult
from fleetmon.runtime import commands

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from fleetmon.agent import How
    from fleetmon.runtime.fleet import Fleet
    from fleetmon.supervisor import Supervisor


class Commanding:
    """What steers a fleet by hand; a part of :class:`Supervisor`."""

    _fleet: Fleet

    async def command(
        self,
        name: str,
        agent_id: str,
        *,
        reason: str = "",
        actor: str = "",
        wait: bool = False,
        timeout: float | None = None,  # noqa: ASYNC109 - how long to wait for the outcome
        generation: int | None = None,
        desired: str | None = None,
    ) -> CommandResult:
        """Carry out a command, from any event loop: the one path for code, terminal and dashboard.

        Args:
            name: ``start``, ``stop``, ``restart``, ``pause``, ``resume``, ``drain``,
                ``quarantine`` or ``reset``.
            agent_id: id or alias.
            reason: for the audit event.
            actor: who asks, for the audit event.
            wait: wait until what was asked for has come about, for example a verified recovery.
            timeout: seconds to wait at most; ``None``: as long as it takes.
            generation: refuse unless this is still the incarnation that the caller saw.
            desired: refuse unless this is what is wanted of it just now; ``run``, unless an
                operator has asked for something else.

        Returns:
            :class:`Accepted`, :class:`NoOp` or :class:`Rejected`; an accepted one says in
            ``settled`` whether it came about, if ``wait`` was asked for.

        Raises:
            UnknownAgentError: there is no such agent.
            SpecError: there is no such command.
        """
        fleet = self._fleet
        wanted = commands.named(name)
        core = fleet.find(agent_id)
        if threading.get_ident() != fleet.thread:
            loop = fleet.loop
            again = self.command(
                name,
                agent_id,
                reason=reason,
                actor=actor,
                wait=wait,
                timeout=timeout,
                generation=generation,
                desired=desired,
            )
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(again, loop))
        result = commands.apply(
            fleet,
            core,
            wanted,
            actor=actor,
            reason=reason,
            generation=generation,
            desired=desired,
        )
        if wait and isinstance(result, Accepted):
            return await commands.outcome(core, wanted, timeout)
        return result

    async def start(self, agent_id: str, **how: Unpack[How]) -> CommandResult:
        """Start an agent; arguments as :meth:`command`."""
        return await self.command("start", agent_id, **how)

    async def stop(self, agent_id: str, **how: Unpack[How]) -> CommandResult:
        """Stop an agent."""
        return await self.command("stop", agent_id, **how)

    async def restart(self, agent_id: str, **how: Unpack[How]) -> CommandResult:
        """End an agent's incarnation and begin another; spends no restart budget."""
        return await self.command("restart", agent_id, **how)

    async def pause(self, agent_id: str, **how: Unpack[How]) -> CommandResult:
        """Let an agent take nothing new."""
        return await self.command("pause", agent_id, **how)

    async def resume(self, agent_id: str, **how: Unpack[How]) -> CommandResult:
        """Let a paused or drained agent take tasks again."""
        return await self.command("resume", agent_id, **how)

    async def drain_agent(self, agent_id: str, **how: Unpack[How]) -> CommandResult:
        """Let an agent finish, then stop (``drain`` is the whole fleet's)."""
        return await self.command("drain", agent_id, **how)

    async def quarantine(self, agent_id: str, **how: Unpack[How]) -> CommandResult:
        """Take an agent out until it is reset."""
        return await self.command("quarantine", agent_id, **how)

    async def reset(self, agent_id: str, **how: Unpack[How]) -> CommandResult:
        """Forget an agent's streak and conditions; from quarantine this brings it back."""
        return await self.command("reset", agent_id, **how)

    async def retry_dead_letter(
        self, task_id: int, agent_id: str | None = None, *, actor: str = "", reason: str = ""
    ) -> Any:
        """Run a dead letter again, as a new task of the same or another agent.

        Args:
            task_id: of the letter.
            agent_id: who is to do it; by default who had it before.
            actor: who asks, for the audit event.
            reason: why, for the audit event.

        Returns what the task returns; the letter is gone once the task was accepted.

        Raises:
            LookupError: there is no such letter.
            TaskRefusedError: the agent does not take it; the letter is kept.
        """
        fleet = self._fleet
        if threading.get_ident() != fleet.thread:
            loop = fleet.loop
            again = self.retry_dead_letter(task_id, agent_id, actor=actor, reason=reason)
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(again, loop))
        letter = next((x for x in fleet.dead_letters if x.task_id == task_id), None)
        if letter is None:
            msg = f"no dead letter {task_id}; see dead_letters()"
            raise LookupError(msg)
        core = fleet.find(agent_id or letter.agent_id)
        agent = Agent(cast("Supervisor", self), core)
        task = await agent.submit(letter.task_type, letter.payload, wait=False)
        # accepted, and nothing has run in between: only now is the letter answered
        kept = [x for x in fleet.dead_letters if x is not letter]
        fleet.dead_letters.clear()
        fleet.dead_letters.extend(kept)
        detail = f"dead letter {task_id}"
        commands.audit(core, "retry", actor=actor, reason=reason, result="accepted", detail=detail)
        return await task
