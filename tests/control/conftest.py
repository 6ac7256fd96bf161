"""A private place for sockets, a fleet that can be reached, and the command line against it."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path

import pytest
from helpers_control import QUICK, Echo
from helpers_fuzz import target

from fleetmon import Supervisor, SupervisorSettings, Watchdog
from fleetmon.cli import main
from fleetmon.settings import Control


@pytest.fixture
def place(monkeypatch):
    # short: a socket's path has 103 bytes
    with tempfile.TemporaryDirectory(prefix="fm-") as directory:
        monkeypatch.setenv("XDG_RUNTIME_DIR", directory)
        monkeypatch.setenv("TMPDIR", f"{directory}/tmp")
        monkeypatch.delenv("FLEETMON_CONTROL_DIRECTORY", raising=False)
        yield Path(directory, "fleetmon")


@pytest.fixture
def reachable(place):
    def make(name="hall", **settings):
        return Supervisor(
            SupervisorSettings(
                name=name,
                control=Control(enabled=True),
                defaults=QUICK,
                watchdog=Watchdog(idle_interval=0.02, blocked_after=0.1),
                **settings,
            )
        )

    return make


@pytest.fixture
async def hall(reachable):
    async with reachable() as fleet:
        for name in ("APEX", "CIPHER", "SENTRY"):
            await fleet.add(name, Echo)
        yield fleet


@pytest.fixture(scope="session")
def fuzzed():
    """A fleet in another process, for whoever throws requests at it."""
    with tempfile.TemporaryDirectory(prefix="fm-") as directory, target(Path(directory)) as fleet:
        yield fleet


@pytest.fixture
def fleetmon(capsys):
    """Run a command line in a thread; gives its code, standard output and standard error."""

    async def run(line, *more):
        code = await asyncio.to_thread(main, [*line.split(), *more])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def as_json(fleetmon):
    async def run(line, *more):
        code, out, err = await fleetmon(line, *more)
        assert err == ""
        return code, json.loads(out)

    return run
