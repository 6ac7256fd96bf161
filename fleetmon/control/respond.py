"""Answers that come in pieces: as fast as the reader takes them, and no longer than it is there."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.types import Receive, Scope, Send

_LONG = 600.0  # seconds for which a stream waits for a reader that has stopped


class Streamed(Response):
    """A body of pieces; the generator is closed, in this task, when the reader leaves."""

    def __init__(
        self, pieces: AsyncGenerator[bytes, None], media_type: str, *, endless: bool = False
    ) -> None:
        """Prepare; the generator begins with the first piece.

        Args:
            pieces: the body.
            media_type: for example ``application/json``.
            endless: a reader may stop for minutes. One that is stopped by its terminal goes on
                later, and is owed nothing meanwhile.
        """
        super().__init__(media_type=media_type)
        del self.headers["content-length"]
        self.headers["cache-control"] = "no-store"
        self._pieces = pieces
        self._endless = endless

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them."""
        connection = scope.get("state", {}).get("fleetmon.connection")
        if self._endless and connection is not None:
            connection.answer_patience = _LONG
        work = asyncio.ensure_future(self._send(scope, send, connection))
        gone = asyncio.ensure_future(_left(receive))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (work, gone):
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work
            with contextlib.suppress(asyncio.CancelledError):
                await gone

    async def _send(self, scope: Scope, send: Send, connection: Any) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        if scope["method"] != "HEAD":
            async with aclosing(self._pieces) as pieces:
                async for piece in pieces:
                    # what is written to a lost connection before the loop turns again makes
                    # asyncio complain in the host's log
                    if connection is not None and connection.transport.is_closing():
                        return
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
        else:
            await self._pieces.aclose()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
