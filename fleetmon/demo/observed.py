"""Agents that the demonstration owns itself: a task on its loop, and a thread of its own.

The supervisor only measures them, and calls back when one has to be brought back.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from fleetmon.demo.agents import InjectedCrashError
from fleetmon.demo.checks import is_spoiled

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetmon import Agent, Supervisor
    from fleetmon.demo.agents import Assignment
    from fleetmon.demo.cast import Player
    from fleetmon.demo.feed import Deck, Pacer
    from fleetmon.demo.jobs import Facts
    from fleetmon.demo.services import Services


class ObservedWorker:
    """One agent of the host's own.

    Attributes:
        agent: its handle.
    """

    def __init__(
        self, fleet: Supervisor, player: Player, deck: Deck, pacer: Pacer, services: Services
    ) -> None:
        """Attach it; nothing works before :meth:`run`."""
        self._player = player
        self._deck = deck
        self._pacer = pacer
        self._services = services
        self._job = player.recipe.build(services)
        self._broken = False
        self._over = threading.Event()
        self._crashes: deque[tuple[str, Callable[[], None]]] = deque()
        self.agent: Agent = fleet.attach(
            player.agent_id,
            recover=self._recover,
            probe=self._is_well,
            capacity=player.spec.capacity,
            spec=player.spec,
        )

    def crash(self, code: str, suffered: Callable[[], None]) -> None:
        """Let its next task bring it down; ``suffered`` is called when that happens."""
        self._crashes.append((code, suffered))

    def stop(self) -> None:
        """Let it end after the task at hand."""
        self._over.set()

    async def run(self, *, in_thread: bool) -> None:
        """Work until :meth:`stop`, on the loop or in a thread of its own."""
        if not in_thread:
            await self._work_on_loop()
            return
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()

        def live() -> None:
            try:
                self._work_in_thread()
            finally:
                with suppress(RuntimeError):  # the loop was in more of a hurry
                    loop.call_soon_threadsafe(ended.set)

        threading.Thread(target=live, name=f"demo-{self.agent.agent_id}", daemon=True).start()
        await ended.wait()

    def _recover(self) -> None:
        self._job = self._player.recipe.build(self._services)
        self._broken = False

    def _is_well(self) -> bool:
        return not self._broken

    def _perform(self, assignment: Assignment) -> Facts:
        if self._crashes:
            code, suffered = self._crashes.popleft()
            self._broken = True
            suffered()
            raise InjectedCrashError(code)
        return self._job.run(assignment.verb, Path(assignment.path))

    async def _work_on_loop(self) -> None:
        while not self._over.is_set():
            await asyncio.sleep(self._pacer.interval)
            if self._broken or self._over.is_set():
                continue
            label, assignment = self._deck.draw()
            with suppress(Exception):  # how it ended is in the books
                async with self.agent.task(label) as task:
                    facts = await asyncio.to_thread(self._perform, assignment)
                    if is_spoiled(facts):
                        task.fail()

    def _work_in_thread(self) -> None:
        watched = {
            label: self.agent.watch(self._perform, task_type=label, failed=is_spoiled)
            for label, _ in self._player.labels
        }
        while not self._over.wait(self._pacer.interval):
            if self._broken:
                continue
            label, assignment = self._deck.draw()
            with suppress(Exception):  # how it ended is in the books
                watched[label](assignment)
