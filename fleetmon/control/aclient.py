"""The asynchronous client: the same calls as :class:`~fleetmon.control.client.Client`, and
:func:`follow`, which stays with a fleet over lost connections and new lives.

Nothing but the standard library; where ``orjson`` is installed, frames are read with it.
"""  # noqa: D205 - one sentence

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar, cast

from fleetmon.control import address, wire
from fleetmon.control.client import PATIENCE, Client, agent_target, gone, stream_target
from fleetmon.control.protocol import PROTOCOL, ControlError, NoFleetError

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from fleetmon.control.client import Order, Retry
    from fleetmon.control.mirror import Mirror
    from fleetmon.control.protocol import (
        AgentDetailShape,
        AnswerShape,
        ConfigShape,
        DeadLetterShape,
        Frame,
        RetryShape,
        SnapshotShape,
    )

_A = TypeVar("_A", bound="AnswerShape | RetryShape")

_AGAIN = 0.2  # seconds before a command is sent again over a new connection
_LOST = 5  # connections that a command may lose in a row
_PIECE = 256 * 1024
_STALE = 2.5  # seconds without a frame, of which there is one a second at least
_RETRY_FIRST, _RETRY_LAST = 0.1, 0.5  # seconds between two attempts to connect


class AsyncClient:
    """Talks to one fleet from an event loop; what it raises is as for the synchronous one.

    Attributes:
        address: where it connects to.
    """

    def __init__(
        self,
        where: str,
        *,
        token: str = "",
        tls: ssl.SSLContext | None = None,
        patience: float = PATIENCE,
    ) -> None:
        """Prepare; see :class:`~fleetmon.control.client.Client`."""
        self.address = address.parse(where)
        self._token = address.checked(token)
        self._tls = tls
        self._patience = patience

    @classmethod
    def of(cls, client: Client) -> AsyncClient:
        """Return the twin of a synchronous client."""
        return cls(
            str(client.address),
            token=client._token,  # noqa: SLF001 - twins
            tls=client._tls,  # noqa: SLF001 - twins
            patience=client._patience,  # noqa: SLF001 - twins
        )

    async def snapshot(self, *, brief: bool = False) -> SnapshotShape:
        """Return the fleet as it is now; see :meth:`Client.snapshot`."""
        target = "/v1/snapshot?view=brief" if brief else "/v1/snapshot"
        return cast("SnapshotShape", await self._json("GET", target))

    async def agent(self, name: str) -> AgentDetailShape:
        """Return all there is to know about one agent, by id or alias."""
        return cast("AgentDetailShape", await self._json("GET", agent_target(name)))

    async def config(self) -> ConfigShape:
        """Return how the fleet is set up, without secrets."""
        return cast("ConfigShape", await self._json("GET", "/v1/config"))

    async def dead_letters(self) -> list[DeadLetterShape]:
        """Return the tasks that were given up, oldest first."""
        told = await self._json("GET", "/v1/dead-letters")
        return cast("list[DeadLetterShape]", told["dead_letters"])

    async def send(self, wanted: Order, *, hold: float = 1.0) -> AnswerShape:
        """Send a command once; the answer may be ``pending``, then send the same order again."""
        return cast("AnswerShape", await self._json("POST", "/v1/command", wanted.body(hold)))

    async def command(
        self,
        wanted: Order,
        *,
        limit: float = 30.0,
        waiting: Callable[[AnswerShape], object] | None = None,
    ) -> AnswerShape:
        """Send a command and stay until it is answered, also across lost connections."""
        return await self._stay(lambda hold: self.send(wanted, hold=hold), limit, waiting)

    async def retry(
        self,
        wanted: Retry,
        *,
        limit: float = 30.0,
        waiting: Callable[[RetryShape], object] | None = None,
    ) -> RetryShape:
        """Have a dead letter run again and stay until it has ended; as :meth:`command`."""

        async def send(hold: float) -> RetryShape:
            told = await self._json("POST", "/v1/dead-letters/retry", wanted.body(hold))
            return cast("RetryShape", told)

        return await self._stay(send, limit, waiting)

    async def _stay(
        self,
        send: Callable[[float], Awaitable[_A]],
        limit: float,
        waiting: Callable[[_A], object] | None,
    ) -> _A:
        until = time.monotonic() + limit
        lost = 0
        while True:
            left = until - time.monotonic()
            try:
                answer = await send(max(0.0, min(1.0, left)))
            except NoFleetError:
                lost += 1
                if lost > _LOST or left <= 0:
                    raise
                await asyncio.sleep(_AGAIN)
                continue
            lost = 0
            if answer["result"] != "pending" or time.monotonic() >= until:
                return answer
            if waiting is not None:
                waiting(answer)

    async def stream(
        self,
        since: int | None = None,
        *,
        epoch: str | None = None,
        events: int | None = None,
        rate: float | None = None,
        ticks: bool = False,
    ) -> AsyncGenerator[Frame, None]:
        """Yield the frames of one connection; see :meth:`Client.stream`.

        With ``ticks``, rows in which only what moves all the time has changed come as those
        values alone; a :class:`~fleetmon.control.mirror.Mirror` does not understand them.

        Between two frames it waits as long as it takes: there is one a second while all is well.
        """
        lines = wire.Lines(wire.quickest())
        target = stream_target(since, epoch, events, rate, ticks=ticks)
        pieces = self._pieces("GET", target, None, None)
        async with contextlib.aclosing(pieces):
            async for piece in pieces:
                for line in lines.feed(piece):
                    if line.get("type") == "hello":
                        wire.check(line.get("protocol"))
                    yield cast("Frame", line)

    async def _json(self, method: str, target: str, body: bytes | None = None) -> dict[str, Any]:
        whole = [piece async for piece in self._pieces(method, target, body, self._patience)]
        told = wire.parsed(b"".join(whole))
        wire.check(told.get("protocol", PROTOCOL))
        return told

    async def _pieces(
        self, method: str, target: str, body: bytes | None, patience: float | None
    ) -> AsyncGenerator[bytes, None]:
        """Yield the body of an answer; ``patience`` is for each piece of it."""
        answer = wire.Answer()
        writer = None
        try:
            async with asyncio.timeout(self._patience):
                reader, writer = await self._connect()
                headers = self.address.headers(self._token)
                writer.write(wire.request(method, target, headers, body))
                await writer.drain()
                piece = b""
                while answer.head is None:
                    piece = await _more(reader, answer)
            if answer.head.status >= 400:  # noqa: PLR2004 - a refusal
                whole = bytearray(piece)
                async with asyncio.timeout(self._patience):
                    while not answer.done:
                        whole += await _more(reader, answer)
                raise wire.refuse(answer.head.status, bytes(whole))
            yield piece
            while not answer.done:
                async with asyncio.timeout(patience):
                    piece = await _more(reader, answer)
                yield piece
        except (OSError, UnicodeError) as error:  # of a name that is none
            raise gone(error, self.address, self._patience) from error
        finally:
            if writer is not None:
                writer.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        where = self.address
        if where.path:
            return await asyncio.open_unix_connection(where.path, limit=_PIECE)
        tls: ssl.SSLContext | bool | None = (self._tls or True) if where.tls else None
        return await asyncio.open_connection(where.host, where.port, ssl=tls, limit=_PIECE)


async def _more(reader: asyncio.StreamReader, answer: wire.Answer) -> bytes:
    received = await reader.read(_PIECE)
    if not received:
        answer.close()
    return answer.feed(received)


class LinkFrame(TypedDict):
    """How the connection is; :func:`follow` yields it among the frames, when it changes.

    ``connecting`` before the first connection, then ``live``; ``stale`` when nothing has come for
    more than two seconds although the connection stands; ``lost`` while there is none. ``reason``
    is a sentence, empty when all is well; ``since`` on the local monotonic clock; ``again``
    counts the connections before this one.
    """

    type: Literal["link"]
    state: Literal["connecting", "live", "stale", "lost"]
    reason: str
    since: float
    again: int


async def follow(
    locate: Callable[[], Client],
    mirror: Mirror,
    *,
    events: bool = True,
    rate: float | None = None,
    ticks: bool = False,
) -> AsyncGenerator[Frame | LinkFrame, None]:
    """Stay with a fleet for ever: yields its frames, already applied, and how the connection is.

    A lost connection is taken up where it was; a fleet that was started anew is found again. It
    ends only when the caller closes it.

    Args:
        locate: returns a client for the fleet, or raises :class:`ControlError` when there is none
            at present. Called in a thread, before each attempt.
        mirror: takes the frames, at ``time.monotonic()``.
        events: whether events are wanted, those that are kept included.
        rate: turns a second; see :meth:`Client.stream`.
        ticks: see :meth:`AsyncClient.stream`.
    """
    link = _Link()
    yield link.told("connecting", "")
    pause = _RETRY_FIRST
    while True:
        try:
            client = AsyncClient.of(await asyncio.to_thread(locate))
            frames = client.stream(
                mirror.since,
                epoch=mirror.epoch,
                events=mirror.event_seq if events else -1,
                rate=rate,
                ticks=ticks,
            )
            async with contextlib.aclosing(_heeded(frames, link)) as heeded:
                async for frame in heeded:
                    if frame["type"] != "link":
                        _apply(mirror, frame)
                        pause = _RETRY_FIRST
                    yield frame
            reason = f"the fleet has ended ({mirror.ended})" if mirror.ended else "it closed"
        except ControlError as error:
            reason = str(error)
        if link.state != "lost" or link.reason != reason:
            yield link.told("lost", reason)
        await asyncio.sleep(pause)
        pause = min(_RETRY_LAST, pause * 1.5)


def _apply(mirror: Mirror, frame: Frame) -> None:
    try:
        mirror.apply(frame, time.monotonic())
    except (KeyError, IndexError, TypeError, ValueError) as error:
        message = f"a frame that makes no sense came ({type(error).__name__}: {error})"
        raise ControlError(message) from error


class _Link:
    def __init__(self) -> None:
        self.state: Literal["connecting", "live", "stale", "lost"] = "connecting"
        self.reason = ""
        self.since = time.monotonic()
        self.connections = 0

    def told(self, state: Literal["connecting", "live", "stale", "lost"], reason: str) -> LinkFrame:
        if state != self.state:
            self.since = time.monotonic()
        self.state, self.reason = state, reason
        again = max(0, self.connections - 1)
        return {"type": "link", "state": state, "reason": reason, "since": self.since,
                "again": again}  # fmt: skip


async def _heeded(
    frames: AsyncGenerator[Frame, None], link: _Link
) -> AsyncGenerator[Frame | LinkFrame, None]:
    """Yield frames, and what their coming or not coming says of the connection."""
    coming: asyncio.Future[Frame] | None = None
    quiet = 0.0
    try:
        while True:
            if coming is None:
                coming = asyncio.ensure_future(anext(frames))
            done, _ = await asyncio.wait({coming}, timeout=_STALE)
            if not done:
                quiet += _STALE
                if quiet > PATIENCE and link.state == "stale":
                    message = f"nothing came for {quiet:g} s"
                    raise NoFleetError(message)
                if link.state == "live":
                    yield link.told("stale", "the fleet's process does not get on")
                continue
            try:
                frame = coming.result()
            except StopAsyncIteration:
                coming = None
                return
            coming, quiet = None, 0.0
            if frame["type"] == "hello":
                link.connections += 1
            yield frame
            if link.state != "live":
                yield link.told("live", "")
    finally:
        if coming is not None:
            coming.cancel()
            with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration, ControlError):
                await coming
        await frames.aclose()
