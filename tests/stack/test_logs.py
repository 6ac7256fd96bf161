"""Lines of a fleet in the shipped Loki: by label, by trace, and in the bucket.

The bucket is a local stand-in for S3. Of Loki's configuration the folder below which it keeps its
files is replaced, and it is told its own address; all else comes from the environment and flags.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import programs
import pytest
import yaml
from conftest import need
from running import DEPLOY, ROOT, Server, eventually, free_port, request

sys.path.insert(0, str(DEPLOY / "grafana"))
import queries

boto3 = pytest.importorskip("boto3", reason="the extra stack is not installed")
pytest.importorskip("moto.server", reason="the extra stack is not installed")

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BUCKET = "logs"
KEYS = {"AWS_ACCESS_KEY_ID": "nobodys", "AWS_SECRET_ACCESS_KEY": "nobodys-secret"}
LABELS = {"app": "fleetmon-demo", "namespace": "fleetmon"}


@dataclass
class Logs:
    """A Loki with the lines of a demonstration that has ended."""

    address: str
    lines: list[dict[str, Any]]
    bucket: Any

    def get(self, path: str, **parameters: str) -> Any:
        status, body, _ = request(self.address, f"/loki/api/v1/{path}?{urlencode(parameters)}")
        assert status == 200, body
        return json.loads(body)["data"]

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


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory, table) -> Iterator[Logs]:
    tool = need(programs.loki())
    table.component("Loki", f"{tool.version}, with moto in place of S3")
    directory = tmp_path_factory.mktemp("logs")
    for name in ("loki", "s3", "demo"):
        (directory / name).mkdir()
    http, grpc, s3 = free_port(), free_port(), free_port()
    demo = subprocess.Popen(
        [
            *(sys.executable, "-m", "fleetmon", "demo", "--chaos", "--duration", "8"),
            *("--metrics", "127.0.0.1:0", "--log", str(directory / "demo" / "demo.jsonl")),
        ],
        cwd=ROOT,
        env={**os.environ, "FLEETMON_CONTROL": "0"},
        stdout=subprocess.DEVNULL,
    )
    with ExitStack() as stack:
        stack.callback(demo.wait)
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(s3)]
        store = Server(command, directory / "s3", address=f"127.0.0.1:{s3}")
        stack.enter_context(store)
        store.ready("/moto-api/", 60)
        client = boto3.resource(
            "s3",
            endpoint_url=f"http://127.0.0.1:{s3}",
            region_name="us-east-1",
            aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
        )
        bucket = client.create_bucket(Bucket=BUCKET)
        loki = Server(
            [
                tool.path,
                f"-config.file={shipped(directory / 'loki')}",
                "-config.expand-env=true",
                "-server.http-listen-address=127.0.0.1",
                "-server.grpc-listen-address=127.0.0.1",
                f"-server.http-listen-port={http}",
                f"-server.grpc-listen-port={grpc}",
            ],
            directory / "loki",
            address=f"127.0.0.1:{http}",
            environment={
                "LOKI_S3_BUCKET": BUCKET,
                "LOKI_S3_ENDPOINT": f"127.0.0.1:{s3}",
                "LOKI_S3_INSECURE": "true",
                **KEYS,
            },
        )
        stack.enter_context(loki)
        loki.ready("/ready", 120)
        assert demo.wait(120) == 0
        text = (directory / "demo" / "demo.jsonl").read_text()
        lines = [json.loads(line) for line in text.splitlines()]
        streams: dict[str, dict[str, Any]] = {}
        for line in lines:
            labels, entry = staged(line)
            key = json.dumps(labels)
            streams.setdefault(key, {"stream": labels, "values": []})["values"].append(entry)
        status, said, _ = request(
            loki.address,
            "/loki/api/v1/push",
            method="POST",
            body={"streams": list(streams.values())},
            timeout=60,
        )
        assert status == 204, said
        yield Logs(loki.address, lines, bucket)


def test_the_configuration_is_valid(tmp_path):
    tool = need(programs.loki())
    done = subprocess.run(
        [
            *(tool.path, "-verify-config", "-config.expand-env=true"),
            f"-config.file={DEPLOY / 'loki' / 'config.yaml'}",
        ],
        env={**os.environ, "LOKI_S3_BUCKET": BUCKET, **KEYS},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "level=error" not in done.stderr
    assert "level=warn" not in done.stderr


def test_alloys_own_parser_takes_the_shippers_files(table):
    tool = need(programs.alloy_syntax())
    files = sorted(str(path) for path in (DEPLOY / "alloy").glob("*.alloy"))
    assert files
    done = subprocess.run([tool.path, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    table.component("Alloy", f"its parser, {tool.version}")


def test_alloy_and_promtail_pick_the_same_out_of_a_line():
    promtail = yaml.safe_load((DEPLOY / "loki" / "promtail" / "config.yaml").read_text())
    stages = {k: v for s in promtail["scrape_configs"][0]["pipeline_stages"] for k, v in s.items()}
    for path in (DEPLOY / "alloy").glob("*.alloy"):
        text = path.read_text()
        json_stage = re.search(r"stage\.json \{\s+expressions = \{(.*?)\}", text, re.DOTALL)
        metadata = re.search(r"stage\.structured_metadata \{\s+values = \{(.*?)\}", text, re.DOTALL)
        labels = re.search(r"stage\.labels \{\s+values = \{(.*?)\}", text, re.DOTALL)
        assert json_stage
        assert metadata
        assert labels
        assert (
            dict(re.findall(r'(\w+)\s*= "(\w+)"', json_stage[1])) == stages["json"]["expressions"]
        )
        assert set(re.findall(r"(\w+)\s*=", metadata[1])) == {*stages["structured_metadata"]}
        assert set(re.findall(r"(\w+)\s*=", labels[1])) == {*stages["labels"]}


def test_every_line_is_found_by_its_labels(logs, table):
    everything = eventually(
        lambda: len(found := logs.query('{app="fleetmon-demo"}')) == len(logs.lines) and found
    )
    kept = sorted(json.dumps(line) for line in logs.lines)
    assert sorted(json.dumps(line) for line in everything) == kept
    for level in {line["level"] for line in logs.lines}:
        found = logs.query(f'{{app="fleetmon-demo", level="{level}"}}')
        assert len(found) == sum(line["level"] == level for line in logs.lines)
    table.fact(f"{len(logs.lines)} lines of the demonstration were found in Loki by their labels.")


def test_the_lines_of_a_trace_are_found_by_its_id_which_is_no_label(logs):
    traced = [line for line in logs.lines if line.get("trace_id")]
    assert traced
    for line in traced[:: max(1, len(traced) // 10)]:
        found = logs.query(f'{{app="fleetmon-demo"}} | trace_id="{line["trace_id"]}"')
        assert found == [other for other in traced if other["trace_id"] == line["trace_id"]]
    assert set(logs.get("labels", since="1h")) - {"service_name"} == {*LABELS, "level"}


def test_the_lines_of_an_agent_are_found_by_its_name(logs):
    name = next(line["agent_id"] for line in logs.lines if line.get("agent_id"))
    found = logs.query(f'{{app="fleetmon-demo"}} | agent_id="{name}"')
    assert len(found) == sum(line.get("agent_id") == name for line in logs.lines)


def test_every_query_of_the_logs_dashboard_gives_lines_or_numbers(logs, table):
    board = queries.read()["fleetmon-logs"]
    for name in ("app", "namespace"):  # its variables
        assert logs.get(f"label/{name}/values", since="1h") == [LABELS[name]]
    asked = [target for target in queries.of_board(board) if target.loki]
    # as when it is opened, with all of each chosen
    variables = [v for v in board["templating"]["list"] if "allValue" in v]
    values = {"__auto": "1m", **{v["name"]: v["allValue"] for v in variables}}
    answers = {
        str(target): logs.get(
            "query_range", query=queries.fill(target.expr, values), since="1h", step="10"
        )["result"]
        for target in asked
    }
    table.dashboard("fleetmon-logs (Loki)", len(asked), sum(map(bool, answers.values())))
    assert len(asked) == 3
    assert all(answers.values()), answers.keys()
    # a level is what it was in the line
    levels = {row["metric"]["level"] for row in next(iter(answers.values()))}
    assert levels == {line["level"] for line in logs.lines}


def test_chunks_and_index_go_to_the_bucket(logs):
    status, said, _ = request(logs.address, "/flush", method="POST", timeout=60)
    assert status in {200, 204}, said

    def chunks() -> list[str]:
        keys = [entry.key for entry in logs.bucket.objects.all()]
        return [key for key in keys if key.startswith("fake/")]

    assert eventually(chunks, 60)
