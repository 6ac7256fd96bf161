"""What every alert carries, and who hears of it."""

from __future__ import annotations

import re
from importlib import import_module

import pytest
from helpers_deploy import DEPLOY, alerts, rules, yaml

CLASSES = {
    *(f"{what}ErrorRateHigh" for what in ("Agents", "Ryot", "Sigmalang", "Sigmavault")),
    *(f"{what}LatencyHigh" for what in ("Agents", "Ryot", "Sigmalang", "Sigmavault")),
    *("NeurectomyErrorRateHigh", "NeurectomyLatencyHigh"),
    *("ServiceDown", "HostCpuHigh", "HostDiskLow", "AgentFailuresRepeated"),
    *("AgentQuarantined", "AgentRecoveryNotWorking", "AgentBlocksLoop", "AgentQueueStalled"),
    *("FleetMassFailure", "Watchdog"),
    *(f"ErrorBudgetBurn{rate}" for rate in ("14x", "6x", "3x", "1x")),
}
RECEIVERS = {"critical": "pagerduty", "warning": "slack", "info": "email"}
SECRETS = {"pagerduty_routing_key", "slack_api_url", "smtp_password", "recovery_token"}


@pytest.fixture(scope="module")
def alertmanager():
    return yaml.safe_load((DEPLOY / "alertmanager" / "alertmanager.yml").read_text())


def test_every_class_of_alert_is_there():
    assert set(alerts()) >= CLASSES


@pytest.mark.parametrize("name", alerts())
def test_an_alert_has_a_severity_and_says_what_it_is(name):
    alert = alerts()[name]
    assert alert.labels["severity"] in {*RECEIVERS, "none"}
    assert (alert.labels["severity"] == "none") == (name == "Watchdog")
    for key in ("summary", "description", "runbook_url"):
        assert alert.annotations[key].strip(), key


def test_thresholds_and_times_are_those_that_were_asked_for():
    for name, alert in alerts().items():
        if name.endswith("ErrorRateHigh"):
            assert (alert.body["for"], alert.body["expr"].split()[-2:]) == ("5m", [">", "0.05"])
        if name.endswith("LatencyHigh"):
            assert (alert.body["for"], alert.body["expr"].split()[-2:]) == ("10m", [">", "5"])
    burns = {
        name: re.findall(r"burn_rate:(\w+) > ([\d.]+)", alert.body["expr"])
        for name, alert in alerts().items()
        if name.startswith("ErrorBudgetBurn")
    }
    assert burns == {
        "ErrorBudgetBurn14x": [("5m", "14.4"), ("1h", "14.4")],
        "ErrorBudgetBurn6x": [("30m", "6"), ("6h", "6")],
        "ErrorBudgetBurn3x": [("2h", "3"), ("1d", "3")],
        "ErrorBudgetBurn1x": [("6h", "1"), ("3d", "1")],
    }
    by_name = alerts()
    assert by_name["ServiceDown"].body == {
        **by_name["ServiceDown"].body,
        "expr": "up == 0",
        "for": "1m",
    }
    assert "> 0.9" in by_name["HostCpuHigh"].body["expr"]
    assert by_name["HostCpuHigh"].body["for"] == "5m"
    assert "< 0.1" in by_name["HostDiskLow"].body["expr"]
    assert by_name["AgentFailuresRepeated"].body["expr"].startswith("round(")


def test_only_an_alert_that_names_an_agent_carries_a_command():
    for name, alert in alerts().items():
        command = alert.labels.get("fleetmon_command")
        assert command in {None, "start", "restart", "resume", "reset"}, name
        if command:
            assert name.startswith("Agent")


def test_recorded_names_follow_the_convention_and_are_recorded_once_for_each_label():
    seen = set()
    for rule in rules():
        if "record" in rule.body:
            # the one promised name is the exception
            assert re.fullmatch(r"[a-z]+(:\w+){2,}|slo:\w+:\w+|ryot_tokens_generated", rule.name)
            key = (rule.name, *sorted(rule.labels.items()))
            assert key not in seen, key
            seen.add(key)


def test_each_severity_has_its_route_and_the_milder_two_are_quiet_in_maintenance(
    alertmanager,
):
    routes = alertmanager["route"]["routes"]
    by_matcher = {tuple(route["matchers"]): route for route in routes}
    for severity, receiver in RECEIVERS.items():
        route = by_matcher[f'severity="{severity}"',]
        assert route["receiver"] == receiver
        muted = route.get("mute_time_intervals", [])
        assert muted == ([] if severity == "critical" else ["maintenance"])
    assert by_matcher['alertname="Watchdog"',]["receiver"] == "watchdog"
    assert "mute_time_intervals" not in by_matcher['alertname="Watchdog"',]


def test_nothing_that_pages_is_inhibited_but_a_burn_rate_by_a_faster_one(alertmanager):
    # its end would be inhibited as well, and the incident would stay open
    pages = {name for name, alert in alerts().items() if alert.labels["severity"] == "critical"}
    for rule in alertmanager["inhibit_rules"]:
        (source,) = re.findall(r'^alertname="(\w+)"$', rule["source_matchers"][0])
        for matcher in rule["target_matchers"]:
            label, pattern = re.fullmatch(r'(\w+)=~?"(.+)"', matcher).groups()
            if label == "severity":
                assert not re.fullmatch(pattern, "critical"), source
            else:
                kept_quiet = {name for name in pages if re.fullmatch(pattern, name)}
                assert all(name.startswith("ErrorBudgetBurn") for name in kept_quiet), source


def test_no_secret_stands_in_the_configuration(alertmanager):
    text = (DEPLOY / "alertmanager" / "alertmanager.yml").read_text()
    files = set(re.findall(r"/etc/alertmanager/secrets/(\w+)", text))
    assert files >= SECRETS
    documented = (DEPLOY / "alertmanager" / "README.md").read_text()
    assert all(f"`{name}`" in documented for name in files)
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in lines:
        assert not re.search(r"(password|routing_key|api_url|credentials|token):", line), line


def test_both_ways_of_scraping_use_the_same_rules_and_intervals():
    one, many = (
        yaml.safe_load((DEPLOY / "prometheus" / name).read_text())
        for name in ("prometheus.yml", "kubernetes.yml")
    )
    for section in ("global", "rule_files", "alerting"):
        assert one[section] == many[section]
    flags = (DEPLOY / "prometheus" / "flags").read_text().splitlines()
    assert "--storage.tsdb.retention.time=30d" in flags
    assert "--storage.tsdb.retention.size=100GB" in flags
    assert "--enable-feature=exemplar-storage" in flags


@pytest.mark.parametrize("service", ["ryot", "sigmalang", "sigmavault"])
def test_the_buckets_of_a_service_reach_beyond_the_limit_of_its_latency_alert(service):
    # with the last bound at or below 5 s, no p95 could ever be above it
    bounds = import_module(f"fleetmon.exporters.{service}").DURATIONS
    assert 5 in bounds
    assert max(bounds) > 5
