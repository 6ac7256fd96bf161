"""What a command answers: accepted, nothing to do, or refused with a reason."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Accepted:
    """The command was taken on.

    Attributes:
        command: its name, for example ``restart``.
        agent_id: the agent it is for.
        state: lifecycle label just after the command was applied.
        settled: whether what it asked for has come about; only ``True`` or ``False`` when the
            caller waited, ``None`` otherwise.
    """

    command: str
    agent_id: str
    state: str
    settled: bool | None = None


@dataclass(frozen=True, slots=True)
class NoOp:
    """The agent already is where the command would bring it."""

    command: str
    agent_id: str
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """The command cannot be carried out in this state; ``reason`` says why and what could."""

    command: str
    agent_id: str
    state: str
    reason: str


CommandResult = Accepted | NoOp | Rejected


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """One thing that shutdown had to leave: ``what`` is ``incarnation``, ``task`` or ``thread``."""

    what: str
    agent_id: str
    detail: str


@dataclass(frozen=True, slots=True)
class ShutdownReport:
    """How the supervisor ended.

    Attributes:
        seconds: how long shutdown took.
        cancelled: tasks that were cancelled after the grace period.
        left_behind: what would not end within the deadline.
    """

    seconds: float
    cancelled: int
    left_behind: tuple[LeftBehind, ...]
