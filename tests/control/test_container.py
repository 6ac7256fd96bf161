"""A fleet in a container with another user's files, for real: namespaces of users and mounts.

Each command line runs in a mount namespace of its own, in which another user may read this Python
(which may be in root's home) and this checkout.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from test_hosts import HOST

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).resolve().parents[2]
ANN, BOB = 21_001, 21_002  # users without a name, as a container's are
BOX = ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--mount-proc"]


def closed(path):
    """Return the uppermost directory on the way to a path that keeps others out, if any does."""
    for above in reversed((path, *path.parents)):
        if not above.stat().st_mode & 0o001:
            return above
    return None


def opening(spare):
    """Return a script that puts a new directory in place of each closed one, with what we need."""
    needed = {Path(sys.base_prefix).resolve(), Path(sys.prefix).resolve(), ROOT}
    kept = {path: closed(path) for path in needed}
    lines = ["set -e"]
    for number, path in enumerate(p for p, top in kept.items() if top):
        lines += [f"mkdir -p {spare}/{number}", f"mount --bind '{path}' {spare}/{number}"]
    lines += [f"mount -t tmpfs none '{top}'; chmod 755 '{top}'"
              for top in {t for t in kept.values() if t}]  # fmt: skip
    for number, path in enumerate(p for p, top in kept.items() if top):
        lines += [f"mkdir -p '{path}'", f"mount --move {spare}/{number} '{path}'"]
    return "\n".join([*lines, 'exec "$@"'])


class Place:
    """A directory that a container has from outside, and who may work in it."""

    def __init__(self, directory):
        directory.chmod(0o755)
        self.volume = directory / "v"
        self.volume.mkdir()
        self.volume.chmod(0o1777)
        spare = directory / "spare"
        spare.mkdir()
        self._open = opening(spare)
        self._environment = {
            **os.environ, "XDG_RUNTIME_DIR": str(self.volume), "TMPDIR": f"{directory}/none",
            "HOME": "/", "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip

    async def start(self, *line, user=0, boxed=False, **how):
        """Start this Python with some arguments; gives the process."""
        become = [f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
        command = ["setpriv", *become, *(BOX if boxed else []), sys.executable, *line]
        return await asyncio.create_subprocess_exec(
            "unshare", "--mount", "bash", "-c", self._open, "-", *command, cwd="/",
            env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **how,
        )  # fmt: skip

    async def fleetmon(self, *line, user=0, boxed=False):
        """Run a command line; gives code, output and complaint."""
        process = await self.start("-m", "fleetmon", *line, user=user, boxed=boxed)
        async with asyncio.timeout(60):
            out, err = await process.communicate()
        return process.returncode, out.decode(), err.decode()

    @asynccontextmanager
    async def fleet(self, name, *, user=0, boxed=False):
        """Run a fleet; gives the path of its socket."""
        host = await self.start("-c", HOST, name, user=user, boxed=boxed, stdin=subprocess.PIPE)
        try:
            told = await host.stdout.readline()
            assert told == b"ready\n", (await host.stderr.read()).decode()
            (path,) = (self.volume / "fleetmon").glob(f"{name}.*.sock")
            yield path
        finally:
            # its death takes the namespace of processes with it
            for child in children(host.pid):
                os.kill(child, 9)
            host.kill()
            await host.communicate()


def children(pid):
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split():
        found += [*children(int(child)), int(child)]
    return found


@pytest.fixture
def shared():
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    if any(shutil.which(name) is None for name in ("unshare", "setpriv", "bash")):
        pytest.skip("unshare and setpriv are not installed")
    with tempfile.TemporaryDirectory(prefix="fm-") as directory:
        place = Place(Path(directory))
        probe = asyncio.run(tried(place))
        if probe:
            pytest.skip(f"no namespaces here: {probe}")
        yield place


async def tried(place):
    process = await place.start("-c", "import fleetmon", user=ANN, boxed=True)
    _, err = await process.communicate()
    return err.decode().strip() if process.returncode else ""


def one_sentence(told, *said):
    code, out, err = told
    assert (code, out, err.count("\n")) == (3, "", 1), told
    assert any(word in err for word in said), err
    return err


async def test_a_fleet_in_a_container_seen_from_outside_and_from_other_containers(shared):
    async with shared.fleet("inside", user=ANN, boxed=True) as path:
        url = f"unix:{path}"
        for boxed in (False, True):  # its own user, also out of a container beside it
            code, out, err = await shared.fleetmon("status", user=ANN, boxed=boxed)
            assert (code, err, out.splitlines()[0]) == (
                0, "", "inside: running, 1 agent: 1 healthy (process 1)",
            )  # fmt: skip
        code, out, _ = await shared.fleetmon("restart", "SENTRY", "--wait", "--yes", user=ANN)
        assert (code, out) == (0, "SENTRY: restart done; now running\n")

        async def refused(user, *, boxed):
            who = {"user": user, "boxed": boxed}
            one_sentence(await shared.fleetmon("status", **who), "belongs to another user")
            told = await shared.fleetmon("stop", "--all", "--yes", "--url", url, **who)
            # root outside comes as far as the fleet's door
            one_sentence(told, "Permission denied", "is another user's")
            code, out, err = await shared.fleetmon("doctor", **who)
            assert (code, err, "Errno" in out) == (1, "", False)
            inside = "of a user outside this container; run this there"
            mend = inside if boxed else f"run this as number {ANN}: sudo -u '#{ANN}' fleetmon"
            assert mend in out

        others = [refused(user, boxed=boxed) for user in (0, BOB) for boxed in (False, True)]
        await asyncio.gather(*others)
        code, out, _ = await shared.fleetmon("status", user=ANN)
        assert (code, "running" in out.splitlines()[2]) == (0, True)


async def test_a_fleet_outside_seen_from_containers(shared):
    async with shared.fleet("outside", user=ANN) as path:
        code, out, _ = await shared.fleetmon("status", user=ANN, boxed=True)
        assert (code, out.partition(":")[0]) == (0, "outside")
        one_sentence(
            await shared.fleetmon("status", user=BOB, boxed=True), "belongs to another user"
        )
        told = await shared.fleetmon("status", "--url", f"unix:{path}", user=BOB, boxed=True)
        one_sentence(told, "Permission denied")


async def test_what_a_container_left_when_it_was_killed(shared):
    async with shared.fleet("gone", user=ANN, boxed=True):
        pass
    err = one_sentence(await shared.fleetmon("status", user=ANN), "died, its files stayed")
    assert "fleet 'gone' (process 1)" in err
    async with shared.fleet("next", user=ANN):  # which removes them
        assert {x.name.partition(".")[0] for x in (shared.volume / "fleetmon").iterdir()} == {
            "next"
        }
