"""Takes the commands and the facts of one agent; what follows is :mod:`consequences`' affair.

All methods run in the supervisor's loop, synchronously: a crash costs no extra task, and nothing
can happen between a fact and its consequence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetmon.errors import AgentStartError
from fleetmon.events import EventKind
from fleetmon.policy.classify import class_of, describe
from fleetmon.policy.intensity import RestartWindow
from fleetmon.policy.transitions import Actual, Command, Desired, Fact, command, settle
from fleetmon.results import Accepted, CommandResult, NoOp, Rejected
from fleetmon.runtime import verification
from fleetmon.runtime.consequences import Consequences

if TYPE_CHECKING:
    import asyncio

    from fleetmon.policy.classify import Verdict
    from fleetmon.runtime.consequences import AnyIncarnation

# Members by name: on Python 3.11 looking one up on its class costs a call.
_BACKING_OFF = Actual.BACKING_OFF
_PROBING = Actual.PROBING
_QUARANTINED = Actual.QUARANTINED
_RECOVERING = Actual.RECOVERING
_RUNNING = Actual.RUNNING
_STARTING = Actual.STARTING
_STOPPED = Actual.STOPPED
_STOPPING = Actual.STOPPING
_D_DRAINED = Desired.DRAINED
_D_PAUSED = Desired.PAUSED
_D_RUN = Desired.RUN
_D_STOPPED = Desired.STOPPED
_E_DRAINED = EventKind.DRAINED
_E_PROBING = EventKind.PROBING
_E_STARTED = EventKind.STARTED
_E_START_FAILED = EventKind.START_FAILED
_E_VERIFIED = EventKind.VERIFIED
_F_DRAINED = Fact.DRAINED
_F_ENDED = Fact.ENDED
_F_FINISHED = Fact.FINISHED
_F_LAPSED = Fact.LAPSED
_F_PROBE = Fact.PROBE
_F_RETRY = Fact.RETRY
_F_STARTED = Fact.STARTED
_F_UNVERIFIED = Fact.UNVERIFIED
_F_VERIFIED = Fact.VERIFIED

_ALIVE = frozenset((Actual.STARTING, Actual.RECOVERING, Actual.RUNNING, Actual.PROBING))
_FROM_PROGRESS = ("suspect", "stalled", "throttled", "blocked_loop")

# one mapping for all events of a kind: a storm makes thousands
_NOTHING: dict[str, str] = {}
_BY = {by: {"by": by} for by in ("progress", "probe", "alive")}


class Machine(Consequences):
    """The only one that is told what happened to an agent, and what is wanted of it."""

    __slots__ = ()

    # -- commands --------------------------------------------------------------------------------

    def command(self, name: Command) -> CommandResult:
        """Apply an operator's command at once; what it leads to follows as events."""
        core = self.core
        answer = command(self.desired, self.actual, name, restarting=self._restarting)
        if answer.verdict == "rejected":
            return Rejected(name.value, core.agent_id, core.numbers.lifecycle, answer.reason)
        if answer.verdict == "noop":
            return NoOp(name.value, core.agent_id, core.numbers.lifecycle, answer.reason)
        released = self.desired is not answer.desired
        self.desired = answer.desired
        if self.actual is _RUNNING:
            self._disarm()  # the deadline of a drain that is not wanted any more
        if name is Command.RESET:
            self._reset(released=released)
        elif name is Command.RESTART:
            self._restart()
        else:
            self._act(settle(self.desired, self.actual, commanded=True))
        self._changed()
        return Accepted(name.value, core.agent_id, core.numbers.lifecycle)

    def _reset(self, *, released: bool) -> None:
        core = self.core
        self.streak = 0
        self._window.clear()
        self._exhausted = self._permanent = False
        core.failures_in_row = 0
        core.set_spec(core.spec)  # a new failure window
        core.clear_condition("failing", *_FROM_PROGRESS)
        if self.actual is _QUARANTINED:
            self._disarm()
            self._from_quarantine = False
            if self.desired is _D_RUN:
                self.actual = _RECOVERING
                self._start("command")
            elif self.desired is _D_PAUSED:
                self.actual = _BACKING_OFF
        elif released:
            self._act(settle(self.desired, self.actual, commanded=True))

    def _restart(self) -> None:
        self._disarm()
        self._from_quarantine = False
        self._restarting = True
        if self.actual in _ALIVE:
            self.actual = _STOPPING
            self._end("restart")
        elif self.actual is not _STOPPING:
            self.actual = _RECOVERING if self.fault else _STARTING
            self._start("command")

    def start_first(self, first: asyncio.Future[None] | None) -> None:
        """Begin the first incarnation; ``first`` gets the outcome when ``add`` waits for it."""
        spec = self.core.spec
        self._window = RestartWindow(spec.intensity.max_restarts, spec.intensity.period)
        self.first = first
        self.fault = self.held = False
        self.streak = 0
        self.verified_at = None
        recorder = self.core.fleet.recorder
        before = None if recorder is None else recorder.restarts_of(self.core.agent_id)
        if before is not None:
            self.bring_along(*before)
        self.core.clear_condition("failing", *_FROM_PROGRESS)
        self.desired = _D_RUN
        self.actual = _STARTING
        self._start("first")
        self._changed()

    # -- facts -----------------------------------------------------------------------------------

    def started(self, incarnation: AnyIncarnation) -> None:
        """The incarnation has come up: factory and ``start()`` returned."""
        if incarnation is not self.incarnation:
            return
        self._restarting = False
        core = self.core
        core.event(_E_STARTED, _NOTHING)
        self.fact(_F_STARTED)
        if self.actual is _RUNNING:
            if self.unproven:
                verification.confirm(core)
            elif incarnation.has_probe:
                verification.schedule(core)
        first, self.first = self.first, None
        if first is not None and not first.done():
            first.set_result(None)
        core.work.dispatch()
        if self.actual is _RUNNING and self.desired is not _D_RUN:
            self._act(settle(self.desired, self.actual, commanded=False))

    def ended_by_itself(self, incarnation: AnyIncarnation, error: BaseException | None) -> None:
        """The incarnation has ended, or is cleaning up, unasked; ``None``: normally."""
        if incarnation is not self.incarnation:
            return
        core = self.core
        if error is None and (core.spec.restart != "permanent" or self.desired is _D_DRAINED):
            self._close_attempt(verified=True)
            self.fault = False
            self.fact(_F_FINISHED)
            return
        if error is None:
            self._lapse("its body ended", "crash", None, None, permanent=False)
            core.numbers.fail("crash", core.exemplar())
            self.fact(_F_LAPSED)
            return
        if self._refused_first(error) or self._failed_to_rise(error):
            return
        verdict = core.fleet.classify(core, error)
        reason, error_type = "its body raised", "crash"
        if verdict.error_type == "process_died":
            reason, error_type = "its worker died", "process_died"
        elif not incarnation.started:
            reason, error_type = "did not start", "start_failed"
        core.numbers.fail(error_type, core.exemplar())
        self._lapse(reason, error_type, error, verdict, permanent=verdict.kind == "permanent")
        self.fact(_F_LAPSED)

    def _failed_to_rise(self, error: BaseException) -> bool:
        # started for its group: the attempt is counted once, by the agent that lapsed
        incarnation = self.incarnation
        if not self.held or incarnation is None or incarnation.started:
            return False
        core = self.core
        core.numbers.fail("start_failed")
        core.event(_E_START_FAILED, {"error": class_of(error)})
        self._close_attempt(verified=False)
        self.incarnation = None
        self.actual = _BACKING_OFF
        self._changed()
        return True

    def start_late(self, incarnation: AnyIncarnation, error: BaseException) -> None:
        """The incarnation has not come up by its deadline."""
        if incarnation is not self.incarnation or self.actual not in _ALIVE:
            return
        if self._refused_first(error) or self._failed_to_rise(error):
            incarnation.end()
        else:
            self.lapse("did not start in time", "start_failed", error, count=True)

    def worker_died(self, incarnation: AnyIncarnation, error: BaseException) -> None:
        """The process under the incarnation is gone."""
        if incarnation is self.incarnation:
            self.lapse("its worker died", "process_died", error, count=True)

    def lapse(
        self,
        reason: str,
        error_type: str,
        error: BaseException | None = None,
        verdict: Verdict | None = None,
        *,
        count: bool = False,
    ) -> None:
        """The incarnation lives but has to be ended and replaced."""
        if self.actual not in _ALIVE:
            return
        if count:
            self.core.numbers.fail(error_type, self.core.exemplar())
        self._lapse(reason, error_type, error, verdict, permanent=False)
        self.fact(_F_LAPSED)

    def gone(self, incarnation: AnyIncarnation) -> None:
        """An incarnation that was asked to end has ended with all its tasks, or is given up."""
        if incarnation is not self.incarnation:
            return
        self.incarnation = None
        self.fact(_F_ENDED)

    def drained(self) -> None:
        """Nothing waits and nothing is in flight."""
        if self.desired is _D_DRAINED and self.actual is _RUNNING:
            self.core.event(_E_DRAINED, {})
            self.fact(_F_DRAINED)

    def admitted(self) -> bool:
        """The fleet lets this agent's recovery through; returns whether it was still wanted."""
        self.retry_at = None
        if self.desired is not _D_RUN or self.held:
            return False
        if self.actual is _BACKING_OFF:
            self.fact(_F_RETRY)
            return True
        if self.actual is _QUARANTINED:
            self._from_quarantine = True
            self.core.event(_E_PROBING, {})
            self.fact(_F_PROBE)
            return True
        return False

    # -- for a group that restarts together ------------------------------------------------------

    def hold(self) -> None:
        """End the incarnation and stay down until :meth:`release`."""
        self.held = True
        self._disarm()
        if self.actual in _ALIVE:
            self.actual = _STOPPING
            self._end("restart")
        self._changed()

    def rejoin(self, delay: float) -> None:
        """Let the agent that made its group restart go on with its own backoff."""
        self.held = False
        if self.desired is _D_RUN and self.actual is _BACKING_OFF:
            self._arm(delay)

    def rise(self) -> bool:
        """Begin a held agent's incarnation, still held; returns whether that is wanted.

        Should it fail before it is up, it stays down and held: that is its group's affair.
        """
        if self.actual is not _BACKING_OFF or self.desired is not _D_RUN:
            self.release()
            return False
        self.actual = _RECOVERING if self.fault else _STARTING
        self._start("dependency")
        self._changed()
        return True

    def release(self) -> None:
        """Let go of a held agent: from here on it is its own affair again."""
        self.held = False
        if self.actual is _BACKING_OFF:
            self._act(settle(self.desired, self.actual, commanded=False))
            self._changed()

    def bystander(self) -> None:
        """A temporary agent that was stopped with its group: it is not revived."""
        self.held = False
        if self.actual is _BACKING_OFF:
            self._to(_STOPPED)
            self._changed()

    def _refused_first(self, error: BaseException) -> bool:
        # add() raises and registers nothing; with on_start_failure="recover" it returns instead
        first, self.first = self.first, None
        if first is None or first.done():
            return False
        if self.core.spec.on_start_failure == "recover":
            first.set_result(None)
            return False
        self.incarnation = None
        self.desired = _D_STOPPED
        self._to(_STOPPED)
        self._changed()
        failure = AgentStartError(self.core.agent_id, describe(error))
        failure.__cause__ = error
        first.set_exception(failure)
        return True

    def verified(self, by: str) -> None:
        """The agent is well again; ``by`` is ``progress``, ``probe`` or ``alive``."""
        core = self.core
        self._disarm()
        self.fault = False
        self._from_quarantine = False
        core.event(_E_VERIFIED, _BY[by])
        self.fact(_F_VERIFIED)
        self._close_attempt(verified=True)  # only now may the next one be let through
        if self.incarnation is not None and self.incarnation.has_probe:
            verification.schedule(core)
        core.work.dispatch()
        if self.desired is not _D_RUN:
            self._act(settle(self.desired, self.actual, commanded=False))
            self._changed()

    def proven(self, by: str) -> None:
        """A life that a command began has shown a sign of itself; ``by`` as in :meth:`verified`."""
        self.unproven = False
        self.core.event(_E_VERIFIED, _BY[by])
        self._changed()

    def unverified(self) -> None:
        """Nothing newer than the restart came in time: a failed attempt."""
        self._lapse("no progress after the restart", "probe_failed", None, None, permanent=False)
        self.fact(_F_UNVERIFIED)

    def self_recovered(self) -> None:
        """A quarantined agent of the host's works again, unasked: as good as a passed probe."""
        self._disarm()
        self.actual = _PROBING
        self._start("progress")
        self._changed()
