"""Every metric name in every rule, runbook and scrape filter is one that somebody exposes."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import programs
import promql
import pytest
import yaml
from conftest import need
from drill import Fleet
from running import DEPLOY, ROOT, Alertmanager, Prometheus, Server, eventually, free_port, request

if TYPE_CHECKING:
    from collections.abc import Iterator

sys.path.insert(0, str(Path(__file__).parents[1] / "deploy"))
from helpers_deploy import RUNBOOKS, expressions, rules

NOT_HERE = {
    # the kubelet's, which no machine without a cluster has
    *("container_cpu_usage_seconds_total", "container_memory_working_set_bytes"),
    "container_oom_events_total",
}


@pytest.fixture(scope="module")
def exposed(tmp_path_factory) -> Iterator[tuple[Prometheus, dict[str, set[str]]]]:
    """Everything that is scraped, running; and the names that each job exposes."""
    from receivers import Receivers

    directory = tmp_path_factory.mktemp("names")
    receivers = Receivers()
    api = Fleet("neurectomy")
    ports = {"fleet": free_port(), "node": free_port()}
    servers: list[Server] = []

    def start(server: Server, path: str) -> Server:
        servers.append(server)
        server.start()
        server.ready(path, 60)
        return server

    try:
        tool = need(programs.prometheus("current"))
        (directory / "fleet").mkdir()
        (directory / "node").mkdir()
        demo = f"127.0.0.1:{ports['fleet']}"
        command = [sys.executable, "-m", "fleetmon", "demo", "--duration", "300", "--metrics", demo]
        fleet = start(Server(command, directory / "fleet", address=demo), "/metrics")
        exporter = need(programs.node_exporter())
        where = f"127.0.0.1:{ports['node']}"
        node = start(
            Server(
                [exporter.path, f"--web.listen-address={where}"], directory / "node", address=where
            ),
            "/metrics",
        )
        api.start()
        api.hear("ready")
        alerts = Alertmanager(
            need(programs.alertmanager("current")), directory / "alertmanager", receivers
        )
        start(alerts, "/-/ready")
        prometheus = Prometheus(tool, directory / "prometheus", [], alertmanagers=[alerts.address])
        start(prometheus, "/-/ready")
        alerts.post([{"labels": {"alertname": "Any", "severity": "critical"}}])
        eventually(receivers.all)
        running = {"fleet": fleet, "node": node, "prometheus": prometheus, "alertmanager": alerts}
        names = {
            job: promql.sample_names(request(server.address, "/metrics")[1])
            for job, server in running.items()
        }
        names["neurectomy"] = eventually(lambda: served_by(api, "http_server_request_duration"))
        yield prometheus, names
    finally:
        api.kill()
        for server in reversed(servers):
            server.stop()
        receivers.close()


def served_by(api: Fleet, wanted: str) -> set[str]:
    """Return the names that it exposes, once one that begins so is there."""
    found = promql.sample_names(request(f"127.0.0.1:{api.port}", "/metrics")[1])
    return found if any(name.startswith(wanted) for name in found) else set()


@cache
def recorded() -> set[str]:
    return {rule.name for rule in rules() if "record" in rule.body}


def missing(exposed, expression: str) -> set[str]:
    prometheus, names = exposed
    return promql.unknown(promql.selectors(prometheus, expression), names, recorded())


def test_every_name_in_a_rule_exists(exposed):
    wrong = {rule.name: found for rule in rules() if (found := missing(exposed, rule.body["expr"]))}
    assert wrong == {}


def test_every_name_in_a_runbook_exists(exposed):
    wrong = {
        (page.name, line): found
        for page in sorted(RUNBOOKS.glob("*.md"))
        for line in expressions(page)
        if (found := missing(exposed, line))
    }
    assert wrong == {}


def test_scrape_filters_keep_names_that_exist(exposed):
    _, names = exposed
    served = set().union(*names.values())
    for file in ("prometheus.yml", "kubernetes.yml"):
        shipped = yaml.safe_load((DEPLOY / "prometheus" / file).read_text())
        for job in shipped["scrape_configs"]:
            for filtered in job.get("metric_relabel_configs", ()):
                if filtered.get("source_labels") == ["__name__"]:
                    assert set(filtered["regex"].split("|")) - served <= NOT_HERE, job["job_name"]


def test_the_parser_finds_every_selector_and_a_name_that_is_wrong(exposed):
    prometheus, names = exposed
    found = promql.selectors(
        prometheus,
        'sum(rate(a_total{job="x"}[5m])) / on (j) b unless c offset 5m > {__name__=~"d.*"}',
    )
    assert [selector.name for selector in found] == ["a_total", "b", "c", ""]
    assert found[0].matchers == (("job", "=", "x"),)
    assert promql.unknown(found[1:3], names, {"b"}) == {"c"}
    wrong = promql.selectors(prometheus, 'agents_active_total{job="node"}')
    assert promql.unknown(wrong, names, set()) == {"agents_active_total"}
    assert ROOT.is_dir()
