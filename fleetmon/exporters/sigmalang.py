"""ΣLANG, the semantic compressor: requests, ratios, durations, sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from fleetmon.exporters._families import Families, families_on
from fleetmon.exporters._instrument import Observation, instrument
from fleetmon.exporters._outcome import STATUSES, SUCCESS, number, size_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import CollectorRegistry

F = TypeVar("F")

RATIOS = (0.5, 1, 1.5, 2, 3, 5, 10, 15, 20, 25, 30, 50)
# Encoding takes a millisecond or two; the alert on latency asks whether p95 is above 5 s, so that
# bounds must go on beyond it.
DURATIONS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1),
    *(2.5, 5, 10),
)
SIZES = tuple(64 * 4**power for power in range(11))  # 64 B to 64 MiB


class _LangFamilies(Families):
    def __init__(self, prefix: str) -> None:
        super().__init__(prefix)
        requests = self.counter(
            "sigmalang_compression_requests_total", "Compressions that ended.", ("status",)
        )
        self.ratios = self.histogram(
            "sigmalang_compression_ratio",
            "Original over compressed size; below 1 where the output is the larger.",
            buckets=RATIOS,
        )
        self.durations = self.histogram(
            "sigmalang_compression_duration_seconds",
            "Time spent in a compression.",
            buckets=DURATIONS,
        )
        self.original = self.histogram(
            "sigmalang_original_size_bytes", "Bytes that went in.", buckets=SIZES
        )
        self.compressed = self.histogram(
            "sigmalang_compressed_size_bytes", "Bytes that came out.", buckets=SIZES
        )
        undone = self.counter(
            "sigmalang_decompression_requests_total", "Decompressions that ended.", ("status",)
        )
        self.requests = {status: requests.labels(status) for status in STATUSES}
        self.undone = {status: undone.labels(status) for status in STATUSES}


class Compression(Observation):
    """One compression.

    Attributes:
        original: bytes in, None as long as unknown.
        compressed: bytes out, None as long as unknown.
    """

    __slots__ = ("_families", "_ratio", "compressed", "original")

    def __init__(self, families: _LangFamilies, original: float | None = None) -> None:
        """Begin; the size of the input may be known."""
        super().__init__()
        self._families = families
        self._ratio: float | None = None
        self.original = original
        self.compressed: float | None = None

    def sizes(self, original: int, compressed: int) -> None:
        """Tell both sizes in bytes, for use as a context manager."""
        self.original, self.compressed = original, compressed

    def item(self, item: object) -> None:
        """Add what a streaming encoder yields to the output."""
        size = size_of(item)
        if size is not None:
            self.compressed = (self.compressed or 0) + size

    def result(self, result: object) -> str:
        """Read sizes from a result: its own, or those of plain bytes."""
        told = number(result, "original_size")
        self.original = self.original if told is None else told
        out = number(result, "compressed_size")
        out = size_of(result) if out is None else out
        self.compressed = self.compressed if out is None else out
        self._ratio = number(result, "compression_ratio")
        return super().result(result)

    def finish(self, status: str, seconds: float) -> None:
        """Count it; sizes and ratio only of a success, the ratio only where both are above 0."""
        families = self._families
        families.requests[status].inc()
        families.durations.observe(seconds)
        if status != SUCCESS:
            return
        ratio = self._ratio
        if self.original is not None:
            families.original.observe(self.original)
        if self.compressed is not None:
            families.compressed.observe(self.compressed)
        if self.original is not None and self.compressed is not None:
            # What was measured goes before what was claimed.
            ratio = self.original / self.compressed if self.original and self.compressed else None
        if ratio is not None:
            families.ratios.observe(ratio)


class _Decompression(Observation):
    __slots__ = ("_families",)

    def __init__(self, families: _LangFamilies) -> None:
        super().__init__()
        self._families = families

    def finish(self, status: str, seconds: float) -> None:  # noqa: ARG002 - counted only
        self._families.undone[status].inc()


class SigmaLangExporter:
    """ΣLANG's families on a registry; building it twice gives the same families."""

    def __init__(self, registry: CollectorRegistry, *, prefix: str = "") -> None:
        """Build the families on ``registry``, each name behind ``prefix``, or find them there.

        Raises:
            SpecError: a prefix that cannot begin a metric's name.
            MetricClashError: the registry holds families of these names that are not ours.
        """
        self._families = families_on(registry, prefix, _LangFamilies)

    @overload
    def track_compression_operation(self, target: F, /) -> F: ...
    @overload
    def track_compression_operation(
        self, *, size: Callable[..., int | None] | None = None
    ) -> Callable[[F], F]: ...
    def track_compression_operation(
        self, target: Any = None, *, size: Callable[..., int | None] | None = None
    ) -> Any:
        """Measure a callable that compresses.

        Sizes come from the result's ``original_size`` and ``compressed_size``; failing these from
        the first argument that is bytes or text, and from the result if it is. ``size`` gives the
        bytes that go in, from the call's arguments, where they cannot be seen.
        """
        families = self._families

        def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Observation:
            if size is not None:
                return Compression(families, size(*args, **kwargs))
            sizes = (size_of(value) for value in (*args, *kwargs.values()))
            return Compression(families, next((s for s in sizes if s is not None), None))

        def wrap(wrapped: F) -> F:
            return instrument(wrapped, begin)

        return wrap if target is None else wrap(target)

    @overload
    def track_decompression_operation(self, target: F, /) -> F: ...
    @overload
    def track_decompression_operation(self) -> Callable[[F], F]: ...
    def track_decompression_operation(self, target: Any = None) -> Any:
        """Count the calls of a callable that decompresses."""
        families = self._families

        def wrap(wrapped: F) -> F:
            return instrument(wrapped, lambda _args, _kwargs: _Decompression(families))

        return wrap if target is None else wrap(target)

    def compression(self) -> Compression:
        """Measure a block; tell the bytes with ``sizes``."""
        return Compression(self._families)

    def decompression(self) -> Observation:
        """Count a block."""
        return _Decompression(self._families)

    def observe_compression(
        self,
        seconds: float,
        *,
        original_size: int | None = None,
        compressed_size: int | None = None,
        status: str = SUCCESS,
    ) -> None:
        """Count a compression that was measured elsewhere."""
        one = Compression(self._families, original_size)
        one.compressed = compressed_size
        one.finish(status, seconds)

    def observe_decompression(self, *, status: str = SUCCESS) -> None:
        """Count a decompression."""
        self._families.undone[status].inc()
