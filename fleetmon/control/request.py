"""What the server believes of a request, and at most once: bounds and the ledger of commands."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from fleetmon.control.protocol import AnswerShape, RetryShape

    Answer = AnswerShape | RetryShape
    Fate = Answer | Exception

_KEPT = 4096  # commands that are remembered; the oldest that has ended goes first


class Keyed(BaseModel):
    """What every request has that changes something."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", allow_inf_nan=False, use_attribute_docstrings=True
    )

    key: Annotated[str, Field(min_length=8, max_length=100)]
    """Chosen by the client, once for each command; the same key is the same command."""
    actor: Annotated[str, Field(max_length=100)] = ""
    """Who asks, for the audit event."""
    reason: Annotated[str, Field(max_length=1000)] = ""
    """Why, for the audit event."""
    epoch: Annotated[str, Field(max_length=64)] | None = None
    """Refuse unless this is still the fleet's life: the next one knows no key of this one's."""
    hold: Annotated[float, Field(ge=0, le=5)] = 1.0
    """Seconds until an unfinished command is answered with ``pending``."""


class CommandRequest(Keyed):
    """Body of ``POST /v1/command``."""

    command: Annotated[str, Field(min_length=1, max_length=32)]
    """What to do."""
    agent_id: Annotated[str, Field(min_length=1, max_length=256)]
    """Id or alias."""
    wait: bool = False
    """Settle only when what was asked for has come about, or cannot any more."""
    timeout: Annotated[float, Field(gt=0, le=86_400)] | None = None
    """Seconds for that."""
    generation: Annotated[int, Field(ge=0, le=2**63)] | None = None
    """Refuse unless this is still the agent's incarnation."""
    desired: Literal["run", "paused", "drained", "stopped", "quarantined"] | None = None
    """Refuse unless this is what is wanted of the agent when it is carried out."""


class RetryRequest(Keyed):
    """Body of ``POST /v1/dead-letters/retry``."""

    task_id: Annotated[int, Field(ge=0, le=2**63)]
    """Of the letter."""
    agent_id: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    """Who is to do it; by default who had it before."""


class Ledger:
    """Remembers commands by their key, so that each is carried out once; for one loop."""

    def __init__(self) -> None:
        """Start empty."""
        self._kept: OrderedDict[str, tuple[Keyed, asyncio.Task[Fate]]] = OrderedDict()

    async def settle(
        self, request: Keyed, carry_out: Callable[[], Coroutine[None, None, Fate]]
    ) -> Fate | None:
        """Return what became of a command, carrying it out if it is new.

        Args:
            request: whose key decides; it waits for ``request.hold`` seconds.
            carry_out: called at most once for a key; gives an answer or an error, raises nothing.

        Returns:
            ``None`` while it is unfinished.

        Raises:
            ValueError: the key was used for another command.
            OverflowError: too many commands are unfinished.
        """
        known = self._kept.get(request.key)
        if known is None:
            self._make_room()
            known = request, asyncio.ensure_future(carry_out())
            self._kept[request.key] = known
        elif known[0].model_copy(update={"hold": request.hold}) != request:
            message = f"key {request.key!r} was used for another command; choose a new one"
            raise ValueError(message)
        # the command goes on whether or not this client stays
        await asyncio.wait((known[1],), timeout=request.hold)
        return known[1].result() if known[1].done() else None

    def _make_room(self) -> None:
        if len(self._kept) < _KEPT:
            return
        done = next((key for key, (_, task) in self._kept.items() if task.done()), None)
        if done is None:
            message = f"{_KEPT} commands wait already; try again when the fleet has caught up"
            raise OverflowError(message)
        del self._kept[done]
