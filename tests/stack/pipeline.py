"""The tracing pipeline beside a test: the shipped Collector and Jaeger, as they are.

Nothing in their files is changed: addresses are what the files take from the environment.
"""

from __future__ import annotations

import json
import signal
import time
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlencode

from running import DEPLOY, Server, free_port, request

if TYPE_CHECKING:
    from pathlib import Path

    from programs import Tool

COLLECTOR = DEPLOY / "otel-collector"
LOOPBACK = "127.0.0.1"


class Part(Server):
    """Either of them; when the test is over nobody waits for what it would still like to send."""

    def __exit__(self, *exc: object) -> None:
        self.stop(signal.SIGKILL)


class Jaeger(Part):
    """A real Jaeger with the shipped configuration, and its query API."""

    def __init__(self, tool: Tool, directory: Path) -> None:
        """Choose ports; the spans are kept below ``directory``, over a restart as well."""
        directory.mkdir(parents=True)
        ports = {
            name: free_port()
            for name in ("METRICS", "HEALTH", "HTTP", "QUERY_GRPC", "OTLP_GRPC", "OTLP_HTTP")
        }
        super().__init__(
            [tool.path, f"--config={DEPLOY / 'jaeger' / 'config.yaml'}"],
            directory,
            address=f"{LOOPBACK}:{ports['HTTP']}",
            environment={
                "JAEGER_LISTEN_HOST": LOOPBACK,
                "JAEGER_DATA": str(directory / "badger"),
                **{f"JAEGER_{name}_PORT": str(port) for name, port in ports.items()},
            },
        )
        self.otlp = f"{LOOPBACK}:{ports['OTLP_GRPC']}"
        self.metrics = f"{LOOPBACK}:{ports['METRICS']}"

    def start(self) -> None:
        """Start it and wait until it answers queries."""
        super().start()
        self.ready("/api/services", 60)

    def traces(self, service: str) -> dict[str, list[dict[str, Any]]]:
        """Return the spans of each trace of a service within the last hour."""
        now = time.time_ns() // 1000
        asked = {"service": service, "limit": 100_000, "start": now - 3_600_000_000, "end": now}
        status, body, _ = request(self.address, f"/api/traces?{urlencode(asked)}", timeout=60)
        assert status == 200, body
        return {trace["traceID"]: trace["spans"] for trace in json.loads(body)["data"]}


class Collector(Part):
    """A real Collector with the shipped configuration, sending to a Jaeger."""

    def __init__(
        self, tool: Tool, directory: Path, jaeger: str, *, tail_sampling: bool = False
    ) -> None:
        """Choose ports.

        Args:
            tool: the program.
            directory: of its own.
            jaeger: where it takes OTLP.
            tail_sampling: lay that file over the first.
        """
        directory.mkdir(parents=True)
        grpc, http, prometheus, health, telemetry = (free_port() for _ in range(5))
        super().__init__(
            [tool.path, *configurations(tail_sampling=tail_sampling)],
            directory,
            address=f"{LOOPBACK}:{health}",
            environment={
                "OTLP_GRPC_LISTEN": f"{LOOPBACK}:{grpc}",
                "OTLP_HTTP_LISTEN": f"{LOOPBACK}:{http}",
                "PROMETHEUS_LISTEN": f"{LOOPBACK}:{prometheus}",
                "HEALTH_LISTEN": f"{LOOPBACK}:{health}",
                "TELEMETRY_HOST": LOOPBACK,
                "TELEMETRY_PORT": str(telemetry),
                "JAEGER_ENDPOINT": jaeger,
            },
        )
        self.grpc = f"http://{LOOPBACK}:{grpc}"
        self.http = f"http://{LOOPBACK}:{http}"
        self.prometheus = f"{LOOPBACK}:{prometheus}"
        self.telemetry = f"{LOOPBACK}:{telemetry}"

    def __enter__(self) -> Self:
        super().__enter__()
        try:
            self.ready("/", 60)
        except BaseException:
            self.stop()
            raise
        return self


def configurations(*, tail_sampling: bool) -> list[str]:
    """Return the arguments that name the shipped files."""
    files = ["config.yaml", *(["tail-sampling.yaml"] if tail_sampling else [])]
    return [f"--config={COLLECTOR / file}" for file in files]
