"""The commands of the runbooks, run for real, as they stand there, against a fleet that runs."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path

import programs
import pytest
from conftest import need
from running import DEPLOY, ROOT, eventually, request
from scene import Demo

sys.path.insert(0, str(Path(__file__).parents[1] / "deploy"))
from helpers_deploy import RUNBOOKS, blocks

# What runs nowhere here, by the word that a line begins with or contains.
NOT_RUN = {
    "docker": "there is no container engine",
    "kubectl": "there is no cluster",
    "py-spy": "it is no part of the project",
    "dmesg": "a container may not read the kernel's log",
    "du -xh": "it reads the whole disk",
}
STEERS = ("pause", "resume", "drain", "stop", "start", "restart", "quarantine", "reset")
# What a page presupposes when it has somebody type this.
BEFORE = {"resume": "pause", "start": "stop", "reset": "quarantine"}


def lines() -> dict[str, str]:
    """Return every distinct line of the runbooks, with a page it stands on."""
    found: dict[str, str] = {}
    for page in sorted(RUNBOOKS.glob("*.md")):
        for block in blocks(page, "sh"):
            for line in block.splitlines():
                found.setdefault(re.sub(r"\s+#.*", "", line), page.stem)
    return found


def alike(line: str) -> str:
    """Return what a command does, whatever reason it gives."""
    return re.sub(r'--reason "[^"]*"', "--reason", line)


ALL = lines()
STEERING = {
    alike(line): line
    for line in ALL
    if line.startswith(tuple(f"fleetmon {verb} " for verb in STEERS))
}
OTHER = [line for line in ALL if alike(line) not in STEERING]


def not_run(line: str) -> str:
    for what, why in NOT_RUN.items():
        if line.startswith(what):
            return why
    program = line.split(maxsplit=1)[0]
    if program != "fleetmon" and not program.startswith("deploy/") and not shutil.which(program):
        return "" if program in {"amtool", "promtool"} else f"{program} is not installed"
    return ""


@cache
def path_with_programs(directory: Path) -> str:
    for name, found in (("promtool", programs.promtool), ("amtool", programs.amtool)):
        (directory / name).symlink_to(need(found("current")).path)
    return f"{directory}:{Path(sys.executable).parent}:{os.environ['PATH']}"


def shell(line: str, path: str, demo: Demo, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        cwd=ROOT,
        env={**os.environ, "PATH": path, "NO_PROXY": "*", **demo.environment, **more},
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return path_with_programs(tmp_path_factory.mktemp("bin"))


@pytest.mark.parametrize("line", [line for line in OTHER if not not_run(line)])
def test_a_command_that_looks_works_as_it_stands(scene, path, line):
    here = {
        "http://localhost:9003": f"http://{scene.demo.address}",
        "http://localhost:9090": f"http://{scene.prometheus.address}",
        "http://localhost:9093": f"http://{scene.alertmanager.address}",
        "curl -s ": "curl -s --fail ",  # an answer that is an error is none
    }
    command = line
    for there, address in here.items():
        command = command.replace(there, address)
    assert "localhost" not in command
    url = f"http://{scene.alertmanager.address}"
    done = shell(command, path, scene.demo, ALERTMANAGER_URL=url)
    # how a fleet with chaos is; and a task that is poison is given up again, or its agent is out
    special = {"fleetmon status --check": {0, 10, 11}, "fleetmon dead-letters retry": {0, 1, 5}}
    expected = next((codes for start, codes in special.items() if line.startswith(start)), {0})
    if "dead-letters retry" in line:
        why = {1: "DeadLetteredError", 5: "is quarantined"}
        assert why.get(done.returncode, "") in done.stdout
    assert done.returncode in expected, done.stdout + done.stderr
    assert done.stdout.strip() or "dead-letters" in line, "it said nothing"
    assert done.stderr == ""


def test_what_is_not_run_is_named_with_a_reason(table):
    left_out = {line: why for line in OTHER if (why := not_run(line))}
    for line, why in left_out.items():
        table.fact(f"runbook command not run: {line}: {why}")
    assert {line.split()[0] for line in left_out} <= {"docker", "kubectl", "py-spy", "dmesg", "du"}
    # what they are given is at least there
    for line in left_out:
        for word in shlex.split(line):
            assert not word.startswith("deploy/") or (ROOT / word).exists(), line


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A demonstration that may be steered."""
    with Demo(tmp_path_factory.mktemp("own") / "fleet") as demo:
        yield demo


def state_of(demo: Demo, agent: str) -> str:
    page = request(demo.address, "/metrics")[1]
    one = rf'agents_lifecycle{{agent_id="{agent}",state="(\w+)"}} 1\.0'
    return re.search(one, page)[1]


@pytest.mark.parametrize("line", STEERING.values(), ids=list(STEERING))
def test_a_command_that_steers_does_what_it_says(own, path, line):
    verb, agent = shlex.split(line)[1:3]
    if verb in BEFORE:
        before = shell(f'fleetmon {BEFORE[verb]} {agent} --reason "before" --yes', path, own)
        assert before.returncode == 0, before.stdout + before.stderr
        eventually(lambda: state_of(own, agent) != "running")
    done = shell(line, path, own)
    assert done.returncode == 0, done.stdout + done.stderr
    wanted = {"pause": "paused", "quarantine": "quarantined", "drain": "stopped", "stop": "stopped"}
    eventually(lambda: state_of(own, agent) == wanted.get(verb, "running"))
    back = {"pause": "resume", "quarantine": "reset", "drain": "start", "stop": "start"}.get(verb)
    if back:
        back = shell(f'fleetmon {back} {agent} --reason "after" --wait --yes', path, own)
        assert back.returncode == 0, back.stdout + back.stderr


def test_both_servers_read_their_configuration_again_on_sighup(scene):
    # as the page on a refused configuration has it
    assert "kill -HUP 1" in (DEPLOY / "runbooks" / "ConfigurationRefused.md").read_text()
    for server, name in (
        (scene.prometheus, "prometheus_config_last_reload_success_timestamp_seconds"),
        (scene.alertmanager, "alertmanager_config_last_reload_success_timestamp_seconds"),
    ):

        def reloaded(server=server, name=name):
            page = request(server.address, "/metrics")[1]
            return float(re.search(rf"^{name} (\S+)", page, re.MULTILINE)[1])

        before = reloaded()
        server.process.send_signal(signal.SIGHUP)
        eventually(lambda before=before, reloaded=reloaded: reloaded() > before)
