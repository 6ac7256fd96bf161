"""The shipped files through the programs' own checks, old and new."""

from __future__ import annotations

import json
import re
import subprocess

import pytest
import yaml
from running import DEPLOY

PROMETHEUS = DEPLOY / "prometheus"
TESTS = sorted((PROMETHEUS / "tests").glob("*.yml"))
POD = {
    "__meta_kubernetes_namespace": "fleetmon",
    "__meta_kubernetes_pod_name": "fleet-0",
    "__meta_kubernetes_pod_node_name": "node-1",
    "__meta_kubernetes_pod_phase": "Running",
    "__meta_kubernetes_pod_label_app_kubernetes_io_name": "fleet",
    "__meta_kubernetes_pod_annotation_prometheus_io_scrape": "true",
    "__meta_kubernetes_pod_annotation_prometheus_io_port": "9003",
    "__meta_kubernetes_pod_annotation_prometheus_io_path": "/metrics",
}


def run(*command: str, cwd=PROMETHEUS) -> str:
    done = subprocess.run(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.stem)
def test_each_alert_fires_when_it_should_and_not_when_it_should_not(promtool, file):
    assert "SUCCESS" in run(promtool.path, "test", "rules", file.name, cwd=file.parent)


def test_every_alert_has_a_case_that_fires_and_one_that_does_not():
    names = {
        rule["alert"]
        for path in (PROMETHEUS / "rules").glob("*.yml")
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }
    cases = [case["name"] for file in TESTS for case in yaml.safe_load(file.read_text())["tests"]]
    assert {case.split()[0] for case in cases if case.endswith(" fires")} == names
    quiet = {case.split()[0] for case in cases if " does not fire: " in case}
    assert quiet == names - {"Watchdog"}


def test_rules_and_the_configuration_of_one_machine_are_valid(promtool):
    rules = sorted(str(path) for path in (PROMETHEUS / "rules").glob("*.yml"))
    assert "SUCCESS" in run(promtool.path, "check", "rules", *rules)
    assert "is valid" in run(promtool.path, "check", "config", "prometheus.yml")


def test_the_configuration_of_a_cluster_is_valid(promtool, tmp_path):
    if promtool.version.startswith("2."):
        pytest.skip("Debian's Prometheus was built without kubernetes_sd_configs")
    account = tmp_path / "serviceaccount"
    account.mkdir()
    for name in ("token", "ca.crt"):
        (account / name).write_text("stands in for the cluster's\n")
    text = (PROMETHEUS / "kubernetes.yml").read_text()
    text = text.replace("/var/run/secrets/kubernetes.io/serviceaccount", str(account))
    text = text.replace("rules/*.yml", f"{PROMETHEUS}/rules/*.yml")
    (tmp_path / "kubernetes.yml").write_text(text)
    run(promtool.path, "check", "config", "--syntax-only", str(tmp_path / "kubernetes.yml"))


@pytest.mark.parametrize(
    ("address", "changes", "expected"),
    [
        ("10.0.0.1:8080", {}, "10.0.0.1:9003"),
        ("10.0.0.1", {}, "10.0.0.1:9003"),
        ("[fd00::1]:8080", {}, "[fd00::1]:9003"),
        ("10.0.0.1:8080", {"__meta_kubernetes_pod_annotation_prometheus_io_scrape": "false"}, ""),
        ("10.0.0.1:8080", {"__meta_kubernetes_pod_phase": "Succeeded"}, ""),
        ("10.0.0.1:8080", {"__meta_kubernetes_pod_container_init": "true"}, ""),
    ],
    ids=["port", "no-port", "ipv6", "not-asked", "ended", "init"],
)
def test_a_pod_is_scraped_as_its_annotations_say(promtool, tmp_path, address, changes, expected):
    shipped = yaml.safe_load((PROMETHEUS / "kubernetes.yml").read_text())
    (job,) = (job for job in shipped["scrape_configs"] if job["job_name"] == "pods")
    # literal labels in place of a cluster's
    del job["kubernetes_sd_configs"]
    job["static_configs"] = [{"targets": [address], "labels": {**POD, **changes}}]
    config = tmp_path / "prometheus.yml"
    config.write_text(yaml.safe_dump({"scrape_configs": [job]}))
    out = run(promtool.path, "check", "service-discovery", "--timeout=1s", str(config), "pods")
    (found,) = json.loads(out[out.index("[") :])
    if not expected:
        assert not found["labels"]
        return
    labels = found["labels"]
    assert labels["__address__"] == expected
    assert labels["__metrics_path__"] == "/metrics"
    assert {k: v for k, v in labels.items() if not k.startswith("__")} == {
        "job": "fleet",
        "instance": expected,
        "namespace": "fleetmon",
        "pod": "fleet-0",
        "node": "node-1",
    }


@pytest.mark.parametrize(
    ("port", "changes", "kept"),
    [
        ("metrics", {}, True),
        ("telemetry", {}, False),
        ("metrics", {"__meta_kubernetes_pod_label_app_kubernetes_io_name": "fleet"}, False),
    ],
)
def test_span_metrics_are_scraped_from_each_collector(promtool, tmp_path, port, changes, kept):
    shipped = yaml.safe_load((PROMETHEUS / "kubernetes.yml").read_text())
    (job,) = (job for job in shipped["scrape_configs"] if job["job_name"] == "span-metrics")
    del job["kubernetes_sd_configs"]
    labels = {
        "__meta_kubernetes_pod_label_app_kubernetes_io_name": "otel-collector",
        "__meta_kubernetes_pod_container_port_name": port,
        "__meta_kubernetes_pod_name": "otel-collector-1",
        "__meta_kubernetes_namespace": "fleetmon",
        **changes,
    }
    job["static_configs"] = [{"targets": ["10.0.0.2:8889"], "labels": labels}]
    config = tmp_path / "prometheus.yml"
    config.write_text(yaml.safe_dump({"scrape_configs": [job]}))
    out = run(
        promtool.path, "check", "service-discovery", "--timeout=1s", str(config), "span-metrics"
    )
    (found,) = json.loads(out[out.index("[") :])
    told = {k: v for k, v in (found["labels"] or {}).items() if not k.startswith("__")}
    assert told == (
        {
            "job": "span-metrics",
            "instance": "10.0.0.2:8889",
            "namespace": "fleetmon",
            "pod": "otel-collector-1",
        }
        if kept
        else {}
    )


def test_alertmanagers_configuration_is_valid(amtool):
    out = run(amtool.path, "check-config", "alertmanager.yml", cwd=DEPLOY / "alertmanager")
    assert "SUCCESS" in out


@pytest.mark.parametrize(
    ("labels", "receivers"),
    [
        ({"severity": "critical"}, "pagerduty"),
        ({"severity": "warning"}, "slack"),
        ({"severity": "info"}, "email"),
        ({}, "slack"),
        ({"alertname": "Watchdog", "severity": "none"}, "watchdog"),
        ({"alertname": "AlertDeliveryFailing", "severity": "critical"}, "everybody"),
        ({"severity": "warning", "agent_id": "A", "fleetmon_command": "reset"}, "recovery,slack"),
        ({"severity": "warning", "fleetmon_command": "reset"}, "slack"),
    ],
)
def test_a_route_leads_where_it_should(amtool, labels, receivers):
    out = run(
        *(amtool.path, "config", "routes", "test", "--config.file=alertmanager.yml"),
        *(f"{name}={value}" for name, value in labels.items()),
        cwd=DEPLOY / "alertmanager",
    )
    assert re.search(rf"^{receivers}\b", out, re.MULTILINE), out
