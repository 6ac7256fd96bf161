"""The unit in which goals are stated, and the way anything is compared with it.

Times move from run to run on a shared machine, so nothing here is a time on its own: candidates
run in turns, in one process, and what is reported is the median of the ratios within each turn.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

Body: TypeAlias = Callable[[int], Awaitable[None]]
"""A candidate: called with a number, it does its thing so many times."""


async def noop() -> None:
    """Do nothing: what is measured is the way around it."""


async def unit(iterations: int) -> None:
    """Run the UNIT: a bare ``await asyncio.create_task(noop())``, so many times."""
    create_task = asyncio.create_task
    for _ in range(iterations):
        await create_task(noop())


@dataclass(frozen=True)
class Timings:
    """Process CPU seconds per iteration, by candidate, one entry a round."""

    rounds: Mapping[str, tuple[float, ...]]

    def seconds(self, name: str) -> float:
        """Return the median CPU seconds of one iteration."""
        return statistics.median(self.rounds[name])

    def ratio(self, name: str, base: str = "unit") -> float:
        """Return the median over the rounds of `name` ÷ `base`, both from the same round."""
        return statistics.median(self._ratios(name, base))

    def spread(self, name: str, base: str = "unit") -> float:
        """Return half the distance of the quartiles of that ratio, as a share of the median."""
        low, middle, high = statistics.quantiles(self._ratios(name, base), n=4)
        return (high - low) / 2 / middle

    def added(self, name: str, less: str, base: str = "unit") -> float:
        """Return the median of (`name` minus `less`) ÷ `base`: what one adds to the other."""
        rows = zip(self.rounds[name], self.rounds[less], self.rounds[base], strict=True)
        return statistics.median((one - other) / unit_ for one, other, unit_ in rows)

    def _ratios(self, name: str, base: str) -> list[float]:
        pairs = zip(self.rounds[name], self.rounds[base], strict=True)
        return [one / other for one, other in pairs]


async def interleave(
    candidates: Mapping[str, Body], *, iterations: int = 2_000, rounds: int = 15
) -> Timings:
    """Measure candidates in turns: process CPU of all threads, garbage collected between turns.

    A first, unmeasured turn warms caches and lets lazy imports happen. The order turns round with
    every round, so that none always runs after the same one.

    Args:
        candidates: what to run, by name.
        iterations: how many times each runs in one turn.
        rounds: number of turns, at least 3.
    """
    order = list(candidates)
    taken: dict[str, list[float]] = {name: [] for name in order}
    for body in candidates.values():
        await body(max(1, iterations // 10))
    for _ in range(rounds):
        for name in order:
            gc.collect()
            began = time.process_time()
            await candidates[name](iterations)
            taken[name].append((time.process_time() - began) / iterations)
        order.append(order.pop(0))
    return Timings({name: tuple(values) for name, values in taken.items()})
