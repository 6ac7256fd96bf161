"""The transition table: what an agent does next, for every state and everything that can happen.

Three tables, each complete, so that no pair is left to chance:

* :data:`COMMANDS`: what an operator's command makes of the *desired* state;
* :data:`SETTLE`: what brings the *actual* state to where desired points;
* :data:`FACTS`: what the actual state becomes when something happens.

Desired is changed by commands only, actual by facts only. Nothing here acts: an
:class:`Act` tells the runtime what to do.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Desired(StrEnum):
    """Where an operator wants an agent."""

    RUN = "run"
    PAUSED = "paused"  # keeps its incarnation, takes nothing new
    DRAINED = "drained"  # finishes, then stops
    STOPPED = "stopped"
    QUARANTINED = "quarantined"  # an operator's: no probes until released


class Actual(StrEnum):
    """Where an agent is."""

    STARTING = "starting"
    RECOVERING = "recovering"  # started after a lapse, not yet verified
    RUNNING = "running"
    STOPPING = "stopping"
    BACKING_OFF = "backing_off"
    QUARANTINED = "quarantined"
    PROBING = "probing"
    STOPPED = "stopped"


class Command(StrEnum):
    """What an operator can ask for."""

    START = "start"
    STOP = "stop"
    RESTART = "restart"
    PAUSE = "pause"
    RESUME = "resume"
    DRAIN = "drain"
    QUARANTINE = "quarantine"
    RESET = "reset"


class Fact(StrEnum):
    """What can happen to an agent."""

    STARTED = "started"  # factory and start() returned
    FINISHED = "finished"  # its body ended normally, unasked, as its restart type allows
    LAPSED = "lapsed"  # it crashed, or has to be ended: hang, probe, fatal error, failures in a row
    ENDED = "ended"  # the incarnation is gone with all its tasks, or given up
    VERIFIED = "verified"  # progress newer than the restart
    UNVERIFIED = "unverified"  # none within the verification timeout
    RETRY = "retry"  # backoff over and the fleet lets it through
    PROBE = "probe"  # the slow probe of a quarantine is due
    PROBE_PASSED = "probe_passed"
    DRAINED = "drained"  # nothing waiting, nothing in flight


class Act(StrEnum):
    """What the runtime has to do about it."""

    NONE = "none"
    IGNORE = "ignore"  # late or stale: count it, change nothing
    START = "start"  # begin a new incarnation
    VERIFY = "verify"  # arm verification
    END = "end"  # ask the incarnation to end, with a deadline
    FINISH = "finish"  # let it finish what it has, then DRAINED
    DECIDE = "decide"  # after a lapse, incarnation gone: restart policy chooses
    RESOLVE = "resolve"  # incarnation ended as asked: restart, lapse or desired choose
    ARM_RETRY = "arm_retry"
    ARM_PROBE = "arm_probe"
    DISARM = "disarm"  # cancel timers, stay
    TO_STOPPED = "to_stopped"  # nothing runs: becomes stopped at once
    TO_QUARANTINED = "to_quarantined"


class Answer(NamedTuple):
    """What a command does: the new desired state, or a reason why there is nothing to do."""

    verdict: str  # accepted, noop, rejected
    desired: Desired
    reason: str = ""


_D, _A, _C, _F = Desired, Actual, Command, Fact

_SAME = "already {}"
_GO_RESET = "quarantined; reset releases it"

# (desired, command) -> new desired; or ("noop" | "rejected", reason)
COMMANDS: dict[tuple[Desired, Command], Desired | tuple[str, str]] = {
    (_D.RUN, _C.START): _D.RUN,
    (_D.PAUSED, _C.START): _D.RUN,
    (_D.DRAINED, _C.START): _D.RUN,
    (_D.STOPPED, _C.START): _D.RUN,
    (_D.QUARANTINED, _C.START): ("rejected", _GO_RESET),
    **{(d, _C.STOP): _D.STOPPED for d in _D},
    **{(d, _C.RESTART): _D.RUN for d in _D},
    (_D.RUN, _C.PAUSE): _D.PAUSED,
    (_D.PAUSED, _C.PAUSE): ("noop", _SAME.format("paused")),
    (_D.DRAINED, _C.PAUSE): ("rejected", "draining or drained; resume it first"),
    (_D.STOPPED, _C.PAUSE): ("rejected", "stopped; start it first"),
    (_D.QUARANTINED, _C.PAUSE): ("rejected", _GO_RESET),
    (_D.RUN, _C.RESUME): ("noop", "nobody has paused or drained it"),
    (_D.PAUSED, _C.RESUME): _D.RUN,
    (_D.DRAINED, _C.RESUME): _D.RUN,
    (_D.STOPPED, _C.RESUME): ("rejected", "stopped; start it"),
    (_D.QUARANTINED, _C.RESUME): ("rejected", _GO_RESET),
    (_D.RUN, _C.DRAIN): _D.DRAINED,
    (_D.PAUSED, _C.DRAIN): _D.DRAINED,
    (_D.DRAINED, _C.DRAIN): ("noop", _SAME.format("draining or drained")),
    (_D.STOPPED, _C.DRAIN): ("noop", "stopped; nothing to drain"),
    (_D.QUARANTINED, _C.DRAIN): ("rejected", _GO_RESET),
    **{(d, _C.QUARANTINE): _D.QUARANTINED for d in _D},
    (_D.QUARANTINED, _C.QUARANTINE): ("noop", _SAME.format("quarantined by an operator")),
    (_D.RUN, _C.RESET): _D.RUN,
    (_D.PAUSED, _C.RESET): _D.PAUSED,
    (_D.DRAINED, _C.RESET): _D.DRAINED,
    (_D.STOPPED, _C.RESET): _D.STOPPED,
    (_D.QUARANTINED, _C.RESET): _D.RUN,
}

_ALIVE_GOING = Act.END  # desired wants it down while it lives: stop, drain and shutdown win at once

SETTLE: dict[tuple[Desired, Actual], Act] = {
    # desired run
    (_D.RUN, _A.STARTING): Act.NONE,
    (_D.RUN, _A.RECOVERING): Act.NONE,
    (_D.RUN, _A.RUNNING): Act.NONE,
    (_D.RUN, _A.STOPPING): Act.START,  # after a command only: as soon as the old life has ended
    (_D.RUN, _A.BACKING_OFF): Act.ARM_RETRY,
    (_D.RUN, _A.QUARANTINED): Act.ARM_PROBE,
    (_D.RUN, _A.PROBING): Act.NONE,
    (_D.RUN, _A.STOPPED): Act.START,  # after a command only; see settle()
    # desired paused: keeps what lives, starts nothing
    (_D.PAUSED, _A.STARTING): Act.NONE,
    (_D.PAUSED, _A.RECOVERING): Act.NONE,
    (_D.PAUSED, _A.RUNNING): Act.NONE,
    (_D.PAUSED, _A.STOPPING): Act.NONE,
    (_D.PAUSED, _A.BACKING_OFF): Act.DISARM,
    (_D.PAUSED, _A.QUARANTINED): Act.DISARM,
    (_D.PAUSED, _A.PROBING): Act.NONE,
    (_D.PAUSED, _A.STOPPED): Act.NONE,
    # desired drained
    (_D.DRAINED, _A.STARTING): _ALIVE_GOING,
    (_D.DRAINED, _A.RECOVERING): _ALIVE_GOING,
    (_D.DRAINED, _A.RUNNING): Act.FINISH,
    (_D.DRAINED, _A.STOPPING): Act.NONE,
    (_D.DRAINED, _A.BACKING_OFF): Act.TO_STOPPED,
    (_D.DRAINED, _A.QUARANTINED): Act.TO_STOPPED,
    (_D.DRAINED, _A.PROBING): _ALIVE_GOING,
    (_D.DRAINED, _A.STOPPED): Act.NONE,
    # desired stopped
    (_D.STOPPED, _A.STARTING): _ALIVE_GOING,
    (_D.STOPPED, _A.RECOVERING): _ALIVE_GOING,
    (_D.STOPPED, _A.RUNNING): _ALIVE_GOING,
    (_D.STOPPED, _A.STOPPING): Act.NONE,
    (_D.STOPPED, _A.BACKING_OFF): Act.TO_STOPPED,
    (_D.STOPPED, _A.QUARANTINED): Act.TO_STOPPED,
    (_D.STOPPED, _A.PROBING): _ALIVE_GOING,
    (_D.STOPPED, _A.STOPPED): Act.NONE,
    # desired quarantined (an operator's)
    (_D.QUARANTINED, _A.STARTING): _ALIVE_GOING,
    (_D.QUARANTINED, _A.RECOVERING): _ALIVE_GOING,
    (_D.QUARANTINED, _A.RUNNING): _ALIVE_GOING,
    (_D.QUARANTINED, _A.STOPPING): Act.NONE,
    (_D.QUARANTINED, _A.BACKING_OFF): Act.TO_QUARANTINED,
    (_D.QUARANTINED, _A.QUARANTINED): Act.DISARM,
    (_D.QUARANTINED, _A.PROBING): _ALIVE_GOING,
    (_D.QUARANTINED, _A.STOPPED): Act.TO_QUARANTINED,
}

_IGNORED: tuple[Actual | None, Act] = (None, Act.IGNORE)

# (actual, fact) -> (next actual, or None to stay, act)
FACTS: dict[tuple[Actual, Fact], tuple[Actual | None, Act]] = {
    **dict.fromkeys(((a, f) for a in _A for f in _F), _IGNORED),
    (_A.STARTING, _F.STARTED): (_A.RUNNING, Act.NONE),
    (_A.RECOVERING, _F.STARTED): (None, Act.VERIFY),
    (_A.PROBING, _F.STARTED): (None, Act.VERIFY),
    **{
        (a, f): (_A.STOPPING, Act.END)
        for a in (_A.STARTING, _A.RECOVERING, _A.RUNNING, _A.PROBING)
        for f in (_F.LAPSED, _F.FINISHED)
    },
    (_A.STOPPING, _F.ENDED): (None, Act.RESOLVE),
    (_A.RECOVERING, _F.VERIFIED): (_A.RUNNING, Act.NONE),
    (_A.RECOVERING, _F.UNVERIFIED): (_A.STOPPING, Act.END),
    (_A.PROBING, _F.UNVERIFIED): (_A.STOPPING, Act.END),
    (_A.BACKING_OFF, _F.RETRY): (_A.RECOVERING, Act.START),
    (_A.QUARANTINED, _F.PROBE): (_A.PROBING, Act.START),
    (_A.PROBING, _F.PROBE_PASSED): (_A.RECOVERING, Act.VERIFY),
    (_A.RUNNING, _F.DRAINED): (_A.STOPPING, Act.END),
}

# Members by name: on Python 3.11 looking one up on its class costs a call.
_DO_DECIDE = Act.DECIDE
_DO_DISARM = Act.DISARM
_DO_NONE = Act.NONE
_DO_START = Act.START
_QUARANTINED = Actual.QUARANTINED
_RECOVERING = Actual.RECOVERING
_STARTING = Actual.STARTING
_STOPPED = Actual.STOPPED
_D_DRAINED = Desired.DRAINED
_D_QUARANTINED = Desired.QUARANTINED
_D_RUN = Desired.RUN
_D_STOPPED = Desired.STOPPED


def command(desired: Desired, actual: Actual, name: Command, *, restarting: bool) -> Answer:
    """Answer a command.

    Args:
        desired: as it is.
        actual: as it is.
        name: what is asked for.
        restarting: whether a commanded restart is already under way.
    """
    if name is Command.RESTART and restarting:
        return Answer("noop", desired, "a restart is already under way")
    if name is Command.START and desired is _D_RUN and actual is not _STOPPED:
        if actual is _QUARANTINED:
            return Answer("rejected", desired, _GO_RESET)
        return Answer("noop", desired, f"already {actual}")
    if name is Command.STOP and desired is _D_STOPPED:
        return Answer("noop", desired, f"already {actual}")
    found = COMMANDS[desired, name]
    if isinstance(found, Desired):
        return Answer("accepted", found)
    return Answer(found[0], desired, found[1])


def settle(desired: Desired, actual: Actual, *, commanded: bool) -> Act:
    """Return what brings ``actual`` towards ``desired``.

    A stopped agent starts only on command: one that ended as its restart type allows stays down,
    although it is still desired to run.
    """
    act = SETTLE[desired, actual]
    return _DO_NONE if act is _DO_START and not commanded else act


def resolve(
    desired: Desired, *, lapse: bool, restart: bool, fault: bool
) -> tuple[Actual | None, Act]:
    """Return what follows when the incarnation that was asked to end is gone.

    Args:
        desired: as it is now.
        lapse: it was ended because of a lapse.
        restart: it was ended in order to be restarted.
        fault: the agent lapsed and has not been verified since.
    """
    if desired is _D_QUARANTINED:
        return _QUARANTINED, _DO_DISARM
    if desired in (_D_STOPPED, _D_DRAINED):
        return _STOPPED, _DO_DISARM
    if restart:
        return (_RECOVERING if fault else _STARTING), _DO_START
    if lapse:
        return None, _DO_DECIDE
    return _STOPPED, _DO_DISARM
