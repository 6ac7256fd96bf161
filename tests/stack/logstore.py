"""A real Loki with the shipped configuration, moto for S3, and lines labelled as shipped."""

from __future__ import annotations

import json
import re
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import boto3
import yaml
from running import DEPLOY, Server, free_port, request

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from programs import Tool

BUCKET = "logs"
KEYS = {"AWS_ACCESS_KEY_ID": "nobodys", "AWS_SECRET_ACCESS_KEY": "nobodys-secret"}
LABELS = {"app": "fleetmon-demo", "namespace": "fleetmon"}


@dataclass
class Bucket:
    """An S3 server, and what boto makes of the one bucket in it."""

    address: str
    objects: Any

    def chunks(self) -> list[str]:
        """Return the keys of the chunks in it."""
        keys = (entry.key for entry in self.objects.objects.all())
        return [key for key in keys if key.startswith("fake/")]


@dataclass
class Logs:
    """A Loki and the lines that it was given."""

    address: str
    bucket: Bucket
    lines: list[dict[str, Any]] = field(default_factory=list)

    def get(self, path: str, **parameters: str) -> Any:
        status, body, _ = request(self.address, f"/loki/api/v1/{path}?{urlencode(parameters)}")
        assert status == 200, body
        return json.loads(body)["data"]

    def push(self, lines: Iterable[dict[str, Any]]) -> None:
        """Hand lines in, as the shipper does."""
        streams: dict[str, dict[str, Any]] = {}
        for line in lines:
            self.lines.append(line)
            labels, entry = staged(line)
            key = json.dumps(labels)
            streams.setdefault(key, {"stream": labels, "values": []})["values"].append(entry)
        status, said, _ = request(
            self.address,
            "/loki/api/v1/push",
            method="POST",
            body={"streams": list(streams.values())},
            timeout=60,
        )
        assert status == 204, said

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the lines of a query."""
        found = self.get("query_range", query=expression, limit="5000", since="1h")
        return [json.loads(line) for stream in found["result"] for _, line in stream["values"]]


def shipped(directory: Path) -> Path:
    """Return the shipped configuration, keeping its files below a directory and to the loopback."""
    text = (DEPLOY / "loki" / "config.yaml").read_text()
    assert text.count("common:\n") == 1
    text = text.replace("common:\n", "common:\n  instance_addr: 127.0.0.1\n")
    path = directory / "config.yaml"
    path.write_text(re.sub(r": /loki\b", f": {directory}", text))
    return path


def staged(line: dict[str, Any]) -> tuple[dict[str, str], list[Any]]:
    """Return labels and entry of a line, as the shipped stages of the shipper have it."""
    file = yaml.safe_load((DEPLOY / "loki" / "promtail" / "config.yaml").read_text())
    stages = {k: v for s in file["scrape_configs"][0]["pipeline_stages"] for k, v in s.items()}
    found = {
        name: str(line[source])
        for name, source in stages["json"]["expressions"].items()
        if source in line
    }
    at = datetime.fromisoformat(found[stages["timestamp"]["source"]])
    labels = {name: found[name] for name in stages["labels"] if name in found}
    metadata = {name: found[name] for name in stages["structured_metadata"] if name in found}
    nanoseconds = int(at.timestamp()) * 1_000_000_000 + at.microsecond * 1000
    return {**LABELS, **labels}, [str(nanoseconds), json.dumps(line), metadata]


@contextmanager
def bucket(directory: Path) -> Iterator[Bucket]:
    """Run an S3 server with a bucket of its own, for the length of the block."""
    directory.mkdir()
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", address.split(":")[1]]
    with Server(command, directory, address=address) as store:
        store.ready("/moto-api/", 60)
        client = boto3.resource(
            "s3",
            endpoint_url=f"http://{address}",
            region_name="us-east-1",
            aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
        )
        yield Bucket(address, client.create_bucket(Bucket=BUCKET))


@contextmanager
def loki(tool: Tool, directory: Path, store: Bucket, *flags: str) -> Iterator[Logs]:
    """Run the shipped Loki, for the length of the block.

    Args:
        tool: the program.
        directory: of its own.
        store: where chunks and index go.
        flags: further ones.
    """
    directory.mkdir()
    http, grpc = free_port(), free_port()
    server = Server(
        [
            tool.path,
            f"-config.file={shipped(directory)}",
            "-config.expand-env=true",
            "-server.http-listen-address=127.0.0.1",
            "-server.grpc-listen-address=127.0.0.1",
            f"-server.http-listen-port={http}",
            f"-server.grpc-listen-port={grpc}",
            *flags,
        ],
        directory,
        address=f"127.0.0.1:{http}",
        environment={
            "LOKI_S3_BUCKET": BUCKET,
            "LOKI_S3_ENDPOINT": store.address,
            "LOKI_S3_INSECURE": "true",
            **KEYS,
        },
    )
    with server:
        server.ready("/ready", 120)
        yield Logs(server.address, store)


@contextmanager
def running(tool: Tool, directory: Path) -> Iterator[Logs]:
    """Run both."""
    with bucket(directory / "s3") as store, loki(tool, directory / "loki", store) as found:
        yield found
