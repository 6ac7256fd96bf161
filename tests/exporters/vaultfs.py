"""A filesystem like ΣVAULT's: passes everything on to a directory. Run as a program of its own."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

from mfusepy import FUSE, Operations
from prometheus_client import CollectorRegistry

from fleetmon.exporters import SigmaVaultExporter
from fleetmon.telemetry import serve_metrics

STAT = ("st_atime", "st_ctime", "st_gid", "st_ino", "st_mode", "st_mtime", "st_nlink", "st_size")


class Vault(Operations):
    """Keeps files below ``root``; counts its own calls, as the truth to compare with."""

    use_ns = True

    def __init__(self, root: str, truth: str) -> None:
        self.root = root
        self.truth = truth
        self.done = {"write": 0, "read": 0, "unlink": 0, "bytes_written": 0}
        self.guard = threading.Lock()  # not `lock`, which is a call of the filesystem

    def place(self, path: str) -> str:
        return self.root + path

    def count(self, name: str, more: int = 1) -> None:
        with self.guard:
            self.done[name] += more

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        found = os.lstat(self.place(path))
        entry: dict[str, Any] = {name: getattr(found, name) for name in STAT}
        for name in ("st_atime", "st_ctime", "st_mtime"):
            entry[name] = getattr(found, f"{name}_ns")
        return {**entry, "st_uid": found.st_uid}

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", *os.listdir(self.place(path))]

    def mkdir(self, path: str, mode: int) -> int:
        os.mkdir(self.place(path), mode)
        return 0

    def rmdir(self, path: str) -> int:
        os.rmdir(self.place(path))
        return 0

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        return os.open(self.place(path), os.O_RDWR | os.O_CREAT | os.O_TRUNC, mode)

    def open(self, path: str, flags: int) -> int:
        return os.open(self.place(path), flags)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        data = os.pread(fh, size, offset)
        self.count("read", bool(data))
        return data

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        written = os.pwrite(fh, data, offset)
        self.count("write")
        self.count("bytes_written", written)
        return written

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        os.truncate(self.place(path), length)
        return 0

    def flush(self, path: str, fh: int) -> int:
        return 0

    def release(self, path: str, fh: int) -> int:
        os.close(fh)
        return 0

    def unlink(self, path: str) -> int:
        os.unlink(self.place(path))
        self.count("unlink")
        return 0

    def rename(self, old: str, new: str) -> int:
        os.rename(self.place(old), self.place(new))
        return 0

    def link(self, target: str, source: str) -> int:
        os.link(self.place(source), self.place(target))
        return 0

    def chmod(self, path: str, mode: int) -> int:
        os.chmod(self.place(path), mode)
        return 0

    def chown(self, path: str, uid: int, gid: int) -> int:
        os.chown(self.place(path), uid, gid)
        return 0

    def utimens(self, path: str, times: Any = None) -> int:
        os.utime(self.place(path), ns=times)
        return 0

    def statfs(self, path: str) -> dict[str, int]:
        found = os.statvfs(self.place(path))
        names = ("f_bavail", "f_bfree", "f_blocks", "f_bsize", "f_files", "f_ffree", "f_frsize")
        return {name: getattr(found, name) for name in names}

    def destroy(self, path: str) -> None:
        said = ",".join(f"{name}={count}" for name, count in self.done.items())
        Path(self.truth).write_text(said)


def main() -> None:
    root, mountpoint, truth, daemonise = sys.argv[1:]
    registry = CollectorRegistry()
    vault = SigmaVaultExporter(registry)
    server: list[Any] = []

    def start() -> None:
        served = serve_metrics(registry, "127.0.0.1:0")
        server.append(served)
        fresh = Path(f"{truth}.address.new")
        fresh.write_text(f"{served.url.removesuffix('/metrics')}/metrics {os.getpid()}")
        fresh.rename(f"{truth}.address")

    def stop() -> None:
        server[0].close()

    operations = vault.track_filesystem(Vault(root, truth), on_init=start, on_destroy=stop)
    FUSE(operations, mountpoint, foreground=daemonise == "no", default_permissions=True)


if __name__ == "__main__":
    main()
