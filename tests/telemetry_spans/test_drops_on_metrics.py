"""What logs and tracers lose is on /metrics, at 0 from the first scrape."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from fleetmon import JsonLog, OTelTracer, Supervisor, configure_tracing
from fleetmon.telemetry.exposition import Renderer
from fleetmon.testing import VIRTUAL_ASYNCIO

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return VIRTUAL_ASYNCIO


def drops(fleet):
    registry = CollectorRegistry()
    registry.register(fleet.collector())
    text = b"".join(Renderer(fleet._fleet).render())
    assert text == generate_latest(registry)
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if family.name in ("fleetmon_log_drops", "fleetmon_span_drops")
    }


async def test_every_cause_is_there_from_the_first_scrape_without_log_and_tracer():
    found = drops(Supervisor())
    assert set(found.values()) == {0}
    assert {key[1] for key in found if key[0] == "fleetmon_span_drops_total"} == {
        *("queue", "export", "rejected", "shutdown")
    }
    assert {key[1] for key in found if key[0] == "fleetmon_log_drops_total"} == {
        *("task", "event", "line", "sink", "closed", "unwritten", "render")
    }


@pytest.mark.parametrize("by_handle", [True, False])
async def test_losses_of_log_and_exporter_are_counted_there(by_handle):
    tracing = configure_tracing(endpoint="http://127.0.0.1:9", ratio=1.0)
    log = JsonLog(stream=None)
    log.close()
    tracing.shutdown()
    tracer = OTelTracer(tracing if by_handle else tracing.provider)
    async with Supervisor(tracer=tracer, log=log) as fleet:
        with fleet.attach("A").task("t"):
            pass
        found = drops(fleet)
    assert found["fleetmon_log_drops_total", "closed"] > 1
    assert found["fleetmon_span_drops_total", "shutdown"] == 1


async def test_a_log_that_says_nonsense_about_its_drops_costs_no_scrape():
    class Log:
        dropped = 7

        def ended(self, task): ...

        def event(self, event): ...

    assert set(drops(Supervisor(log=Log())).values()) == {0}
