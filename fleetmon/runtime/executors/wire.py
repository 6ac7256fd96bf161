"""What travels between a supervisor and its worker process: bounded frames with pickled bodies.

A frame is a header (length of the body, kind, number of the request) and a body. Both ends are
ours and the worker is trusted with the agent's code anyway, so pickle (protocol 5) is right here.
"""

from __future__ import annotations

import asyncio
import io
import pickle
import struct
import sys
import traceback
from collections import deque
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from fleetmon.errors import FleetmonError, RemoteError
from fleetmon.runtime.executors.base import portable

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

HEADER = struct.Struct("!IBQ")
MAX_BODY = 64 * 1024 * 1024  # bytes; more belongs into a file or shared memory
_CHUNK = 256 * 1024  # bytes read at once
_TURN = 4 * 1024 * 1024  # bytes read before the loop's others get their turn
_MAX_ATTRIBUTES = 32
_MAX_TEXT = 4096


class Kind(IntEnum):
    """Kinds of frames; requests carry a number that the answer repeats."""

    # to the worker
    HELLO = 1
    CALL = 2
    CANCEL = 3
    PROBE = 4
    SERVE = 5
    STOP = 6
    # answers, both ways
    RESULT = 16
    ERROR = 17
    CANCELLED = 18
    UNSENDABLE = 19
    # to the supervisor
    BEAT = 32
    PROGRESS = 33
    NEXT = 34
    UNNEXT = 35
    SETTLE = 36
    COUNTS = 37


class FrameError(FleetmonError, ValueError):
    """A body that cannot travel: it does not pickle or is too large."""


def dumps(value: Any, what: str) -> bytes:
    """Pickle ``value``, named ``what`` in the error.

    Raises:
        FrameError: it does not pickle, or is larger than :data:`MAX_BODY`.
    """
    try:
        body = pickle.dumps(value, protocol=5)
    except Exception as error:
        raise FrameError(
            f"{what} does not pickle ({type(error).__name__}: {error}); hand over plain data"
        ) from error
    if len(body) > MAX_BODY:
        raise FrameError(
            f"{what} pickles to {len(body)} bytes, more than {MAX_BODY}; hand over a path instead"
        )
    return body


# The text "__main__" all alone (pickle's SHORT_BINUNICODE, 8 bytes), as a module's name is written;
# a longer text that has it inside, such as a path, does not match.
_MAIN = b"\x8c\x08__main__"


def names_main(body: bytes) -> bool:
    """Tell whether something pickled refers to the module ``__main__``."""
    return _MAIN in body


class _FromWorker(pickle.Unpickler):
    """Finds the worker's ``__mp_main__`` in the ``__main__`` that it is a copy of."""

    def find_class(self, module: str, name: str) -> Any:
        return super().find_class("__main__" if module == "__mp_main__" else module, name)


def loads(body: bytes) -> Any:
    """Unpickle a body that :func:`dumps` made on the other side."""
    if b"__mp_main__" in body and "__mp_main__" not in sys.modules:
        return _FromWorker(io.BytesIO(body)).load()
    return pickle.loads(body)  # noqa: S301 - our own worker, see above


class Frames:
    """Takes bytes as they come and gives whole frames."""

    __slots__ = ("_data",)

    def __init__(self) -> None:
        """Begin with nothing."""
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, int, bytes]]:
        """Add ``data`` and yield each complete frame as (kind, number, body).

        Raises:
            FrameError: a header announces more than :data:`MAX_BODY`; the stream is lost.
        """
        self._data += data
        while len(self._data) >= HEADER.size:
            size, kind, number = HEADER.unpack_from(self._data)
            if size > MAX_BODY:
                raise FrameError(f"a frame announces {size} bytes, more than {MAX_BODY}")
            end = HEADER.size + size
            if len(self._data) < end:
                return
            body = bytes(memoryview(self._data)[HEADER.size : end])
            del self._data[:end]
            yield kind, number, body


def pack_error(error: BaseException) -> bytes:
    """Describe an exception for the other side: itself where that works, always in words."""
    error = portable(error)
    text = "".join(traceback.format_exception(error))
    kind = type(error)
    described: dict[str, Any] = {
        "type_name": kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}",
        "message": _message(error),
        "traceback": text[-_MAX_TEXT * 8 :],
        "attributes": _simple_attributes(error),
    }
    if isinstance(error, RemoteError):  # by portable(), or an agent's own
        described |= {
            "type_name": error.type_name,
            "message": str(error).removeprefix(f"{error.type_name}: "),
            "traceback": error.traceback or described["traceback"],
        }
        return pickle.dumps((None, described), protocol=5)
    itself: bytes | None = None
    try:
        # Only what survives the way back is sent: many exceptions pickle but do not unpickle.
        itself = pickle.dumps(error, protocol=5)
        again = pickle.loads(itself)  # noqa: S301 - made in the line above
        if type(again) is not kind or str(again) != str(error) or len(itself) > MAX_BODY // 2:
            itself = None
    except Exception:  # noqa: BLE001 - any failure means the description goes alone
        itself = None
    return pickle.dumps((itself, described), protocol=5)


def unpack_error(body: bytes) -> Exception:
    """Give the exception that :func:`pack_error` described; its traceback there is a note."""
    itself, described = pickle.loads(body)  # noqa: S301 - our own worker, see above
    if itself is not None:
        try:
            error = loads(itself)
        except Exception:  # noqa: BLE001 - its class cannot be found here: words must do
            error = None
        if isinstance(error, Exception):
            error.add_note(f"in the worker process:\n{described['traceback']}")
            return error
    remote = RemoteError(
        described["message"],
        type_name=described["type_name"],
        traceback=described["traceback"],
    )
    for name, value in described["attributes"].items():
        if not hasattr(remote, name):
            setattr(remote, name, value)
    return remote


def _message(error: BaseException) -> str:
    try:
        return str(error)[:_MAX_TEXT]
    except Exception as broken:  # noqa: BLE001 - an exception that cannot even be printed
        return f"<str() raised {type(broken).__name__}>"


def _simple_attributes(error: BaseException) -> dict[str, Any]:
    """Give the plain attributes that classifiers look at, such as ``error_code``."""
    found: dict[str, Any] = {}
    names = [*getattr(error, "__dict__", {})]
    names += [
        n for n in ("error_code", "is_retryable", "recoverable", "retry_after") if n not in names
    ]
    for name in names[:_MAX_ATTRIBUTES]:
        try:
            value = getattr(error, name, None)
        except Exception:  # noqa: BLE001, S112 - a property that raises tells nothing
            continue
        plain = isinstance(value, (bool, int, float)) or (
            isinstance(value, str) and len(value) <= _MAX_TEXT
        )
        if plain and not name.startswith("__"):
            found[name] = value
    return found


class Channel:
    """The supervisor's end: frames over a non-blocking socket in the current loop."""

    def __init__(
        self,
        sock: socket.socket,
        on_frame: Callable[[int, int, bytes], None],
        on_end: Callable[[str], None],
    ) -> None:
        """Start reading.

        Args:
            sock: connected stream socket; the channel owns it from here on.
            on_frame: called with kind, number and body of each frame; must not raise.
            on_end: called once when the peer closed or sent nonsense (then with a description).
        """
        self._sock = sock
        self._on_frame = on_frame
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._frames = Frames()
        self._out: deque[memoryview] = deque()
        self._open = True
        sock.setblocking(False)
        self._loop.add_reader(sock.fileno(), self._read)

    def send(self, kind: Kind, number: int, body: bytes = b"") -> None:
        """Send a frame, or queue what the socket does not take now; a dead peer is no error."""
        if not self._open:
            return
        data = memoryview(HEADER.pack(len(body), kind, number) + body)
        if not self._out:
            data = data[self._push(data) :]
            if not data:
                return
            self._loop.add_writer(self._sock.fileno(), self._flush)
        self._out.append(data)

    def drain(self) -> None:
        """Read what the peer wrote before it ended."""
        while self._open and self._read(_TURN):
            pass

    def close(self) -> None:
        """Stop reading and writing and close the socket; again is harmless."""
        if not self._open:
            return
        self._open = False
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()
        self._out.clear()

    def _push(self, data: memoryview) -> int:
        try:
            return self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:  # the peer is gone; its end is noticed elsewhere
            return len(data)

    def _flush(self) -> None:
        while self._out:
            data = self._out.popleft()
            rest = data[self._push(data) :]
            if rest:
                self._out.appendleft(rest)
                return
        self._loop.remove_writer(self._sock.fileno())

    def _read(self, budget: int = _TURN) -> bool:
        """Read up to ``budget`` bytes; False when there is nothing more for now or for ever."""
        while budget > 0 and self._open:
            try:
                data = self._sock.recv(_CHUNK)
            except (BlockingIOError, InterruptedError):
                return False
            except OSError:
                data = b""
            if not data:
                return self._lost("")
            budget -= len(data)
            try:
                for kind, number, body in self._frames.feed(data):
                    self._on_frame(kind, number, body)
            except FrameError as error:
                return self._lost(str(error))
            if len(data) < _CHUNK:
                return True
        return True

    def _lost(self, trouble: str) -> bool:
        self._loop.remove_reader(self._sock.fileno())
        self._on_end(trouble)
        return False
