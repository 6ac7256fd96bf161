"""The rollout guard, asking a real Prometheus about a real fleet; only ``kubectl`` is none."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import programs
import pytest
from conftest import VERSIONS, need
from drill import Fleet
from running import DEPLOY, Prometheus, eventually

if TYPE_CHECKING:
    from pathlib import Path

KUBECTL = """#!/bin/sh
echo "$*" >>"$(dirname "$0")/log"
"""

pytestmark = pytest.mark.skipif(
    any(shutil.which(name) is None for name in ("bash", "curl", "awk")),
    reason="bash, curl or awk is not installed",
)


def test_a_deployment_is_rolled_back_when_its_tasks_begin_to_fail(tmp_path: Path):
    found = [programs.prometheus(which) for which in reversed(VERSIONS)]
    tool = next((f for f in found if isinstance(f, programs.Tool)), None) or need(found[-1])
    log = tmp_path / "log"
    (tmp_path / "kubectl").write_text(KUBECTL)
    (tmp_path / "kubectl").chmod(0o755)
    fleet = Fleet("errors")

    def guard(watch: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                *("bash", str(DEPLOY / "automation" / "rollout-guard.sh")),
                *("--prometheus", f"http://{server.address}", "--job", fleet.job),
                *("--every", "0.5", "--for", str(watch)),
            ],
            env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "NO_PROXY": "*"},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    job = {
        "job_name": fleet.job,
        "static_configs": [{"targets": [f"127.0.0.1:{fleet.port}"]}],
    }
    try:
        fleet.start()
        fleet.hear("ready")
        with Prometheus(tool, tmp_path / "prometheus", [job]) as server:
            eventually(lambda: server.query("sum(rate(agents_tasks_completed_total[5m])) > 0"))
            well = guard(3)
            assert well.returncode == 0, well.stdout
            assert "failed tasks 0, burn rate 0.00: well" in well.stdout
            assert not log.exists()
            fleet.say("break")
            fleet.hear("broken")
            ill = guard(60)
            assert ill.returncode == 1, ill.stdout
            assert ill.stdout.count(": strike ") >= 3
            asked = [line for line in log.read_text().splitlines() if "undo" in line]
            assert asked == ["--namespace fleetmon rollout undo deployment/fleet"]
    finally:
        fleet.kill()
