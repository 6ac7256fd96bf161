"""Everything that the dashboard knows, in one object: frames go in, the views read it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fleetmon_tui.state.alarms import Alarms
from fleetmon_tui.state.columns import Moment
from fleetmon_tui.state.history import History
from fleetmon_tui.state.journal import Journal
from fleetmon_tui.state.link import Link
from fleetmon_tui.state.listing import Filter, Listing, ails
from fleetmon_tui.state.orders import Order, Question
from fleetmon_tui.state.selection import Selection
from fleetmon_tui.state.store import Store
from fleetmon_tui.state.text import UNICODE, cells

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetmon_tui.state.columns import Layout
    from fleetmon_tui.state.text import Glyphs, Line

_SAID = 6.0  # seconds for which a message stands
_EACH = 1.0  # seconds between samples of the sparklines


class Dashboard:
    """The state of the whole dashboard.

    All methods take the time as a parameter: ``now`` is monotonic, ``wall`` is for people, both in
    seconds.

    Attributes:
        hello: of the latest connection.
        fleet: what is true of the fleet as a whole; empty until it was told.
        read_only: commands are refused.
        replay: what is shown is a recording; its time is told by the frames alone.
        cells: lines of agents as last made, by place, as far as their row is still the same.
        recorded: whether the recording knows how it was at this time: ``recorded``, ``gap``,
            ``stopped`` or ``crashed``.
    """

    def __init__(
        self, *, glyphs: Glyphs = UNICODE, read_only: bool = False, replay: bool = False
    ) -> None:
        """Begin without a fleet."""
        self.glyphs = glyphs
        self.read_only = read_only
        self.replay = replay
        self.hello: dict[str, Any] = {}
        self.fleet: dict[str, Any] = {}
        self.store = Store()
        self.history = History()
        self.listing = Listing()
        self.selection = Selection(self.store, self.listing)
        self.journal = Journal()
        self.alarms = Alarms()
        self.link = Link()
        self.orders: list[Order] = []
        self.events_filter = Filter()
        self.recorded = ""
        self.cells: dict[int, tuple[Layout, Line]] = {}
        self.counts = (0, 0, 0)
        self.names = 0
        self._message = ("", "", -1e9)
        self._clock = (0.0, 0.0)  # the fleet's clock, and ours at that moment
        self._wall = 0.0
        self._sampled = -1e9
        self._stirred = True  # rows changed since the last sample
        self._named = -1

    # -- what comes in ---------------------------------------------------------------------------

    def apply(self, frame: Mapping[str, Any], now: float, wall: float) -> None:
        """Take a frame as it came; one of an unknown type changes nothing."""
        kind = frame.get("type")
        if kind == "rows":
            self.store.apply(frame["rows"], frame["removed"], more=frame["more"])
            if ticks := frame.get("ticks"):
                self.store.tick(ticks)
        elif kind == "events":
            self.journal.apply(frame["events"], frame["lost"])
        elif kind == "fleet":
            self.fleet = dict(frame)
            self.alarms.apply(frame["warnings"], frame["summaries"])
        elif kind == "hello":
            self._hello(frame, now, wall)
        elif kind == "end":
            self.link.lost(now, wall, f"the fleet has {frame.get('reason') or 'ended'}", ended=True)
            return
        clock = None
        if "clock" in frame:
            clock = float(frame["clock"])
            self._clock = (clock, now)
            self._wall = float(frame["at"])
        self.link.heard(now, wall, clock=clock, hello=kind == "hello")

    def _hello(self, frame: Mapping[str, Any], now: float, wall: float) -> None:
        before = self.hello.get("epoch")
        self.hello = dict(frame)
        self.store.begin(frame["columns"], frame.get("ticks", ()), resumed=frame["resumed"])
        if before is not None and before != frame["epoch"]:
            self.journal.forget()
            self.journal.note(wall, f"another life of the fleet: process {frame['pid']}")
            self.history.clear()
            self.fleet = {}
            self.alarms.apply((), ())
            self.say("reconnected to another life of the fleet", now, "warn")

    def picture(self, picture: Mapping[str, Any], now: float) -> None:
        """Take a whole fleet out of a recording.

        Args:
            picture: ``rows``, ``facts`` as in a frame of type ``fleet``, ``clock``, ``at``,
                ``events``, ``fresh`` (a jump: what was before does not lead here), ``state``,
                ``name`` and ``pid``.
            now: monotonic seconds.
        """
        self.hello = {"name": picture["name"], "pid": picture["pid"]}
        self.recorded = picture["state"]
        if picture["fresh"]:
            self.history.clear()
            self.journal.clear()
            self._sampled = -1e9
        self.store.replace(picture["rows"])
        self.fleet = dict(picture["facts"])
        self.alarms.apply(self.fleet.get("warnings") or (), self.fleet.get("summaries") or ())
        self.journal.apply(picture["events"])
        self._clock = (float(picture["clock"]), now)
        self._wall = float(picture["at"])
        self.link.heard(now, self._wall)
        if self._wall - self._sampled >= _EACH:
            self.history.sample(self.store, self._wall)
            self._sampled = self._wall

    def lost(self, reason: str, now: float, wall: float) -> None:
        """Note that there is no connection."""
        self.link.lost(now, wall, reason)

    def tick(self, now: float) -> bool:
        """Bring everything that follows from rows and time up to date.

        Returns:
            Whether the lines of the fleet view may be others than before.
        """
        if not self.replay:
            self.link.look(now)
        changed = self.store.settled()
        if changed:
            self._stirred = True
            self.cells = {at: made for at, made in self.cells.items() if at not in changed}
            self.counts = self.store.counts()
            if self._named != self.store.members:
                self._named = self.store.members
                self.names = max(map(_length, self.store.places), default=0)
        if self.link.usable and not self.replay and now - self._sampled >= _EACH - 0.05:
            self.sample(now)
        if self.orders:
            self.orders = [order for order in self.orders if not order.look(self.store, now)]
        if self.listing.renew(self.store, now, changed=bool(changed)):
            self.selection.follow()
            return True
        return False

    def sample(self, now: float) -> None:
        """Take a sample for the sparklines."""
        self.history.sample(self.store, now, same=not self._stirred)
        self._stirred = False
        self._sampled = now

    # -- time ------------------------------------------------------------------------------------

    def clock(self, now: float) -> float:
        """Return the fleet's clock; it stands still while nothing is heard."""
        clock, heard = self._clock
        return clock + max(0.0, now - heard) if self._advances else clock

    def wall(self, now: float) -> float:
        """Return the fleet's wall clock, seconds since the epoch."""
        return self._wall + (max(0.0, now - self._clock[1]) if self._advances else 0.0)

    @property
    def _advances(self) -> bool:
        return self.link.usable and not self.replay

    def moment(self, now: float) -> Moment:
        """Return what cells need beside their row."""
        return Moment(self.clock(now), self.glyphs, self.history.use)

    # -- what is said ----------------------------------------------------------------------------

    def say(self, text: str, now: float, role: str = "") -> None:
        """Show a message for a while."""
        self._message = (text, role, now)

    def message(self, now: float) -> tuple[str, str]:
        """Return what stands on the line for messages, and its role; empty when nothing does."""
        text, role, at = self._message
        if text and now - at < _SAID:
            return text, role
        if self.orders:
            return self.orders[-1].sentence, self.orders[-1].role
        return "", ""

    # -- commands --------------------------------------------------------------------------------

    def refusal(self) -> str:
        """Return why commands are refused just now, or nothing."""
        if self.replay:
            return "this is a recording: nothing in it can be commanded"
        if self.read_only:
            return "read-only: started with --read-only"
        if not self.link.usable:
            return f"{self.link.state}: commands wait for a live connection"
        return ""

    def ask(
        self, command: str, agents: tuple[str, ...] | None = None, task_id: int = 0
    ) -> Question | str:
        """Return the question for a command, or why there is none."""
        if refusal := self.refusal():
            return f"{command} refused; {refusal}"
        whom = self.selection.targets() if agents is None else agents
        if not whom:
            return f"{command}: nothing is chosen"
        hidden = self.selection.hidden() if agents is None else 0
        return Question(command, whom, hidden, task_id)

    def order(self, question: Question) -> Order:
        """Begin an order whose question was answered with yes."""
        order = Order(question.command, question.agents, self.store)
        self.orders.append(order)
        self._message = ("", "", -1e9)
        return order

    # -- where to look ---------------------------------------------------------------------------

    def next_trouble(self, by: int) -> bool:
        """Move the cursor to the next agent that somebody should look at; False without one."""
        lines, rows = self.listing.lines, self.store.rows
        count = len(lines)
        for step in range(1, count + 1):
            line = (self.selection.line + by * step) % count
            row = rows[lines[line]] if lines[line] >= 0 else None
            if row is not None and ails(row):
                self.selection.go(line)
                return True
        return False


def _length(text: str) -> int:
    return len(text) if text.isascii() else cells(text)
