"""ChaCha20 as RFC 8439 describes it, in plain Python: slow, and checked against its vectors."""

from __future__ import annotations

import struct

_CONSTANTS = struct.unpack("<4I", b"expand 32-byte k")
_ROUNDS = (
    (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
    (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14),
)  # fmt: skip


def chacha20(key: bytes, nonce: bytes, data: bytes, counter: int = 1) -> bytes:
    """Encrypt, or decrypt: the same. ``key`` has 32 bytes, ``nonce`` 12; no authentication."""
    fixed = (*_CONSTANTS, *struct.unpack("<8I", key))
    tail = struct.unpack("<3I", nonce)
    blocks = -(-len(data) // 64)
    stream = b"".join(_block((*fixed, counter + at, *tail)) for at in range(blocks))
    mixed = int.from_bytes(data, "little") ^ int.from_bytes(stream[: len(data)], "little")
    return mixed.to_bytes(len(data), "little")


def _block(state: tuple[int, ...]) -> bytes:
    x = list(state)
    for _ in range(10):
        for a, b, c, d in _ROUNDS:
            xa, xb, xc, xd = x[a], x[b], x[c], x[d]
            xa = (xa + xb) & 0xFFFFFFFF
            xd ^= xa
            xd = (xd << 16 | xd >> 16) & 0xFFFFFFFF
            xc = (xc + xd) & 0xFFFFFFFF
            xb ^= xc
            xb = (xb << 12 | xb >> 20) & 0xFFFFFFFF
            xa = (xa + xb) & 0xFFFFFFFF
            xd ^= xa
            xd = (xd << 8 | xd >> 24) & 0xFFFFFFFF
            xc = (xc + xd) & 0xFFFFFFFF
            xb ^= xc
            x[a], x[b], x[c], x[d] = xa, (xb << 7 | xb >> 25) & 0xFFFFFFFF, xc, xd
    mixed = ((one + two) & 0xFFFFFFFF for one, two in zip(x, state, strict=True))
    return struct.pack("<16I", *mixed)
