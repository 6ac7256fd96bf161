"""The scripts of deploy/ against real servers: what they ask, what they change, how they end."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import programs
import pytest
from conftest import need
from running import DEPLOY, Alertmanager, eventually, free_port, request
from scene import WELL_IN

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    any(shutil.which(name) is None for name in ("bash", "curl")),
    reason="bash or curl is not installed",
)


def script(name: str, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(DEPLOY / name), *words],
        env={**os.environ, "NO_PROXY": "*", "no_proxy": "*", **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


# -- verify.sh -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def addresses(scene):
    scene.wait_until(WELL_IN)
    found = {
        "FLEET_URL": scene.demo.address,
        "PROMETHEUS_URL": scene.prometheus.address,
        "ALERTMANAGER_URL": scene.alertmanager.address,
    }
    if scene.collector is not None:
        found["COLLECTOR_URL"] = scene.collector.address
    if scene.jaeger is not None:
        found["JAEGER_URL"] = scene.jaeger.address
    return {name: f"http://{address}" for name, address in found.items()}


def verify(addresses):
    done = script("verify.sh", "--direct", **addresses)
    return done.returncode, [line.split(maxsplit=1) for line in done.stdout.splitlines()]


def test_each_part_that_runs_is_up_and_has_data_and_each_other_is_said_to_be_skipped(addresses):
    code, lines = verify(addresses)
    assert code == 0, lines
    told = {what.split(":")[0]: how for how, what in lines}
    assert told["fleet"] == told["Prometheus"] == told["Alertmanager"] == "ok"
    assert told["Jaeger"] == ("ok" if "JAEGER_URL" in addresses else "skipped")
    assert told["Grafana"] == told["Loki"] == "skipped"
    assert len(lines) == 11


@pytest.mark.parametrize(
    ("variable", "part", "before"),
    [("FLEET_URL", "fleet", 0), ("ALERTMANAGER_URL", "Alertmanager", 6), ("LOKI_URL", "Loki", 10)],
)
def test_the_first_gap_is_named_and_ends_it(addresses, variable, part, before):
    code, lines = verify({**addresses, variable: f"http://127.0.0.1:{free_port()}"})
    assert code == 1
    assert len(lines) == before + 1
    how, what = lines[-1]
    assert how == "FAILED"
    assert what.startswith(part)
    assert all(how != "FAILED" for how, _ in lines[:-1])


def test_a_part_that_answers_without_data_is_a_gap(addresses):
    # what is no fleet has no tasks
    code, lines = verify({**addresses, "FLEET_URL": addresses["PROMETHEUS_URL"]})
    assert (code, len(lines)) == (1, 1)
    assert "answers, but nothing in it matches" in lines[0][1]


def test_compose_and_a_cluster_are_asked_from_within(tmp_path):
    # stubs: whether the words are right is all that can be told without an engine or a cluster
    for name in ("docker", "kubectl"):
        stub = tmp_path / name
        stub.write_text('#!/bin/sh\necho "$*" >>"$(dirname "$0")/asked"\nexit 1\n')
        stub.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    for words in ((), ("--kubernetes",), ("--kubernetes", "elsewhere")):
        assert script("verify.sh", *words, PATH=path).returncode == 1
    asked = (tmp_path / "asked").read_text().splitlines()
    within = "wget -qO- -T 10 http://fleet:9003/metrics"
    assert asked == [
        f"compose -f {DEPLOY}/compose.yaml exec -T prometheus {within}",
        f"--namespace fleetmon exec prometheus-0 -- {within}",
        f"--namespace elsewhere exec prometheus-0 -- {within}",
    ]


def test_an_option_that_is_none_ends_with_2():
    done = script("verify.sh", "--everything")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no option --everything" in done.stderr


# -- silence.sh ----------------------------------------------------------------------------------


class Silences:
    def __init__(self, alertmanager: Alertmanager, amtool: programs.Tool, directory: Path) -> None:
        self.alertmanager = alertmanager
        directory.mkdir()
        (directory / "amtool").symlink_to(amtool.path)
        self.path = f"{directory}:{os.environ['PATH']}"
        self.url = f"http://{alertmanager.address}"

    def run(self, *words: str, url: str = "") -> subprocess.CompletedProcess[str]:
        told = {"PATH": self.path, "ALERTMANAGER_URL": url or self.url, "USER": "tester"}
        return script("automation/silence.sh", *words, **told)

    def there(self) -> list[dict]:
        _, body, _ = request(self.alertmanager.address, "/api/v2/silences")
        return [one for one in json.loads(body) if one["status"]["state"] != "expired"]


@pytest.fixture(scope="module", params=["debian", "current"])
def server(request, tmp_path_factory):
    from receivers import Receivers

    tool = need(programs.alertmanager(request.param))
    directory = tmp_path_factory.mktemp("silences")
    receivers = Receivers()
    with Alertmanager(tool, directory / "alertmanager", receivers) as running:
        yield Silences(running, need(programs.amtool(request.param)), directory / "bin")
    receivers.close()


@pytest.fixture
def silences(server):
    yield server
    for one in server.there():
        request(server.alertmanager.address, f"/api/v2/silence/{one['id']}", method="DELETE")


ASKED = ("--for", "2h", "--comment", "upgrade of the vault")
MATCHERS = ('alertname=~"Sigmavault.*"', "severity=warning")


def test_a_silence_is_made_once_however_often_it_is_asked_for(silences):
    first = silences.run(*ASKED, *MATCHERS)
    assert (first.returncode, first.stderr) == (0, "")
    again = silences.run(*ASKED, *reversed(MATCHERS))
    assert again.returncode == 0
    (one,) = silences.there()
    assert first.stdout == f"silenced for 2h: {one['id']}\n"
    assert again.stdout == f"already silenced: {one['id']}\n"
    assert {(m["name"], m["value"], m["isRegex"]) for m in one["matchers"]} == {
        ("alertname", "Sigmavault.*", True),
        ("severity", "warning", False),
    }
    assert one["createdBy"] == "tester"
    assert one["comment"].startswith("upgrade of the vault ")


def test_it_silences_what_it_names_and_nothing_else(silences):
    alerts = [
        {"labels": {"alertname": name, "severity": "warning"}}
        for name in ("SigmavaultLatencyHigh", "RyotLatencyHigh")
    ]
    silences.run(*ASKED, *MATCHERS)
    silences.alertmanager.post(alerts)

    def look():
        _, body, _ = request(silences.alertmanager.address, "/api/v2/alerts")
        return {one["labels"]["alertname"]: one["status"]["state"] for one in json.loads(body)}

    expected = {"SigmavaultLatencyHigh": "suppressed", "RyotLatencyHigh": "active"}
    assert eventually(lambda: look() == expected, 20)


def test_it_ends_when_asked_to_and_twice_is_once(silences):
    silences.run(*ASKED, *MATCHERS)
    silences.run(*ASKED, "alertname=Other")
    ended = silences.run("--end", *MATCHERS)
    assert ended.returncode == 0
    assert ended.stdout.startswith("ended: ")
    (other,) = silences.there()
    assert other["matchers"][0]["value"] == "Other"
    again = silences.run("--end", *MATCHERS)
    assert (again.returncode, again.stdout.split(":")[0]) == (0, "nothing to end")
    # and it can be made anew
    assert "silenced for" in silences.run(*ASKED, *MATCHERS).stdout


def test_a_dry_run_changes_nothing(silences):
    done = silences.run("--dry-run", *ASKED, *MATCHERS)
    assert (done.returncode, silences.there()) == (0, [])
    assert done.stdout.startswith("would silence for 2h: ")
    silences.run(*ASKED, *MATCHERS)
    done = silences.run("--dry-run", "--end", *MATCHERS)
    assert re.fullmatch(r"would end: [0-9a-f-]{36}\n", done.stdout)
    assert len(silences.there()) == 1


def test_a_time_that_is_none_or_nobody_there_is_a_failure(silences):
    assert silences.run("--for", "soon", "--comment", "x", "alertname=A").returncode == 1
    assert silences.there() == []
    nowhere = f"http://127.0.0.1:{free_port()}"
    for words in ((*ASKED, "alertname=A"), ("--end", "alertname=A")):
        done = silences.run(*words, url=nowhere)
        assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--for", "2h", "--comment", "x"), "say what to silence"),
        (("--comment", "x", "alertname=A"), "say for how long"),
        (("--for", "2h", "alertname=A"), "say why"),
        (("--for",), "--for needs a value"),
        (("--forever", "alertname=A"), "--forever is no option"),
    ],
)
def test_wrong_usage_is_named_and_ends_with_2(silences, words, said):
    done = silences.run(*words)
    assert (done.returncode, done.stdout, silences.there()) == (2, "", [])
    assert said in done.stderr
