"""Faults on demand: what is to happen when, by seed, and how it is done to the agents."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

from fleetmon import TaskRefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fleetmon import Supervisor
    from fleetmon.demo.cast import Player, Role
    from fleetmon.demo.feed import Deck
    from fleetmon.demo.observed import ObservedWorker

KINDS = (
    "crash",
    "hang",
    "blocked_loop",
    "swallowed_cancellation",
    "poison_task",
    "dying_process",
    "mass_failure",
)
"""The kinds of fault."""

# When each comes within a cycle, who may suffer it, and what it needs until it is over: seconds.
# The long ones first; the failure of most of the fleet when the others are well again.
_SCRIPT: tuple[tuple[float, str, tuple[Role, ...], float], ...] = (
    (3.0, "crash", ("thread", "serve", "inline"), 4.0),
    (5.0, "swallowed_cancellation", ("inline",), 11.0),
    (7.0, "hang", ("thread", "inline", "process"), 8.0),
    (9.0, "poison_task", ("serve",), 6.0),
    (12.0, "dying_process", ("process",), 5.0),
    (15.0, "blocked_loop", ("inline",), 4.0),
    (18.0, "crash", ("thread",), 5.0),
    (20.0, "crash", ("observed", "serve"), 4.0),
    (23.0, "hang", ("process", "inline"), 9.0),
    (33.0, "mass_failure", ("thread", "inline", "serve"), 9.0),
)
_CYCLE = 60.0  # without an end in sight it all comes again
_WINDOW = 40.0  # part of a cycle in which faults are injected
_SHARE_OF_RUN = 0.6  # of a run shorter than a cycle
_SHORTEST = 20.0  # below it times stand still, and what does not fit is left out
_IN_CHAIN = 18.0  # the crash that takes a chain of dependents along
_FEWEST_FOR_MASS = 2


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault to come: seconds after the start, its kind, who may suffer it, seconds it needs."""

    at: float
    kind: str
    roles: tuple[Role, ...]
    needs: float
    in_chain: bool = False


@dataclass(slots=True)
class Injection:
    """A fault that was ordered, and what became of it.

    Attributes:
        kind: one of :data:`KINDS`.
        agents: who is to suffer it.
        at: supervisor's clock when it was ordered, seconds.
        injected: an agent has taken it on.
        detected: when the supervisor noticed, on its clock; None: not.
        recovered: when all was well again; None: not.
        task_id: the task that carries it, 0 where it is none or many.
        code: which crash it is.
        generations: of those who went down and are not back.
        hit: those who went down.
        baseline: successes of the agent when its recovery began to be watched.
        freed: the first half of a recovery that has two.
    """

    kind: str
    agents: tuple[str, ...]
    at: float
    injected: bool = False
    detected: float | None = None
    recovered: float | None = None
    task_id: int = 0
    code: str = ""
    generations: dict[str, int] = field(default_factory=dict)
    hit: set[str] = field(default_factory=set)
    baseline: int | None = None
    freed: bool = False

    @property
    def who(self) -> str:
        """Name the agent, or how many."""
        return self.agents[0] if len(self.agents) == 1 else f"{len(self.agents)} agents"


def plan(
    duration: float | None, *, cycle: int = 0, tempo: float = 1.0
) -> tuple[tuple[Planned, ...], tuple[str, ...]]:
    """Return what happens in one cycle, and the kinds for which the run is too short.

    Args:
        duration: seconds of the whole run; None: no end.
        cycle: which one, from 0.
        tempo: factor on all times, 1 for people.
    """
    length = None if duration is None else duration / tempo
    scale = 1.0
    if length is not None and length < _CYCLE and cycle == 0:
        scale = max(_SHORTEST, length) * _SHARE_OF_RUN / _WINDOW
    begins = cycle * _CYCLE
    fitting = tuple(
        Planned((begins + at * scale) * tempo, kind, roles, needs * tempo, at == _IN_CHAIN)
        for at, kind, roles, needs in _SCRIPT
        if length is None or begins + at * scale + needs <= length
    )
    kinds = {planned.kind for planned in fitting}
    return fitting, tuple(kind for kind in KINDS if kind not in kinds)


class Reports(Protocol):
    """Who hears of injections."""

    def ordered(self, injection: Injection) -> None:
        """It is about to be made."""

    def injected(self, injection: Injection) -> None:
        """An agent has taken it on; from any thread, perhaps more than once."""


class Chaos:
    """Carries the plan out, on agents that the seed chooses."""

    def __init__(
        self,
        fleet: Supervisor,
        players: tuple[Player, ...],
        decks: Mapping[str, Deck],
        observed: Mapping[str, ObservedWorker],
        report: Reports,
        *,
        seed: int,
        clock: Callable[[], float],
        tempo: float = 1.0,
    ) -> None:
        """Prepare; ``report`` hears of every injection before it is made, and when it is."""
        self._fleet = fleet
        self._players = players
        self._decks = decks
        self._observed = observed
        self._report = report
        self._seed = seed
        self._clock = clock
        self._tempo = tempo
        self._crashes = 0
        self.impossible: dict[str, str] = {}
        """Kinds that were not injected, and why."""

    async def run(self, duration: float | None) -> None:
        """Inject until there is nothing more to come, or cancelled."""
        began = self._clock()
        cycle = 0
        while True:
            planned, left_out = plan(duration, cycle=cycle, tempo=self._tempo)
            if cycle == 0:
                shortest = _SHORTEST * self._tempo
                for kind in left_out:
                    self.impossible[kind] = (
                        f"a run of {duration:g} s is too short for it; take {shortest:g} or more"
                    )
            choose = random.Random(f"{self._seed}\0chaos\0{cycle}")  # noqa: S311 - repeatable
            spared: set[str] = set()
            for step in planned:
                await asyncio.sleep(max(0.0, began + step.at - self._clock()))
                await self._inject(step, choose, spared)
            cycle += 1
            if duration is not None and not plan(duration, cycle=cycle, tempo=self._tempo)[0]:
                return
            await asyncio.sleep(max(0.0, began + cycle * _CYCLE * self._tempo - self._clock()))

    async def _inject(self, step: Planned, choose: random.Random, spared: set[str]) -> None:
        candidates = self._candidates(step, spared)
        if not candidates or (step.kind == "mass_failure" and len(candidates) < _FEWEST_FOR_MASS):
            if step.kind not in self.impossible:
                wanted = " or ".join(step.roles)
                self.impossible[step.kind] = f"this fleet has no agent for it (it takes {wanted})"
            return
        self.impossible.pop(step.kind, None)
        if step.kind == "mass_failure":
            victims = candidates
        else:
            victims = [choose.choice(candidates)]
            spared.add(victims[0].agent_id)
        injection = Injection(
            step.kind, tuple(player.agent_id for player in victims), self._clock()
        )
        if step.kind in ("crash", "poison_task"):
            self._crashes += 1
            injection.code = f"{step.kind}-{self._crashes}"
        self._report.ordered(injection)
        for player in victims:
            await self._afflict(player, injection)

    def _candidates(self, step: Planned, spared: set[str]) -> list[Player]:
        fitting = [p for p in self._players if p.role in step.roles]
        if step.kind == "mass_failure":
            # who restarts with others would fall for two reasons at a time
            return [p for p in fitting if not p.chained]
        head = [p for p in fitting if p.chained and not p.spec.depends_on]
        if step.in_chain and head:
            return head
        # each role in its turn, agents that were spared first
        for role in step.roles:
            of_role = [p for p in fitting if p.role == role and not p.chained]
            fresh = [p for p in of_role if p.agent_id not in spared]
            if fresh or of_role:
                return fresh or of_role
        return head

    async def _afflict(self, player: Player, injection: Injection) -> None:
        suffered = partial(self._report.injected, injection)
        worker = self._observed.get(player.agent_id)
        if worker is not None:
            worker.crash(injection.code, suffered)
            return
        label, assignment = self._decks[player.agent_id].draw()
        assignment = replace(
            assignment,
            fault=injection.kind,
            code=injection.code,
            seconds=self._seconds(injection.kind, player),
        )
        try:
            task = await self._fleet.agent(player.agent_id).submit(label, assignment)
        except TaskRefusedError:  # it is down or draining just now: not injected, then
            return
        if len(injection.agents) == 1:
            injection.task_id = task.id
        suffered()

    def _seconds(self, kind: str, player: Player) -> float:
        if kind == "blocked_loop":
            return max(0.6, self._tempo)
        if kind == "swallowed_cancellation":
            # longer than grace and stop deadline together, also where the loop is blocked meanwhile
            return 4.0 * max(0.7, self._tempo)
        return 2.5 * (player.spec.hang.hard or 0.0)
