"""What exporters count in a worker process is on the supervisor's registry."""

from __future__ import annotations

import anyio
import pytest
from exporter_workers import Counting
from prometheus_client import CollectorRegistry

from fleetmon import AgentSpec, Supervisor
from fleetmon.exporters import RyotExporter

pytestmark = pytest.mark.anyio


async def test_counts_of_a_worker_reach_the_parent_while_it_runs_and_when_it_ends() -> None:
    registry = CollectorRegistry()
    ryot = RyotExporter(registry, prefix="site_")
    ryot.observe_inference(1, model="small", tokens=100)  # counted here

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    async with Supervisor(registry=registry) as fleet:
        agent = await fleet.add("WORKER", Counting, spec=AgentSpec(executor="process"))
        for tokens in (5, 7):
            await agent.run("work", tokens, timeout=20)
        with anyio.fail_after(20):
            while value("site_ryot_tokens_generated_total", model="small") != 112:
                await anyio.sleep(0.02)  # on another process
        await agent.run("work", 30, timeout=20)  # and the end comes at once
    assert value("site_ryot_tokens_generated_total", model="small") == 142
    assert value("site_ryot_inference_duration_seconds_sum", model="small") == pytest.approx(1.9)
    buckets = "site_ryot_inference_duration_seconds_bucket"
    assert value(buckets, model="small", le="0.5") == 3
    assert value("sigmalang_compression_ratio_sum") == 15, "families of the worker's own are built"
