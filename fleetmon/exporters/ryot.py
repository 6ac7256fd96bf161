"""Ryot, the inference service: requests, durations, tokens, batches, loading, memory of GPUs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sized
from typing import TYPE_CHECKING, Any, TypeVar, overload

from prometheus_client.metrics_core import GaugeMetricFamily

from fleetmon.exporters._families import Bounded, Families, families_on
from fleetmon.exporters._gpu import nvml_memory
from fleetmon.exporters._instrument import Observation, instrument
from fleetmon.exporters._outcome import STATUSES, SUCCESS, field, number

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

    from fleetmon.exporters._gpu import GpuReader

F = TypeVar("F")
Model = str | Callable[..., object]
"""A model's name, or what finds it from the call's arguments (``self`` of a method included)."""

DURATIONS = (0.1, 0.5, 1, 2, 5, 10, 30)
FIRST_TOKENS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
BATCHES = (1, 2, 3, 4, 5, 6, 7, 8, 16, 32, 64)


class _RyotFamilies(Families):
    def __init__(self, prefix: str) -> None:
        super().__init__(prefix)
        self.requests = self.counter(
            "ryot_inference_requests_total", "Inference requests that ended.", ("model", "status")
        )
        self.durations = self.histogram(
            "ryot_inference_duration_seconds",
            "Time spent in an inference.",
            ("model",),
            buckets=DURATIONS,
        )
        self.tokens = self.counter("ryot_tokens_generated", "Tokens generated.", ("model",))
        self.first_tokens = self.histogram(
            "ryot_first_token_duration_seconds",
            "Time from the start of a stream to its first chunk.",
            ("model",),
            buckets=FIRST_TOKENS,
        )
        self.loading = self.gauge(
            "ryot_model_loading_duration",
            "Seconds that the last loading of the model took.",
            ("model",),
        )
        self.loading_seconds = self.gauge(
            "ryot_model_loading_duration_seconds",
            "Time that the last loading of the model took.",
            ("model",),
        )
        self.batches = self.histogram(
            "ryot_batch_size", "Requests in a batch.", ("model",), buckets=BATCHES
        )
        self.gpu: GpuReader = nvml_memory
        self.bounded: Bounded | None = None
        self.models: dict[str, _Model] = {}

    def further(self) -> Iterable[Metric]:
        """Read the GPUs; without one there is no family, not one that says 0."""
        family = GaugeMetricFamily(
            f"{self._prefix}ryot_gpu_memory_usage_bytes", "Memory in use on a GPU.", labels=("gpu",)
        )
        for gpu, used in self.gpu():
            family.add_metric((gpu,), used)
        return (family,) if family.samples else ()

    def model(self, name: str) -> _Model:
        found = self.models.get(name)
        if found is None:
            found = self.models[name] = _Model(self, name)
        return found


class _Model:
    """The children of one model, bound once: ``labels()`` costs more than the counting."""

    __slots__ = ("batches", "durations", "first_tokens", "loading", "requests", "tokens")

    def __init__(self, families: _RyotFamilies, name: str) -> None:
        self.requests = {status: families.requests.labels(name, status) for status in STATUSES}
        self.durations = families.durations.labels(name)
        self.tokens = families.tokens.labels(name)
        self.first_tokens = families.first_tokens
        self.batches = families.batches
        self.loading = (families.loading, families.loading_seconds)


class Inference(Observation):
    """One inference.

    Attributes:
        tokens: tokens generated so far.
    """

    __slots__ = ("_families", "_first", "_name", "tokens")

    def __init__(self, families: _RyotFamilies, name: str) -> None:
        """Begin with no tokens; ``name`` is the model's label."""
        super().__init__()
        self._families = families
        self._name = name
        self._first: float | None = None
        self.tokens = 0.0

    def generated(self, tokens: int) -> None:
        """Add tokens to those of this inference, for use as a context manager."""
        self.tokens += tokens

    def item(self, item: object) -> None:
        """Count a chunk: as many tokens as it says, else one; an empty last chunk is none."""
        if self._first is None:
            self._first = self.seconds
        told = number(item, "completion_tokens", "token_count", "tokens")
        if told is None:
            empty = field(item, "is_last") is True and not field(item, "text")
            told = 0 if empty else 1
        self.tokens += told

    def result(self, result: object) -> str:
        """Read the tokens of a result, its own or those of its ``usage``."""
        told = number(result, "completion_tokens", "tokens_generated")
        if told is None:
            told = number(field(result, "usage"), "completion_tokens")
        self.tokens += told or 0
        return super().result(result)

    def finish(self, status: str, seconds: float) -> None:
        """Count it."""
        model = self._families.model(self._name)
        model.requests[status].inc()
        model.durations.observe(seconds)
        if self.tokens > 0:
            model.tokens.inc(self.tokens)
        if self._first is not None:
            model.first_tokens.labels(self._name).observe(self._first)


class _Loading(Observation):
    __slots__ = ("_families", "_name")

    def __init__(self, families: _RyotFamilies, name: str) -> None:
        super().__init__()
        self._families = families
        self._name = name

    def finish(self, status: str, seconds: float) -> None:
        if status == SUCCESS:
            for gauge in self._families.model(self._name).loading:
                gauge.labels(self._name).set(seconds)


class _Batch(Observation):
    __slots__ = ("_families", "_name", "_size")

    def __init__(self, families: _RyotFamilies, name: str, size: int) -> None:
        super().__init__()
        self._families = families
        self._name = name
        self._size = size

    def finish(self, status: str, seconds: float) -> None:  # noqa: ARG002 - a batch has a size only
        self._families.model(self._name).batches.labels(self._name).observe(self._size)


class RyotExporter:
    """Ryot's families on a registry; building it twice gives the same families.

    Wrap the outermost call: an engine whose ``generate`` goes through its own ``stream`` counts
    twice when both are wrapped on the same object.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        prefix: str = "",
        models: Iterable[str] = (),
        max_models: int = 20,
        gpu: GpuReader | None = None,
    ) -> None:
        """Build the families, or find those that are there.

        Args:
            registry: a ``CollectorRegistry``.
            prefix: put before every name, as in ``neurectomy_``.
            models: present at 0 from the first scrape.
            max_models: values of the label ``model`` that are told apart; further ones are
                ``other``. The first exporter on a registry decides.
            gpu: gives (gpu, bytes in use) of each GPU at a scrape; by default NVML, if the extra
                ``gpu`` is installed.

        Raises:
            SpecError: a prefix that cannot begin a metric's name.
            MetricClashError: the registry holds families of these names that are not ours.
        """
        self._families = families_on(registry, prefix, _RyotFamilies)
        if self._families.bounded is None:
            self._families.bounded = Bounded(max_models)
        if gpu is not None:
            self._families.gpu = gpu
        for model in models:
            self._families.model(self._label(model))

    def _label(self, model: object) -> str:
        bounded = self._families.bounded
        return str(model) if bounded is None else bounded(model)

    def _called(self, model: Model, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        return self._label(model if isinstance(model, str) else model(*args, **kwargs))

    # Decorators.

    @overload
    def track_inference(self, target: F, /) -> F: ...
    @overload
    def track_inference(self, *, model: Model = ...) -> Callable[[F], F]: ...
    def track_inference(self, target: Any = None, *, model: Model = "default") -> Any:
        """Measure a callable that generates: ``generate``, ``stream`` and their like.

        Tokens come from the result's ``completion_tokens`` (or ``usage``), of streams from the
        chunks: those of a stream that is closed early count, too.
        """
        families = self._families

        def wrap(wrapped: F) -> F:
            return instrument(
                wrapped,
                lambda args, kwargs: Inference(families, self._called(model, args, kwargs)),
                iterators=True,
            )

        return wrap if target is None else wrap(target)

    @overload
    def track_loading(self, target: F, /) -> F: ...
    @overload
    def track_loading(self, *, model: Model = ...) -> Callable[[F], F]: ...
    def track_loading(self, target: Any = None, *, model: Model = "default") -> Any:
        """Measure a callable that loads a model; only a success moves the gauge."""
        families = self._families

        def wrap(wrapped: F) -> F:
            return instrument(
                wrapped, lambda args, kwargs: _Loading(families, self._called(model, args, kwargs))
            )

        return wrap if target is None else wrap(target)

    @overload
    def track_batch(self, target: F, /) -> F: ...
    @overload
    def track_batch(self, *, model: Model = ...) -> Callable[[F], F]: ...
    def track_batch(self, target: Any = None, *, model: Model = "default") -> Any:
        """Take the size of each batch from the first argument that has one (text has not)."""
        families = self._families

        def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Observation:
            size = next(
                len(value)
                for value in (*args, *kwargs.values())
                if isinstance(value, Sized) and not isinstance(value, (str, bytes))
            )
            return _Batch(families, self._called(model, args, kwargs), size)

        def wrap(wrapped: F) -> F:
            return instrument(wrapped, begin)

        return wrap if target is None else wrap(target)

    # Context managers.

    def inference(self, model: str = "default") -> Inference:
        """Measure a block; tell the tokens with ``generated``."""
        return Inference(self._families, self._label(model))

    def loading(self, model: str = "default") -> Observation:
        """Measure a block that loads a model."""
        return _Loading(self._families, self._label(model))

    # Observe functions.

    def observe_inference(
        self,
        seconds: float,
        *,
        model: str = "default",
        status: str = SUCCESS,
        tokens: int = 0,
        first_token_seconds: float | None = None,
    ) -> None:
        """Count an inference that was measured elsewhere."""
        name = self._label(model)
        children = self._families.model(name)
        children.requests[status].inc()
        children.durations.observe(seconds)
        children.tokens.inc(tokens)
        if first_token_seconds is not None:
            children.first_tokens.labels(name).observe(first_token_seconds)

    def observe_loading(self, seconds: float, *, model: str = "default") -> None:
        """Take down how long a model took to load."""
        _Loading(self._families, self._label(model)).finish(SUCCESS, seconds)

    def observe_batch(self, size: int, *, model: str = "default") -> None:
        """Take down the size of a batch."""
        _Batch(self._families, self._label(model), size).finish(SUCCESS, 0)
