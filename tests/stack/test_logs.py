"""Lines of a fleet in the shipped Loki: by label, by trace, and in the bucket.

The bucket is a local stand-in for S3. Of Loki's configuration the folder below which it keeps its
files is replaced, and it is told its own address; all else comes from the environment and flags.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import programs
import pytest
import yaml
from conftest import need
from running import DEPLOY, ROOT, eventually, request

sys.path.insert(0, str(DEPLOY / "grafana"))
import queries

pytest.importorskip("boto3", reason="the extra stack is not installed")
pytest.importorskip("moto.server", reason="the extra stack is not installed")

from logstore import BUCKET, KEYS, LABELS, Logs, bucket, loki, running

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory, table) -> Iterator[Logs]:
    tool = need(programs.loki())
    table.component("Loki", f"{tool.version}, with moto in place of S3")
    directory = tmp_path_factory.mktemp("logs")
    file = directory / "demo.jsonl"
    demo = subprocess.Popen(
        [
            *(sys.executable, "-m", "fleetmon", "demo", "--chaos", "--duration", "8"),
            *("--metrics", "127.0.0.1:0", "--log", str(file)),
        ],
        cwd=ROOT,
        env={**os.environ, "FLEETMON_CONTROL": "0"},
        stdout=subprocess.DEVNULL,
    )
    try:
        with running(tool, directory) as found:
            assert demo.wait(120) == 0
            found.push(json.loads(line) for line in file.read_text().splitlines())
            yield found
    finally:
        demo.wait()


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
    # a line says whose it is
    said = {text for row in list(answers.values())[2] for _, text in row["values"]}
    assert said <= {
        f"{line['agent_id']} {line['message']}" if line.get("agent_id") else line["message"]
        for line in logs.lines
    }
    agents = {line["agent_id"] for line in logs.lines if line.get("agent_id")}
    assert any(text.split(maxsplit=1)[0] in agents for text in said)
    # a level is what it was in the line
    levels = {row["metric"]["level"] for row in next(iter(answers.values()))}
    assert levels == {line["level"] for line in logs.lines}


def test_a_line_of_another_program_is_shown_as_it_is(logs):
    said = 'level=info msg="no JSON at all"'
    stream = {"stream": {**LABELS, "app": "other"}, "values": [[str(time.time_ns()), said]]}
    body = {"streams": [stream]}
    assert request(logs.address, "/loki/api/v1/push", method="POST", body=body)[0] == 204
    (expr,) = (
        target.expr
        for target in queries.of_board(queries.read()["fleetmon-logs"])
        if target.panel == "Lines"
    )
    filled = queries.fill(expr, {"app": "other", "namespace": LABELS["namespace"]})

    def shown() -> list[str]:
        found = logs.get("query_range", query=filled, since="1h")["result"]
        return [line for row in found for _, line in row["values"]]

    assert eventually(shown) == [said]


def test_chunks_and_index_go_to_the_bucket(logs):
    status, said, _ = request(logs.address, "/flush", method="POST", timeout=60)
    assert status in {200, 204}, said

    assert eventually(logs.bucket.chunks, 60)


def test_the_request_that_makes_the_bucket_of_a_demonstration_makes_it(tmp_path):
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    (words,) = re.findall(r"printf '[^']+'", compose["s3"]["entrypoint"][2])
    asked = subprocess.run(["sh", "-c", words], check=True, capture_output=True).stdout
    with bucket(tmp_path / "s3") as store:
        host, port = store.address.split(":")
        for _ in range(2):  # after a restart it is there already
            with socket.create_connection((host, int(port)), 10) as connection:
                connection.sendall(asked)
                answer = connection.makefile("rb").readline().decode()
            assert re.match(r"HTTP/1\.1 (200|409) ", answer), answer
        there = store.objects.meta.client.list_buckets()["Buckets"]
    assert compose["loki"]["environment"]["LOKI_S3_BUCKET"] in {one["Name"] for one in there}


def test_lines_are_asked_for_for_30_days_and_kept_for_90(tmp_path, table):
    tool = need(programs.loki())
    now = datetime.now(UTC)
    ages = {"fresh": timedelta(hours=1), "kept": timedelta(days=40), "gone": timedelta(days=91)}
    # its index leaves its memory every 15 minutes, and when it ends: hence two of them
    old = "-validation.reject-old-samples=false"
    with bucket(tmp_path / "s3") as store:
        with loki(tool, tmp_path / "first", store, old) as first:
            for name, age in ages.items():
                at = (now - age).isoformat()
                # a level, hence a stream of its own: within one, lines come in the order of time
                first.push([{"timestamp": at, "level": name, "message": name}])
            assert request(first.address, "/flush", method="POST", timeout=60)[0] in {200, 204}
            eventually(lambda: len(store.chunks()) == len(ages), 60)
        # as shipped, but for how often it looks and how long it waits before it deletes
        soon = ("-compactor.compaction-interval=1s", "-compactor.retention-delete-delay=1s")
        with loki(tool, tmp_path / "second", store, old, *soon) as second:
            eventually(lambda: len(store.chunks()) == len(ages) - 1, 240)
            found = second.get(
                "query_range",
                query='{app="fleetmon-demo"}',
                start=f"{(now - timedelta(days=100)).timestamp():.0f}",
                end=f"{now.timestamp():.0f}",
            )["result"]
            left = store.chunks()
    said = [json.loads(line)["message"] for row in found for _, line in row["values"]]
    assert said == ["fresh"], "nobody may ask for more than 30 days"
    # a chunk's key tells from when to when its lines are, in milliseconds
    begins = sorted(int(key.split("/")[2].split(":")[0], 16) / 1000 for key in left)
    expected = sorted((now - ages[name]).timestamp() for name in ("fresh", "kept"))
    assert begins == pytest.approx(expected, abs=1)
    table.fact("Loki's compactor deleted lines of 91 days from the bucket and kept those of 40.")
