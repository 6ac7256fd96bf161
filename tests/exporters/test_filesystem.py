"""A filesystem that is really mounted, used by ordinary programs, several at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SERVICE = """
set -e
for i in 1 2 3 4 5; do
  head -c $((i * 5000)) /dev/zero > {n}.$i
  cat {n}.$i > /dev/null
  cp {n}.$i {n}.copy$i
done
echo short > {n}.1                 # over it
truncate -s 123 {n}.2
truncate -s 70000 {n}.3
mv {n}.copy4 {n}.4                 # over one that is there
ln {n}.5 {n}.link
mkdir {n}.d && mv {n}.copy5 {n}.d/in && mv {n}.d {n}.e && echo more >> {n}.e/in
exec 3> {n}.open; echo before >&3; rm {n}.open; echo after >&3; exec 3>&-
rm {n}.copy1
! cat {n}.nothing 2> /dev/null
"""


def wait_until(true: Callable[[], object], within: float = 20) -> None:
    end = time.monotonic() + within
    while not true():
        assert time.monotonic() < end, "did not come about"
        time.sleep(0.01)  # on another process


class Mount:
    def __init__(self, directory: Path, *, daemonise: bool) -> None:
        self.root, self.point = directory / "root", directory / "mnt"
        self.truth = directory / "truth"
        self.root.mkdir(exist_ok=True)
        self.point.mkdir()
        self.said = (directory / "said").open("w+b")  # a pipe that nobody reads would fill up
        how = "yes" if daemonise else "no"
        self.process = subprocess.Popen(
            [
                sys.executable,
                str(HERE / "vaultfs.py"),
                self.root,
                self.point,
                self.truth,
                how,
            ],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=self.said,
        )
        address = Path(f"{self.truth}.address")
        try:
            wait_until(lambda: address.exists() or self.process.poll() not in {None, 0})
            assert address.exists(), (directory / "said").read_text()
        except AssertionError:
            self.end()
            raise
        self.url, pid = address.read_text().split()
        self.pid = int(pid)
        wait_until(self.point.is_mount)

    def metrics(self) -> dict[str, float]:
        with urlopen(self.url, timeout=10) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
        return {
            sample.name + "".join(f" {v}" for v in sample.labels.values()): sample.value
            for family in families
            for sample in family.samples
        }

    def held(self) -> tuple[float, float]:
        found = {}
        for path in self.root.rglob("*"):
            if path.is_file():
                found[path.stat().st_ino] = path.stat().st_size
        return sum(found.values()), len(found)

    def unmount(self) -> None:
        subprocess.run(["fusermount3", "-u", str(self.point)], check=True, timeout=20)

    def end(self) -> None:
        if self.point.is_mount():
            subprocess.run(["fusermount3", "-uz", str(self.point)], check=False, timeout=20)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.said.close()


def mountable() -> str:
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse is missing or not for us"
    if shutil.which("fusermount3") is None:
        return "fusermount3 is not installed (Debian: fuse3)"
    try:
        import mfusepy  # noqa: F401 - whether it can be
    except (ImportError, OSError, AttributeError) as error:
        return f"mfusepy cannot be used: {error}"
    return ""


pytestmark = pytest.mark.skipif(bool(mountable()), reason=mountable())


@pytest.fixture(params=[False, True], ids=["foreground", "daemon"])
def mount(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Mount]:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "before").write_bytes(b"x" * 1000)
    made = Mount(tmp_path, daemonise=request.param)
    try:
        yield made
    finally:
        made.end()


def test_counts_bytes_and_objects_are_the_truth_and_nothing_is_left(mount: Mount) -> None:
    seen = mount.metrics()
    assert seen["sigmavault_storage_bytes_total"] == 1000, "what was there when it was mounted"
    assert seen["sigmavault_objects_total"] == 1
    programs = [
        subprocess.Popen(["bash", "-c", SERVICE.format(n=name)], cwd=mount.point)
        for name in ("one", "two", "three", "four")
    ]
    assert [program.wait(timeout=60) for program in programs] == [0, 0, 0, 0]
    # The kernel releases a closed file when it gets to it: the removed open ones go only then.
    wait_until(lambda: not list(mount.root.glob(".fuse_hidden*")))
    wait_until(
        lambda: (
            (
                mount.metrics()["sigmavault_storage_bytes_total"],
                mount.metrics()["sigmavault_objects_total"],
            )
            == mount.held()
        )
    )
    seen = mount.metrics()
    assert seen["sigmavault_objects_total"] == 1 + 4 * 8
    mount.unmount()
    wait_until(mount.truth.exists)
    wait_until(lambda: not Path(f"/proc/{mount.pid}").exists() or zombie(mount.pid))
    assert mount.process.wait(timeout=20) == 0
    assert str(mount.point) not in Path("/proc/mounts").read_text()
    truth = dict(pair.split("=") for pair in mount.truth.read_text().split(","))
    for operation, call in (("store", "write"), ("retrieve", "read"), ("delete", "unlink")):
        counted = seen[f"sigmavault_operations_total {operation} success"]
        assert counted == int(truth[call]) > 0, operation
        assert seen[f"sigmavault_operations_total {operation} error"] == 0
    assert seen["sigmavault_fuse_operation_duration_seconds_count write"] == int(truth["write"])
    for call in ("getattr", "create", "rename", "truncate", "mkdir", "link", "release"):
        assert seen[f"sigmavault_fuse_operation_duration_seconds_count {call}"] > 0, call
    assert int(truth["bytes_written"]) > 0


def held(seen: dict[str, float]) -> tuple[float, float]:
    return seen["sigmavault_storage_bytes_total"], seen["sigmavault_objects_total"]


def zombie(pid: int) -> bool:
    return ") Z " in Path(f"/proc/{pid}/stat").read_text()
