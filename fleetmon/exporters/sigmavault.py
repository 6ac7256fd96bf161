"""ΣVAULT, the encrypted store: operations, encryption, snapshots, what is held; its filesystem."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeVar

from fleetmon.errors import SpecError
from fleetmon.exporters._families import Families, families_on
from fleetmon.exporters._fuse import OPERATIONS as FUSE_OPERATIONS
from fleetmon.exporters._fuse import Tracked
from fleetmon.exporters._instrument import Observation, instrument
from fleetmon.exporters._ledger import Ledger
from fleetmon.exporters._outcome import ERROR, MISS, STATUSES, SUCCESS, field, number, size_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import CollectorRegistry

    from fleetmon.exporters._ledger import Measure

F = TypeVar("F")
O = TypeVar("O")  # noqa: E741 - operations
Operation = Literal["store", "retrieve", "delete"]
SnapshotOperation = Literal["create", "list", "restore", "delete"]

DURATIONS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
SHORT_DURATIONS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1)
_OPERATIONS: tuple[Operation, ...] = ("store", "retrieve", "delete")
_SNAPSHOTS: tuple[SnapshotOperation, ...] = ("create", "list", "restore", "delete")


class _VaultFamilies(Families):
    def __init__(self, prefix: str) -> None:
        super().__init__(prefix)
        self.ledger = Ledger()
        self.sources: list[Measure] = []
        counted = self.counter(
            "sigmavault_operations_total", "Operations that ended.", ("operation", "status")
        )
        timed = self.histogram(
            "sigmavault_operation_duration_seconds",
            "Time spent in an operation.",
            ("operation",),
            buckets=DURATIONS,
        )
        self.gauge("sigmavault_storage_bytes_total", "Bytes held.").set_function(
            lambda: float(sum(source()[0] for source in self.held()))
        )
        self.gauge("sigmavault_objects_total", "Objects held.").set_function(
            lambda: float(sum(source()[1] for source in self.held()))
        )
        self.encryption = self.histogram(
            "sigmavault_encryption_duration_seconds",
            "Time spent in an encryption.",
            buckets=SHORT_DURATIONS,
        )
        snapshots = self.counter(
            "sigmavault_snapshot_operations_total",
            "Operations on snapshots that ended.",
            ("operation", "status"),
        )
        self._fuse = self.histogram(
            "sigmavault_fuse_operation_duration_seconds",
            "Time spent in a call of the filesystem.",
            ("operation",),
            buckets=SHORT_DURATIONS,
        )
        self.counted = {
            (operation, status): counted.labels(operation, status)
            for operation in _OPERATIONS
            for status in (*STATUSES, *((MISS,) if operation == "retrieve" else ()))
        }
        self.timed = {operation: timed.labels(operation) for operation in _OPERATIONS}
        self.snapshots = {
            (operation, status): snapshots.labels(operation, status)
            for operation in _SNAPSHOTS
            for status in STATUSES
        }
        self._fuse_children: dict[str, Any] = {}

    def held(self) -> list[Measure]:
        """Return the sources: the ledger of store and delete, unless others were named."""
        return self.sources or [self.ledger.totals]

    def mounted(self) -> None:
        """Have the filesystem's calls present at 0."""
        for operation in FUSE_OPERATIONS:
            self._fuse_children[operation] = self._fuse.labels(operation)

    def fuse(self, operation: str, seconds: float) -> None:
        """Book one call of a filesystem."""
        self._fuse_children[operation].observe(seconds)

    def operation(self, operation: str, status: str, seconds: float) -> None:
        """Book one operation."""
        self.counted[operation, status].inc()  # type: ignore[index] # checked by who calls
        self.timed[operation].observe(seconds)  # type: ignore[index] # as above


class VaultOperation(Observation):
    """One operation."""

    __slots__ = ("_families", "_key", "_operation", "_size")

    def __init__(
        self,
        families: _VaultFamilies,
        operation: Operation,
        key: str | None = None,
        size: int | None = None,
    ) -> None:
        """Begin; ``key`` and ``size`` of the object as far as they are known."""
        super().__init__()
        self._families = families
        self._operation: Operation = operation
        self._key = key
        self._size = size

    def miss(self) -> None:
        """Say that a retrieval found nothing."""
        self.fail(MISS)

    def result(self, result: object) -> str:
        """Read a miss and the size of what was stored from a result."""
        status = super().result(result)
        if self._operation == "retrieve":
            if result is None or (status == ERROR and not _explained(result)):
                return MISS
        elif status == SUCCESS and result is not False and self._key is not None:
            if self._operation == "delete":
                self._families.ledger.drop(self._key)
            else:
                told = number(result, "stored_size", "size")
                size = self._size if told is None else told
                if size is not None:
                    self._families.ledger.put(self._key, int(size))
        return status

    def finish(self, status: str, seconds: float) -> None:
        """Count it."""
        self._families.operation(self._operation, status, seconds)


def _explained(result: object) -> bool:
    """Tell whether a result without success names an error: then it is more than a miss."""
    return bool(field(result, "error"))


class _Snapshot(Observation):
    __slots__ = ("_families", "_operation")

    def __init__(self, families: _VaultFamilies, operation: SnapshotOperation) -> None:
        super().__init__()
        self._families = families
        self._operation: SnapshotOperation = operation

    def finish(self, status: str, seconds: float) -> None:  # noqa: ARG002 - counted only
        self._families.snapshots[self._operation, status].inc()


class _Encryption(Observation):
    __slots__ = ("_families",)

    def __init__(self, families: _VaultFamilies) -> None:
        super().__init__()
        self._families = families

    def finish(self, status: str, seconds: float) -> None:  # noqa: ARG002 - timed only
        self._families.encryption.observe(seconds)


class SigmaVaultExporter:
    """ΣVAULT's families on a registry; building it twice gives the same families.

    What is held is summed over its sources: the filesystems that are tracked, and what ``storage``
    measures. Where there are none, what went through the tracked ``store`` and ``delete``.
    """

    def __init__(
        self, registry: CollectorRegistry, *, prefix: str = "", storage: Measure | None = None
    ) -> None:
        """Build the families, or find those that are there.

        Args:
            registry: a ``CollectorRegistry``.
            prefix: put before every name, as in ``neurectomy_``.
            storage: gives bytes and number of objects held, at each scrape.

        Raises:
            SpecError: a prefix that cannot begin a metric's name.
            MetricClashError: the registry holds families of these names that are not ours.
        """
        self._families = families_on(registry, prefix, _VaultFamilies)
        if storage is not None:
            self._families.sources.append(storage)

    # Decorators.

    def _track(self, operation: Operation, target: F) -> F:
        families = self._families

        def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Observation:
            values = (*args, *kwargs.values())
            key = kwargs.get("key") or next((v for v in values if isinstance(v, str)), None)
            size = None
            if operation == "store":
                datum = kwargs.get("data", values[-1] if values else None)
                size = size_of(datum)
            return VaultOperation(families, operation, key, size)

        return instrument(target, begin)

    def track_store(self, target: F, /) -> F:
        """Measure ``store(key, data)``; the key is the first argument that is text."""
        return self._track("store", target)

    def track_retrieve(self, target: F, /) -> F:
        """Measure ``retrieve(key)``: None, or success False without an error, is a miss."""
        return self._track("retrieve", target)

    def track_delete(self, target: F, /) -> F:
        """Measure ``delete(key)``."""
        return self._track("delete", target)

    def track_encryption(self, target: F, /) -> F:
        """Measure ``encrypt(data)``."""
        families = self._families
        return instrument(target, lambda _args, _kwargs: _Encryption(families))

    def track_snapshot(self, operation: SnapshotOperation) -> Callable[[F], F]:
        """Count the calls of a callable that does this to snapshots."""
        if operation not in _SNAPSHOTS:
            raise SpecError(f"operation={operation!r} is none of {', '.join(_SNAPSHOTS)}")
        families = self._families

        def wrap(target: F) -> F:
            return instrument(target, lambda _args, _kwargs: _Snapshot(families, operation))

        return wrap

    def track_filesystem(
        self,
        operations: O,
        *,
        on_init: Callable[[], object] | None = None,
        on_destroy: Callable[[], object] | None = None,
        measure: Measure | None = None,
    ) -> O:
        """Track a filesystem made with fusepy or mfusepy; returns ``operations`` itself.

        Every call is timed in ``sigmavault_fuse_operation_duration_seconds``. A write is a store,
        a read that yields bytes a retrieve, an unlink a delete. What is held is read from the
        filesystem's own ``getattr``: once for all when it is mounted, then after each change.

        Args:
            operations: an instance, before it is given to ``FUSE``.
            on_init: called when the filesystem is mounted and libfuse has forked: the place to
                start a metrics server, whose thread would not survive the fork.
            on_destroy: called when it is unmounted.
            measure: gives bytes and objects held at a scrape, instead of the counting.

        Raises:
            SpecError: the object takes no attributes, or gets calls without paths.
        """
        self._families.mounted()
        tracked = Tracked(operations, self._families, measure)
        tracked.hook(operations, on_init, on_destroy)
        self._families.sources.append(tracked.totals)
        return operations

    # Context managers.

    def operation(self, operation: Operation) -> VaultOperation:
        """Measure a block."""
        if operation not in _OPERATIONS:
            raise SpecError(f"operation={operation!r} is none of {', '.join(_OPERATIONS)}")
        return VaultOperation(self._families, operation)

    def encryption(self) -> Observation:
        """Measure a block that encrypts."""
        return _Encryption(self._families)

    def snapshot(self, operation: SnapshotOperation) -> Observation:
        """Count a block that does this to snapshots."""
        return _Snapshot(self._families, operation)

    # Observe functions.

    def observe_operation(
        self, operation: Operation, seconds: float, *, status: str = SUCCESS
    ) -> None:
        """Count an operation that was measured elsewhere."""
        self._families.operation(operation, status, seconds)

    def observe_encryption(self, seconds: float) -> None:
        """Take down how long an encryption took."""
        self._families.encryption.observe(seconds)

    def observe_snapshot(self, operation: SnapshotOperation, *, status: str = SUCCESS) -> None:
        """Count an operation on snapshots."""
        self._families.snapshots[operation, status].inc()
