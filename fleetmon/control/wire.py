"""HTTP/1.1 as far as a client of one fleet needs it: bytes in, pieces of a body out; no I/O.

Both clients read with it. (``http.client`` would be for blocking sockets only, and loads ``email``
and ``ssl``: half of what ``fleetmon status`` may take in all.)
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from fleetmon.control.protocol import (
    PROTOCOL,
    ControlError,
    RequestError,
    mismatch,
    understood,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_HEAD = 32 * 1024  # bytes of an answer's head
_LINE = 64 * 1024 * 1024  # bytes of a frame; beyond it something is wrong
_SIZE = 16  # hexadecimal digits of a chunk's size


class Head(NamedTuple):
    """The first lines of an answer; names of headers in lower case."""

    status: int
    headers: dict[str, str]


def request(method: str, target: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
    """Return a request as it goes over the wire."""
    lines = [f"{method} {target} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


class Answer:
    """Takes an answer apart as it comes in.

    Attributes:
        head: ``None`` until it is whole.
        done: the body has ended.
    """

    def __init__(self) -> None:
        """Begin before the first byte."""
        self.head: Head | None = None
        self.done = False
        self._buffer = b""
        self._left = 0  # bytes of the body, or of the present chunk; -1: until the end
        self._chunked = False
        self._tail = False  # the line after a chunk, or the trailers

    def feed(self, data: bytes) -> bytes:
        """Take what was received; returns what it adds to the body.

        Raises:
            ControlError: it is no answer of a fleet.
        """
        self._buffer += data
        if self.head is None:
            self._read_head()
            if self.head is None:
                return b""
        return b"".join(self._body())

    def close(self) -> None:
        """Take the end of the connection.

        Raises:
            ConnectionError: it came too early.
        """
        if self.head is not None and self._left < 0:
            self.done = True
        if not self.done:
            message = "the connection was closed within an answer"
            raise ConnectionError(message)

    def _read_head(self) -> None:
        head, mark, rest = self._buffer.partition(b"\r\n\r\n")
        if not mark:
            if len(self._buffer) > _HEAD:
                raise _strange(self._buffer)
            return
        first, *lines = head.decode("latin-1").split("\r\n")
        version, _, status = first.partition(" ")
        if not version.startswith("HTTP/1.") or not status[:3].isdecimal():
            raise _strange(head)
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        self._buffer = rest
        self.head = Head(int(status[:3]), headers)
        self._chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        length = headers.get("content-length", "")
        self._left = 0 if self._chunked else int(length) if length.isdecimal() else -1
        self.done = self._left == 0 and not self._chunked

    def _body(self) -> Iterator[bytes]:
        while self._buffer and not self.done:
            if self._left < 0:
                piece, self._buffer = self._buffer, b""
                yield piece
            elif self._left:
                piece, self._buffer = self._buffer[: self._left], self._buffer[self._left :]
                self._left -= len(piece)
                self._tail = self._chunked and not self._left
                self.done = not self._chunked and not self._left
                yield piece
            elif not self._next_chunk():
                return

    def _next_chunk(self) -> bool:
        line, mark, rest = self._buffer.partition(b"\r\n")
        if not mark:
            if len(line) > _HEAD:
                raise _strange(line)
            return False
        self._buffer = rest
        if self._tail:
            self._tail = False
            return True
        size = line.partition(b";")[0].strip()
        try:
            self._left = int(size, 16) if 0 < len(size) <= _SIZE else -1
        except ValueError:
            self._left = -1
        if self._left < 0:
            raise _strange(line)
        self.done = not self._left  # trailers are of no use to us
        return True


class Lines:
    """Joins pieces of a body to lines, each of which is one JSON object."""

    def __init__(self, loads: Callable[[bytes], Any] | None = None) -> None:
        """Begin; ``loads`` reads JSON, the standard library's by default."""
        self._rest = b""
        self._loads = loads or json.loads

    def feed(self, piece: bytes) -> Iterator[dict[str, Any]]:
        """Yield the objects that a piece completes."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if len(self._rest) > _LINE:
            raise _strange(self._rest)
        for line in lines:
            if line:
                yield parsed(line, self._loads)


def parsed(text: bytes, loads: Callable[[bytes], Any] = json.loads) -> dict[str, Any]:
    """Return the JSON object that an answer is; raises :class:`ControlError` if it is none."""
    try:
        told = loads(text)
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise _strange(text)
    return told


def refuse(status: int, text: bytes) -> RequestError:
    """Return what an answer with a status of 400 and above says."""
    try:
        told = parsed(text)
    except ControlError:
        told = {}
    check(told.get("protocol", PROTOCOL))
    said = told.get("message") or f"the fleet answers with HTTP status {status}"
    return RequestError(str(said), code=str(told.get("code", "")), status=status)


def check(version: Any) -> None:
    """Raise one plain sentence where the two sides cannot work together."""
    if not isinstance(version, int) or not understood(version):
        other = version if isinstance(version, int) else 0
        raise RequestError(mismatch(other, who="the fleet"), code="version", status=426)


def quickest() -> Callable[[bytes], Any]:
    """Return the quickest JSON reader that is installed."""
    try:
        from orjson import loads
    except ImportError:
        return json.loads
    found: Callable[[bytes], Any] = loads
    return found


def _strange(text: bytes) -> ControlError:
    message = f"the answer is not fleetmon's: {text[:60]!r}"
    return ControlError(message)
