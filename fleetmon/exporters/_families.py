"""Families on a registry of the host's: each built once, without ``_created`` series, bounded."""

from __future__ import annotations

import re
import threading
from importlib import import_module
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakKeyDictionary

from prometheus_client import Counter, Gauge, Histogram

from fleetmon import relay
from fleetmon.errors import FleetmonError, SpecError
from fleetmon.exporters._deltas import Deltas

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics import MetricWrapperBase
    from prometheus_client.metrics_core import Metric

    from fleetmon.exporters._deltas import Increment

S = TypeVar("S", bound="Families")

_PREFIX = re.compile(r"([a-zA-Z_][a-zA-Z0-9_]*)?")
_LONGEST = 128  # characters of a label's value
OTHER = "other"
"""What label values beyond the bound are counted under."""


class MetricClashError(FleetmonError, ValueError):
    """The registry already holds a family of that name that is not ours.

    Attributes:
        names: the names that were wanted.
    """

    def __init__(self, message: str, *, names: tuple[str, ...]) -> None:
        """Keep what was wanted beside the message."""
        super().__init__(message)
        self.names = names


class Families:
    """The families of one service under one prefix; a collector.

    Stock metrics that are not registered themselves: this collector is, and leaves out the
    ``_created`` series, which the library switches for the whole process only.
    """

    def __init__(self, prefix: str) -> None:
        """Build the families; nothing is registered yet."""
        self._prefix = prefix
        self._metrics: list[MetricWrapperBase] = []
        self._deltas = Deltas()

    def counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Counter:
        """Make a counter."""
        made = Counter(self._prefix + name, text, labels, registry=None)
        self._metrics.append(made)
        return made

    def gauge(self, name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
        """Make a gauge."""
        made = Gauge(self._prefix + name, text, labels, registry=None)
        self._metrics.append(made)
        return made

    def histogram(
        self, name: str, text: str, labels: Sequence[str] = (), *, buckets: Sequence[float]
    ) -> Histogram:
        """Make a histogram."""
        made = Histogram(self._prefix + name, text, labels, buckets=buckets, registry=None)
        self._metrics.append(made)
        return made

    def further(self) -> Iterable[Metric]:
        """Return families that are read at the scrape."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield the families with their samples."""
        for metric in self._metrics:
            for family in metric.collect():
                family.samples = [s for s in family.samples if not s.name.endswith("_created")]
                yield family
        yield from self.further()

    def describe(self) -> Iterator[Metric]:
        """Yield the families without samples: what a registry checks for duplicates."""
        for metric in self._metrics:
            yield from metric.describe()

    # What a worker process counted travels to its supervisor: see fleetmon.relay.

    def take(self) -> list[Increment]:
        """Return what was counted since the last call, as plain values."""
        return self._deltas.take(self._metrics)

    def give(self, increments: Iterable[Increment]) -> None:
        """Count what was counted elsewhere."""
        self._deltas.give(self._metrics, increments)


_known: WeakKeyDictionary[CollectorRegistry, dict[tuple[type, str], Families]] = WeakKeyDictionary()
_lock = threading.Lock()


def families_on(registry: CollectorRegistry, prefix: str, kind: type[S]) -> S:
    """Return the families of a service on a registry; the same ones each time.

    Raises:
        SpecError: the prefix cannot begin a metric's name.
        MetricClashError: somebody else registered one of the names.
    """
    if not _PREFIX.fullmatch(prefix):
        raise SpecError(
            f"prefix={prefix!r} cannot begin a metric's name; use letters, digits and underscores, "
            "as in 'neurectomy_'",
            field="prefix",
            value=prefix,
        )
    with _lock:
        here = _known.setdefault(registry, {})
        found = here.get((kind, prefix))
        if found is None:
            found = kind(prefix)
            try:
                registry.register(found)
            except ValueError as error:
                names = tuple(metric.name for metric in found.describe())
                raise MetricClashError(
                    f"the registry already holds families of the names {', '.join(names)} that "
                    f"fleetmon did not build ({error}); give the exporter a prefix",
                    names=names,
                ) from error
            here[kind, prefix] = found
            relay.join(f"{kind.__module__}:{kind.__qualname__}", prefix, found)
    return found  # type: ignore[return-value] # what is kept under a kind is of that kind


def receive(registry: CollectorRegistry, told: Iterable[relay.News]) -> None:
    """Count what a worker process told on ``registry``; families that are not there are built."""
    for kind, prefix, increments in told:
        module, _, name = kind.partition(":")
        families_on(registry, prefix, getattr(import_module(module), name)).give(increments)


class Bounded:
    """Keeps the values of a label few: the first so many stand, all further ones are ``other``."""

    def __init__(self, limit: int) -> None:
        """Admit ``limit`` values."""
        self._limit = limit
        self._admitted: set[str] = {OTHER}
        self._lock = threading.Lock()

    def __call__(self, value: object) -> str:
        """Return the value to use as a label."""
        text = str(value)[:_LONGEST] or OTHER
        if text in self._admitted:
            return text
        with self._lock:
            if len(self._admitted) > self._limit:
                return OTHER
            self._admitted.add(text)
        return text
