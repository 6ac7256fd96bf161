"""Agents that count in a worker process."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry

from fleetmon.exporters import RyotExporter, SigmaLangExporter


class Counting:
    """Generates as many tokens as it is asked for, and compresses."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self.ryot = RyotExporter(registry, prefix="site_")
        self.lang = SigmaLangExporter(registry)

    def handle(self, task: Any) -> int:
        self.ryot.observe_inference(0.3, model="small", tokens=task.payload)
        self.lang.observe_compression(0.001, original_size=100, compressed_size=20)
        return task.payload
