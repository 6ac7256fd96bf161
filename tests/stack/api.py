"""Neurectomy's API, small, measured as deploy/ has it: ``python api.py PORT``.

The HTTP metrics are the stock instrumentation's, by OpenTelemetry's own exporter for Prometheus,
with the stable conventions opted in. It asks itself some ten times a second; one answer in twenty
is an error.
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "http"  # before the instrumentation is loaded

import httpx
import uvicorn
from fastapi import FastAPI, HTTPException
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry, make_asgi_app

from fleetmon.telemetry import instrument_fastapi

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def api(port: int) -> FastAPI:
    """Return the application."""
    registry = CollectorRegistry()
    meters = MeterProvider([PrometheusMetricReader(registry=registry)])

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        asking = asyncio.create_task(ask(port))
        yield
        asking.cancel()

    app = FastAPI(lifespan=lifespan)

    @app.post("/agents/{agent_id}/process")
    async def process(agent_id: str) -> dict[str, str]:
        """Work a little, or fail."""
        await asyncio.sleep(0.02)
        if agent_id == "NOBODY":
            raise HTTPException(502, "its model does not answer")
        return {"status": "COMPLETED"}

    @app.get("/agents")
    async def agents() -> list[str]:
        """List them."""
        return ["APEX", "CIPHER"]

    app.mount("/metrics", make_asgi_app(registry))
    instrument_fastapi(app, meters=meters)
    return app


async def ask(port: int) -> None:
    """Be the callers."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        turn = 0
        while True:
            turn += 1
            await asyncio.sleep(0.05)
            try:
                if turn % 2:
                    await client.get("/agents")
                else:
                    who = "APEX" if turn % 20 else "NOBODY"
                    await client.post(f"/agents/{who}/process")
            except httpx.HTTPError:
                continue


if __name__ == "__main__":
    port = int(sys.argv[1])
    uvicorn.run(api(port), host="127.0.0.1", port=port, log_level="warning")
