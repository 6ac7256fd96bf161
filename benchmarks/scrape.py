"""Rows 7, 8 and 9: what a scrape costs, and how long it keeps the host's loop waiting.

Run as ``python -m benchmarks.scrape [AGENTS ...]``. The peer is ``prometheus_client`` as it comes:
a registry with one real child for each series, holding the same numbers, rendered by
``generate_latest``. Both outputs are compared byte for byte before anything is measured. A scrape
of ours is taken chunk by chunk, as the server sends it.
"""

from __future__ import annotations

import asyncio
import random
import sys
import threading
import time
from itertools import count
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from fleetmon.numbers import AgentNumbers
from fleetmon.snapshot import FleetReading
from fleetmon.telemetry.collector import FleetCollector
from fleetmon.telemetry.exposition import Renderer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from prometheus_client.metrics_core import Metric

    from fleetmon.numbers import TypeNumbers

TASK_TYPES = ("classify", "generate", "review", "summarise", "train")
INTERVAL = 15.0  # seconds between two scrapes, on the fleet's clock
SIZES = (40, 1_000, 10_000)

_TICK = 0.001  # seconds between two looks of the probed loop
_KINDS: dict[str, type[Any]] = {"counter": Counter, "gauge": Gauge, "histogram": Histogram}


_IDS = count(1)


class _Task(NamedTuple):
    id: int
    slot: TypeNumbers
    started_at: float


class Population:
    """A source of numbers: agents with five task types and some traffic."""

    name = "bench"

    def __init__(self, agents: int, *, traffic: int = 3) -> None:
        """Make ``agents`` agents that have seen ``traffic`` tasks of each type."""
        self._random = random.Random(7)  # noqa: S311 - the same traffic in each run
        self.clock = 1_000.0
        self.numbers = [
            AgentNumbers(
                f"agent-{i:05d}", now=0.0, task_types=TASK_TYPES, info=(str(i), "1", "research")
            )
            for i in range(agents)
        ]
        for numbers in self.numbers:
            numbers.lifecycle = "running"
            for _ in range(traffic):
                self.work(numbers)

    def work(self, numbers: AgentNumbers) -> None:
        """Let an agent finish one task of each type, one of them failed."""
        for task_type in TASK_TYPES:
            slot = numbers.type(task_type)
            task = _Task(next(_IDS), slot, self.clock - self._random.expovariate(0.5))
            numbers.begin(task)
            numbers.end(task, int(task_type == "train"), self.clock)
        numbers.fail("exception")

    def some(self, share: float) -> list[AgentNumbers]:
        """Draw a share (0 to 1) of the agents."""
        return self._random.sample(self.numbers, max(1, round(len(self.numbers) * share)))

    def agents(self) -> Sequence[AgentNumbers]:
        """Return all numbers."""
        return self.numbers

    def now(self) -> float:
        """Return the fleet's clock, seconds."""
        return self.clock

    def fleet(self) -> FleetReading:
        """Return plausible numbers of a supervisor."""
        return FleetReading(
            0.001, 0.02, 1.5, 4711, {"log": 0, "stream": 3}, 0, 2, 1, 0, 5, 1, False
        )

    def ready(self) -> bool:
        """Return that it serves."""
        return True


class Cost(NamedTuple):
    """Medians of one size, seconds."""

    agents: int
    stock: float
    full: float
    tenth: float
    full_uncached: float

    @property
    def row7(self) -> float:
        """Stock ÷ ours, every agent changed since the last scrape."""
        return self.stock / self.full

    @property
    def row8(self) -> float:
        """Stock ÷ ours, a tenth of the agents changed since the last scrape."""
        return self.stock / self.tenth


class Stall(NamedTuple):
    """Lateness of a loop that looks at the clock each millisecond, seconds."""

    agents: int
    idle: float  # longest without a scrape: the machine's own noise
    scrape: float  # longest within one scrape of an all-changed fleet, median over scrapes
    worst: float  # the longest of all of them


def stock_registry(metrics: Iterable[Metric]) -> CollectorRegistry:
    """Return a registry of real prometheus children that hold the numbers of ``metrics``."""
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    for metric in metrics:
        name = metric.name + ("_total" if metric.type == "counter" else "")
        first = next((s for s in metric.samples if not s.name.endswith("_sum")), None)
        # an empty family prints no sample, as a stock one does that has labels and no child
        labels = ["none"] if first is None else [x for x in first.labels if x != "le"]
        options: dict[str, Any] = {}
        if metric.type == "histogram":
            bounds = dict.fromkeys(s.labels["le"] for s in metric.samples if "le" in s.labels)
            options["buckets"] = [float(bound) for bound in bounds]
        family = _KINDS[metric.type](
            name, metric.documentation, labels, registry=registry, **options
        )
        _fill(family, metric, labels)
    return registry


def _fill(family: Any, metric: Metric, labels: list[str]) -> None:
    # children are set through their value objects: observing would take hours
    index: dict[tuple[str, ...], int] = {}
    before: dict[tuple[str, ...], float] = {}
    for sample in metric.samples:
        key = tuple(sample.labels[label] for label in labels)
        child = family.labels(*key) if labels else family
        if sample.name.endswith("_bucket"):
            i = index.get(key, 0)
            child._buckets[i].set(sample.value - before.get(key, 0.0))
            index[key], before[key] = i + 1, sample.value
        elif sample.name.endswith("_sum"):
            child._sum.set(sample.value)
        elif not sample.name.endswith("_count") or metric.type != "histogram":
            child._value.set(sample.value)


def _timed(renderer: Renderer) -> float:
    start = time.perf_counter()
    for _ in renderer.render():
        pass
    return time.perf_counter() - start


def cost(agents: int) -> Cost:
    """Measure rows 7 and 8 for one size; interleaved, medians.

    Raises:
        AssertionError: the two do not print the same bytes.
    """
    fleet = Population(agents)
    renderer, plain = Renderer(fleet), Renderer(fleet, cache=False)
    registry = stock_registry(FleetCollector(fleet).collect())
    rounds = 9 if agents <= 100 else 5 if agents <= 1_000 else 3
    stock, full, tenth, uncached = [], [], [], []
    for i in range(rounds):
        if i < 2 or agents <= 1_000:  # a stock scrape of 10k agents takes a quarter of a minute
            start = time.perf_counter()
            theirs = generate_latest(registry)
            stock.append(time.perf_counter() - start)
            if i == 0:
                assert theirs == b"".join(renderer.render()), "not the same bytes"
            del theirs
        for numbers in fleet.numbers:
            fleet.work(numbers)
        fleet.clock += INTERVAL
        full.append(_timed(renderer))
        # a steady state: who worked within the last window still moves in utilization
        for turn in range(7):
            for numbers in fleet.some(0.1):
                fleet.work(numbers)
            fleet.clock += INTERVAL
            seconds = _timed(renderer)
            if turn >= 4:
                tenth.append(seconds)
        uncached.append(_timed(plain))
    return Cost(agents, median(stock), median(full), median(tenth), median(uncached))


def stall(agents: int, *, scrapes: int = 7) -> Stall:
    """Measure row 9: a thread scrapes while a loop looks at the clock each millisecond."""
    fleet = Population(agents)
    renderer = Renderer(fleet)

    async def measured() -> Stall:
        idle = await _lateness(None)
        late = []
        for _ in range(scrapes):
            for numbers in fleet.numbers:
                fleet.work(numbers)
            fleet.clock += INTERVAL
            late.append(await _lateness(renderer))
        return Stall(agents, idle, median(late), max(late))

    return asyncio.run(measured())


async def _lateness(renderer: Renderer | None) -> float:
    longest = 0.0
    end = time.perf_counter() + 0.3
    thread = None
    if renderer is not None:
        thread = threading.Thread(target=_timed, args=(renderer,))
        thread.start()
    while thread.is_alive() if thread is not None else time.perf_counter() < end:
        before = time.perf_counter()
        await asyncio.sleep(_TICK)
        longest = max(longest, time.perf_counter() - before - _TICK)
    if thread is not None:
        thread.join()
    return longest


def main(sizes: Sequence[int]) -> None:
    """Print the rows for the sizes given."""
    for agents in sizes:
        c = cost(agents)
        print(
            f"{agents:6d} agents: stock {c.stock * 1e3:9.2f} ms  "
            f"all changed {c.full * 1e3:8.2f} ms = {c.row7:5.1f}x (row 7)  "
            f"a tenth changed {c.tenth * 1e3:8.2f} ms = {c.row8:6.1f}x (row 8)  "
            f"no cache {c.full_uncached * 1e3:8.2f} ms = {c.stock / c.full_uncached:5.1f}x"
        )
        s = stall(agents)
        print(
            f"{'':6s} loop late by {s.scrape * 1e3:.2f} ms in a scrape, {s.worst * 1e3:.2f} ms at "
            f"worst, {s.idle * 1e3:.2f} ms without one (row 9)"
        )


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1:]] or SIZES)
