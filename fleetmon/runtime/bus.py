"""The event bus: every change of state, in order, to whoever wants it, delaying nobody.

Publishing appends to a ring and to each subscriber's bounded buffer; what does not fit is
dropped and counted. Callbacks run in a daemon thread of their own, one for each subscriber, so
that one which blocks or raises harms only itself.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Self

from fleetmon.events import Event, EventKind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

_NO_DATA: Mapping[str, Any] = {}


class Subscription:
    """A callback that gets every event, in a thread of its own.

    Attributes:
        lost: events that it was too slow for.
        errors: times that it raised.
    """

    def __init__(self, bus: EventBus, callback: Callable[[Event], object], limit: int) -> None:
        """Start the thread; use :meth:`EventBus.subscribe`."""
        self.lost = 0
        self.errors = 0
        self._bus = bus
        self._callback = callback
        self._limit = limit
        self._buffer: deque[Event] = deque()
        self._ready = threading.Condition()
        self._open = True
        self.gone = False
        self._thread = threading.Thread(target=self._run, name="fleetmon-subscriber", daemon=True)
        self._thread.start()

    def put(self, event: Event) -> None:
        """Hand over an event; never waits for the callback."""
        with self._ready:
            if len(self._buffer) >= self._limit:
                self.lost += 1
                self._bus.dropped("subscriber")
            else:
                self._buffer.append(event)
                self._ready.notify()

    def _run(self) -> None:
        while True:
            with self._ready:
                while not self._buffer and self._open:
                    self._ready.wait()
                if not self._buffer:
                    return
                event = self._buffer.popleft()
            try:
                self._callback(event)
            except BaseException:  # noqa: BLE001 - a subscriber may raise whatever it likes
                self.errors += 1
                self._bus.dropped("subscriber_error")

    def close(self, timeout: float = 0.0) -> None:
        """Stop after what is buffered; waits at most ``timeout`` seconds for the callback."""
        self._bus.unsubscribe(self)
        with self._ready:
            self._open = False
            self._ready.notify()
        if timeout:
            self._thread.join(timeout)


class EventStream:
    """An asynchronous iterator over events as they happen.

    Several tasks may read one stream; each event goes to one of them.

    Attributes:
        lost: events that did not fit its buffer.
        gone: its loop is closed.
    """

    def __init__(self, bus: EventBus, limit: int) -> None:
        """Bind to the running loop; use :meth:`EventBus.stream`."""
        self.lost = 0
        self._bus = bus
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._buffer: deque[Event] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._open = True
        self.gone = False

    def put(self, event: Event) -> None:
        """Hand over an event from any thread."""
        if len(self._buffer) >= self._limit:
            self.lost += 1
            self._bus.dropped("stream")
            return
        self._buffer.append(event)
        if self._wake is not None:
            try:
                self._loop.call_soon_threadsafe(self._rouse)
            except RuntimeError:  # its loop is closed: nobody reads any more
                self.gone = True

    def _rouse(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def close(self) -> None:
        """End the iteration after what is buffered."""
        self._bus.unsubscribe(self)
        self._open = False
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._rouse)

    def __enter__(self) -> Self:
        """Use as a context manager to be sure that it is closed."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def __aiter__(self) -> AsyncIterator[Event]:
        """Iterate until closed."""
        return self

    async def __anext__(self) -> Event:
        """Return the next event, waiting for it."""
        while not self._buffer:
            if not self._open:
                raise StopAsyncIteration
            if self._wake is None or self._wake.done():
                self._wake = self._loop.create_future()
            if self._buffer:  # published between the check and the future
                break
            await asyncio.shield(self._wake)  # shared: a reader that leaves must not end it
        return self._buffer.popleft()


class EventBus:
    """Numbers events, keeps the latest, and hands them on.

    Attributes:
        ring: the latest events, oldest first.
        drops: by kind of subscriber.
        count: events published so far; also the sequence number of the newest.
    """

    def __init__(
        self, ring: int, monotonic: Callable[[], float], wall: Callable[[], float]
    ) -> None:
        """Make a bus without subscribers; ``ring`` bounds what latecomers can read."""
        self.ring: deque[Event] = deque(maxlen=ring)
        self.drops: dict[str, int] = {"subscriber": 0, "subscriber_error": 0, "stream": 0}
        self.count = 0
        self.hooks: tuple[Callable[[Event], object], ...] = ()
        self.hook_errors = 0
        self._monotonic = monotonic
        self._wall = wall
        self._lock = threading.RLock()  # a finalizer may publish while its thread does
        self._sinks: tuple[Subscription | EventStream, ...] = ()
        self._untold: deque[Event] = deque()
        self._telling = False

    def publish(
        self,
        kind: EventKind,
        agent_id: str = "",
        generation: int = 0,
        task_id: int = 0,
        data: Mapping[str, Any] = _NO_DATA,
    ) -> Event:
        """Publish one event, from any thread; returns it."""
        with self._lock:
            while True:
                seq = self.count + 1
                # past Event's own constructor, which costs as much again
                event = tuple.__new__(
                    Event,
                    (
                        seq,
                        self._wall(),
                        self._monotonic(),
                        kind,
                        agent_id,
                        generation,
                        task_id,
                        data,
                    ),
                )
                if seq > self.count:  # or a finalizer has published meanwhile: the next number
                    break
            self.count = seq
            self.ring.append(event)
            if self._sinks:
                self._untold.append(event)
                if not self._telling:
                    self._tell()
        for hook in self.hooks:
            try:
                hook(event)
            except Exception:  # noqa: BLE001 - telling must never harm what it tells of
                self.hook_errors += 1
        return event

    def _tell(self) -> None:
        # in order also where a finalizer publishes meanwhile: its events wait for their turn
        self._telling = True
        try:
            while self._untold:
                event = self._untold.popleft()
                for sink in self._sinks:
                    sink.put(event)
                    if sink.gone:
                        self._sinks = tuple(s for s in self._sinks if s is not sink)
        finally:
            self._telling = False

    def recent(self, since: int = 0) -> tuple[Event, ...]:
        """Return the kept events with a sequence number above ``since``, oldest first."""
        with self._lock:
            while True:
                try:
                    if since <= 0:
                        return tuple(self.ring)
                    # from the newest: who follows asks often, and publishing waits meanwhile
                    found = list(takewhile(lambda event: event.seq > since, reversed(self.ring)))
                except RuntimeError:  # a finalizer has published: the ring changed
                    continue
                return tuple(reversed(found))

    def subscribe(self, callback: Callable[[Event], object], limit: int = 10_000) -> Subscription:
        """Call ``callback`` with every event from now on, in a thread of its own."""
        if not callable(callback):
            msg = f"a subscriber must be callable, not {callback!r}"
            raise TypeError(msg)
        subscription = Subscription(self, callback, limit)
        with self._lock:
            self._sinks = (*self._sinks, subscription)
        return subscription

    def stream(self, limit: int = 10_000) -> EventStream:
        """Return an asynchronous iterator over events from now on."""
        stream = EventStream(self, limit)
        with self._lock:
            self._sinks = (*self._sinks, stream)
        return stream

    def unsubscribe(self, sink: Subscription | EventStream) -> None:
        """Forget a subscriber; no harm if it is not there."""
        with self._lock:
            self._sinks = tuple(s for s in self._sinks if s is not sink)

    def dropped(self, kind: str) -> None:
        """Count a drop."""
        self.drops[kind] = self.drops.get(kind, 0) + 1

    def forget_parent(self) -> None:
        """In a forked child: the subscribers' threads stayed with the parent."""
        self._lock = threading.RLock()
        self._sinks = ()
        self._untold.clear()
        self._telling = False

    def close(self) -> None:
        """End all subscriptions after what they have."""
        for sink in self._sinks:
            sink.close()
