"""The one path of every command: check, apply, audit, and wait for the outcome if asked to."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fleetmon.errors import SpecError
from fleetmon.events import EventKind
from fleetmon.policy.transitions import Actual, Command, Desired
from fleetmon.results import Accepted, CommandResult, Rejected
from fleetmon.runtime.core import DECLARED

if TYPE_CHECKING:
    from fleetmon.runtime.core import AgentCore
    from fleetmon.runtime.fleet import Fleet


def named(name: str) -> Command:
    """Return the command of that name; raises :class:`SpecError` naming those that there are."""
    try:
        return Command(name)
    except ValueError:
        msg = f"no command {name!r}; there are {', '.join(Command)}"
        raise SpecError(msg, field="command", value=name) from None


def apply(
    fleet: Fleet,
    core: AgentCore,
    wanted: Command,
    *,
    actor: str,
    reason: str,
    generation: int | None,
    desired: str | None,
) -> CommandResult:
    """Apply a command now and audit it; runs in the supervisor's loop."""
    result = _refused(fleet, core, wanted, generation, desired) or core.machine.command(wanted)
    detail = "" if isinstance(result, Accepted) else result.reason
    said = type(result).__name__.lower()
    audit(core, wanted.value, actor=actor, reason=reason, result=said, detail=detail)
    return result


def audit(
    core: AgentCore, name: str, *, actor: str, reason: str, result: str, detail: str = ""
) -> None:
    """Write the audit event of a command."""
    core.event(
        EventKind.COMMAND,
        {
            "command": name,
            "actor": actor,
            "reason": reason,
            "result": result,
            "detail": detail,
        },
    )


def _refused(
    fleet: Fleet,
    core: AgentCore,
    wanted: Command,
    generation: int | None,
    desired: str | None,
) -> Rejected | None:
    why = ""
    if core.removed or core.mode == DECLARED:
        why = "it has not been added; add() or attach() it"
    elif not fleet.accepting:
        why = f"the fleet is {fleet.phase}"
    elif generation is not None and generation != core.generation:
        why = f"generation is {core.generation}, not {generation}; look again"
    elif desired is not None and desired != core.machine.desired:
        why = f"it is wanted {core.machine.desired}, not {desired}; whoever asked for that decides"
    if not why:
        return None
    return Rejected(wanted.value, core.agent_id, core.numbers.lifecycle, why)


async def outcome(core: AgentCore, wanted: Command, seconds: float | None) -> Accepted:
    """Wait until what was accepted has come about, cannot any more, or time is up."""
    settled = True
    try:
        async with asyncio.timeout(seconds):
            while not _come_about(core, wanted):
                if _cannot(core, wanted):
                    settled = False
                    break
                await core.machine.change()
    except TimeoutError:
        settled = False
    return Accepted(wanted.value, core.agent_id, core.numbers.lifecycle, settled)


def _come_about(core: AgentCore, wanted: Command) -> bool:
    machine = core.machine
    up = machine.actual is Actual.RUNNING and not machine.fault and not machine.unproven
    if wanted in (Command.START, Command.RESTART, Command.RESUME):
        return up
    if wanted is Command.RESET:
        if machine.desired is Desired.RUN and machine.actual is not Actual.STOPPED:
            return up
        return machine.actual not in (Actual.RECOVERING, Actual.QUARANTINED)
    if wanted in (Command.STOP, Command.DRAIN):
        return machine.actual is Actual.STOPPED
    if wanted is Command.QUARANTINE:
        return machine.actual is Actual.QUARANTINED
    return True


def _cannot(core: AgentCore, wanted: Command) -> bool:
    # somebody wants something else by now, or it has come to rest elsewhere
    machine = core.machine
    if wanted in (Command.START, Command.RESTART, Command.RESUME, Command.RESET):
        return machine.desired is not Desired.RUN or machine.actual in (
            Actual.QUARANTINED,
            Actual.STOPPED,
        )
    return machine.desired is Desired.RUN
