"""Everything that a client may have done: commands and retries, each once, each answered."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fleetmon.control import picture
from fleetmon.control.problem import ProblemError, answer, posted
from fleetmon.control.protocol import COMMANDS, SCHEMA
from fleetmon.control.reads import blocked_lately
from fleetmon.control.request import CommandRequest, Ledger, RetryRequest
from fleetmon.errors import FleetmonError, UnknownAgentError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from starlette.requests import Request
    from starlette.responses import Response

    from fleetmon.control.protocol import AnswerShape, BlockedShape, RetryShape
    from fleetmon.control.request import Answer, Keyed
    from fleetmon.supervisor import Supervisor

_GONE = "the fleet stopped before it was done"


class Orders:
    """The endpoints that change something; belongs to the loop that serves it."""

    def __init__(self, fleet: Supervisor) -> None:
        """Prepare for one supervisor."""
        self._fleet = fleet
        self._ledger = Ledger()
        self._known_epoch = ""

    async def command(self, request: Request) -> Response:
        """Carry out a command for one agent."""
        wanted = await posted(request, CommandRequest)
        told = await self.order(wanted)
        return answer(202 if told["result"] == "pending" else 200, told)

    async def order(self, wanted: CommandRequest) -> AnswerShape:
        """Return what became of a command, carrying it out if it is new.

        Raises:
            ProblemError: it is refused.
            UnknownAgentError: there is no such agent.
        """
        if wanted.command not in COMMANDS:
            there = f"no command {wanted.command!r}; there are {', '.join(COMMANDS)}"
            raise ProblemError(400, "unknown_command", there)
        told = await self._settled(wanted, lambda: self._carry_out(wanted))
        return self._pending(wanted) if told is None else told  # type: ignore[return-value] # its own

    async def retry(self, request: Request) -> Response:
        """Run a dead letter again."""
        wanted = await posted(request, RetryRequest)
        told = await self._settled(wanted, lambda: self._retry(wanted))
        if told is None:
            told = self._waiting_retry(wanted)
        return answer(202 if told["result"] == "pending" else 200, told)

    async def _settled(
        self, wanted: Keyed, carry_out: Callable[[], Coroutine[None, None, Answer | Exception]]
    ) -> Answer | None:
        epoch = self._epoch()
        if wanted.epoch not in (None, epoch):
            gone = f"the fleet that it was meant for has ended; this one is {epoch}"
            raise ProblemError(409, "another_life", gone)
        try:
            told = await self._ledger.settle(wanted, carry_out)
        except ValueError as error:
            raise ProblemError(409, "key_used", str(error)) from None
        except OverflowError as error:
            raise ProblemError(429, "too_many", str(error)) from None
        if isinstance(told, Exception):
            raise told
        return told

    def _epoch(self) -> str:
        if not self._known_epoch:
            self._known_epoch = self._fleet.snapshot(agents=False).epoch
        return self._known_epoch

    async def _carry_out(self, wanted: CommandRequest) -> AnswerShape | Exception:
        try:
            result = await self._fleet.command(
                wanted.command,
                wanted.agent_id,
                actor=wanted.actor,
                reason=wanted.reason,
                wait=wanted.wait,
                timeout=wanted.timeout,
                generation=wanted.generation,
                desired=wanted.desired,
            )
        except UnknownAgentError as error:
            return error
        except FleetmonError as error:
            return ProblemError(409, "refused", str(error))
        except (asyncio.CancelledError, RuntimeError):
            # the host's loop went away under it
            return ProblemError(409, "refused", _GONE)
        except Exception as error:  # noqa: BLE001 - a mistake of ours is still an answer
            return ProblemError(409, "failed", f"{type(error).__name__}: {error}")
        return picture.answer_shape(result)

    async def _retry(self, wanted: RetryRequest) -> RetryShape | Exception:
        letter = next((x for x in self._fleet.dead_letters() if x.task_id == wanted.task_id), None)
        if letter is None:
            missing = f"no dead letter {wanted.task_id}; fleetmon dead-letters lists them"
            return ProblemError(404, "unknown_letter", missing)
        agent_id = wanted.agent_id or letter.agent_id
        failed = ""
        try:
            agent_id = self._fleet.agent(agent_id).agent_id
            await self._fleet.retry_dead_letter(
                wanted.task_id, agent_id, actor=wanted.actor, reason=wanted.reason
            )
        except UnknownAgentError as error:
            return error
        except asyncio.CancelledError:
            return ProblemError(409, "refused", _GONE)
        except Exception as error:  # noqa: BLE001 - whatever the task raises
            if any(x is letter for x in self._fleet.dead_letters()):
                return ProblemError(409, "refused", str(error) or type(error).__name__)
            failed = f"{type(error).__name__}: {error}"[:500]
        return {
            "schema": SCHEMA,
            "result": "failed" if failed else "succeeded",
            "task_id": wanted.task_id,
            "agent_id": agent_id,
            "reason": failed,
        }

    def _pending(self, wanted: CommandRequest) -> AnswerShape:
        agent = self._fleet.agent(wanted.agent_id).snapshot()
        return {
            "schema": SCHEMA,
            "result": "pending",
            "command": wanted.command,
            "agent_id": agent.agent_id,
            "state": agent.lifecycle,
            "settled": None,
            "reason": _why(blocked_lately(self._fleet)),
        }

    def _waiting_retry(self, wanted: RetryRequest) -> RetryShape:
        return {
            "schema": SCHEMA,
            "result": "pending",
            "task_id": wanted.task_id,
            "agent_id": wanted.agent_id or "",
            "reason": _why(blocked_lately(self._fleet)),
        }


def _why(blocked: BlockedShape | None) -> str:
    if blocked is None:
        return "under way; what it asks for has not come about yet"
    who = blocked["agent_id"] or "something that is no agent's task"
    return (
        f"the host's event loop is blocked by {who} for {blocked['seconds']:.1f} s "
        f"({blocked['file']}:{blocked['line']}); it goes on when the loop is free"
    )
