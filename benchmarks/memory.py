"""Row 10: what an idle agent keeps in memory after traffic and scrapes.

Run as ``python -m benchmarks.memory``. Measured with ``tracemalloc``: bytes allocated by Python
and still held, a fleet of 500 agents, divided by their number. Each agent has finished tasks of
five types, then the fleet is scraped twice in both formats and everything else is collected. The
peer is the prometheus children of the seven main families alone, with the same numbers; ours hold
all families.
"""

from __future__ import annotations

import gc
import tracemalloc
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.scrape import INTERVAL, Population, stock_registry
from fleetmon.readings import Exemplar
from fleetmon.telemetry.collector import FleetCollector
from fleetmon.telemetry.exposition import Renderer

if TYPE_CHECKING:
    from collections.abc import Callable

AGENTS = 500
SEVEN = frozenset(
    {
        "agents_active_total",
        "agents_tasks_assigned",
        "agents_task_duration_seconds",
        "agents_utilization_ratio",
        "agents_failures",
        "agents_recovery_attempts",
        "agents_health_status",
    }
)


class Memory(NamedTuple):
    """Bytes an agent."""

    children: float
    cached: float
    uncached: float
    cached_exemplars: float

    @property
    def row10(self) -> tuple[float, float]:
        """Ours ÷ prometheus children: text caches on, off."""
        return self.cached / self.children, self.uncached / self.children


def _held(make: Callable[[], object]) -> float:
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    kept = make()
    gc.collect()
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    del kept
    return held / AGENTS


def _fleet(*, cache: bool, sampled: bool = False) -> object:
    fleet = Population(AGENTS, traffic=10)
    if sampled:  # each type has an exemplar in its two fullest buckets, with ids of their own
        for i, numbers in enumerate(fleet.numbers):
            for j, slot in enumerate(numbers.types.values()):
                fullest = sorted(range(len(slot.buckets)), key=slot.buckets.__getitem__)[-2:]
                slot.exemplars = {
                    b: Exemplar(f"{i:016x}{j:08x}{b:08x}", f"{i:016x}", 1.5, 1.7e9 + i)
                    for b in fullest
                }
    renderer = Renderer(fleet, cache=cache)
    for _ in range(2):
        for openmetrics in (False, True):
            for _chunk in renderer.render(openmetrics):
                pass
        fleet.clock += 8 * INTERVAL  # beyond the window: the agents are idle
    return fleet, renderer


def memory() -> Memory:
    """Measure row 10."""
    _fleet(cache=True)  # module-level tables and imports are nobody's agent
    collected = FleetCollector(Population(AGENTS, traffic=10)).collect()
    metrics = [metric for metric in collected if metric.name in SEVEN]
    children = _held(lambda: stock_registry(metrics))
    return Memory(
        children,
        _held(lambda: _fleet(cache=True)),
        _held(lambda: _fleet(cache=False)),
        _held(lambda: _fleet(cache=True, sampled=True)),
    )


def main() -> None:
    """Print the row."""
    m = memory()
    on, off = m.row10
    print(
        f"prometheus children {m.children / 1e3:.1f} kB an agent; ours, caches on "
        f"{m.cached / 1e3:.1f} kB = {on:.2f}, off {m.uncached / 1e3:.1f} kB = {off:.2f}; "
        f"on with ten exemplars {m.cached_exemplars / 1e3:.1f} kB (row 10)"
    )


if __name__ == "__main__":
    main()
