"""The stock way: the families as ``prometheus_client`` metric objects.

For hosts that render by themselves. What fleetmon serves comes from
:class:`~fleetmon.telemetry.exposition.Renderer`, which prints the same bytes many times faster.
"""

from __future__ import annotations

from copy import copy
from itertools import accumulate
from threading import local
from typing import TYPE_CHECKING, Any

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.samples import Exemplar as StockExemplar

from fleetmon.numbers import LIFECYCLES, OUTCOMES, RECOVERY_OUTCOMES
from fleetmon.readings import read
from fleetmon.telemetry import families as f

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from fleetmon.numbers import AgentNumbers
    from fleetmon.readings import Exemplar, NumbersReading
    from fleetmon.telemetry.families import Family, NumbersSource

_muted = local()
_WITH_CREATED = frozenset({"counter", "histogram", "summary"})


class FleetCollector:
    """All families of a fleet, read anew at each :meth:`collect`.

    Register it on a registry of your own choice (``registry.register(FleetCollector(source))``):
    nothing is registered by itself. A second fleet on one registry is refused by the registry as
    ``Duplicated timeseries``.
    """

    def __init__(self, source: NumbersSource) -> None:
        """Read from ``source``."""
        self._source = source

    def describe(self) -> Iterator[Metric]:
        """Yield the families without samples: what a registry checks for duplicates."""
        for family in f.FAMILIES:
            yield _metric(family)

    def collect(self) -> Iterator[Metric]:
        """Yield the families with samples; each agent is read once, consistent in itself."""
        if getattr(_muted, "on", False):
            return
        now = self._source.now()
        readings = [(f.clean(n.agent_id), n, read(n, now)) for n in self._source.agents()]
        fleet = self._source.fleet()
        for family in f.AGENT_FAMILIES:
            metric = _metric(family)
            if family is f.ACTIVE_TOTAL:
                metric.add_metric([], sum(r.lifecycle in f.ACTIVE for _, _, r in readings))
            else:
                add = _ADD[family.name]
                for agent_id, numbers, reading in readings:
                    add(metric, agent_id, numbers, reading)
            yield metric
        for family, rows in f.fleet_rows(fleet):
            metric = _metric(family)
            for labels, value in rows:
                metric.add_metric(labels, value)
            yield metric


class muted:  # noqa: N801 - reads as the statement it is: ``with muted():``
    """While entered, collectors of fleets yield nothing in this thread.

    So the rest of a registry can be rendered by stock code behind what we rendered ourselves.
    """

    def __enter__(self) -> None:
        """Mute this thread."""
        _muted.on = True

    def __exit__(self, *_exc: object) -> None:
        """Let this thread collect again."""
        _muted.on = False


_KINDS = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
}


def _metric(family: Family) -> Any:
    return _KINDS[family.kind](family.name, family.help, labels=family.labels)


def _stock(exemplar: Exemplar | None) -> StockExemplar | None:
    if exemplar is None:
        return None
    labels = f.exemplar_labels(exemplar)
    return None if labels is None else StockExemplar(labels, exemplar.value, exemplar.at)


def _assigned(metric: Any, agent: str, _n: AgentNumbers, reading: NumbersReading) -> None:
    for t in reading.types:
        metric.add_metric((agent, f.clean(t.task_type)), t.assigned)


def _completed(metric: Any, agent: str, _n: AgentNumbers, reading: NumbersReading) -> None:
    for t in reading.types:
        for outcome, value in zip(OUTCOMES, t.outcomes, strict=True):
            metric.add_metric((agent, outcome, f.clean(t.task_type)), value)


def _duration(metric: Any, agent: str, n: AgentNumbers, reading: NumbersReading) -> None:
    bounds = [f.number(b).decode() for b in (*n.bounds, float("inf"))]
    for t in reading.types:
        exemplars = t.exemplars or {}
        buckets = [
            (bound, value, _stock(exemplars.get(i)))
            for i, (bound, value) in enumerate(zip(bounds, accumulate(t.buckets), strict=True))
        ]
        metric.add_metric((agent, f.clean(t.task_type)), buckets, t.seconds)


def _failures(metric: Any, agent: str, _n: AgentNumbers, reading: NumbersReading) -> None:
    exemplars = reading.failure_exemplars or {}
    for error_type, value in reading.failures.items():
        exemplar = _stock(exemplars.get(error_type))
        metric.add_metric((agent, f.clean(error_type)), value, exemplar=exemplar)


def _recoveries(metric: Any, agent: str, _n: AgentNumbers, reading: NumbersReading) -> None:
    for outcome, value in zip(RECOVERY_OUTCOMES, reading.recoveries, strict=True):
        metric.add_metric((agent, outcome), value)


def _lifecycle(metric: Any, agent: str, _n: AgentNumbers, reading: NumbersReading) -> None:
    for state in LIFECYCLES:
        metric.add_metric((agent, state), int(state == reading.lifecycle))


def _info(metric: Any, agent: str, n: AgentNumbers, _reading: NumbersReading) -> None:
    number, tier, field = map(f.clean, n.info)
    metric.add_metric((agent, field, number, tier), 1)


def _one(name: str) -> Callable[[Any, str, AgentNumbers, NumbersReading], None]:
    def add(metric: Any, agent: str, _n: AgentNumbers, reading: NumbersReading) -> None:
        metric.add_metric((agent,), getattr(reading, name))

    return add


_ADD: dict[str, Callable[[Any, str, AgentNumbers, NumbersReading], None]] = {
    f.ASSIGNED.name: _assigned,
    f.COMPLETED.name: _completed,
    f.DURATION.name: _duration,
    f.UTILIZATION.name: _one("utilization"),
    f.BUSY.name: _one("busy_seconds"),
    f.FAILURES.name: _failures,
    f.RECOVERY_ATTEMPTS.name: _one("recovery_attempts"),
    f.RECOVERIES.name: _recoveries,
    f.RESTARTS.name: _one("restarts"),
    f.HEALTH.name: _one("health"),
    f.LIFECYCLE.name: _lifecycle,
    f.INFO.name: _info,
    f.REDELIVERED.name: _one("redelivered"),
    f.IN_FLIGHT.name: _one("in_flight"),
    f.QUEUE.name: _one("queued"),
    f.BLOCKED.name: _one("blocked_seconds"),
}


class _Fixed:
    """A registry of one metric, for stock encoders."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterable[Metric]:
        return (self._metric,)


def others(registry: Any, encode: Callable[[Any], bytes], pause: Callable[[], None]) -> list[bytes]:
    """Return what stock code prints for all of ``registry`` but fleets, a family each.

    Args:
        registry: a ``CollectorRegistry``, or a restricted one.
        encode: stock encoder: a registry to bytes. A closing ``# EOF`` is taken off.
        pause: called between families, to let other threads run.

    Raises:
        Exception: whatever a collector on that registry raises.
    """
    chunks = []
    with muted():
        for text in each(registry, encode):
            chunks.append(text)
            pause()
    return chunks


def each(registry: Any, encode: Callable[[Any], bytes]) -> Iterator[bytes]:
    """Yield what the stock encoder prints for each family of ``registry``, without ``# EOF``.

    ``_created`` samples are left out, as ``prometheus_client.disable_created_metrics()`` would do
    for a whole process.
    """
    for metric in registry.collect():
        yield encode(_Fixed(_without_created(metric))).removesuffix(b"# EOF\n")


def _without_created(metric: Metric) -> Metric:
    if metric.type not in _WITH_CREATED:
        return metric
    name = metric.name + "_created"
    kept = [sample for sample in metric.samples if sample.name != name]
    if len(kept) == len(metric.samples):
        return metric
    metric = copy(metric)  # it may be the collector's own
    metric.samples = kept
    return metric
