"""Numbers of a fleet, and what stock code and the fast renderer print of them."""

from __future__ import annotations

from itertools import count
from types import SimpleNamespace

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from fleetmon.numbers import AgentNumbers
from fleetmon.snapshot import FleetReading
from fleetmon.telemetry.collector import FleetCollector

READING = FleetReading(0.1, 2.5e7, 3.0, 12, {"log": 3, 'a"b\n': 0}, 1, 2, 3, 4, 5, 6, True)


class Source:
    name = "test"

    def __init__(self, *numbers, fleet=READING):
        self.numbers = list(numbers)
        self.clock = 100.0
        self.reading = fleet

    def agents(self):
        return self.numbers

    def now(self):
        return self.clock

    def fleet(self):
        return self.reading

    def ready(self):
        return True


def stock(source, openmetrics):
    registry = CollectorRegistry()
    registry.register(FleetCollector(source))
    return (generate_openmetrics if openmetrics else generate_latest)(registry)


def ours(renderer, openmetrics=False, **options):
    return b"".join(renderer.render(openmetrics, **options))


def same_bytes(source, renderer):
    for openmetrics in (False, True):
        assert ours(renderer, openmetrics) == stock(source, openmetrics)


IDS = count(1)


def flying(slot, started_at):
    return SimpleNamespace(id=next(IDS), slot=slot, started_at=started_at)


def busy_agent(agent_id="APEX", *, now=0.0, types=("review", "train")):
    numbers = AgentNumbers(agent_id, now=now, task_types=types, info=("1", "1", "engineering"))
    for at, task_type in enumerate(types):
        slot = numbers.type(task_type)
        task = flying(slot, now + at)
        numbers.begin(task)
        numbers.end(task, at % 5, now + at + 0.7)
    numbers.fail("timeout")
    numbers.lifecycle = "running"
    numbers.version += 1
    return numbers


def readings(text):
    for family in parse_text(text.decode()):
        for s in family.samples:
            yield family.type, s.name, tuple(sorted(s.labels.items())), s.value
