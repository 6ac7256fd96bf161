"""The demonstration's services: a model that learns, a codec, a store that encrypts."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetmon.demo._model import tokenize
from fleetmon.demo.corpus import find_corpus
from fleetmon.demo.services import (
    Compressor,
    EncodingError,
    EncryptedStore,
    LanguageModel,
    ModelError,
    Services,
    StoreError,
)


@given(st.text(max_size=80))
def test_tokens_put_together_are_the_text(text: str) -> None:
    assert "".join(tokenize(text)) == text


def test_the_model_learns_generates_streams_and_is_saved(tmp_path: Path) -> None:
    model = LanguageModel(seed=5)
    with pytest.raises(ModelError, match="train"):
        model.generate("x")
    with pytest.raises(ModelError):
        model.stream("x")
    assert model.train("one two three.") == 6
    whole = model.generate("one ", max_tokens=50)
    assert (whole.text, whole.stop_reason) == ("two three.", "end_of_text")
    assert (whole.prompt_tokens, whole.completion_tokens) == (2, 4)
    assert whole.generation_time_ms >= 0
    short = model.generate("one ", max_tokens=2)
    assert (short.text, short.stop_reason) == ("two ", "max_tokens")
    chunks = list(model.stream("one ", 50))
    assert "".join(chunk.text for chunk in chunks) == whole.text
    assert [chunk.is_first for chunk in chunks] == [True] + [False] * (len(chunks) - 1)
    assert [chunk.is_last for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1].stop_reason == "end_of_text"
    model.save(tmp_path / "model.json")
    other = LanguageModel(seed=5)
    assert other.load_model(tmp_path / "model.json") == len(model)
    assert other.generate("one ", 50).text == whole.text
    for content in ("{}", "[]", "not json", '{"format": "fleetmon-ngram-1"}'):
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(ModelError, match=r"bad\.json"):
            other.load_model(tmp_path / "bad.json")
    assert other.generate("one ", 50).text == whole.text


def test_the_models_memory_is_bounded() -> None:
    model = LanguageModel(max_contexts=200)
    choose = random.Random(0)
    for _ in range(40):
        model.train(" ".join(str(choose.randrange(10**6)) for _ in range(60)))
        assert len(model) <= 201
    assert model.generate("", 10).completion_tokens == 10


@given(st.binary(max_size=400), st.binary(max_size=100))
def test_encoded_bytes_come_back(data: bytes, dictionary: bytes) -> None:
    codec = Compressor(dictionary)
    result = codec.encode(data)
    assert (result.original_size, result.compressed_size) == (len(data), len(result.data))
    assert codec.decode(result.data) == data
    for at in range(0, len(result.data), 7):
        with pytest.raises(EncodingError):
            codec.decode(result.data[:at])


def test_a_trained_codec_does_better_and_refuses_foreign_blocks() -> None:
    files = find_corpus(seed=3, max_files=6, max_file_bytes=12_000).files
    samples = [path.read_bytes() for path in files]
    trained, plain = Compressor.trained_on(samples), Compressor()
    sample = samples[0] * 2
    assert trained.encode(sample).compressed_size <= plain.encode(sample).compressed_size + 8
    assert plain.encode(b"a" * 1_000).compression_ratio > 10
    assert plain.encode(b"a").compression_ratio < 1
    with pytest.raises(EncodingError, match="use the same"):
        Compressor(b"other").decode(plain.encode(b"a").data)
    spoiled = bytearray(plain.encode(b"some text").data)
    spoiled[-1] ^= 1
    with pytest.raises(EncodingError, match="damaged"):
        plain.decode(bytes(spoiled))


def test_the_store_keeps_deletes_and_notices_tampering(tmp_path: Path) -> None:
    store = EncryptedStore(tmp_path, b"k" * 32)
    stored = store.store("näme/../x", b"secret words")
    assert (stored.size, stored.stored_size) == (12, 60)
    assert store.retrieve("näme/../x") == b"secret words"
    assert store.retrieve("other") is None
    assert EncryptedStore(tmp_path, b"k" * 32).retrieve("näme/../x") == b"secret words"
    with pytest.raises(StoreError, match="do not verify"):
        store.decrypt(store.encrypt(b"a", b"label"), b"another label")
    (held,) = (tmp_path / "objects").iterdir()
    assert b"secret" not in held.read_bytes()
    spoiled = bytearray(held.read_bytes())
    for at in (0, 20, len(spoiled) - 1):
        damaged = bytearray(spoiled)
        damaged[at] ^= 1
        held.write_bytes(damaged)
        with pytest.raises(StoreError):
            store.retrieve("näme/../x")
    held.write_bytes(b"")
    with pytest.raises(StoreError):
        store.retrieve("näme/../x")
    assert EncryptedStore(tmp_path).retrieve("näme/../x") is None
    assert store.delete("näme/../x")
    assert not store.delete("näme/../x")
    assert len(store) == 0


def test_snapshots_bring_back_what_was_and_survive_a_crash_between(tmp_path: Path) -> None:
    store = EncryptedStore(tmp_path, clock=lambda: 1_000.0)
    store.store("a", b"1")
    first = store.create_snapshot()
    assert (first.snapshot_id, first.objects, first.created) == ("000001", 1, 1_000.0)
    store.store("a", b"2")
    store.store("b", b"3")
    second = store.create_snapshot()
    (tmp_path / "restoring").mkdir()
    assert store.restore_snapshot(first.snapshot_id) == 1
    assert (store.retrieve("a"), store.retrieve("b")) == (b"1", None)
    assert store.restore_snapshot(second.snapshot_id) == 2
    assert (store.retrieve("a"), store.retrieve("b")) == (b"2", b"3")
    store.delete_snapshot(first.snapshot_id)
    assert store.list_snapshots() == [second]
    for call in (store.restore_snapshot, store.delete_snapshot):
        with pytest.raises(StoreError, match="000002"):
            call("000001")


def test_temporary_services_leave_nothing_behind() -> None:
    with Services() as services:
        services.store.store("a", b"1")
        assert services._temporary is not None
        directory = Path(services._temporary.name)
        assert directory.is_dir()
    assert not directory.exists()
    services.close()
