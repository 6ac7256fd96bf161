"""What was counted since the last look, as plain values that travel between processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from prometheus_client import Counter, Gauge, Histogram

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from prometheus_client.metrics import MetricWrapperBase

Key = tuple[str, tuple[str, ...]]


class Increment(NamedTuple):
    """One child's news.

    Attributes:
        at: place of the family among those of its service.
        labels: the child's label values.
        values: of a counter the increment; of a gauge what it stands at; of a histogram the
            increments of its sum and of each bucket.
    """

    at: int
    labels: tuple[str, ...]
    values: tuple[float, ...]


class Deltas:
    """Remembers what was told."""

    def __init__(self) -> None:
        """Begin with nothing told."""
        self._told: dict[tuple[int, tuple[str, ...]], tuple[float, ...]] = {}

    def take(self, metrics: Sequence[MetricWrapperBase]) -> list[Increment]:
        """Return what is new in ``metrics``."""
        news = []
        for at, metric in enumerate(metrics):
            for labels, child in _children(metric):
                values = _values(child)
                before = self._told.get((at, labels), (0.0,) * len(values))
                if values == before:
                    continue
                self._told[at, labels] = values
                if not isinstance(child, Gauge):
                    values = tuple(new - old for new, old in zip(values, before, strict=True))
                news.append(Increment(at, labels, values))
        return news

    @staticmethod
    def give(metrics: Sequence[MetricWrapperBase], increments: Iterable[Increment]) -> None:
        """Add increments to the same families of another process."""
        for at, labels, values in increments:
            metric = metrics[at]
            child = metric.labels(*labels) if labels else metric
            if isinstance(child, Counter):
                child.inc(values[0])
            elif isinstance(child, Gauge):
                child.set(values[0])
            elif isinstance(child, Histogram):
                child._sum.inc(values[0])
                for bucket, more in zip(child._buckets, values[1:], strict=True):
                    if more:
                        bucket.inc(more)


def _children(
    metric: MetricWrapperBase,
) -> list[tuple[tuple[str, ...], MetricWrapperBase]]:
    # The library has no public way to a child's numbers short of formatting all its samples.
    if metric._labelnames:
        with metric._lock:
            return [(tuple(labels), child) for labels, child in metric._metrics.items()]
    return [((), metric)]


def _values(child: MetricWrapperBase) -> tuple[float, ...]:
    if isinstance(child, Histogram):
        buckets = (bucket.get() for bucket in child._buckets)
        return (child._sum.get(), *buckets)
    if isinstance(child, (Counter, Gauge)):
        return (child._value.get(),)
    return ()
