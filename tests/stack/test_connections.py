"""Who has to reach whom in a cluster is let through: what the policies say, taken at their word."""

from __future__ import annotations

import re

import pytest
from manifests import WHOLE, of_kind, workloads
from running import DEPLOY

# Who connects to whom: the configurations' own addresses.
CONNECTIONS = {
    ("fleet", "otel-collector", 4318),
    ("otel-collector", "jaeger", 4317),
    ("alloy", "loki", 3100),
    ("prometheus", "alertmanager", 9093),
    ("alertmanager", "fleet", 9004),
    ("grafana", "prometheus", 9090),
    ("grafana", "jaeger", 16686),
    ("grafana", "loki", 3100),
    ("grafana", "alertmanager", 9093),
}
FILES = (
    *("alertmanager/alertmanager.yml", "alloy/kubernetes.alloy", "prometheus/kubernetes.yml"),
    *("otel-collector/config.yaml", "grafana/provisioning/datasources/fleetmon.yaml"),
    *("kubernetes/base/fleet.yaml", "kubernetes/base/alloy.yaml"),
)


def chooses(selector: dict, labels: dict[str, str]) -> bool:
    """Tell whether a selector is about a pod with these labels."""
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        wanted["operator"] == "In" and labels.get(wanted["key"]) in wanted["values"]
        for wanted in selector.get("matchExpressions", ())
    )


def lets_through(policies: list[dict], way: str, pod: str, other: str, port: int) -> bool:
    """Tell whether a pod's own policies let it be connected with another one of the namespace.

    Args:
        policies: all of them.
        way: ``ingress`` or ``egress``, as the pod sees it.
        pod: name of whose policies are asked.
        other: name of the other one.
        port: of the one that listens.
    """
    label = "app.kubernetes.io/name"
    return any(
        (
            not (peers := rule.get("from" if way == "ingress" else "to"))
            or any(
                "namespaceSelector" not in peer and chooses(peer["podSelector"], {label: other})
                for peer in peers
            )
        )
        and (not rule.get("ports") or port in {opened["port"] for opened in rule["ports"]})
        for policy in policies
        if way.title() in policy["policyTypes"] and chooses(policy["podSelector"], {label: pod})
        for rule in policy.get(way, ())
    )


@pytest.mark.parametrize("overlay", WHOLE)
def test_who_has_to_reach_another_is_let_through_and_finds_a_service(overlay):
    policies = [found["spec"] for found in of_kind(overlay, "NetworkPolicy")]
    services = {
        (service["metadata"]["name"], port["port"])
        for service in of_kind(overlay, "Service")
        for port in service["spec"]["ports"]
    }
    connections = CONNECTIONS | ({("loki", "s3", 8333)} if overlay == "demo" else set())
    for source, target, port in sorted(connections):
        where = f"{source} to {target}:{port}"
        assert lets_through(policies, "egress", source, target, port), where
        assert lets_through(policies, "ingress", target, source, port), where
        assert (target, port) in services, where
    assert not lets_through(policies, "ingress", "fleet", "grafana", 9003)
    assert not lets_through(policies, "egress", "jaeger", "loki", 3100)


def test_the_connections_are_those_that_the_files_name():
    text = "\n".join((DEPLOY / file).read_text() for file in FILES)
    names = "|".join(sorted({target for _, target, _ in CONNECTIONS}))
    named = {(name, int(port)) for name, port in re.findall(rf"\b({names}):(\d+)\b", text)}
    assert named == {(target, port) for _, target, port in CONNECTIONS}


@pytest.mark.parametrize("overlay", WHOLE)
def test_prometheus_scrapes_everything_and_is_let_in(overlay):
    policies = [found["spec"] for found in of_kind(overlay, "NetworkPolicy")]
    for workload in workloads(overlay):
        name = workload["metadata"]["name"]
        notes = workload["spec"]["template"]["metadata"].get("annotations", {})
        if name not in {"prometheus", "s3"}:  # one scrapes itself, the other is for show
            assert notes.get("prometheus.io/scrape") == "true", name
            port = int(notes["prometheus.io/port"])
            assert lets_through(policies, "ingress", name, "prometheus", port), name
            assert lets_through(policies, "egress", "prometheus", name, port), name
    assert lets_through(policies, "ingress", "otel-collector", "prometheus", 8889)
