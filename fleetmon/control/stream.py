"""One reader of ``GET /v1/stream``: where it stands, and the frames that it is owed.

There is no queue. Each turn takes from the hub what is newer than the reader's cursors and waits
until the transport has room again; a reader that stops takes no turn.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from fleetmon.control import picture
from fleetmon.control.encoding import encode
from fleetmon.control.hub import CHUNK, CHUNK_BYTES, Hub, Newer
from fleetmon.control.protocol import TICKS
from fleetmon.rows import COLUMNS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from fleetmon.control.protocol import FleetFrame, HelloFrame, HelloShape

_HEARTBEAT = 1.0  # seconds
_BATCH = 200  # events of a frame
_TURN = 2000  # events of a turn: an old backlog must not keep the rows waiting
_FRESH = 0.75  # of a period: a look of that age serves several readers

SLOWEST, FASTEST, USUAL = 0.2, 10.0, 4.0
"""Hz that a reader may ask for."""


class Reader:
    """Yields frames for one connection."""

    def __init__(
        self,
        hub: Hub,
        who: HelloShape,
        *,
        since: int | None = None,
        epoch: str | None = None,
        events: int | None = -1,
        rate: float = USUAL,
        ticks: bool = False,
        framed: Callable[[str, bytes], bytes],
    ) -> None:
        """Prepare.

        Args:
            hub: what to read.
            who: what the first frame says of the fleet.
            since: rows up to this change are known already ...
            epoch: ... in this life of the fleet.
            events: those after this number; -1 from now on, ``None`` for none at all.
            rate: turns a second.
            ticks: of rows in which only what moves all the time has changed, nothing else.
            framed: wraps a frame, given its type and its JSON.
        """
        self._hub = hub
        self._who = who
        self._framed = framed
        self._rate = min(FASTEST, max(SLOWEST, rate))
        now = hub.fleet.snapshot(agents=False)
        same = epoch in (None, now.epoch)
        self._complete = same and since is not None and hub.knows(since)
        self._cursor = since if self._complete and since is not None else 0
        self._resumed = self._complete
        self._first = hub.seq
        self._ticks = ticks
        self._known = -1  # up to where every row was sent; until then all are sent in full
        if events is None:
            self._event: int | None = None
        elif events < 0:
            self._event = now.seq
        else:
            # another life counts from one again
            self._event = events if same and events <= now.seq else 0
        self._unclosed = False  # rows were sent of which it was said that more would come
        self._fleet: FleetFrame | None = None
        self._beat = 0.0

    async def frames(self) -> AsyncGenerator[bytes, None]:
        """Yield pieces of the stream, each of one or more whole frames, until the fleet ends."""
        hub = self._hub
        hub.attach(ticks=self._ticks)
        try:
            yield self._frame(self._hello())
            self._beat = time.monotonic() + _HEARTBEAT
            due = time.monotonic()
            while True:
                over = hub.over.is_set()
                look = hub.look(_FRESH / self._rate) if not over else None
                if look is not None:
                    async for piece in self._during(look):
                        yield piece
                async for piece in self._at_once():
                    yield piece
                if over or self._ended():
                    yield self._frame({"type": "end", "reason": self._reason()})
                    return
                due = max(due + 1.0 / self._rate, time.monotonic())
                while not hub.over.is_set() and (left := due - time.monotonic()) > 0:
                    if self._beat_due():
                        yield self._frame(self._heartbeat())
                    await self._rest(min(left, self._beat - time.monotonic()))
        finally:
            hub.detach(ticks=self._ticks)

    async def _during(self, look: asyncio.Task[None]) -> AsyncGenerator[bytes, None]:
        """Yield what a look finds while it goes on: the reader can take it in meanwhile."""
        hub = self._hub
        while not look.done():
            await hub.stirred(look)
            if hub.waiting(self._cursor) < CHUNK:
                continue
            removed = hub.gone_after(self._cursor) if self._complete else []
            while hub.waiting(self._cursor) >= CHUNK:
                yield self._rows_frame(self._newer(), removed, more=True)
                self._unclosed = self._complete
                removed = []

    async def _at_once(self) -> AsyncGenerator[bytes, None]:
        """Yield what a turn brings in one piece: each piece costs as much as ten rows."""
        ready, size = [], 0
        async for frame in self._turn():
            ready.append(frame)
            size += len(frame)
            if size > CHUNK_BYTES:
                yield b"".join(ready)
                ready, size = [], 0
        if ready:
            yield b"".join(ready)

    async def _turn(self) -> AsyncGenerator[bytes, None]:
        hub = self._hub
        if not self._complete and hub.looks:
            more = True
            while more:
                newer = self._newer()
                more = newer.more
                self._complete = not more
                # those that went after a frame with them was sent
                removed = [] if more else hub.gone_after(self._first)
                yield self._rows_frame(newer, removed, more=more)
        elif self._complete:
            removed = hub.gone_after(self._cursor)
            more = hub.seq > self._cursor or self._unclosed
            self._unclosed = False
            while more:
                newer = self._newer()
                more = newer.more
                yield self._rows_frame(newer, removed, more=more)
                removed = []
        if hub.fleet_frame is not self._fleet and hub.fleet_frame is not None:
            self._fleet = hub.fleet_frame
            yield self._frame({**self._fleet, "seq": self._cursor})
        async for piece in self._events():
            yield piece
        if self._beat_due():
            yield self._frame(self._heartbeat())

    def _newer(self) -> Newer:
        newer = self._hub.rows_after(self._cursor, self._known)
        self._cursor = newer.cursor
        if self._ticks and self._complete and not newer.more:
            self._known = self._cursor
        return newer

    def _rows_frame(self, newer: Newer, removed: list[str], *, more: bool) -> bytes:
        head = (
            f'{{"type":"rows","seq":{self._cursor},"more":{"true" if more else "false"},'
            f'"removed":{encode(removed)},"rows":['
        )
        parts = [head.encode(), b",".join(newer.rows), b"]"]
        if newer.ticks:
            parts += [b',"ticks":[', b",".join(newer.ticks), b"]"]
        return self._framed("rows", b"".join((*parts, b"}")))

    async def _events(self) -> AsyncGenerator[bytes, None]:
        if self._event is None:
            return
        newer = self._hub.fleet.recent_events(self._event)
        for start in range(0, min(len(newer), _TURN), _BATCH):
            batch = newer[start : start + _BATCH]
            lost = batch[0].seq - self._event - 1
            self._event = batch[-1].seq
            told = [picture.event_shape(event) for event in batch]
            yield self._frame({"type": "events", "lost": lost, "events": told})
            await asyncio.sleep(0)

    def _hello(self) -> HelloFrame:
        told: HelloFrame = {
            **self._who,  # type: ignore[typeddict-item] # "ticks" may be missing
            "type": "hello",
            "columns": list(COLUMNS),
            "resumed": self._resumed,
            "rate": self._rate,
        }
        if self._ticks:
            told["ticks"] = list(TICKS)
        return told

    def _heartbeat(self) -> dict[str, Any]:
        now = self._hub.fleet.snapshot(agents=False)
        return {
            "type": "heartbeat",
            "seq": self._cursor,
            "event_seq": now.seq,
            "clock": round(now.monotonic, 3),
            "at": round(now.at, 3),
        }

    def _beat_due(self) -> bool:
        now = time.monotonic()
        if now < self._beat:
            return False
        self._beat = max(self._beat, now - _HEARTBEAT) + _HEARTBEAT
        return True

    def _frame(self, frame: Any) -> bytes:
        return self._framed(frame["type"], encode(frame).encode())

    def _ended(self) -> bool:
        return self._hub.fleet.snapshot(agents=False).phase == "stopped"

    def _reason(self) -> str:
        phase = self._hub.fleet.snapshot(agents=False).phase
        return "stopped" if phase in {"stopping", "stopped"} else "closed"

    async def _rest(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._hub.over.wait()
        except TimeoutError:
            pass


def as_lines(_: str, text: bytes) -> bytes:
    """Frame as NDJSON."""
    return text + b"\n"


def as_server_sent(kind: str, text: bytes) -> bytes:
    """Frame as a server-sent event, named by the frame's type."""
    return b"".join((b"event: ", kind.encode(), b"\ndata: ", text, b"\n\n"))


__all__ = ["FASTEST", "SLOWEST", "USUAL", "Reader", "as_lines", "as_server_sent"]
