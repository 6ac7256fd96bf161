"""An encrypted object store in a directory, with snapshots.

The cipher is built from the standard library, which has none: a SHAKE-256 keystream under a fresh
random nonce, then HMAC-SHA-256 over nonce, name and ciphertext (encrypt-then-MAC). The parts are
sound and so is their composition, but it is nobody's reviewed product: it serves a demonstration.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import shutil
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fleetmon.errors import FleetmonError

if TYPE_CHECKING:
    from collections.abc import Callable

_NONCE = 16
_TAG = 32


class StoreError(FleetmonError, ValueError):
    """An object that does not verify under this key, or a snapshot that is not there."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What was written: ``key``, ``size`` in bytes before and ``stored_size`` after sealing."""

    key: str
    size: int
    stored_size: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A frozen copy of the store: ``snapshot_id``, number of ``objects``, Unix time ``created``."""

    snapshot_id: str
    objects: int
    created: float


class EncryptedStore:
    """Keeps objects encrypted and authenticated, names included; safe from any thread.

    Writes are atomic: a reader, or a crash, sees the old object or the new one.
    """

    def __init__(
        self,
        root: Path,
        key: bytes | None = None,
        *,
        nonce: Callable[[int], bytes] = secrets.token_bytes,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Open or create the store under ``root``; without a ``key`` it gets a fresh one.

        Args:
            root: its directory.
            key: 32 secret bytes; objects are readable only under the key they were written with.
            nonce: source of that many unpredictable bytes; must never repeat under one key.
            clock: Unix time in seconds, for snapshots.
        """
        secret = secrets.token_bytes(32) if key is None else key
        self._cipher_key, self._tag_key, self._name_key = (
            hmac.digest(secret, purpose, "sha256") for purpose in (b"cipher", b"tag", b"name")
        )
        self._nonce = nonce
        self._clock = clock
        self._objects = Path(root) / "objects"
        self._snapshots = Path(root) / "snapshots"
        self._lock = threading.RLock()
        for directory in (self._objects, self._snapshots):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def encrypt(self, data: bytes, label: bytes = b"") -> bytes:
        """Return ``data`` sealed: nonce, tag, ciphertext. ``label`` must match on opening."""
        nonce = self._nonce(_NONCE)
        sealed = _xor(data, self._keystream(nonce, len(data)))
        return nonce + self._tag(nonce, label, sealed) + sealed

    def decrypt(self, sealed: bytes, label: bytes = b"") -> bytes:
        """Return what :meth:`encrypt` was given.

        Raises:
            StoreError: changed since, or another key or label.
        """
        nonce, tag, body = sealed[:_NONCE], sealed[_NONCE : _NONCE + _TAG], sealed[_NONCE + _TAG :]
        if not hmac.compare_digest(tag, self._tag(nonce, label, body)):
            msg = f"{len(sealed)} sealed bytes do not verify; they were changed, or the key differs"
            raise StoreError(msg)
        return _xor(body, self._keystream(nonce, len(body)))

    def store(self, key: str, data: bytes) -> StoredObject:
        """Write an object, replacing the one of that key."""
        sealed = self.encrypt(data, _label(key))
        place = self._place(key)
        fresh = place.with_suffix(f".{threading.get_ident()}")
        with self._lock:  # a restore replaces the directory
            fresh.write_bytes(sealed)
            fresh.replace(place)
        return StoredObject(key, len(data), len(sealed))

    def retrieve(self, key: str) -> bytes | None:
        """Return an object, or None where there is none of that key.

        Raises:
            StoreError: it was changed on disk, or written under another key.
        """
        try:
            with self._lock:
                sealed = self._place(key).read_bytes()
        except FileNotFoundError:
            return None
        return self.decrypt(sealed, _label(key))

    def delete(self, key: str) -> bool:
        """Remove an object; return whether it was there."""
        try:
            with self._lock:
                self._place(key).unlink()
        except FileNotFoundError:
            return False
        return True

    def __len__(self) -> int:
        """Return the number of objects."""
        return sum(not name.count(".") for name in os.listdir(self._objects))  # noqa: PTH208 - names are enough

    def holdings(self) -> tuple[int, int]:
        """Return the bytes and the number of objects on disk, snapshots left out."""
        with self._lock:  # a restore replaces the directory
            sizes = [e.stat().st_size for e in os.scandir(self._objects) if "." not in e.name]
        return sum(sizes), len(sizes)

    def create_snapshot(self) -> Snapshot:
        """Freeze the present objects; costs no space, since objects are replaced, not changed."""
        with self._lock:
            taken = [int(path.name) for path in self._snapshots.iterdir()]
            target = self._snapshots / f"{max(taken, default=0) + 1:06d}"
            _link_all(self._objects, target)
            now = self._clock()
            os.utime(target, (now, now))
            return self._describe(target)

    def list_snapshots(self) -> list[Snapshot]:
        """Return the snapshots, oldest first."""
        with self._lock:
            return [self._describe(path) for path in sorted(self._snapshots.iterdir())]

    def restore_snapshot(self, snapshot_id: str) -> int:
        """Make the store what it was; return the number of objects.

        Raises:
            StoreError: no such snapshot.
        """
        with self._lock:
            source = self._find(snapshot_id)
            fresh = self._objects.with_name("restoring")
            old = self._objects.with_name("replaced")
            for leftover in (fresh, old):  # of a process that died here
                shutil.rmtree(leftover, ignore_errors=True)
            _link_all(source, fresh)
            self._objects.rename(old)
            fresh.rename(self._objects)
            shutil.rmtree(old)
            return len(self)

    def delete_snapshot(self, snapshot_id: str) -> None:
        """Forget a snapshot.

        Raises:
            StoreError: no such snapshot.
        """
        with self._lock:
            shutil.rmtree(self._find(snapshot_id))

    def _find(self, snapshot_id: str) -> Path:
        known = {path.name: path for path in self._snapshots.iterdir()}
        if snapshot_id not in known:
            msg = f"no snapshot {snapshot_id!r:.60}; there are {sorted(known)[-5:]}"
            raise StoreError(msg)
        return known[snapshot_id]

    def _describe(self, path: Path) -> Snapshot:
        return Snapshot(path.name, sum(1 for _ in path.iterdir()), path.stat().st_mtime)

    def _place(self, key: str) -> Path:
        return self._objects / hmac.digest(self._name_key, _label(key), "sha256").hex()

    def _keystream(self, nonce: bytes, length: int) -> bytes:
        return hashlib.shake_256(self._cipher_key + nonce).digest(length)

    def _tag(self, nonce: bytes, label: bytes, body: bytes) -> bytes:
        framed = len(label).to_bytes(8, "big") + label + nonce + body
        return hmac.digest(self._tag_key, framed, "sha256")


def _label(key: str) -> bytes:
    return key.encode("utf-8", "surrogateescape")  # file names need not be UTF-8


def _xor(data: bytes, stream: bytes) -> bytes:
    mixed = int.from_bytes(data, "little") ^ int.from_bytes(stream, "little")
    return mixed.to_bytes(len(data), "little")


def _link_all(source: Path, target: Path) -> None:
    target.mkdir(mode=0o700)
    for path in source.iterdir():
        if path.suffix:
            continue  # being written
        try:
            (target / path.name).hardlink_to(path)
        except OSError:  # a filesystem without hard links
            shutil.copyfile(path, target / path.name)
