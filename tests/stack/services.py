"""Ryot, ΣLANG, ΣVAULT and Neurectomy's API with faults on demand; run by ``host.py``.

The three services are the demonstration's, measured by the shipped exporters; the API is the one of
``examples/neurectomy.py``, with Ryot's behind it. Broken, three calls in ten fail and the others
take six seconds.
"""

from __future__ import annotations

import asyncio
import importlib.util
import io
import itertools
import os
import sys
import tempfile
import threading
import time
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry
from scenarios import Scenario

from fleetmon import JsonLog, configure_tracing
from fleetmon.demo.services import (
    Compressor,
    EncodingError,
    EncryptedStore,
    LanguageModel,
    ModelError,
    Services,
    StoreError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

EXAMPLE = Path(__file__).parents[2] / "examples" / "neurectomy.py"
LANES = 8
SLOW = 6.0  # seconds


class ThreeServices(Scenario):
    """Each of the three is called from threads."""

    def __init__(self) -> None:
        super().__init__()
        self.registry = CollectorRegistry()
        self.ended = threading.Event()
        self._make_ill(LanguageModel, "generate", ModelError)
        self._make_ill(Compressor, "encode", EncodingError)
        self._make_ill(EncryptedStore, "store", StoreError)

    def _make_ill(self, kind: type, name: str, error: type[Exception]) -> None:
        healthy = getattr(kind, name)
        count = itertools.count()

        def method(service: Any, *arguments: Any) -> Any:
            if self.broken:
                if next(count) % 10 < 3:
                    raise error("ill")
                self.ended.wait(SLOW)
            return healthy(service, *arguments)

        setattr(kind, name, method)

    @asynccontextmanager
    async def serving(self, name: str, port: int) -> AsyncIterator[None]:
        with (
            tempfile.TemporaryDirectory() as directory,
            Services(1, Path(directory), self.registry) as services,
        ):
            services.model.train("one two three four five six seven eight nine ten")
            text = EXAMPLE.read_bytes()
            calls: tuple[Callable[[], Any], ...] = (
                lambda: services.model.generate("one two three", 8),
                lambda: services.compressor.encode(text),
                lambda: services.store.store("example", text),
            )
            threads = [
                threading.Thread(target=self._lane, args=(call,), daemon=True)
                for call in calls
                for _ in range(LANES)
            ]
            for thread in threads:
                thread.start()
            try:
                async with super().serving(name, port):
                    yield
            finally:
                self.ended.set()
                for thread in threads:
                    thread.join()

    def _lane(self, call: Callable[[], Any]) -> None:
        while not self.ended.wait(0.3):
            with suppress(ModelError, EncodingError, StoreError):
                call()


class Neurectomy(Scenario):
    """The API of the example, over HTTP, with a language model that is slow when it is ill."""

    @asynccontextmanager
    async def serving(self, name: str, port: int) -> AsyncIterator[None]:
        os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "http"
        found = importlib.util.spec_from_file_location("neurectomy", EXAMPLE)
        assert found is not None
        assert found.loader is not None
        example = importlib.util.module_from_spec(found)
        sys.modules["neurectomy"] = example  # its annotations are looked up there
        found.loader.exec_module(example)
        healthy = example.Engine.generate

        def generate(engine: Any, prompt: str) -> Any:
            if self.broken:
                time.sleep(SLOW)
            return healthy(engine, prompt)

        example.Engine.generate = generate

        def parts() -> dict[str, Any]:
            exporter = example.InMemorySpanExporter()
            return {
                "tracing": configure_tracing(name, ratio=0.0, exporter=exporter),
                "log": JsonLog(name, stream=io.StringIO()),
            }

        async with (
            example.served(example.ryot(**parts())) as ryot_url,
            example.served(example.neurectomy(**parts(), ryot_url=ryot_url), port) as url,
            example.httpx.AsyncClient(base_url=url, timeout=60) as caller,
        ):
            count = itertools.count()

            async def lane() -> None:
                while True:
                    ill = self.broken and next(count) % 10 < 3
                    words = "" if ill else "please write some words"
                    with suppress(example.httpx.HTTPError):
                        await caller.post("/agents/APEX/process", json={"text": words})
                    await asyncio.sleep(0.3)

            lanes = [asyncio.ensure_future(lane()) for _ in range(LANES)]
            yield
            for task in lanes:
                task.cancel()
            await asyncio.gather(*lanes, return_exceptions=True)


SCENARIOS: dict[str, type[Scenario]] = {"services": ThreeServices, "neurectomy": Neurectomy}
