"""A stream that is written by a thread of its own, from a bounded queue: nobody waits for it.

Whoever has a line appends it; when the stream is slow the queue fills and further lines are
dropped and counted by kind; when it is closed, broken or full the lines are lost and counted.
"""

from __future__ import annotations

import atexit
import io
import os
import select
import sys
import threading
import weakref
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_CHUNK = 256  # lines rendered at a time: about 0.3 ms, in which the thread may hold the interpreter
# Waiting lines at which the thread does not sit out its interval: few enough that what waits does
# not fill the youngest generation of the garbage collector, which would then run again and again.
_HURRY = 256
_IDLE = 1.0  # an append may slip past the thread going idle; it is then found after this long
_BUSY_FD = 5.0  # seconds for which a non-blocking descriptor may refuse a write


class Stream:
    """Writes text to a stream of any kind; raises whatever the stream raises.

    A plain file, pipe or terminal is written through its descriptor, past Python's buffers: a
    daemon thread that dies holding a buffer's lock would abort the interpreter at exit.
    """

    def __init__(self, stream: Any = None) -> None:
        """Write to ``stream``, text or binary; ``None`` for whatever ``sys.stdout`` is by then."""
        self._stream = stream
        self._binary: bool | None = None
        self._torn = False

    def write(self, text: str) -> None:
        """Write ASCII text, all of it."""
        stream: Any = sys.stdout if self._stream is None else self._stream
        if stream is None:
            raise ValueError("there is no sys.stdout; pass a stream")
        if getattr(stream, "closed", False):
            raise ValueError("the stream is closed; log to an open one")
        descriptor = _descriptor(stream)
        if descriptor >= 0:
            self._write_descriptor(descriptor, text.encode("ascii", "backslashreplace"))
            return
        if self._binary is None or self._stream is None:
            self._binary = _is_binary(stream)
        stream.write(text.encode("ascii", "backslashreplace") if self._binary else text)
        flush = getattr(stream, "flush", None)
        if flush is not None:
            flush()

    def _write_descriptor(self, descriptor: int, data: bytes) -> None:
        if self._torn:  # an earlier write stopped within a line
            data = b"\n" + data
        view = memoryview(data)
        while view:
            try:
                written = os.write(descriptor, view)
            except BlockingIOError:
                poll = select.poll()
                poll.register(descriptor, select.POLLOUT)
                if not poll.poll(_BUSY_FD * 1000):
                    raise
                continue
            view = view[written:]
            self._torn = bool(view) and data[written - 1 : written] != b"\n"
        self._torn = False


def _descriptor(stream: Any) -> int:
    """Return the descriptor of a stream that is nothing but a file, -1 of any other."""
    raw = stream
    if type(raw) is io.TextIOWrapper:
        try:
            if "{\n".encode(raw.encoding) != b"{\n":
                return -1
        except LookupError:
            return -1
        raw = raw.buffer
    if type(raw) is io.BufferedWriter:
        raw = raw.raw
    if type(raw) is not io.FileIO:
        return -1
    return raw.fileno()


def _is_binary(stream: Any) -> bool:
    if isinstance(stream, io.TextIOBase):
        return False
    if isinstance(stream, io.RawIOBase | io.BufferedIOBase):
        return True
    return "b" in str(getattr(stream, "mode", ""))


class LineWriter:
    """A bounded queue of items, and the daemon thread that renders and writes them.

    The hot path is spelled out by its user, since a call costs more than the append::

        if len(writer.queue) < writer.mark or writer.room("task"):
            writer.queue.append(item)

    Attributes:
        queue: what waits.
        mark: a queue as long as this needs :meth:`room` before an append: to wake the thread, to
            make it hurry, or because there is none left.
        dropped: lines lost so far, by kind: the appender's word when the queue was full, ``sink``
            when the stream failed, ``closed`` after :meth:`close`, ``unwritten`` for what a close
            could not wait for, ``render`` for what could not be rendered.
    """

    def __init__(
        self,
        render: Callable[[Sequence[Any]], str],
        stream: Any = None,
        *,
        limit: int = 65_536,
        interval: float = 0.02,
        name: str = "fleetmon-log",
    ) -> None:
        """Prepare; the thread starts with the first item.

        Args:
            render: turns items into text, on the thread.
            stream: text or binary; ``None`` for ``sys.stdout``.
            limit: items that may wait.
            interval: seconds in which the thread gathers items before it writes them.
            name: of the thread.
        """
        self.queue: list[Any] = []  # a chunk is taken from it at once, where a deque gives one item
        self.mark = 0
        self.dropped: Counter[str] = Counter()
        self._render = render
        self._stream = Stream(stream)
        self._limit = limit
        self._hurry = min(_HURRY, limit)
        self._interval = interval
        self._name = name
        self._closing = False
        self._flushing = False
        self._fresh()
        _writers.add(self)
        atexit.register(_close_at_exit, weakref.ref(self))

    def _fresh(self) -> None:
        self.mark = 0
        self._lock = threading.RLock()  # a finalizer may log while its thread counts a drop
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def count(self, kind: str, lines: int = 1) -> None:
        """Count lines as dropped."""
        with self._lock:
            self.dropped[kind] += lines

    def room(self, kind: str) -> bool:
        """Whether an item may be appended; counts a drop of that kind if not. Never blocks."""
        if self._closing:
            self.count("closed")
            return False
        waiting = len(self.queue)
        if waiting >= self._limit:
            self.count(kind)
            return False
        if self._thread is None and not self._start():
            self.count("closed")
            return False
        # awake: gather up to the hurry mark; hurrying: only the limit matters
        self.mark = self._hurry if waiting < self._hurry else self._limit
        self._wake.set()
        return True

    def put(self, item: Any, kind: str) -> None:
        """Append an item, or count it as dropped."""
        if len(self.queue) < self.mark or self.room(kind):
            self.queue.append(item)

    def _start(self) -> bool:
        with self._lock:
            if self._thread is None:
                # noted before it runs: what a finalizer logs meanwhile must not start another
                thread = self._thread = threading.Thread(
                    target=self._run, name=self._name, daemon=True
                )
                try:
                    thread.start()
                except RuntimeError:  # the interpreter is shutting down
                    self._thread = None
                    return False
        return True

    def _run(self) -> None:
        queue, wake = self.queue, self._wake
        busy = False
        while not self._closing:
            # Only after an interval without a line does it wait to be woken: each time that costs
            # whoever writes the next line, and two turns at the interpreter.
            if not queue and not busy:
                self.mark = 0
                if not queue:
                    wake.wait(_IDLE)
            wake.clear()
            self.mark = self._hurry
            if len(queue) < self._hurry and not self._closing:
                wake.wait(self._interval)
            busy = bool(queue)
            self._drain()
        self._drain()

    def _drain(self) -> None:
        queue = self.queue
        while queue:
            batch = queue[:_CHUNK]
            del queue[: len(batch)]  # whoever appends meanwhile does so behind
            if self._flushing:
                batch = self._answer(batch)
            self._write(batch)

    def _answer(self, batch: list[Any]) -> list[Any]:
        """Write what stands before each sign of :meth:`flush`, then set it; return the rest."""
        rest: list[Any] = []
        for item in batch:
            if type(item) is threading.Event:
                self._write(rest)
                rest = []
                item.set()
            else:
                rest.append(item)
        return rest

    def _write(self, batch: list[Any]) -> None:
        if not batch:
            return
        try:
            text = self._render(batch)
        except Exception:  # noqa: BLE001 - a line must not end the thread that writes the others
            text = ""
            for item in batch:
                try:
                    text += self._render([item])
                except Exception:  # noqa: BLE001 - as above
                    self.count("render")
        if not text:
            return
        try:
            self._stream.write(text)
        except Exception:  # noqa: BLE001 - streams raise what they like
            self.count("sink", text.count("\n"))

    def flush(self, timeout: float = 2.0) -> bool:
        """Wait until everything appended before has been tried; False if that took longer.

        Args:
            timeout: seconds.
        """
        if self._thread is None or self._closing:
            return not self.queue
        done = threading.Event()
        self._flushing = True  # for good: few flush, and those pay a little more from then on
        self.queue.append(done)
        self._wake.set()
        # The thread gathers first, and takes a second sign as one to hurry.
        while not done.wait(min(timeout, self._interval)):
            timeout -= self._interval
            if timeout <= 0:
                return False
            self._wake.set()
        return True

    def close(self, deadline: float = 2.0) -> bool:
        """Write what waits, for at most ``deadline`` seconds; later items are dropped and counted.

        Returns:
            Whether everything was tried in time. A thread that hangs in its stream is left behind.
        """
        self._closing = True
        self.mark = 0
        self._wake.set()
        with self._lock:  # one that is just being started cannot be waited for yet
            thread = self._thread
        if thread is None or thread is threading.current_thread():
            return not self.queue
        thread.join(deadline)
        self.mark = 0
        if not thread.is_alive():
            return True
        # A thread that comes back this very moment may write a chunk that is counted here as well.
        lost = len(self.queue)
        del self.queue[:lost]
        self.count("unwritten", lost)
        return False

    def after_fork(self) -> None:
        """Start clean in a forked child: what waited is the parent's to write."""
        self.queue.clear()
        self.dropped.clear()
        self._fresh()


_writers: weakref.WeakSet[LineWriter] = weakref.WeakSet()


def _close_at_exit(reference: weakref.ref[LineWriter]) -> None:
    writer = reference()
    if writer is not None:
        writer.close(1.0)


def _after_fork() -> None:
    for writer in list(_writers):
        writer.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
