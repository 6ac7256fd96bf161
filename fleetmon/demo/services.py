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

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

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
    """

    seed: int = 0
    directory: Path | None = None

    def __post_init__(self) -> None:
        """Make the lock that guards the first use."""
        self._lock = threading.RLock()
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Self:
        """Return itself."""
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
        return LanguageModel(seed=self.seed)

    @cached_property
    def compressor(self) -> Compressor:
        """The codec."""
        return Compressor()

    @cached_property
    def store(self) -> EncryptedStore:
        """The object store, under a key that lives as long as this object."""
        with self._lock:
            directory = self.directory
            if directory is None:
                self._temporary = tempfile.TemporaryDirectory(prefix="fleetmon-demo-")
                directory = Path(self._temporary.name)
            return EncryptedStore(directory)

    def close(self) -> None:
        """Remove the temporary directory, if one was made; harmless twice."""
        with self._lock:
            if self._temporary is not None:
                self._temporary.cleanup()
                self._temporary = None
