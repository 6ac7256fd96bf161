"""What kustomize makes of the overlays: valid, and as guarded as it says. And the other files."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from pathlib import Path

import programs
import pytest
import yaml
from conftest import need
from manifests import KUBERNETES, OVERLAYS, WHOLE, objects, of_kind, rendered, workloads
from running import DEPLOY, ROOT

VERSION = "1.37"
# It reads the machine's own files, and says so: the host's processes and the root of its disk.
HOST = {"node-exporter"}


def command(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a tool of this environment, or skip."""
    path = Path(sys.executable).with_name(name)
    if not path.exists():
        pytest.skip(f"{name} is not installed (the extra stack)")
    return subprocess.run([path, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_is_valid_for_kubernetes(overlay, tmp_path, table):
    file = tmp_path / f"{overlay}.yaml"
    file.write_text(rendered(overlay))
    done = command("kubernetes-validate", "--strict", "-k", VERSION, str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    table.component("kustomize", need(programs.kustomize()).version)
    table.component("kubernetes-validate", f"{VERSION} --strict")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_container_is_pinned_limited_guarded_and_probed(overlay):
    assert workloads(overlay)
    for workload in workloads(overlay):
        name = workload["metadata"]["name"]
        pod = workload["spec"]["template"]["spec"]
        for container in (*pod["containers"], *pod.get("initContainers", ())):
            where = f"{name}/{container['name']}"
            assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+(\.\d+)?", container["image"]), where
            for bound in ("requests", "limits"):
                assert set(container["resources"][bound]) >= {"cpu", "memory"}, where
            guarded = container["securityContext"]
            assert guarded["allowPrivilegeEscalation"] is False, where
            assert guarded["readOnlyRootFilesystem"] is True, where
            assert guarded["capabilities"] == {"drop": ["ALL"]}, where
            assert "privileged" not in guarded, where
        for container in pod["containers"]:
            assert container["readinessProbe"], name
            assert container["livenessProbe"], name
        own = pod["securityContext"]
        assert own["runAsNonRoot"] is True, name
        assert own["runAsUser"] > 0, name
        assert own["seccompProfile"] == {"type": "RuntimeDefault"}, name
        opened = {key for key in ("hostPID", "hostNetwork", "hostIPC") if pod.get(key)}
        mounted = [v for v in pod.get("volumes", ()) if "hostPath" in v]
        assert not (opened or mounted) or name in HOST, name


@pytest.mark.parametrize("overlay", WHOLE)
def test_nothing_is_open_to_the_world(overlay):
    for service in of_kind(overlay, "Service"):
        assert service["spec"].get("type", "ClusterIP") == "ClusterIP", service["metadata"]
        assert "externalIPs" not in service["spec"]
    policies = {p["metadata"]["name"]: p["spec"] for p in of_kind(overlay, "NetworkPolicy")}
    assert policies["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    # what lets somebody in says whom
    for name, policy in policies.items():
        for rule in policy.get("ingress", ()):
            assert rule.get("from"), f"{name} lets everybody in"
    ingresses = of_kind(overlay, "Ingress")
    backends = {
        path["backend"]["service"]["name"]
        for ingress in ingresses
        for rule in ingress["spec"]["rules"]
        for path in rule["http"]["paths"]
    }
    assert backends == (set() if overlay == "demo" else {"grafana"})
    assert all(ingress["spec"]["tls"] for ingress in ingresses)


@pytest.mark.parametrize("overlay", WHOLE)
def test_what_is_selected_and_named_is_there(overlay):
    pods = [w["spec"]["template"]["metadata"]["labels"] for w in workloads(overlay)]
    names = {pod["app.kubernetes.io/name"] for pod in pods}

    def selected(labels):
        return any(labels.items() <= pod.items() for pod in pods)

    for service in of_kind(overlay, "Service"):
        assert selected(service["spec"]["selector"]), service["metadata"]["name"]
    for policy in of_kind(overlay, "NetworkPolicy"):
        selector = policy["spec"]["podSelector"]
        assert selected(selector.get("matchLabels", {})), policy["metadata"]["name"]
        for wanted in selector.get("matchExpressions", ()):
            assert set(wanted["values"]) <= names, policy["metadata"]["name"]
    for budget in of_kind(overlay, "PodDisruptionBudget"):
        assert selected(budget["spec"]["selector"]["matchLabels"])
    for scaler in of_kind(overlay, "HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        assert (target["kind"], target["name"]) in {
            (w["kind"], w["metadata"]["name"]) for w in workloads(overlay)
        }
    # an annotated port is one that the pod has
    for workload in workloads(overlay):
        template = workload["spec"]["template"]
        notes = template["metadata"].get("annotations", {})
        if notes.get("prometheus.io/scrape") == "true":
            ports = {
                str(port["containerPort"])
                for container in template["spec"]["containers"]
                for port in container.get("ports", ())
            }
            assert notes["prometheus.io/port"] in ports, workload["metadata"]["name"]
            assert notes["prometheus.io/path"] == "/metrics"


@pytest.mark.parametrize("overlay", [*WHOLE, "node"])
def test_kubectl_can_apply_each_object(overlay):
    # it keeps all of an object in an annotation of it, and an object's annotations have 256 KiB
    for found in objects(overlay):
        size = len(json.dumps(found, ensure_ascii=False).encode())
        assert size < 250_000, (found["kind"], found["metadata"]["name"], size)


def test_prometheus_may_ask_for_what_it_discovers_and_for_no_more():
    (role,) = (
        found
        for found in of_kind("demo", "ClusterRole")
        if found["metadata"]["name"] == "fleetmon-prometheus"
    )
    rights = {
        (resource, verb)
        for rule in role["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    config = yaml.safe_load((DEPLOY / "prometheus" / "kubernetes.yml").read_text())
    discovered = {
        f"{found['role']}s"
        for job in config["scrape_configs"]
        for found in job.get("kubernetes_sd_configs", ())
    }
    wanted = {(kind, verb) for kind in discovered for verb in ("get", "list", "watch")}
    assert rights == wanted | {("nodes/metrics", "get")}


def references(node, kind):
    """Yield what refers to a ConfigMap or a Secret, with the keys that are asked for."""
    if isinstance(node, list):
        for part in node:
            yield from references(part, kind)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key == f"{kind}KeyRef":
                yield value["name"], {value["key"]}
            elif key == kind and isinstance(value, dict):
                name = value.get("secretName") or value.get("name")
                if name:
                    yield name, {item["key"] for item in value.get("items", ())}
            else:
                yield from references(value, kind)


def printed_secrets() -> dict[str, dict]:
    script = [str(KUBERNETES / "secrets.sh"), "--demo"]
    out = subprocess.run(script, check=True, capture_output=True, text=True).stdout
    return {found["metadata"]["name"]: found for found in yaml.safe_load_all(out) if found}


@pytest.mark.parametrize("overlay", WHOLE)
def test_secrets_are_never_in_the_manifests_and_those_that_are_asked_for_are_printed(overlay):
    assert of_kind(overlay, "Secret") == []
    there = printed_secrets()
    for name, keys in references(workloads(overlay), "secret"):
        assert keys <= set(there[name]["data"]), name
    maps = {m["metadata"]["name"]: m.get("data", {}) for m in of_kind(overlay, "ConfigMap")}
    for name, keys in references(workloads(overlay), "configMap"):
        assert keys <= set(maps[name]), name
    for workload in workloads(overlay):
        for container in workload["spec"]["template"]["spec"]["containers"]:
            for variable in container.get("env", ()):
                if re.search("PASSWORD|SECRET|TOKEN|KEY", variable["name"]):
                    told = variable.get("value", "")
                    assert "valueFrom" in variable or told.startswith("/"), variable["name"]


def test_the_secrets_that_are_printed_are_valid_and_no_two_alike(tmp_path):
    file = tmp_path / "secrets.yaml"
    file.write_text("---\n".join(yaml.safe_dump(one) for one in printed_secrets().values()))
    done = command("kubernetes-validate", "--strict", "-k", VERSION, str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    once, twice = (printed_secrets()["grafana-admin"]["data"]["password"] for _ in range(2))
    assert once != twice


def test_a_secret_is_what_its_file_holds_without_the_end_of_its_line(tmp_path):
    keys = {key for secret in printed_secrets().values() for key in secret["data"]}
    for key in keys:
        (tmp_path / key).write_text(f"of {key}\n")
    script = [str(KUBERNETES / "secrets.sh"), "--from", str(tmp_path)]
    out = subprocess.run(script, check=True, capture_output=True, text=True).stdout
    values = {
        key: base64.b64decode(value).decode()
        for secret in yaml.safe_load_all(out)
        if secret
        for key, value in secret["data"].items()
    }
    assert values == {key: f"of {key}" for key in keys}


def test_a_secret_that_cannot_be_read_ends_it_and_prints_nothing(tmp_path):
    script = [str(KUBERNETES / "secrets.sh"), "--from", str(tmp_path)]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "cannot be read" in done.stderr


@pytest.mark.parametrize("overlay", WHOLE)
def test_each_fact_is_in_one_file_which_cluster_and_compose_share(overlay):
    files = {
        path.read_text(): path
        for path in DEPLOY.rglob("*")
        if path.is_file() and path.suffix in {".yml", ".yaml", ".json", ".tmpl", ".alloy", ".md"}
    }
    own = {"loki-s3"}  # what differs from place to place, and is told by the overlay
    for found in of_kind(overlay, "ConfigMap"):
        name = re.sub(r"-[a-z0-9]{10}$", "", found["metadata"]["name"])
        if name not in own:
            for key, value in found["data"].items():
                if key != "flags":
                    assert value in files, f"{name}: {key} is no file of deploy/"


@pytest.mark.parametrize("overlay", WHOLE)
def test_prometheus_is_started_as_compose_starts_it(overlay):
    (prometheus,) = (w for w in workloads(overlay) if w["metadata"]["name"] == "prometheus")
    (container,) = prometheus["spec"]["template"]["spec"]["containers"]
    there = dict(argument.split("=", 1) for argument in container["args"] if "=" in argument)
    flags = (DEPLOY / "prometheus" / "flags").read_text().splitlines()
    shipped = dict(flag.split("=", 1) for flag in flags)
    assert set(shipped) <= set(there)
    # 90 GB of a volume of 100 Gi, and the pages where they are mounted
    differing = {name for name in shipped if shipped[name] != there[name]}
    assert differing == {"--storage.tsdb.retention.size", "--web.console.templates"}
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert mounts[there["--web.console.templates"]] == "runbooks"


def test_five_deployments_are_scraped_by_a_component_and_a_line_each():
    scraped = {
        w["metadata"]["name"]: w["spec"]["template"]["metadata"]["annotations"]
        for w in workloads("annotations")
    }
    ports = {"ryot": "8000", "sigmalang": "8001", "sigmavault": "8002", "neurectomy": "8080"}
    for name, port in {**ports, "agents": "9003"}.items():
        assert scraped[name] == {
            "prometheus.io/scrape": "true",
            "prometheus.io/port": port,
            "prometheus.io/path": "/metrics",
        }


def test_the_sizes_are_those_that_were_planned():
    limits = {}
    for workload in workloads("production"):
        (container,) = workload["spec"]["template"]["spec"]["containers"][:1]
        told = container["resources"]["limits"]
        limits[workload["metadata"]["name"]] = (str(told["cpu"]), told["memory"])
    assert limits["prometheus"] == ("2", "4Gi")
    assert limits["grafana"] == ("500m", "1Gi")
    assert limits["loki"] == ("1", "2Gi")
    assert limits["jaeger"] == ("1", "2Gi")


def test_compose_is_valid(table):
    done = command(
        "check-jsonschema",
        "--builtin-schema",
        "vendor.compose-spec",
        str(DEPLOY / "compose.yaml"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    table.component("Compose", "check-jsonschema, its own copy of the specification")


def test_hadolint_has_nothing_to_say_of_the_dockerfile(table):
    done = command("hadolint", str(ROOT / "Dockerfile"))
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
    version = command("hadolint", "--version").stdout.split()[-1]
    table.component("Dockerfile", f"hadolint {version}")


def test_a_cluster_gets_the_images_that_compose_has():
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    there = {service["image"] for service in compose.values() if "build" not in service}
    cluster = {
        container["image"]
        for overlay in ("demo", "node")
        for workload in workloads(overlay)
        for container in workload["spec"]["template"]["spec"]["containers"]
        if "fleetmon/fleetmon" not in container["image"]
    }
    assert cluster == there
