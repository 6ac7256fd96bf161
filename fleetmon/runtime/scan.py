"""One shared look at everything that may have taken too long: no timer for each task.

Called from the watchdog's thread, so that it works while the loop is blocked; what it finds is
posted to the loop. Ages are in *live time*, which stands still while the loop is blocked: one
agent that blocks the loop must not make the others look hung.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetmon.events import EventKind
from fleetmon.policy.hangs import assess
from fleetmon.policy.transitions import Actual, Desired
from fleetmon.runtime import judge
from fleetmon.tables import values_of

if TYPE_CHECKING:
    from fleetmon.runtime.core import AgentCore
    from fleetmon.runtime.fleet import Fleet
    from fleetmon.runtime.task import Task


def scan(fleet: Fleet) -> None:
    """Look at every agent once."""
    now = fleet.now()
    live = now - fleet.blocked_total
    for core in values_of(fleet.cores):
        if core.inflight:
            for task in values_of(core.inflight):
                _look_at_task(core, task, live)
        if core.numbers.queued:
            _look_for_stall(core, live)
        if core.conditions:
            _look_at_conditions(core, now)


def _look_at_task(core: AgentCore, task: Task, live: float) -> None:
    limits = core.spec.hang
    if core.spec.task_limits:
        limits = core.spec.task_limits.get(task.task_type, limits)
    if task.cancel_at:
        if not task.fenced and live - task.cancel_live > limits.cancel_grace:
            task.cancel_live = live  # once for each grace
            core.fleet.post(judge.hung, core, task, "survived")
        return
    progress = max(task.progress_at, task.live_at)
    beat = core.heartbeat_at - core.fleet.blocked_total
    verdict = assess(limits, live - task.live_at, live - max(progress, min(beat, live)))
    if verdict == "hard" and task.reported != "hard":
        task.reported = "hard"
        core.fleet.post(judge.hung, core, task, "hard")
    elif verdict == "soft" and not task.reported:
        task.reported = "soft"
        core.fleet.post(judge.hung, core, task, "soft")
    elif not verdict and task.reported == "soft":
        task.reported = ""
        core.fleet.post(judge.progressed, core, task.generation, None)


def _look_for_stall(core: AgentCore, live: float) -> None:
    limit = core.fleet.settings.watchdog.stall_after
    machine = core.machine
    if machine.desired is not Desired.RUN or machine.actual is not Actual.RUNNING:
        return
    try:
        since = core.work.waiting[0].progress_at
    except IndexError:
        return
    quiet = live - max(since, core.last_end - core.fleet.blocked_total)
    if quiet > limit and core.condition("stalled") is None:
        reason = f"{core.numbers.queued} waiting and nothing finished for {quiet:.0f} s"
        if core.raise_condition("stalled", reason):
            core.event(EventKind.STALLED, {"waiting": core.numbers.queued, "seconds": quiet})


def _look_at_conditions(core: AgentCore, now: float) -> None:
    for condition in core.conditions:
        if condition.name == "throttled" and now > core.throttled_until:
            core.clear_condition("throttled")
        elif condition.name == "failing":
            core.fleet.post(core.work.review_failing)
        elif condition.name == "stalled" and not core.numbers.queued:
            core.clear_condition("stalled")
