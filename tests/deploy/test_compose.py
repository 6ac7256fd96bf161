"""What the Compose file promises, and what no file of deploy/ may hold."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest
from helpers_deploy import DEPLOY, yaml

COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
PINNED = re.compile(r"[\w./-]+:v?\d+\.\d+(\.\d+)?")
SECRETS = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY|AKIA[0-9A-Z]{16}|xox[abp]-\w{8}|hooks\.slack\.com/services/\w"
    r"|gh[ps]_\w{20}|eyJ[\w-]{20,}\.[\w-]{20,}"
)
# A fresh volume belongs to root, and Jaeger's image gives nothing to another user.
ROOT = {"jaeger"}
# The S3 server of the demonstration asks nobody who he is, and is reached by nobody else.
PUBLIC = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_pinned_guarded_and_limited(name):
    service = SERVICES[name]
    assert PINNED.fullmatch(service["image"]), service["image"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "unless-stopped"
    assert service["mem_limit"]
    assert service["cpus"]
    assert "privileged" not in service
    assert (service.get("user", "").startswith("0")) == (name in ROOT)


def test_nothing_can_be_reached_from_outside_but_grafana_on_this_machine():
    assert COMPOSE["networks"]["default"] == {"internal": True}
    published = {name: s["ports"] for name, s in SERVICES.items() if s.get("ports")}
    assert published == {"grafana": ["127.0.0.1:3000:3000"]}
    # a second leg leads out, to whoever is to be told, and no way in without a published port
    assert {n for n, s in SERVICES.items() if "networks" in s} == {"grafana", "alertmanager"}
    assert not any(service.get("network_mode") for service in SERVICES.values())


def test_no_secret_stands_in_a_value():
    for name, service in SERVICES.items():
        for key, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|TOKEN|KEY", key):
                assert value in {PUBLIC.get(key), f"${{{key}:-}}"}, f"{name}: {key}"


def test_nothing_is_handed_over_in_a_way_that_compose_refuses_to_a_read_only_container():
    # a secret or configuration that is no file would have to be copied into it
    for section in ("secrets", "configs"):
        assert all(set(one) == {"file"} for one in COMPOSE.get(section, {}).values())


def grafanas_password(given: str) -> str:
    """Return the password that its container starts Grafana with."""
    shell, option, script = SERVICES["grafana"]["entrypoint"]
    variables = SERVICES["grafana"]["environment"]
    assert variables["GRAFANA_ADMIN_PASSWORD"] == "${GRAFANA_ADMIN_PASSWORD:-}"
    assert script.endswith("exec /run.sh")
    script = script.replace("$$", "$").replace("/run.sh", "printenv GF_SECURITY_ADMIN_PASSWORD")
    environment = {"PATH": os.environ["PATH"], "GRAFANA_ADMIN_PASSWORD": given}
    return subprocess.run(
        [shell, option, script], env=environment, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_grafanas_password_is_the_one_given_or_one_that_nobody_knows():
    assert grafanas_password("my own") == "my own"
    one, other = grafanas_password(""), grafanas_password("")
    assert len(one) == len(other) == 24
    assert one != other


def test_the_bucket_that_loki_writes_to_is_made_in_compose_as_in_a_cluster():
    script = SERVICES["s3"]["entrypoint"][2]
    assert f"PUT /{SERVICES['loki']['environment']['LOKI_S3_BUCKET']} HTTP/1.1" in script
    demo = DEPLOY / "kubernetes" / "overlays" / "demo"
    (there,) = (
        document["spec"]["template"]["spec"]["containers"][0]["command"][2]
        for document in yaml.safe_load_all((demo / "s3.yaml").read_text())
        if document["kind"] == "StatefulSet"
    )
    assert there == script
    assert "- bucket=loki\n" in (demo / "kustomization.yaml").read_text()


def test_no_file_holds_what_looks_like_a_secret():
    files = [path for path in sorted(DEPLOY.rglob("*")) if path.is_file()]
    assert len(files) > 100
    found = [p for p in files if SECRETS.search(p.read_text(encoding="utf-8", errors="ignore"))]
    assert found == []


def test_what_is_mounted_is_there_and_only_to_read():
    mounts = [m for s in SERVICES.values() for m in s.get("volumes", ()) if m[0] in "./"]
    assert mounts
    for mount in mounts:
        source, _, options = mount.split(":")
        assert options.split(",")[0] == "ro", mount
        assert (DEPLOY / source).exists(), mount
    named = {m.split(":")[0] for s in SERVICES.values() for m in s.get("volumes", ())}
    assert {name for name in named if name[0] not in "./"} == set(COMPOSE["volumes"])


def test_the_dashboards_that_a_cluster_gets_are_all_of_them():
    listed = yaml.safe_load((DEPLOY / "grafana" / "kustomization.yaml").read_text())
    dashboards = [
        file.removeprefix("dashboards/")
        for generator in listed["configMapGenerator"]
        if generator["name"].startswith("grafana-dashboards-")
        for file in generator["files"]
    ]
    there = [path.name for path in (DEPLOY / "grafana" / "dashboards").glob("*.json")]
    assert sorted(dashboards) == sorted(there)
    assert len(there) >= 10


def test_the_rules_that_a_cluster_gets_are_all_of_them():
    listed = (DEPLOY / "prometheus" / "kustomization.yaml").read_text()
    for path in (DEPLOY / "prometheus" / "rules").glob("*.yml"):
        assert f"rules/{path.name}" in listed


def test_the_runbooks_that_a_cluster_gets_are_all_of_them():
    listed = yaml.safe_load((DEPLOY / "runbooks" / "kustomization.yaml").read_text())
    (generator,) = listed["configMapGenerator"]
    there = [path.name for path in (DEPLOY / "runbooks").glob("*.md")]
    assert sorted(generator["files"]) == sorted(there)


def test_a_dollar_that_is_grafanas_own_is_written_twice():
    for path in (DEPLOY / "grafana" / "provisioning").rglob("*.yaml"):
        lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
        assert not re.search(r"(?<!\$)\$(?!\$)(\$\$)*\{?_", "\n".join(lines)), path


def test_yamllint_has_nothing_to_say():
    if shutil.which("yamllint") is None:
        pytest.skip("yamllint is not installed (Debian: yamllint)")
    done = subprocess.run(
        ["yamllint", "--strict", "-c", str(DEPLOY / ".yamllint.yaml"), str(DEPLOY)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
