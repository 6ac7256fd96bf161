"""Other versions and other users, for real: another protocol, another user's id.

The other version is a copy of the package with another number in it, in a directory of its own.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from helpers_control import Echo
from test_hosts import HOST

import fleetmon as package
from fleetmon.control.client import find
from fleetmon.control.protocol import PROTOCOL

pytestmark = pytest.mark.anyio

SYSTEM = "/usr/bin/python3"  # what another user may run, wherever this one's Python is


def copied(directory, protocol=PROTOCOL):
    """Return a directory with a copy of the package that speaks another version."""
    where = Path(directory, str(protocol))
    source = Path(package.__file__).parent
    shutil.copytree(source, where / "fleetmon", ignore=shutil.ignore_patterns("__pycache__"))
    text = (source / "control/protocol.py").read_text()
    ours = f"PROTOCOL = {PROTOCOL}\n"
    assert text.count(ours) == 1
    changed = text.replace(ours, f"PROTOCOL = {protocol}\n")
    (where / "fleetmon/control/protocol.py").write_text(changed)
    return where


async def ran(where, *line, python=sys.executable, **how):
    """Run the copy's command line; gives its code and what it says on either stream."""
    process = await asyncio.create_subprocess_exec(
        python, "-m", "fleetmon", *line, cwd=where, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, **how,
    )  # fmt: skip
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


@pytest.mark.parametrize("other", [PROTOCOL + 1, PROTOCOL + 2])
async def test_a_newer_command_line_and_an_older_fleet(reachable, tmp_path, other):
    newer = await asyncio.to_thread(copied, tmp_path, other)
    async with reachable() as fleet:
        await fleet.add("APEX", Echo)
        answers = [await ran(newer, *line) for line in (
            ["status"], ["pause", "APEX", "--yes"], ["events"],
        )]  # fmt: skip
        if other == PROTOCOL + 1:
            assert [(code, err) for code, _, err in answers] == [(0, "")] * 3
            assert fleet.agent("APEX").snapshot().desired == "paused"
            return
        for code, out, err in answers:
            assert (code, out, err.count("\n")) == (1, "", 1)
            assert f"speaks control protocol {PROTOCOL} and this fleetmon {other}" in err
            assert "too far apart; upgrade" in err
        assert fleet.agent("APEX").snapshot().desired == "run"


@pytest.mark.parametrize("other", [PROTOCOL + 1, PROTOCOL + 2])
async def test_an_older_command_line_and_a_newer_fleet(place, tmp_path, fleetmon, other):
    newer = await asyncio.to_thread(copied, tmp_path, other)
    host = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOST, "newer", cwd=newer, stdout=subprocess.PIPE
    )
    try:
        assert await host.stdout.readline() == b"ready\n"
        for line in ("status", "restart SENTRY --yes", "agent SENTRY", "events"):
            code, out, err = await fleetmon(line)
            if other == PROTOCOL + 1:
                assert (code, err) == (0, ""), line
                continue
            assert (code, out, err.count("\n")) == (1, "", 1), line
            assert "too far apart; upgrade" in err
        code, out, _ = await fleetmon("doctor")
        if other == PROTOCOL + 1:
            assert (code, "and they do work together" in out) == (0, True)
        else:
            assert (code, "too far apart" in out) == (1, True)
    finally:
        host.kill()
        await host.communicate()


@pytest.fixture
def stranger():
    """How to run a command line as the user nobody, out of a copy that this user may read."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    if not Path(SYSTEM).exists():
        pytest.skip(f"no {SYSTEM} that another user could run")
    probe = "import sys; sys.exit(sys.version_info < (3, 11))"
    if subprocess.run([SYSTEM, "-c", probe], check=False).returncode:
        pytest.skip(f"{SYSTEM} is older than 3.11")
    with tempfile.TemporaryDirectory(prefix="fm-") as directory:
        Path(directory).chmod(0o755)
        where = copied(directory)
        for path in (where, *where.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)

        async def run(*line):
            return await ran(
                where, *line, python=SYSTEM, user="nobody", group="nogroup", extra_groups=[]
            )

        yield run


async def test_another_user_is_refused_with_one_plain_sentence(
    reachable, place, stranger, fleetmon
):
    async with reachable() as fleet:
        await fleet.add("APEX", Echo)
        path = find().socket
        code, out, err = await stranger("status")
        assert (code, out, err.count("\n")) == (3, "", 1)
        assert "Permission denied" in err or "belongs to another user" in err
        code, out, err = await stranger("status", "--url", f"unix:{path}")
        assert (code, out, err.count("\n")) == (3, "", 1)
        assert "Permission denied" in err
        # a container's volume, or a careless chmod: the files are open, the fleet is not
        place.parent.chmod(0o755)
        place.chmod(0o755)
        Path(path).chmod(0o666)
        for line in (["status"], ["quarantine", "APEX", "--yes"]):
            code, out, err = await stranger(*line, "--url", f"unix:{path}")
            assert (code, out, err.count("\n")) == (3, "", 1)
            assert "no fleet answers at" in err
        code, out, err = await stranger("status")
        assert (code, err.count("\n"), "belongs to another user" in err) == (3, 1, True)
        code, out, _ = await stranger("doctor")
        assert code == 1
        assert "belongs to root" in out or "run this as root" in out
        place.chmod(0o700)
        assert fleet.agent("APEX").snapshot().desired == "run"
        assert (await fleetmon("status"))[0] == 0


async def test_files_of_another_user_are_not_believed(reachable, place, stranger, fleetmon):
    async with reachable():
        os.chown(place, 65534, 65534)
        try:
            code, out, err = await fleetmon("status")
            assert (code, out, err.count("\n")) == (3, "", 1)
            assert "belongs to another user" in err
            code, out, _ = await fleetmon("doctor")
            assert (code, "run this as nobody" in out) == (1, True)
        finally:
            os.chown(place, 0, 0)
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
