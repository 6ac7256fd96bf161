"""A codec for source text: deflate with a preset dictionary, framed and checked."""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleetmon.errors import FleetmonError

if TYPE_CHECKING:
    from collections.abc import Iterable

_MAGIC = b"FMC1"
_HEADER = struct.Struct(">4sIII")  # magic, dictionary's Adler-32, original size, CRC-32
_MAX_DICTIONARY = 32 * 1024 - 512  # deflate looks back 32 KiB


class EncodingError(FleetmonError, ValueError):
    """Bytes that this codec did not write, or not with this dictionary, or that were damaged."""


@dataclass(frozen=True, slots=True)
class EncodeResult:
    """What encoding gave.

    Attributes:
        original_size: bytes that went in.
        compressed_size: bytes that came out, the 16 of the frame included.
        data: the encoded bytes.
    """

    original_size: int
    compressed_size: int
    data: bytes

    @property
    def compression_ratio(self) -> float:
        """Original size over compressed size; below 1 where the output is the larger."""
        return self.original_size / self.compressed_size


class Compressor:
    """Encodes and decodes bytes; stateless between calls, safe from any thread."""

    def __init__(self, dictionary: bytes = b"", level: int = 6) -> None:
        """Take a preset dictionary (both sides need the same) and deflate's level, 0 to 9."""
        self.dictionary = dictionary[-_MAX_DICTIONARY:]
        self.level = level
        self._check = zlib.adler32(self.dictionary)

    @classmethod
    def trained_on(cls, samples: Iterable[bytes], level: int = 6) -> Compressor:
        """Return a codec whose dictionary holds the lines that recur in ``samples``."""
        lines = Counter(
            line for sample in samples for line in set(sample.splitlines(keepends=True))
        )
        worth = sorted((count * len(line), line) for line, count in lines.items() if count > 1)
        # The most useful last: deflate reaches what is near more cheaply.
        return cls(b"".join(line for _, line in worth), level)

    def encode(self, data: bytes) -> EncodeResult:
        """Return ``data`` compressed, with both sizes."""
        body = zlib.compressobj(self.level, zdict=self.dictionary)
        header = _HEADER.pack(_MAGIC, self._check, len(data), zlib.crc32(data))
        encoded = header + body.compress(data) + body.flush()
        return EncodeResult(len(data), len(encoded), encoded)

    def decode(self, data: bytes) -> bytes:
        """Return what :meth:`encode` was given.

        Raises:
            EncodingError: these are not such bytes, or not in one piece.
        """
        if len(data) < _HEADER.size or data[:4] != _MAGIC:
            msg = f"{data[:4]!r} does not begin an encoded block; pass what encode() returned"
            raise EncodingError(msg)
        _, check, size, crc = _HEADER.unpack_from(data)
        if check != self._check:
            msg = f"encoded with dictionary {check:08x}, this is {self._check:08x}; use the same"
            raise EncodingError(msg)
        body = zlib.decompressobj(zdict=self.dictionary)
        try:
            # One byte more than declared is enough to notice that the size is a lie.
            plain = body.decompress(data[_HEADER.size :], size + 1)
        except zlib.error as error:
            msg = f"damaged block ({error}); fetch it again"
            raise EncodingError(msg) from error
        whole = body.eof and not body.unused_data and len(plain) == size
        if not whole or zlib.crc32(plain) != crc:
            msg = f"damaged block ({len(plain)} of {size} bytes, or a wrong sum); fetch it again"
            raise EncodingError(msg)
        return plain
