"""Where frames come from: a running fleet, read in a thread that begins before the screen is up."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Protocol, cast

from fleetmon.control.aclient import AsyncClient, follow
from fleetmon.control.client import order, retry
from fleetmon.control.mirror import Mirror
from fleetmon.control.protocol import AmbiguousFleetError, ControlError, NoFleetError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Mapping

    from fleetmon.control.client import Client
    from fleetmon_tui.state.orders import Question

Told = tuple[dict[str, Any], float, float]
"""A frame, and when it came: monotonic and wall clock, seconds."""

RATE = 4.0
"""Frames a second that are asked for."""

_AT_ONCE = 8  # commands under way at a time
_PATIENCE = 60.0  # seconds for which an answer is waited for
_SOON = 0.3  # seconds for which the rest of a set of rows is waited for
_WAITING = 4000  # frames that wait to be shown; beyond it the stream itself is held up


class Locate(Protocol):
    """Finds the fleet."""

    def __call__(self, name: str | None, but: Collection[int] = ()) -> Client:
        """Return a client for it.

        Args:
            name: of the fleet that was seen before, or the process id that was chosen.
            but: process ids of fleets that are not meant.

        Raises:
            ControlError: there is none, or several.
        """


class Source(Protocol):
    """What the screen needs; nothing of it blocks.

    Attributes:
        first: set once there is something to show, or it is clear that there will not be.
    """

    first: threading.Event

    def start(self, wake: Callable[[], None]) -> None:
        """Begin; ``wake`` is called, from any thread, when there is something to take."""

    def take(self) -> list[Told]:
        """Return what came since the last call."""

    def details(self, agent_id: str) -> Future[dict[str, Any]]:
        """Ask for what is known about an agent beyond its row."""

    def letters(self) -> Future[list[dict[str, Any]]]:
        """Ask for the dead letters, oldest first."""

    def send(self, number: int, question: Question, reason: str) -> None:
        """Send a command; answers come as frames of type ``answer`` with that number."""

    def choose(self, fleet: str) -> None:
        """Follow one of the fleets that a frame of type ``fleets`` told of, by its process id."""

    def seek(self, word: str, what: object, now: float) -> bool:
        """Follow the time line of a recording, or go to its next warning; False: there is none."""

    def close(self) -> None:
        """Let go of everything."""


class _Marks(Mirror):
    """Remembers where to resume. The rows themselves live in the dashboard's own store."""

    def _rows(self, frame: Mapping[str, Any]) -> None:
        self.seq = frame["seq"]
        self.complete = self.complete or not frame["more"]

    def _events(self, frame: Mapping[str, Any]) -> None:
        if frame["events"]:
            self.event_seq = frame["events"][-1]["seq"]


class Live:
    """Follows a running fleet.

    Attributes:
        first: set once rows have come, or it is clear that there is no fleet.
    """

    def __init__(self, locate: Locate, *, rate: float = RATE, actor: str = "") -> None:
        """Prepare; nothing is opened.

        Args:
            locate: see :class:`Locate`.
            rate: frames a second.
            actor: who gives commands, as the audit tells it.
        """
        self._locate = locate
        self._rate = rate
        self._actor = actor
        self._mirror = _Marks()
        self._client: Client | None = None
        self._chosen = ""  # process id of a fleet among several
        self._others: frozenset[int] = frozenset()  # those that were not chosen then
        self._offered: tuple[tuple[str, int, float], ...] = ()
        self._told: deque[Told] = deque()
        self._wake: Callable[[], None] = lambda: None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[None] | None = None
        self._thread: threading.Thread | None = None
        self._limit: asyncio.Semaphore | None = None
        self._woken = -1e9
        self.first = threading.Event()

    def start(self, wake: Callable[[], None]) -> None:
        """Begin, or call another ``wake`` from now on."""
        self._wake = wake
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="fleetmon-source", daemon=True)
            self._thread.start()

    def take(self) -> list[Told]:
        """Return what came since the last call, oldest first."""
        told = []
        while self._told:
            told.append(self._told.popleft())
        return told

    def details(self, agent_id: str) -> Future[dict[str, Any]]:
        """Ask for an agent; the future fails with a :class:`ControlError`."""
        future = self._submit(self._agent(agent_id))
        future.add_done_callback(lambda _: self._wake())
        return future

    def letters(self) -> Future[list[dict[str, Any]]]:
        """Ask for the dead letters; the future fails with a :class:`ControlError`."""
        future = self._submit(self._dead_letters())
        future.add_done_callback(lambda _: self._wake())
        return future

    def send(self, number: int, question: Question, reason: str) -> None:
        """Send a command to each agent of a question, several at a time."""
        for agent_id in question.agents:
            self._submit(self._carry_out(number, question, agent_id, reason))

    def choose(self, fleet: str) -> None:
        """Follow one of several fleets, by its process id."""
        self._others = frozenset(pid for _, pid, _ in self._offered if str(pid) != fleet)
        self._chosen = fleet

    def seek(self, word: str, what: object, now: float) -> bool:
        """Do nothing: what lives has no time line."""
        del word, what, now
        return True

    def close(self) -> None:
        """End the thread."""
        loop, main = self._loop, self._main
        if loop is not None and main is not None and not loop.is_closed():
            loop.call_soon_threadsafe(main.cancel)
        if self._thread is not None:
            self._thread.join(1.0)

    # -- in the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            asyncio.run(self._follow())
        except asyncio.CancelledError:
            pass
        except Exception as error:  # noqa: BLE001 - nothing more will come, and that has to be said
            said = (
                f"reading from the fleet has failed ({type(error).__name__}: {error}); start anew"
            )
            self._put({"type": "link", "state": "lost", "reason": said})
        finally:
            self.first.set()

    async def _follow(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._main = asyncio.current_task()
        self._limit = asyncio.Semaphore(_AT_ONCE)
        frames = follow(self._found, self._mirror, events=True, rate=self._rate, ticks=True)
        async for frame in frames:
            told = cast("dict[str, Any]", frame)
            self._put(told)
            if told["type"] == "rows" or told.get("state") == "lost":
                self.first.set()
            if len(self._told) > _WAITING:  # the screen does not get on; nor shall we
                await asyncio.sleep(0.05)

    def _found(self) -> Client:
        try:
            self._client = self._locate(self._chosen or self._mirror.name or None, self._others)
        except AmbiguousFleetError as error:
            if error.fleets != self._offered:
                self._offered = error.fleets
                self._put({"type": "fleets", "fleets": error.fleets})
            raise
        except NoFleetError:
            # it may be started anew, as another process; the others are still not meant
            self._chosen = self._chosen if not self._mirror.name else ""
            raise
        self._offered = ()
        return self._client

    def _put(self, frame: dict[str, Any]) -> None:
        now = time.monotonic()
        self._told.append((frame, now, time.time()))
        # a heartbeat shows nothing that the screen's own second would not, and the rest of a set
        # of rows follows soon
        if frame["type"] == "heartbeat" or (frame.get("more") and now - self._woken < _SOON):
            return
        self._woken = now
        self._wake()

    def _submit(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        loop = self._loop
        if loop is None or loop.is_closed():
            work.close()
            failed: Future[Any] = Future()
            failed.set_exception(ControlError("not connected"))
            return failed
        return asyncio.run_coroutine_threadsafe(work, loop)

    async def _agent(self, agent_id: str) -> dict[str, Any]:
        if self._client is None:
            message = "not connected"
            raise ControlError(message)
        return cast("dict[str, Any]", await AsyncClient.of(self._client).agent(agent_id))

    async def _dead_letters(self) -> list[dict[str, Any]]:
        if self._client is None:
            message = "not connected"
            raise ControlError(message)
        found = await AsyncClient.of(self._client).dead_letters()
        return cast("list[dict[str, Any]]", found)

    async def _carry_out(self, number: int, question: Question, agent_id: str, reason: str) -> None:
        def told(answer: Mapping[str, Any]) -> None:
            frame = {"type": "answer", "number": number, "agent_id": agent_id, "answer": answer}
            self._put(frame)

        if self._client is None or self._limit is None:
            told({"result": "failed", "reason": "not connected"})
            return
        client = AsyncClient.of(self._client)
        how = {"epoch": self._mirror.epoch, "actor": self._actor, "reason": reason}
        try:
            async with self._limit:
                if question.task_id:
                    again = retry(question.task_id, **how)
                    told(await client.retry(again, limit=_PATIENCE, waiting=told))
                else:
                    wanted = order(question.command, agent_id, **how)
                    told(await client.command(wanted, limit=_PATIENCE, waiting=told))
        except ControlError as error:
            told({"result": "failed", "reason": str(error)})
