"""Three small services that the demonstration's agents share: language model, codec, store.

They are plain synchronous classes with the method surfaces of their grown-up relatives, so that an
exporter can wrap them like anything else.
"""

from __future__ import annotations

import tempfile
import threading
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from fleetmon.demo._codec import Compressor, EncodeResult, EncodingError
from fleetmon.demo._model import (
    Generation,
    LanguageModel,
    ModelError,
    StreamChunk,
)
from fleetmon.demo._store import EncryptedStore, Snapshot, StoredObject, StoreError
from fleetmon.exporters import (
    RyotExporter,
    SigmaLangExporter,
    SigmaVaultExporter,
    wrap_methods,
)

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from prometheus_client import CollectorRegistry

__all__ = [
    "Compressor",
    "EncodeResult",
    "EncodingError",
    "EncryptedStore",
    "Generation",
    "LanguageModel",
    "ModelError",
    "Services",
    "Snapshot",
    "StoreError",
    "StoredObject",
    "StreamChunk",
]


@dataclass
class Services:
    """What jobs find when they need more than their file: each made when first asked for.

    Attributes:
        seed: for the model's choices.
        directory: where the store lies; None for a temporary one, removed by :meth:`close`.
        registry: where the services are measured, as Ryot, ΣLANG and ΣVAULT are; None: nowhere.
    """

    seed: int = 0
    directory: Path | None = None
    registry: CollectorRegistry | None = None

    def __post_init__(self) -> None:
        """Make the lock that guards the first use."""
        self._lock = threading.RLock()
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Self:
        """Return itself; measured services are made now, so that their families are there."""
        if self.registry is not None:
            _ = self.model, self.compressor, self.store
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    @cached_property
    def model(self) -> LanguageModel:
        """The language model, untrained."""
        model = LanguageModel(seed=self.seed)
        if self.registry is not None:
            ryot = RyotExporter(self.registry, models=[model.name])
            wrap_methods(
                model,
                generate=ryot.track_inference(model=model.name),
                stream=ryot.track_inference(model=model.name),
                load_model=ryot.track_loading(model=model.name),
                generate_batch=ryot.track_batch(model=model.name),
            )
        return model

    def reload_model(self) -> int:
        """Save the model beside the store and load it again; return its number of contexts."""
        with tempfile.TemporaryDirectory(dir=self.directory) as directory:
            saved = Path(directory) / "model.json"
            self.model.save(saved)
            return self.model.load_model(saved)

    @cached_property
    def compressor(self) -> Compressor:
        """The codec."""
        compressor = Compressor()
        if self.registry is not None:
            lang = SigmaLangExporter(self.registry)
            wrap_methods(
                compressor,
                encode=lang.track_compression_operation,
                decode=lang.track_decompression_operation,
            )
        return compressor

    @cached_property
    def store(self) -> EncryptedStore:
        """The object store, under a key that lives as long as this object."""
        with self._lock:
            directory = self.directory
            if directory is None:
                self._temporary = tempfile.TemporaryDirectory(prefix="fleetmon-demo-")
                directory = Path(self._temporary.name)
            store = EncryptedStore(directory)
            if self.registry is not None:
                vault = SigmaVaultExporter(self.registry, storage=store.holdings)
                wrap_methods(
                    store,
                    store=vault.track_store,
                    retrieve=vault.track_retrieve,
                    delete=vault.track_delete,
                    encrypt=vault.track_encryption,
                    create_snapshot=vault.track_snapshot("create"),
                    list_snapshots=vault.track_snapshot("list"),
                    restore_snapshot=vault.track_snapshot("restore"),
                    delete_snapshot=vault.track_snapshot("delete"),
                )
            return store

    def close(self) -> None:
        """Remove the temporary directory, if one was made; harmless twice."""
        with self._lock:
            if self._temporary is not None:
                self._temporary.cleanup()
                self._temporary = None
