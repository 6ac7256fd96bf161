"""Where the work comes from: which file next, how often, and who hands it in."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from fleetmon import TaskRefusedError
from fleetmon.demo.agents import Assignment

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetmon import Agent
    from fleetmon.demo.cast import Player

SHARE = 0.5
"""Of one core: what the demonstration uses by default, its threads together."""

WORKER_REST = 0.25
"""Part of the others' rest that an agent takes whose work does not share the interpreter's lock."""

_SHORTEST, _LONGEST = 0.1, 5.0  # seconds between two tasks of one agent
_AFTER_REFUSAL = 0.5  # seconds until an agent that takes nothing is asked again


class Deck:
    """One agent's files and verbs, in an order that the seed decides."""

    def __init__(self, player: Player, seed: int) -> None:
        """Shuffle."""
        self._labels = player.labels
        self._paths = player.corpus.paths(player.recipe.job.wants)
        self._choose = random.Random(f"{seed}\0{player.agent_id}")  # noqa: S311 - repeatable, not secret
        self._drawn = 0

    def draw(self) -> tuple[str, Assignment]:
        """Return the next task's type, as the roster calls it, and the assignment."""
        label, verb = self._labels[self._drawn % len(self._labels)]
        self._drawn += 1
        return label, Assignment(verb, str(self._choose.choice(self._paths)))


class Pacer:
    """How long agents rest between tasks, so that all of them together use a share of one core.

    Pure Python work in threads shares the interpreter's lock: beyond a core there is only delay.
    """

    def __init__(
        self,
        agents: int,
        share: float = SHARE,
        clock: Callable[[], float] = time.monotonic,
        cpu: Callable[[], float] = time.process_time,
    ) -> None:
        """Begin with a guess; :meth:`steer` corrects it.

        Args:
            agents: how many rest between tasks.
            share: cores to use, workers not counted.
            clock: seconds that pass.
            cpu: seconds that this process has computed.
        """
        self.interval = min(_LONGEST, max(_SHORTEST, agents * 0.02))
        self.load = 0.0
        self._share = share
        self._clock = clock
        self._cpu = cpu
        self._at = clock()
        self._used = cpu()

    def steer(self) -> None:
        """Look at the load since the last call and correct the interval by at most a third."""
        now, used = self._clock(), self._cpu()
        if now <= self._at:
            return
        self.load = (used - self._used) / (now - self._at)
        self._at, self._used = now, used
        factor = min(4 / 3, max(3 / 4, self.load / self._share))
        self.interval = min(_LONGEST, max(_SHORTEST, self.interval * factor))


class Feeder:
    """Hands one agent its tasks, each when the one before has ended and a rest is over."""

    def __init__(
        self, agent: Agent, deck: Deck, pacer: Pacer, seed: int, *, rest: float = 1.0
    ) -> None:
        """Prepare; ``rest`` is the part of the pacer's interval that this agent rests."""
        self._part = rest
        self._agent = agent
        self._deck = deck
        self._pacer = pacer
        self._rest = random.Random(f"{seed}\0rest\0{agent.agent_id}")  # noqa: S311 - spreads load

    async def run(self) -> None:
        """Feed until cancelled; what was handed in by then stays in the mailbox."""
        await asyncio.sleep(self._rest.random() * self._pacer.interval)
        while True:
            label, assignment = self._deck.draw()
            try:
                task = await self._agent.submit(label, assignment)
            except TaskRefusedError:  # quarantined, paused by somebody, or draining
                await asyncio.sleep(_AFTER_REFUSAL)
                continue
            with suppress(Exception):  # how it ended is in the books
                await task
            await asyncio.sleep(self._rest.uniform(0.5, 1.5) * self._pacer.interval * self._part)
