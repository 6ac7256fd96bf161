"""Every family of the services by name, type, labels and buckets, in both formats."""

from __future__ import annotations

import gc
import shutil
import subprocess
import weakref
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

from fleetmon.errors import SpecError
from fleetmon.exporters import (
    MetricClashError,
    RyotExporter,
    SigmaLangExporter,
    SigmaVaultExporter,
)

# As they are promised to whoever writes a dashboard. Not imported from the library, so that nobody
# changes a name there without meeting it here. The counter that ends otherwise is exposed as the
# formats demand.
FAMILIES = {
    "ryot_inference_requests_total": ("counter", {"model", "status"}),
    "ryot_inference_duration_seconds": ("histogram", {"model"}),
    "ryot_tokens_generated_total": ("counter", {"model"}),
    "ryot_first_token_duration_seconds": ("histogram", {"model"}),
    "ryot_model_loading_duration": ("gauge", {"model"}),
    "ryot_model_loading_duration_seconds": ("gauge", {"model"}),
    "ryot_batch_size": ("histogram", {"model"}),
    "ryot_gpu_memory_usage_bytes": ("gauge", {"gpu"}),
    "sigmalang_compression_requests_total": ("counter", {"status"}),
    "sigmalang_compression_ratio": ("histogram", set()),
    "sigmalang_compression_duration_seconds": ("histogram", set()),
    "sigmalang_original_size_bytes": ("histogram", set()),
    "sigmalang_compressed_size_bytes": ("histogram", set()),
    "sigmalang_decompression_requests_total": ("counter", {"status"}),
    "sigmavault_operations_total": ("counter", {"operation", "status"}),
    "sigmavault_operation_duration_seconds": ("histogram", {"operation"}),
    "sigmavault_storage_bytes_total": ("gauge", set()),
    "sigmavault_objects_total": ("gauge", set()),
    "sigmavault_encryption_duration_seconds": ("histogram", set()),
    "sigmavault_snapshot_operations_total": ("counter", {"operation", "status"}),
    "sigmavault_fuse_operation_duration_seconds": ("histogram", {"operation"}),
}
BUCKETS = {
    "ryot_inference_duration_seconds": [0.1, 0.5, 1, 2, 5, 10, 30],
    "sigmalang_compression_ratio": [0.5, 1, 1.5, 2, 3, 5, 10, 15, 20, 25, 30, 50],
    "sigmalang_original_size_bytes": [64 * 4**n for n in range(11)],
    "sigmalang_compressed_size_bytes": [64 * 4**n for n in range(11)],
}
STATUSES = {"success", "error", "cancelled", "timed_out"}


class Services:
    """The three exporters on one registry."""

    def __init__(self, prefix: str = "") -> None:
        self.registry = CollectorRegistry()
        self.ryot = RyotExporter(
            self.registry, prefix=prefix, models=["small"], gpu=lambda: [("0", 7)]
        )
        self.lang = SigmaLangExporter(self.registry, prefix=prefix)
        self.vault = SigmaVaultExporter(self.registry, prefix=prefix)

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


@pytest.fixture
def services() -> Services:
    return Services()


def exercise(services: Services) -> None:
    services.ryot.observe_inference(0.3, model="small", tokens=5, first_token_seconds=0.02)
    services.ryot.observe_loading(2.5, model="small")
    services.ryot.observe_batch(4, model="small")
    services.lang.observe_compression(0.001, original_size=100, compressed_size=50)
    services.lang.observe_decompression()
    services.vault.observe_operation("store", 0.01)
    services.vault.observe_encryption(0.001)
    services.vault.observe_snapshot("create")
    services.vault.track_filesystem(SimpleNamespace(getattr=lambda _path, _fh=None: {}))


# -- names ----------------------------------------------------------------------------------------


def assert_complete(families: list[Any], prefix: str = "") -> None:
    found = {}
    for family in families:
        name = f"{family.name}_total" if family.type == "counter" else family.name
        assert name not in found
        found[name] = family
    assert {name: family.type for name, family in found.items()} == {
        prefix + name: kind for name, (kind, _) in FAMILIES.items()
    }
    for name, (_, labels) in FAMILIES.items():
        samples = found[prefix + name].samples
        assert samples, name
        for sample in samples:
            assert not sample.name.endswith("_created")
            assert set(sample.labels) - {"le"} == labels, sample
        assert found[prefix + name].documentation.endswith(".")
    for name, bounds in BUCKETS.items():
        seen = [s.labels["le"] for s in found[prefix + name].samples if "le" in s.labels]
        assert [float(le) for le in dict.fromkeys(seen)] == [*bounds, float("inf")], name
    durations = found[prefix + "sigmalang_compression_duration_seconds"].samples
    assert min(float(s.labels["le"]) for s in durations if "le" in s.labels) <= 0.0005


@pytest.mark.parametrize("prefix", ["", "neurectomy_"])
def test_both_formats_hold_every_family_and_parse(prefix: str) -> None:
    services = Services(prefix)
    exercise(services)
    text = generate_latest(services.registry).decode()
    assert_complete(list(parse_text(text)), prefix)
    openmetrics = generate_openmetrics(services.registry).decode()
    assert_complete(list(parse_openmetrics(openmetrics)), prefix)
    assert 'le="5.0"' in text


def test_promtool_objects_to_the_two_gauges_that_end_in_total_and_to_nothing_else(
    services: Services,
) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    exercise(services)
    done = subprocess.run(
        [promtool, "check", "metrics"],
        input=generate_latest(services.registry),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        timeout=20,
    )
    lint = 'non-counter metrics should not have "_total" suffix'
    assert sorted(done.stdout.decode().splitlines()) == [
        f"sigmavault_objects_total {lint}",
        f"sigmavault_storage_bytes_total {lint}",
    ]


def test_label_values_are_closed_sets_at_0_from_the_first_scrape(services: Services) -> None:
    seen: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for family in services.registry.collect():
        for sample in family.samples:
            if family.type == "counter":
                assert sample.value == 0
                seen[sample.name].add(tuple(v for _, v in sorted(sample.labels.items())))
    assert seen["ryot_inference_requests_total"] == {("small", s) for s in STATUSES}
    assert seen["sigmalang_compression_requests_total"] == {(s,) for s in STATUSES}
    assert seen["sigmavault_operations_total"] == {
        (o, s) for o in ("store", "retrieve", "delete") for s in STATUSES
    } | {("retrieve", "miss")}
    assert seen["sigmavault_snapshot_operations_total"] == {
        (o, s) for o in ("create", "list", "restore", "delete") for s in STATUSES
    }


def test_the_same_exporter_twice_is_the_same_families(services: Services) -> None:
    again = RyotExporter(services.registry)
    again.observe_batch(3)
    services.ryot.observe_batch(5)
    assert services.value("ryot_batch_size_sum", model="default") == 8
    RyotExporter(services.registry, prefix="other_")  # beside it


def test_somebody_elses_family_of_that_name_is_an_error_that_says_so() -> None:
    registry = CollectorRegistry()
    Counter("sigmalang_decompression_requests", "Theirs.", registry=registry)
    with pytest.raises(MetricClashError, match="give the exporter a prefix"):
        SigmaLangExporter(registry)
    with pytest.raises(SpecError, match="prefix='9x'"):
        RyotExporter(registry, prefix="9x")


def test_a_registry_that_is_dropped_is_freed() -> None:
    services = Services()
    gone = weakref.ref(services.registry)
    del services
    gc.collect()
    assert gone() is None


# -- Ryot -----------------------------------------------------------------------------------------


def test_generate_and_stream_count_requests_tokens_and_first_tokens(services: Services) -> None:
    @services.ryot.track_inference(model="small")
    def generate(prompt: str, config: object = None) -> SimpleNamespace:
        return SimpleNamespace(prompt_tokens=2, completion_tokens=5, stop_reason="length")

    @services.ryot.track_inference(model="small")
    def stream(count: int) -> Any:
        for index in range(count):
            yield SimpleNamespace(text="x", is_first=index == 0, is_last=False)
        yield SimpleNamespace(text="", is_first=False, is_last=True)

    generate("a")
    list(stream(3))
    early = stream(9)
    next(early), next(early)
    early.close()
    assert services.value("ryot_tokens_generated_total", model="small") == 5 + 3 + 2
    requests = "ryot_inference_requests_total"
    assert services.value(requests, model="small", status="success") == 2
    assert services.value(requests, model="small", status="cancelled") == 1
    assert services.value("ryot_first_token_duration_seconds_count", model="small") == 2
    assert services.value("ryot_inference_duration_seconds_count", model="small") == 3


def test_the_answer_of_a_chat_completion_is_understood_and_a_block_is_told(
    services: Services,
) -> None:
    answer = {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 4}}
    services.ryot.track_inference(model="small")(lambda: answer)()
    with services.ryot.inference("small") as call:
        call.generated(3)
    assert services.value("ryot_tokens_generated_total", model="small") == 7


def test_models_are_bounded(services: Services) -> None:
    registry = CollectorRegistry()
    ryot = RyotExporter(registry, max_models=2)
    for model in ("a", "b", "c", "d", "a"):
        ryot.observe_inference(1, model=model)
    name, ok = "ryot_inference_requests_total", "success"
    counts = {
        model: registry.get_sample_value(name, {"model": model, "status": ok})
        for model in ("a", "b", "c", "other")
    }
    assert counts == {"a": 2, "b": 1, "c": None, "other": 2}


def test_loading_moves_both_gauges_and_only_when_it_worked(services: Services) -> None:
    @services.ryot.track_loading(model=lambda path: path)
    def load_model(path: str) -> None:
        if path == "bad":
            raise OSError(path)

    load_model("good")
    with pytest.raises(OSError, match="bad"):
        load_model("bad")
    seconds = services.value("ryot_model_loading_duration", model="good")
    assert seconds == services.value("ryot_model_loading_duration_seconds", model="good")
    assert seconds is not None
    assert seconds > 0
    assert services.value("ryot_model_loading_duration", model="bad") is None
    services.ryot.track_batch(lambda prompts: prompts)(["a", "b"])
    assert services.value("ryot_batch_size_sum", model="default") == 2


def test_without_a_gpu_the_family_is_absent_and_with_one_it_is_read_at_the_scrape() -> None:
    used: list[tuple[str, int]] = []
    registry = CollectorRegistry()
    RyotExporter(registry, gpu=lambda: used)
    assert b"gpu" not in generate_latest(registry)
    used += [("0", 10), ("1", 20)]
    assert b'ryot_gpu_memory_usage_bytes{gpu="1"} 20.0' in generate_latest(registry)


# -- ΣLANG ----------------------------------------------------------------------------------------


async def compress_data(data: bytes) -> SimpleNamespace:
    return SimpleNamespace(success=True, original_size=len(data), compressed_size=len(data) // 4)


@pytest.mark.anyio
async def test_sizes_come_from_results_bytes_or_the_input(services: Services) -> None:
    track = services.lang.track_compression_operation
    await track(compress_data)(b"x" * 400)

    class Encoder:
        @track
        def encode(self, data: bytes) -> bytes:
            return data * 2  # larger than the input

    Encoder().encode(b"y" * 10)
    assert track(lambda _: b"head")(b"") == b"head"  # empty input: sizes, no ratio
    track(lambda _: SimpleNamespace(compression_ratio=7.0))(object())
    track(lambda _: SimpleNamespace(success=False))(b"z")
    assert services.value("sigmalang_compression_ratio_count") == 3
    assert services.value("sigmalang_compression_ratio_sum") == 4 + 0.5 + 7
    assert services.value("sigmalang_compression_ratio_bucket", le="0.5") == 1
    assert services.value("sigmalang_original_size_bytes_sum") == 410
    assert services.value("sigmalang_compressed_size_bytes_sum") == 100 + 20 + 4
    requests = "sigmalang_compression_requests_total"
    assert services.value(requests, status="success") == 4
    assert services.value(requests, status="error") == 1

    @services.lang.track_decompression_operation
    def decode(data: bytes) -> bytes:
        raise ValueError(data)

    with pytest.raises(ValueError, match="q"):
        decode(b"q")
    assert services.value("sigmalang_decompression_requests_total", status="error") == 1
    with services.lang.compression() as block:
        block.sizes(30, 10)
    assert services.value("sigmalang_compression_ratio_sum") == 14.5


# -- ΣVAULT ---------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_operations_misses_and_what_is_held(services: Services) -> None:
    held: dict[str, bytes] = {}
    vault = services.vault

    @vault.track_store
    def store(key: str, data: bytes) -> None:
        held[key] = data

    @vault.track_retrieve
    def retrieve(key: str) -> bytes | None:
        return held.get(key)

    @vault.track_delete
    def delete(key: str) -> bool:
        return held.pop(key, None) is not None

    store("a", b"12345")
    store(key="a", data=b"123")  # over it
    store("b", b"12")
    assert retrieve("a") == b"123"
    assert retrieve("z") is None
    delete("b")
    delete("z")
    vault.track_retrieve(lambda _: SimpleNamespace(success=False))("q")
    assert services.value("sigmavault_storage_bytes_total") == 3
    assert services.value("sigmavault_objects_total") == 1
    operations = "sigmavault_operations_total"
    assert services.value(operations, operation="store", status="success") == 3
    assert services.value(operations, operation="retrieve", status="miss") == 2
    assert services.value(operations, operation="retrieve", status="error") == 0
    assert services.value(operations, operation="delete", status="success") == 2

    @vault.track_snapshot("restore")
    async def restore_snapshot(_name: str) -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        await restore_snapshot("x")
    snapshots = "sigmavault_snapshot_operations_total"
    assert services.value(snapshots, operation="restore", status="timed_out") == 1
    with vault.operation("retrieve") as one:
        one.miss()
    assert services.value(operations, operation="retrieve", status="miss") == 3
    with pytest.raises(SpecError, match="rename"):
        vault.track_snapshot("rename")  # type: ignore[arg-type]


def test_a_store_that_can_be_measured_is_measured() -> None:
    registry = CollectorRegistry()
    SigmaVaultExporter(registry, storage=lambda: (70, 2))
    assert registry.get_sample_value("sigmavault_storage_bytes_total") == 70
    assert registry.get_sample_value("sigmavault_objects_total") == 2
