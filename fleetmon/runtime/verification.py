"""Whether a restarted agent is well again: progress, a probe, or being alive and idle.

"Started" is not "recovered": an incarnation that follows a lapse has to show progress newer than
itself. Functions over an agent's core; they run in the supervisor's loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetmon.events import EventKind
from fleetmon.policy.classify import class_of
from fleetmon.policy.transitions import Actual, Fact
from fleetmon.runtime.live import LiveTimer

if TYPE_CHECKING:
    from fleetmon.runtime.consequences import AnyIncarnation
    from fleetmon.runtime.core import AgentCore

# Members by name: on Python 3.11 looking one up on its class costs a call.
_PROBING = Actual.PROBING
_RECOVERING = Actual.RECOVERING
_RUNNING = Actual.RUNNING
_E_PROBE_FAILED = EventKind.PROBE_FAILED
_E_RECOVERING = EventKind.RECOVERING
_E_VERIFY_FAILED = EventKind.VERIFY_FAILED
_F_PROBE_PASSED = Fact.PROBE_PASSED

_NOTHING: dict[str, str] = {}


def arm(core: AgentCore) -> None:
    """Begin to verify the incarnation that has just come up."""
    machine = core.machine
    incarnation = machine.incarnation
    core.attention = True
    if incarnation is None:
        return
    if machine.actual is _PROBING:
        if incarnation.has_probe:
            incarnation.probe(core.spec.quarantine.probe_timeout)
        else:  # the start was the probe
            machine.fact(_F_PROBE_PASSED)
        return
    core.event(_E_RECOVERING, _NOTHING)
    if incarnation.has_probe:
        incarnation.probe(core.spec.deadlines.probe)
    if incarnation.settled:
        arm_timers(core)


def arm_timers(core: AgentCore) -> None:
    """Bound the wait for progress, if the agent still has to show some."""
    machine = core.machine
    incarnation = machine.incarnation
    if (
        machine.actual is not _RECOVERING
        or incarnation is None
        or not incarnation.verifiable
        or machine.verify_timer is not None
    ):
        return
    machine.verify_timer = LiveTimer(core.fleet, core.spec.verify.timeout, _late, core)
    if not incarnation.has_probe:
        core.fleet.call_later(core.spec.verify.idle_after, _idle, core, incarnation)


def confirm(core: AgentCore) -> None:
    """Have a life that a command began, without a fault before it, show a sign of itself.

    It serves meanwhile. What a probe of its own says counts as ever; without one, no answer is no
    lapse: the next progress will do.
    """
    incarnation = core.machine.incarnation
    core.attention = True
    if incarnation is None:
        return
    if incarnation.has_probe:
        incarnation.probe(core.spec.deadlines.probe)
    else:
        core.fleet.call_later(core.spec.verify.idle_after, _idle, core, incarnation)


def _idle(core: AgentCore, incarnation: AnyIncarnation) -> None:
    machine = core.machine
    if machine.incarnation is incarnation and (
        machine.actual is _RECOVERING or (machine.unproven and machine.actual is _RUNNING)
    ):
        incarnation.ping()


def schedule(core: AgentCore) -> None:
    """Have a running agent that has a probe asked again in a while."""
    incarnation = core.machine.incarnation
    every = core.spec.probing.every
    if incarnation is not None and every is not None and incarnation.has_probe:
        core.fleet.call_later(every, _ask, core, incarnation)


def _ask(core: AgentCore, incarnation: AnyIncarnation) -> None:
    if core.machine.incarnation is incarnation and core.machine.actual is _RUNNING:
        incarnation.probe(core.spec.deadlines.probe)


def probe_result(core: AgentCore, incarnation: AnyIncarnation, error: BaseException | None) -> None:
    """A probe of this incarnation has passed (``None``) or failed."""
    machine = core.machine
    if incarnation is not machine.incarnation:
        return
    if error is None:
        if machine.actual is _PROBING:
            machine.fact(_F_PROBE_PASSED)
        elif machine.actual is _RECOVERING:
            machine.verified("probe")
        elif machine.actual is _RUNNING:
            if machine.unproven:
                machine.proven("probe")
            schedule(core)
    elif machine.actual in (_PROBING, _RECOVERING) or (
        machine.actual is _RUNNING and incarnation.has_probe
    ):
        core.event(_E_PROBE_FAILED, {"error": class_of(error)})
        machine.lapse("its probe failed", "probe_failed", error, count=True)


def alive(core: AgentCore, incarnation: AnyIncarnation) -> None:
    """Idle, but its executor answered: enough when there is neither traffic nor probe."""
    machine = core.machine
    if incarnation is not machine.incarnation:
        return
    if machine.actual is _RECOVERING:
        machine.verified("alive")
    elif machine.unproven and machine.actual is _RUNNING:
        machine.proven("alive")


def _late(core: AgentCore) -> None:
    machine = core.machine
    machine.verify_timer = None
    if machine.actual is not _RECOVERING:
        return
    core.event(_E_VERIFY_FAILED, {"seconds": core.spec.verify.timeout})
    core.numbers.fail("probe_failed")
    machine.unverified()
