"""Work handed in by the name of the agent that is to do it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from fleetmon.runtime.task import Task
    from fleetmon.supervisor import Supervisor


class Working:
    """What a caller who holds no handle needs; a part of :class:`Supervisor`."""

    async def run(
        self,
        agent_id: str,
        task_type: str,
        payload: Any = None,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the whole wait, queueing included
        wait: bool = True,
    ) -> Any:
        """Have an agent, by id or alias, do a task and return its result.

        As :meth:`Agent.run`, which saves the look-up: keep the handle where it is called often.

        Raises:
            UnknownAgentError: there is no such agent; it names those that are near.
        """
        agent = cast("Supervisor", self).agent(agent_id)
        return await agent.run(task_type, payload, timeout=timeout, wait=wait)

    async def submit(
        self,
        agent_id: str,
        task_type: str,
        payload: Any = None,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - as in run
        wait: bool = True,
    ) -> Task:
        """Hand in a task for an agent, by id or alias; see :meth:`Agent.submit`.

        Raises:
            UnknownAgentError: there is no such agent; it names those that are near.
        """
        agent = cast("Supervisor", self).agent(agent_id)
        return await agent.submit(task_type, payload, timeout=timeout, wait=wait)
