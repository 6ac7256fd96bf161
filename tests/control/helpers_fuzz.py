"""The fleet that is thrown requests at, seen from outside: it lives, is silent, does not grow."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from fuzz_host import TOKEN, WEBHOOK

from fleetmon.control import registry
from fleetmon.control.client import Client

ROOT = Path(__file__).parents[2]
FUZZ = int(os.environ.get("FLEETMON_FUZZ", "0"))
"""How many times as much as in the ordinary run; set by ``make fuzz``."""

GROWTH = 8 * 1024 * 1024
"""Bytes by which the fleet may have grown: what it keeps of commands and events is bounded."""

_PAGE = os.sysconf("SC_PAGE_SIZE")


class Target(NamedTuple):
    """A fleet that runs in another process."""

    url: str
    path: str
    pid: int

    def resident(self) -> int:
        """Return bytes of its resident memory."""
        told = Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii")
        return int(told.split()[1]) * _PAGE

    def client(self) -> Client:
        """Return a client on its socket."""
        return Client(self.path)


@contextmanager
def target(directory):
    """Run the fleet; at the end it must have lived, and have said nothing."""
    said = directory / "stderr"
    with said.open("wb") as stderr:
        host = subprocess.Popen(
            [sys.executable, "-W", "error", str(Path(__file__).with_name("fuzz_host.py"))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), registry.DIRECTORY: str(directory)},
        )  # fmt: skip
    try:
        told = host.stdout.readline().decode()
        assert told, said.read_text(encoding="utf-8")
        url, path = told.split()
        found = Target(url, path, host.pid)
        yield found
        assert host.poll() is None
        now = found.client().snapshot()
        assert (now["phase"], len(now["agents"])) == ("running", 7)
        host.stdin.close()
        assert host.wait(20) == 0
    finally:
        host.kill()
        host.wait()
        host.stdout.close()
        host.stdin.close()
        complaint = said.read_text(encoding="utf-8", errors="replace")
    assert not complaint, complaint


HEADERS = {"Authorization": f"Bearer {TOKEN}"}
ALERTS = {"Authorization": f"Bearer {WEBHOOK}"}


def report(*told):
    """Say how much was done, where that is asked for."""
    if FUZZ:
        sys.stderr.write(f"\n{' '.join(map(str, told))}\n")
