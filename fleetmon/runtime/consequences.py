"""Carries out what the tables and the policies decide for one agent.

:class:`Consequences` holds the state and acts on it; what is built on it in
:mod:`fleetmon.runtime.machine` takes the commands and the facts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from fleetmon.errors import AgentStartError
from fleetmon.events import EventKind
from fleetmon.policy.classify import class_of, describe
from fleetmon.policy.intensity import RestartWindow
from fleetmon.policy.restart import decide
from fleetmon.policy.transitions import FACTS, Act, Actual, Desired, Fact, resolve, settle
from fleetmon.runtime import verification
from fleetmon.runtime.live import LiveTimer
from fleetmon.snapshot import LapseRecord

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from typing import TypeAlias

    from fleetmon.policy.classify import Verdict
    from fleetmon.runtime.core import AgentCore
    from fleetmon.runtime.incarnation import Incarnation
    from fleetmon.runtime.observed import ObservedIncarnation

    AnyIncarnation: TypeAlias = Incarnation | ObservedIncarnation

# Members by name: on Python 3.11 looking one up on its class costs a call.
_DO_DECIDE = Act.DECIDE
_DO_IGNORE = Act.IGNORE
_DO_START = Act.START
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
_D_QUARANTINED = Desired.QUARANTINED
_D_RUN = Desired.RUN
_D_STOPPED = Desired.STOPPED
_E_BACKING_OFF = EventKind.BACKING_OFF
_E_LAPSED = EventKind.LAPSED
_E_QUARANTINED = EventKind.QUARANTINED
_E_STARTING = EventKind.STARTING
_E_STOPPED = EventKind.STOPPED
_E_STOPPING = EventKind.STOPPING
_F_DRAINED = Fact.DRAINED

# one mapping for all events of a kind: a storm makes thousands
_CAUSES = {
    cause: {"cause": cause}
    for cause in ("first", "command", "recovery", "probe", "dependency", "progress")
}


class Consequences:
    """The state of one agent, and everything that changes it.

    Attributes:
        fault: lapsed, and no progress verified since.
        streak: lapses in a row; the exponent of the backoff.
        retry_at: when the next start or probe is due, on the supervisor's clock; ``None``: never.
        held: kept down while an agent it depends on comes back.
        unproven: begun by a command, without a fault, and no sign of life has come since.
    """

    __slots__ = (
        "_attempting",
        "_depth",
        "_exhausted",
        "_from_quarantine",
        "_lapsed",
        "_permanent",
        "_restarting",
        "_retry_after",
        "_timer",
        "_waiters",
        "_window",
        "actual",
        "core",
        "desired",
        "fault",
        "first",
        "held",
        "incarnation",
        "lapse_error",
        "retry_at",
        "streak",
        "unproven",
        "verified_at",
        "verify_timer",
    )

    def __init__(self, core: AgentCore) -> None:
        """Begin stopped."""
        self.core = core
        self.desired = _D_STOPPED
        self.actual = _STOPPED
        self.incarnation: AnyIncarnation | None = None
        self.fault = False
        self.held = False
        self.unproven = False
        self.lapse_error: BaseException | None = None
        self.streak = 0
        self.verified_at: float | None = None
        self.retry_at: float | None = None
        self.first: asyncio.Future[None] | None = None
        self._window = RestartWindow(core.spec.intensity.max_restarts, core.spec.intensity.period)
        self._timer: asyncio.TimerHandle | LiveTimer | None = None
        self.verify_timer: LiveTimer | None = None
        self._depth = 0
        self._attempting = False
        self._exhausted = False
        self._permanent = False
        self._retry_after = 0.0
        self._lapsed = False
        self._restarting = False
        self._from_quarantine = False
        self._waiters: list[asyncio.Future[None]] = []

    def fact(self, fact: Fact) -> None:
        """Let something have happened: one look into the table, then its consequence."""
        following, act = FACTS[self.actual, fact]
        if act is _DO_IGNORE:
            self.core.fleet.late(self.core, None)
            return
        if following is not None:
            self.actual = following
            if following is _RUNNING and not self.fault:
                self.verified_at = self.core.now()
        # one fact may bring about others at once; only where it all ends is told
        self._depth += 1
        try:
            self._act(act)
        finally:
            self._depth -= 1
        self._changed()

    # -- consequences ----------------------------------------------------------------------------

    def _act(self, act: Act) -> None:
        deed = self._deeds.get(act)
        if deed is not None:
            deed(self)

    def _act_start(self) -> None:
        if self.actual is _STOPPING:
            self._restarting = not self._lapsed  # as soon as the old life has ended
        elif self.actual is _STOPPED:
            self.actual = _RECOVERING if self.fault else _STARTING
            self._start("command")
        else:
            self._start("probe" if self.actual is _PROBING else "recovery")

    def _act_verify(self) -> None:
        verification.arm(self.core)

    def _act_end(self) -> None:
        self.actual = _STOPPING
        self._end("lapse" if self._lapsed else "stop")

    def _act_finish(self) -> None:
        core = self.core
        self._timer = LiveTimer(core.fleet, core.spec.deadlines.drain, self._drain_late)
        core.work.check_drained()

    def _act_arm_retry(self) -> None:
        if self.retry_at is None and not self.held:
            self._arm(0.0)

    def _act_to_stopped(self) -> None:
        self._to(_STOPPED)

    def _act_to_quarantined(self) -> None:
        self._to(_QUARANTINED)

    def _start(self, cause: str) -> None:
        core = self.core
        numbers = core.numbers
        core.generation += 1
        core.failures_in_row = 0
        core.beats = None
        core.heartbeat_at = 0.0
        core.clear_condition("suspect")
        if self.actual is not _STARTING:
            self._attempting = True
        with numbers.lock:
            if core.generation > 1:
                numbers.restarts += 1
            if self._attempting:
                numbers.recovery_attempts += 1
            numbers.version += 1
        self._lapsed = self._permanent = False
        core.event(_E_STARTING, _CAUSES[cause])
        incarnation = self.incarnation = core.fleet.make_incarnation(core)
        self.unproven = cause == "command" and self.actual is _STARTING and incarnation.verifiable
        incarnation.begin()

    def _end(self, reason: str) -> None:
        core = self.core
        self._disarm()
        self.streak = self.current_streak(core.now())  # what comes is not running any more
        self.verified_at = None
        if self._attempting and reason != "lapse":  # given up by command: neither outcome
            self._attempting = False
            core.fleet.recovery.gone(core)
        incarnation = self.incarnation
        if incarnation is None:
            self._resolve()
            return
        if not incarnation.over:
            core.event(_E_STOPPING, {"reason": reason})
            core.work.end_inflight(incarnation, reason)
        incarnation.end()

    def _lapse(
        self,
        reason: str,
        error_type: str,
        error: BaseException | None,
        verdict: Verdict | None,
        *,
        permanent: bool,
    ) -> None:
        core = self.core
        now = core.now()
        self.streak = self.current_streak(now)
        self.verified_at = None
        self.fault = True
        self._lapsed = True
        self._permanent = permanent
        self._restarting = False
        self._retry_after = verdict.retry_after if verdict is not None else 0.0
        self._exhausted = self._window.add(now)
        self._disarm()
        core.failures_in_row = 0
        said = describe(error) if error is not None else ""
        self.lapse_error = error
        core.last_lapse = LapseRecord(core.fleet.wall(), core.generation, reason, error_type, said)
        core.event(
            _E_LAPSED,
            {
                "reason": reason,
                "error_type": error_type,
                "error": class_of(error) if error is not None else "",
                "verdict": verdict.kind if verdict is not None else "",
            },
        )
        self._close_attempt(verified=False)
        core.fleet.recovery.lapsed(core, verdict.cause if verdict is not None else error_type)

    def _close_attempt(self, *, verified: bool) -> None:
        if not self._attempting:
            return
        self._attempting = False
        core = self.core
        with core.numbers.lock:
            core.numbers.recoveries[0 if verified else 1] += 1
            core.numbers.version += 1
        core.fleet.recovery.concluded(core, verified=verified)

    def _decide(self) -> None:
        core = self.core
        self._lapsed = False
        if self.desired is _D_QUARANTINED:
            self._to(_QUARANTINED)
            return
        if self.desired in (_D_STOPPED, _D_DRAINED):
            self._to(_STOPPED)
            return
        if self._from_quarantine:
            self._to(_QUARANTINED)
            self._act(settle(self.desired, self.actual, commanded=False))
            return
        decision = decide(
            core.spec,
            exhausted=self._exhausted,
            permanent=self._permanent,
            normal=False,
            streak=self.streak,
            rng=core.fleet.rng,
            retry_after=self._retry_after,
        )
        if decision.action == "stop":
            self._to(_STOPPED)
        elif decision.action == "quarantine":
            core.event(_E_QUARANTINED, {"reason": decision.reason})
            core.fleet.groups.lapsed(core, None)
            self._to(_QUARANTINED)
            self._act(settle(self.desired, self.actual, commanded=False))
        else:
            self.streak += 1
            self.actual = _BACKING_OFF
            self.held = core.fleet.groups.lapsed(core, decision.delay)
            if self.desired is _D_RUN and not self.held:
                self._arm(decision.delay)
            if self.actual is _BACKING_OFF:  # else it was let through at once
                core.event(
                    _E_BACKING_OFF,
                    {"delay_seconds": decision.delay, "streak": self.streak},
                )

    def _resolve(self) -> None:
        if self.held and self.desired in (_D_RUN, _D_PAUSED) and not self._lapsed:
            self.actual = _BACKING_OFF
            return
        following, act = resolve(
            self.desired, lapse=self._lapsed, restart=self._restarting, fault=self.fault
        )
        if act is _DO_DECIDE:
            self._decide()
        elif act is _DO_START and following is not None:
            self.actual = following
            self._start("command")
        elif following is not None:
            self._to(following)

    def _to(self, actual: Actual) -> None:
        # come to rest, with nothing running
        core = self.core
        self._disarm()
        self._lapsed = self._restarting = False
        self._from_quarantine = False
        self.actual = actual
        core.fleet.recovery.gone(core)
        first, self.first = self.first, None
        if first is not None and not first.done():
            first.set_exception(
                AgentStartError(core.agent_id, f"it was {actual.value} before it was up")
            )
        if actual is _STOPPED:
            core.event(_E_STOPPED, {"fault": self.fault})
            core.work.cancel_waiting("stop")
        elif self.desired is _D_QUARANTINED:
            core.event(_E_QUARANTINED, {"reason": "by an operator"})

    # -- timers ----------------------------------------------------------------------------------

    def _arm(self, delay: float) -> None:
        core = self.core
        self.retry_at = core.now() + delay
        if delay <= 0:
            core.fleet.recovery.request(core)
        else:
            self._timer = core.fleet.call_later(delay, self._due)

    def _arm_probe(self) -> None:
        interval = self.core.spec.quarantine.probe_interval
        if interval is not None and self.retry_at is None:
            self._arm(interval)

    def _due(self) -> None:
        self._timer = None
        self.core.fleet.recovery.request(self.core)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.verify_timer is not None:
            self.verify_timer.cancel()
            self.verify_timer = None
        if self.retry_at is not None:
            self.retry_at = None
            self.core.fleet.recovery.withdraw(self.core)

    def _drain_late(self) -> None:
        self._timer = None
        if self.desired is _D_DRAINED and self.actual is _RUNNING:
            self.fact(_F_DRAINED)  # END cancels what is still in flight

    # -- small things ----------------------------------------------------------------------------

    def current_streak(self, now: float) -> int:
        """Return lapses in a row; verified running for ``stable_for`` forgets them."""
        if (
            self.verified_at is not None
            and now - self.verified_at >= self.core.spec.verify.stable_for
        ):
            return 0
        return self.streak

    def lapses(self, now: float) -> int:
        """Return the lapses that count against the intensity, from any thread."""
        return self._window.peek(now)

    def restarts(self, now: float) -> tuple[int, tuple[float, ...]]:
        """Return streak, and lapses within the intensity's window, for the record; any thread."""
        return self.current_streak(now), self._window.times(now)

    def bring_along(self, streak: int, lapses: tuple[float, ...]) -> None:
        """Go on from what an earlier life of the process has recorded.

        Args:
            streak: lapses in a row.
            lapses: wall-clock times. The time for which the process was down counts for the
                window, but not as running; a wall clock that was set back makes nothing younger
                than now.
        """
        core = self.core
        now, wall = core.now(), core.fleet.wall()
        self.streak = streak
        self._window.restore(now - max(0.0, wall - at) for at in lapses)

    def attend(self) -> None:
        """Say whether ends of tasks and signs of life matter just now."""
        core = self.core
        if self.actual is _RUNNING and self.desired is _D_RUN:
            core.open = core.fleet.accepting and not core.removed
            core.attention = bool(
                core.failures_in_row or core.conditions or core.beats is not None or self.unproven
            )
        else:
            core.open = core.accepting
            core.attention = True

    def _changed(self) -> None:
        if self._depth:
            return
        self.attend()
        self.core.publish()
        if self._waiters:
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    def change(self) -> asyncio.Future[None]:
        """Return a future of the next change of state; it misses none from this call on."""
        waiter: asyncio.Future[None] = self.core.fleet.loop.create_future()
        self._waiters.append(waiter)
        return waiter

    # what is not here asks for nothing
    _deeds: ClassVar[dict[Act, Callable[[Consequences], None]]] = {
        Act.START: _act_start,
        Act.VERIFY: _act_verify,
        Act.DECIDE: _decide,
        Act.RESOLVE: _resolve,
        Act.END: _act_end,
        Act.FINISH: _act_finish,
        Act.ARM_RETRY: _act_arm_retry,
        Act.ARM_PROBE: _arm_probe,
        Act.DISARM: _disarm,
        Act.TO_STOPPED: _act_to_stopped,
        Act.TO_QUARANTINED: _act_to_quarantined,
    }
