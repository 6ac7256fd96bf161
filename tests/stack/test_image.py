"""The steps of the Dockerfile without an engine: what it copies, installs and starts, and as whom.

A private mount namespace stands in for the image: the whole disk is read-only there but for a
fresh /tmp, and the process is nobody in particular, as the manifests have it.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from running import ROOT, eventually, free_port, request

DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
PYTHON = "/usr/bin/python3"  # one that another user may run, unlike some in root's home
USER = "10001"


def instructions(name: str) -> list[str]:
    return re.findall(rf"^{name} +(.+)$", DOCKERFILE, re.MULTILINE)


def told(name: str) -> dict[str, str]:
    """Return the variables that the image sets."""
    return dict(word.split("=", 1) for line in instructions(name) for word in shlex.split(line))


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """The directory of the image, made by the build stage's own steps; /tmp is out of sight."""
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("to become another user takes root and setpriv")
    if subprocess.run(["unshare", "--mount", "true"], check=False).returncode:
        pytest.skip("no mount namespace can be had here")
    if subprocess.run([PYTHON, "-c", "import ensurepip, venv"], check=False).returncode:
        pytest.skip(f"{PYTHON} makes no virtual environments (Debian: python3-venv)")
    source = tmp_path_factory.mktemp("image")
    for line in instructions("COPY"):
        *paths, to = line.split()
        if paths[0].startswith("--from"):
            continue
        for path in paths:
            target = source / (path if to == "./" else to)
            if (ROOT / path).is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / path, target, ignore=ignored)
            else:
                shutil.copy(ROOT / path, target)
    (build,) = (line for line in instructions("RUN") if "pip install" in line)
    assert build.startswith("python -m venv /opt/fleetmon")
    place = Path("/opt") / f"fleetmon-test-{os.getpid()}"
    steps = build.replace("/opt/fleetmon", str(place)).replace("python -m", f"{PYTHON} -m")
    try:
        subprocess.run(
            ["nice", "bash", "-euc", steps], cwd=source, check=True, timeout=300,
            stdout=subprocess.DEVNULL, env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        )  # fmt: skip
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(scope="module")
def running(image, tmp_path_factory):
    """The image's command, as its user, on a read-only disk; its address and process."""
    port = free_port()
    environment = {**told("ENV"), "FLEETMON_METRICS": f"127.0.0.1:{port}"}
    environment["PATH"] = f"{image}/bin:/usr/bin:/bin"
    (command,) = instructions("CMD")[-1:]
    words = [word.strip(' "') for word in command.strip("[]").split(",")]
    inside = (
        "mount -o remount,ro,bind / && mount -t tmpfs tmpfs /tmp && cd /tmp && "
        f"exec setpriv --reuid {USER} --regid {USER} --clear-groups --no-new-privs "
        f"--bounding-set=-all --inh-caps=-all {shlex.join(words)}"
    )
    log = tmp_path_factory.mktemp("run") / "log"
    with log.open("w") as out:
        process = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "bash", "-euc", inside],
            env={**environment, "XDG_RUNTIME_DIR": "/tmp"},
            stdout=out,
            stderr=subprocess.STDOUT,
        )

    def ready():
        assert process.poll() is None, log.read_text()
        try:
            return request(f"127.0.0.1:{port}", "/readyz")[0] == 200
        except OSError:
            return False

    try:
        eventually(ready, 60)
        yield f"127.0.0.1:{port}", process, log
    finally:
        process.kill()
        process.wait()


def status(process: subprocess.Popen) -> dict[str, str]:
    text = Path(f"/proc/{process.pid}/status").read_text()
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def test_it_serves_metrics_as_nobody_in_particular_on_a_read_only_disk(running):
    address, process, _ = running
    page = request(address, "/metrics")[1]
    assert "agents_active_total" in page
    assert 'agent_id="APEX"' in page
    found = status(process)
    assert set(found["Uid"].split()) == {USER}
    assert set(found["Gid"].split()) == {USER}
    assert int(found["CapEff"], 16) == 0
    # what the manifests mount to write to is all that it can write to
    mounts = Path(f"/proc/{process.pid}/mounts").read_text().splitlines()
    assert [m.split()[3].split(",")[0] for m in mounts if m.split()[1] == "/"] == ["ro"]


def test_all_extras_of_the_image_can_be_used(image):
    names = ("textual", "yaml", "opentelemetry.exporter.otlp.proto.http", "uvloop")
    code = "; ".join(f"import {name}" for name in names)
    subprocess.run([image / "bin" / "python", "-c", code], check=True, cwd="/", timeout=60)


def test_the_health_check_of_the_image_works(running, image):
    address, _, _ = running
    (check,) = re.findall(r'HEALTHCHECK[^\n]*CMD \["python", "-c", "([^"]+)"\]', DOCKERFILE)
    assert "127.0.0.1:9003/healthz" in check
    check = check.replace("127.0.0.1:9003", address)
    python = image / "bin" / "python"
    subprocess.run([python, "-c", check], check=True, timeout=30, env={"NO_PROXY": "*"})


def test_the_signal_that_stops_it_drains_and_ends_well(running):
    _, process, log = running
    (name,) = instructions("STOPSIGNAL")
    process.send_signal(signal.Signals[name])
    assert process.wait(30) == 0, log.read_text()
    assert "in flight" in log.read_text() or "drain" in log.read_text()
