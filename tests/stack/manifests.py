"""What kustomize makes of the shipped overlays, read once."""

from __future__ import annotations

import subprocess
from functools import cache

import programs
import yaml
from conftest import need
from running import DEPLOY

KUBERNETES = DEPLOY / "kubernetes"
OVERLAYS = {
    "demo": KUBERNETES / "overlays" / "demo",
    "production": KUBERNETES / "overlays" / "production",
    "utilization-autoscaling": KUBERNETES / "overlays" / "utilization-autoscaling",
    "annotations": KUBERNETES / "overlays" / "annotations",
    "node": KUBERNETES / "node",
}
WHOLE = ("demo", "production", "utilization-autoscaling")


@cache
def rendered(overlay: str) -> str:
    tool = need(programs.kustomize())
    command = [tool.path, "build", str(OVERLAYS[overlay])]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@cache
def objects(overlay: str) -> list[dict]:
    return [found for found in yaml.safe_load_all(rendered(overlay)) if found]


def of_kind(overlay: str, *kinds: str) -> list[dict]:
    return [found for found in objects(overlay) if found["kind"] in kinds]


def workloads(overlay: str) -> list[dict]:
    return of_kind(overlay, "Deployment", "StatefulSet", "DaemonSet")
