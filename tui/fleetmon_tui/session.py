"""Joins source, state and screen: frames into the dashboard, effects out to the fleet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fleetmon_tui.state.orders import Question

if TYPE_CHECKING:
    from concurrent.futures import Future

    from fleetmon_tui.source import Source
    from fleetmon_tui.state.dashboard import Dashboard
    from fleetmon_tui.state.orders import Order
    from fleetmon_tui.state.sheets import Effect
    from fleetmon_tui.state.ui import Ui

_ASK = 1.0  # seconds between two questions about the agent that is shown


class Session:
    """One run of the dashboard, without the screen library.

    Attributes:
        dashboard: what is known.
        ui: what is shown.
        source: where frames come from and commands go.
        leaving: the user wants to leave.
    """

    def __init__(self, dashboard: Dashboard, ui: Ui, source: Source) -> None:
        """Join them."""
        self.dashboard = dashboard
        self.ui = ui
        self.source = source
        self.leaving = False
        self._orders: dict[int, Order] = {}
        self._number = 0
        self._asked: _Asked | None = None
        self._letters: _Asked | None = None

    def take(self, now: float) -> bool:
        """Take what has come, and bring what follows from it up to date.

        Returns:
            Whether anything has happened, or is shown for some seconds only.
        """
        dashboard = self.dashboard
        link = dashboard.link.state
        happened = bool(dashboard.message(now)[0]) or dashboard.link.greeting(now)
        for frame, at, wall in self.source.take():
            kind = frame["type"]
            happened = happened or kind != "heartbeat"
            if kind == "link":
                if frame["state"] == "lost" or (frame["state"] == "connecting" and frame["reason"]):
                    dashboard.lost(frame["reason"], at, wall)
            elif kind == "answer":
                order = self._orders.get(frame["number"])
                if order is not None:
                    order.answered(frame["agent_id"], frame["answer"])
            elif kind == "fleets":
                self.ui.offer(frame["fleets"])
                dashboard.link.several = bool(frame["fleets"])
            elif kind == "picture":
                dashboard.picture(frame, at)
            else:
                if kind == "hello":
                    self.ui.offer(())
                dashboard.apply(frame, at, wall)
        moved = dashboard.tick(now)
        self._details(now)
        return happened or moved or dashboard.link.state != link

    def act(self, effects: list[Effect], now: float) -> list[Effect]:
        """Carry effects out; returns those that only the screen can."""
        left: list[Effect] = []
        for word, what in effects:
            if word == "order" and isinstance(what, tuple):
                question, reason = what
                self._order(question, reason)
            elif word == "quit":
                self.leaving = True
            elif word in {"warning", "sought"}:
                if not self.source.seek(word, what, now):
                    side = "after" if what == 1 else "before"
                    self.dashboard.say(f"no warning {side} this in the recording", now, "quiet")
            elif word == "choose":
                self.source.choose(str(what))
            elif word != "agent":
                left.append((word, what))
        self._details(now)
        return left

    def _order(self, question: Any, reason: str) -> None:
        if isinstance(question, Question):
            self._number += 1
            self._orders[self._number] = self.dashboard.order(question)
            self.source.send(self._number, question, reason)

    def _list_letters(self, now: float) -> None:
        ui, asked = self.ui, self._letters
        if asked is not None and asked.future.done() and asked.taken is None:
            asked.taken = now
            if not asked.future.cancelled() and asked.future.exception() is None:
                ui.letters = (asked.future.result(), now)
        if ui.view != "letters" or not (self.dashboard.link.usable or self.dashboard.replay):
            return
        if asked is None or (asked.taken is not None and now - asked.taken >= _ASK):
            self._letters = _Asked("", self.source.letters())

    def _details(self, now: float) -> None:
        self._list_letters(now)
        ui, asked = self.ui, self._asked
        if asked is not None and asked.future.done() and asked.taken is None:
            asked.taken = now
            future = asked.future
            known = not future.cancelled() and future.exception() is None
            if known and asked.agent_id == ui.agent_id:
                ui.details = (future.result(), now)
        if ui.view != "agent" or not (self.dashboard.link.usable or self.dashboard.replay):
            return
        same = asked is not None and asked.agent_id == ui.agent_id
        if asked is not None and same and (asked.taken is None or now - asked.taken < _ASK):
            return
        self._asked = _Asked(ui.agent_id, self.source.details(ui.agent_id))


class _Asked:
    """A question to the fleet that is on its way, and when its answer was taken."""

    def __init__(self, agent_id: str, future: Future[Any]) -> None:
        self.agent_id = agent_id
        self.future = future
        self.taken: float | None = None
