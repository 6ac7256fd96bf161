"""A machine in trouble: a real node-exporter that reads a copy of some files of ``/proc``.

Nobody fills the memory of the machine that the tests run on. What the kernel would say is written
into the copy, and told by node-exporter as ever; the disk is a real one, of a few megabytes, where
this process may mount it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from running import Server, free_port

if TYPE_CHECKING:
    from programs import Tool

TICK = 0.2  # seconds between two looks of the kernel at the clock
HERTZ = 100


class Machine(Server):
    """node-exporter with a ``/proc`` of its own."""

    scenario = "machine"
    job = "drill-machine"

    def __init__(self, tool: Tool, directory: Path) -> None:
        """Lay out the copy and mount the disk; :attr:`no_disk` says why there is none."""
        directory.mkdir(parents=True)
        self.proc = directory / "proc"
        (self.proc / "1").mkdir(parents=True)
        self.port = free_port()
        self._mount = directory / "disk"
        self.no_disk = self._mount_disk(directory / "disk.img")
        mounts = "" if self.no_disk else f"/dev/loop0 {self._mount} ext4 rw 0 0\n"
        (self.proc / "1" / "mounts").write_text(mounts)
        self._idle = self._busy = 0.0
        self._kills = 0
        self._broken = False
        self._ended = threading.Event()
        self._kernel = threading.Thread(target=self._run, daemon=True)
        super().__init__(
            [
                tool.path,
                f"--web.listen-address=127.0.0.1:{self.port}",
                f"--path.procfs={self.proc}",
                "--collector.disable-defaults",
                *(f"--collector.{name}" for name in ("cpu", "meminfo", "vmstat", "filesystem")),
            ],
            directory,
            address=f"127.0.0.1:{self.port}",
        )

    def start(self) -> None:
        """Start the kernel, so to speak, and the exporter."""
        self._tick()
        self._kernel.start()
        super().start()
        self.ready("/metrics")

    def break_it(self) -> None:
        """No idle time, no memory, a process killed each second, and a full disk."""
        self._broken = True
        if not self.no_disk:
            left = shutil.disk_usage(self._mount).free
            (self._mount / "big").write_bytes(bytes(int(left * 0.97)))

    def mend(self) -> None:
        """All is well again."""
        self._broken = False
        (self._mount / "big").unlink(missing_ok=True)

    def stop(self, *how: object) -> None:
        """End it, and leave nothing mounted."""
        super().stop()
        self._ended.set()
        if self._kernel.is_alive():
            self._kernel.join()
        if self._mount.is_mount():
            subprocess.run(["umount", str(self._mount)], check=True)

    def _mount_disk(self, image: Path) -> str:
        self._mount.mkdir()
        with image.open("wb") as file:
            file.truncate(16 * 1024 * 1024)
        for command in (
            ["mkfs.ext4", "-q", "-m", "0", str(image)],
            ["mount", "-o", "loop", str(image), str(self._mount)],
        ):
            if shutil.which(command[0]) is None:
                return f"there is no {command[0]} here"
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                return f"this process may not mount a disk: {done.stderr.strip()}"
        return ""

    def _run(self) -> None:
        while not self._ended.wait(TICK):
            self._tick()

    def _tick(self) -> None:
        idle = 0.02 if self._broken else 0.8
        self._idle += TICK * HERTZ * idle
        self._busy += TICK * HERTZ * (1 - idle)
        self._kills += self._broken
        line = f"{self._busy:.0f} 0 0 {self._idle:.0f} 0 0 0 0 0 0"
        began = int(time.time()) - 3600
        self._write(
            "stat",
            f"cpu  {line}\ncpu0 {line}\nintr 0\nctxt 0\nbtime {began}\nprocesses 1\n"
            "procs_running 1\nprocs_blocked 0\nsoftirq 0 0 0 0 0 0 0 0 0 0 0\n",
        )
        info = Path("/proc/meminfo").read_text()
        left = 300_000 if self._broken else 6_000_000
        info = re.sub(r"(MemTotal:\s+)\d+", r"\g<1>8000000", info)
        self._write("meminfo", re.sub(r"(MemAvailable:\s+)\d+", rf"\g<1>{left}", info))
        self._write("vmstat", f"oom_kill {self._kills}\n")

    def _write(self, name: str, text: str) -> None:
        # whole or not at all: the exporter may look at any time
        new = self.proc / f".{name}"
        new.write_text(text)
        new.replace(self.proc / name)
