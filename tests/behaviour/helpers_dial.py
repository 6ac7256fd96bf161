"""An agent whose behaviour a test turns as it likes while the agent lives."""

from __future__ import annotations

import asyncio
from typing import Any

from fleetmon.testing import ScriptedAgent, Step


class Dial:
    """Behaviour of one agent's present and coming lives.

    Attributes:
        start: what a start does: ``ok``, ``slow`` (3 s), ``fail``, ``denied`` or ``hang``.
        stubborn: whether body and tasks swallow their cancellation, for 40 seconds.
        overlap: greatest number of bodies that ran at the same time, uncancelled.
        agent: the factory to add.
    """

    def __init__(self) -> None:
        self.start = "ok"
        self.stubborn = False
        self.overlap = 0
        self._ends: set[asyncio.Future[None]] = set()
        self.agent = ScriptedAgent(
            start=[Step.call(lambda _: self._start())],
            serve=[Step.call(lambda _: self._serve())],
            handle=[Step.call(self._handle)],
        )

    def end(self, error: BaseException | None) -> None:
        """Let the living bodies end, normally or with an error."""
        for future in tuple(self._ends):
            if not future.done():
                future.set_result(None) if error is None else future.set_exception(error)

    def calm(self) -> None:
        """From now on nothing goes wrong any more."""
        self.start, self.stubborn = "ok", False

    async def _start(self) -> None:
        match self.start:
            case "slow":
                await asyncio.sleep(3)
            case "hang":
                await asyncio.sleep(1e5)
            case "fail":
                raise RuntimeError("start fails")
            case "denied":
                raise PermissionError("start denied")

    async def _serve(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ends.add(future)
        self.overlap = max(self.overlap, len(self._ends))
        try:
            await future
        except asyncio.CancelledError:
            self._ends.discard(future)
            await self._stay()
            raise
        finally:
            self._ends.discard(future)

    async def _handle(self, task: Any) -> None:
        match task.payload:
            case "fail":
                raise RuntimeError("task fails")
            case "fatal":
                error: Any = RuntimeError("task is fatal")
                error.fatal = True
                raise error
            case "long":
                try:
                    await asyncio.sleep(8)
                except asyncio.CancelledError:
                    await self._stay()
                    raise

    async def _stay(self) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + 40
        while self.stubborn and loop.time() < end:
            try:
                await asyncio.sleep(end - loop.time())
            except asyncio.CancelledError:
                continue
