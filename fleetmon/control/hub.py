"""What all readers of the stream share: each agent's row, encoded once, numbered by change.

The hub does nothing of its own. A reader that is ready for more asks it to :meth:`Hub.look`; then
it looks at every agent, encodes those that changed, and numbers each change. So nobody attached
costs nothing, many readers cost one look, and a reader that takes nothing is owed nothing: all that
is kept for it is the number up to which it knows.

Looking happens in slices of a few milliseconds with a real pause in between, since the thread in
which the agents live needs the same interpreter.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from fleetmon.control.encoding import encode_row, rest_of, tick_of
from fleetmon.control.picture import blocked_after, warning_shape
from fleetmon.control.recent import Recent

if TYPE_CHECKING:
    from fleetmon.agent import Agent
    from fleetmon.control.protocol import BlockedShape, FleetFrame, WarningShape
    from fleetmon.supervisor import Supervisor

SLICE = 0.003
"""Seconds of work between two pauses."""

PAUSE = 0.0002
"""Seconds of a pause: long enough for the thread that waits for the interpreter to get it."""

CHUNK = 500
"""Rows of a frame at most."""

CHUNK_BYTES = 128 * 1024
"""Bytes of a frame, roughly, whatever the rows' length: what a reader may hold that stopped."""

_GLANCES = 32  # unchanged agents between two glances at the clock
_DRIFT = 1.0  # seconds after which a row is made anew that moves with time alone
_SHARE = 4.0  # a look costs at most one part in five of a core, however large the fleet
_WARN = 1.0  # seconds between two looks at the warnings
_KEPT = 60.0  # seconds for which rows are kept when nobody is attached
_TOMBSTONES = 10_000


async def give_way() -> None:
    """Let the agents' own thread have the interpreter, then this loop's other callbacks a turn."""
    # an event loop's timers are a millisecond apart, six times as long as is needed
    time.sleep(PAUSE)  # noqa: ASYNC251 - a loop that nobody else waits for
    await asyncio.sleep(0)


class _Row:
    __slots__ = (
        "agent", "at", "facts", "health", "moves", "rest", "revision", "seq", "text", "tick",
    )  # fmt: skip

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.forget()

    def forget(self) -> None:
        """Be as before the first look."""
        self.revision: tuple[Any, ...] = ()
        # a plain tuple of plain values: the garbage collector leaves it out of its account
        self.facts: tuple[Any, ...] | None = None
        self.text = b""  # of all facts, and of those that a tick tells; made when first wanted
        self.tick = b""
        self.seq = 0
        self.rest = 0  # number of the latest change in what no tick tells
        self.at = 0.0
        self.moves = False
        self.health: int | None = None  # None: declared only


class Newer(NamedTuple):
    """What a reader is owed, encoded: rows, ticks, the cursor that goes with them, more to come."""

    rows: list[bytes]
    ticks: list[bytes]
    cursor: int
    more: bool


class Hub:
    """The rows of one supervisor's agents; belongs to the loop that serves it.

    Attributes:
        seq: number of the latest change.
        over: set once the fleet has ended or the server is on its way out.
        looks: looks that were completed since rows were last forgotten.
        encoded: rows that were encoded so far.
        recent: ends of tasks while somebody is attached.
        blocked: who holds an event loop up, as of the latest look.
        fleet_frame: what is true of the fleet as a whole; another object once it has changed.
    """

    def __init__(self, fleet: Supervisor) -> None:
        """Start with nothing known."""
        self.fleet = fleet
        self.seq = 0
        self.looks = 0
        self.encoded = 0
        self.over = asyncio.Event()
        self.recent = Recent()
        self.blocked: BlockedShape | None = None
        self.fleet_frame: FleetFrame | None = None
        self._watched: list[_Row] = []  # every agent, in order of registration
        self._membership = -1
        self._healths = [0, 0, 0]  # agents by health, those only declared left out
        self._rows: dict[str, _Row] = {}  # those that were encoded, in the order of their numbers
        self._gone: dict[str, int] = {}  # agents that went, by the number of that change
        self._floor = 1  # a reader that knows less has missed what is forgotten
        self._look: asyncio.Task[None] | None = None
        self._began = -1e9
        self._rest_until = 0.0
        self._stir: asyncio.Future[None] | None = None
        self._attached = 0
        self._ticking = 0
        self._forget: asyncio.TimerHandle | None = None
        self._seen = 0  # events
        self._warned = -1e9
        self._warnings: list[WarningShape] = []
        self._summaries: list[str] = []

    # -- who is there ----------------------------------------------------------------------------

    def attach(self, *, ticks: bool = False) -> None:
        """Count a reader, and whether it takes ticks."""
        self._attached += 1
        self._ticking += ticks
        if self._attached == 1:
            self.fleet.observe(self.recent)
        if self._forget is not None:
            self._forget.cancel()
            self._forget = None

    def detach(self, *, ticks: bool = False) -> None:
        """Count a reader out; rows are forgotten a while after the last one."""
        self._attached -= 1
        self._ticking -= ticks
        if not self._attached:
            self.fleet.unobserve(self.recent)
        if not self._attached and not self.over.is_set():
            self._forget = asyncio.get_running_loop().call_later(_KEPT, self._clear)

    def _clear(self) -> None:
        self._forget = None
        if self._attached:
            return
        self.recent.clear()
        # the objects stay: ten thousand new ones with each reader would have the garbage collector
        # go through the whole process sooner, which holds the host's loop up
        for row in self._watched:
            row.forget()
        self._healths = [0, 0, 0]
        self._rows.clear()
        self._gone.clear()
        self.looks = 0
        self.seq += 1
        self._floor = self.seq

    def knows(self, since: int) -> bool:
        """Return whether a reader that has applied ``since`` can go on from there."""
        return self._floor <= since <= self.seq and bool(self._rows)

    # -- looking ---------------------------------------------------------------------------------

    def look(self, age: float) -> asyncio.Task[None] | None:
        """Begin to look at all agents, or join who does.

        Args:
            age: seconds; a look that began no longer ago is good enough.

        Returns:
            The look under way, which ends by itself whoever stops waiting; ``None`` if the latest
            is good enough, or another one would be too dear just now.
        """
        if self._look is None or self._look.done():
            now = time.monotonic()
            if now - self._began < age or now < self._rest_until:
                return None
            self._began = now
            self._look = asyncio.get_running_loop().create_task(self._look_at_all())
        return self._look

    async def stirred(self, look: asyncio.Task[None]) -> None:
        """Wait until a look is done or has found a further chunk of rows."""
        if self._stir is None or self._stir.done():
            self._stir = asyncio.get_running_loop().create_future()
        await asyncio.wait({look, self._stir}, return_when=asyncio.FIRST_COMPLETED)

    async def _look_at_all(self) -> None:
        if self._membership != self.fleet.membership:
            await self._call_the_roll()
        now = self.fleet.snapshot(agents=False).monotonic
        spent = 0.0
        found = 0
        began = time.perf_counter()
        # called ten thousand times: few names, and the clock is looked at now and then
        for at, row in enumerate(self._watched):
            revision = row.agent.revision()
            if revision != row.revision or (row.moves and now - row.at >= _DRIFT):
                # asked before the picture is taken: a change in between is for the next look
                row.revision = revision
                found += self._encode(row, now)
            elif at % _GLANCES:
                continue
            took = time.perf_counter() - began
            if took > SLICE:
                spent += took
                if found >= CHUNK and self._stir is not None and not self._stir.done():
                    self._stir.set_result(None)
                    found = 0
                await give_way()
                now = self.fleet.snapshot(agents=False).monotonic
                began = time.perf_counter()
        self._see_events(now)
        self._warn(now)
        self._see_fleet()
        self.looks += 1
        spent += time.perf_counter() - began
        self._rest_until = time.monotonic() + _SHARE * spent

    async def _call_the_roll(self) -> None:
        membership = self.fleet.membership
        known = {row.agent: row for row in self._watched}
        watched = []
        for at, agent in enumerate(self.fleet.agents):
            watched.append(known.pop(agent) if agent in known else _Row(agent))
            if not at % CHUNK:
                await give_way()
        # in the end, at once: half a roll must never pass for the whole fleet
        self._watched, self._membership = watched, membership
        for row in known.values():
            self._bury(row)

    def _encode(self, row: _Row, now: float) -> bool:
        facts = row.agent.row(now)
        row.at = now
        row.moves = bool(facts.in_flight or facts.utilization or facts.streak)
        before = row.facts
        if facts == before:
            return False
        row.facts = tuple(facts)
        row.text = row.tick = b""
        health = None if facts.mode == "declared" else facts.health
        if health != row.health:
            self._count(row.health, -1)
            self._count(health, 1)
            row.health = health
        self.seq += 1
        row.seq = self.seq
        if before is None or not self._ticking or rest_of(facts) != rest_of(before):
            row.rest = self.seq  # as if it had, where nobody takes ticks
        # made here, where there are pauses in between, and not when a reader takes many at once
        ticked = self._ticking and row.rest != row.seq
        if ticked:
            self._tick(row)
        if not ticked or self._attached > self._ticking:
            self._text(row)
        agent_id = facts.agent_id
        self._rows.pop(agent_id, None)
        self._rows[agent_id] = row
        if self._gone:
            self._gone.pop(agent_id, None)
        return True

    def _text(self, row: _Row) -> bytes:
        if not row.text and row.facts is not None:
            row.text = encode_row(row.facts)
            self.encoded += 1
        return row.text

    def _tick(self, row: _Row) -> bytes:
        if not row.tick and row.facts is not None:
            row.tick = encode_row(tick_of(row.facts))
        return row.tick

    def _count(self, health: int | None, by: int) -> None:
        if health is not None:
            self._healths[health] += by

    def _bury(self, row: _Row) -> None:
        agent_id = row.agent.agent_id
        self._count(row.health, -1)
        if self._rows.get(agent_id) is not row:
            return  # never encoded, or another agent of that name is there by now
        del self._rows[agent_id]
        self.seq += 1
        self._gone[agent_id] = self.seq
        while len(self._gone) > _TOMBSTONES:
            self._floor = self._gone.pop(next(iter(self._gone)))

    # -- what a reader takes ---------------------------------------------------------------------

    def waiting(self, cursor: int) -> int:
        """Return how many rows are newer than ``cursor``, counted up to a chunk."""
        count = 0
        for row in reversed(self._rows.values()):
            if row.seq <= cursor or count >= CHUNK:
                break
            count += 1
        return count

    def rows_after(self, cursor: int, known: int = -1) -> Newer:
        """Return the oldest rows newer than ``cursor``, a chunk at most.

        Args:
            cursor: what the reader has.
            known: up to where it had every row, if it takes ticks; of rows in which nothing else
                has changed since it gets those.
        """
        newer: list[_Row] = []
        for row in reversed(self._rows.values()):
            if row.seq <= cursor:
                break
            newer.append(row)
        newer.reverse()
        rows: list[bytes] = []
        ticks: list[bytes] = []
        size = 0
        for at, row in enumerate(newer):
            if at == CHUNK or size > CHUNK_BYTES:
                return Newer(rows, ticks, newer[at - 1].seq, more=True)
            if row.rest <= known:
                text = row.tick or self._tick(row)
                ticks.append(text)
            else:
                text = row.text or self._text(row)
                rows.append(text)
            size += len(text)
        return Newer(rows, ticks, self.seq, more=False)

    def gone_after(self, cursor: int) -> list[str]:
        """Return the agents that went after ``cursor``."""
        return [agent_id for agent_id, seq in self._gone.items() if seq > cursor]

    # -- the rest of a look ----------------------------------------------------------------------

    def _see_events(self, now: float) -> None:
        newer = self.fleet.recent_events(self._seen)
        if newer:
            self._seen = newer[-1].seq
            self.blocked = blocked_after(self.blocked, newer, now)

    def _see_fleet(self) -> None:
        now = self.fleet.snapshot(agents=False)
        reading = now.fleet
        blocked = self.blocked
        if blocked is not None:
            seconds = round(max(0.0, now.monotonic - blocked["since"]), 1)
            blocked = {**blocked, "seconds": seconds}
        health = max((level for level, count in enumerate(self._healths) if count), default=0)
        frame: FleetFrame = {
            "type": "fleet",
            "seq": 0,
            "phase": now.phase,
            "health": health,
            "blocked": blocked,
            "loop_lag": round(reading.loop_lag_seconds, 3),
            "recovering": reading.recovering,
            "shared_cause_open": reading.shared_cause_open,
            "dead_letters": reading.dead_letters,
            "zombies": reading.zombies,
            "drops": reading.event_drops,
            "warnings": self._warnings,
            "summaries": self._summaries,
        }
        if frame != self.fleet_frame:
            self.fleet_frame = frame

    def warnings(self) -> tuple[list[WarningShape], list[str]]:
        """Return what the rules of the house find now: each instance, a sentence for each rule."""
        found = self.fleet.warnings()
        return [warning_shape(warning) for warning in found.instances], list(found.summaries)

    def _warn(self, now: float) -> None:
        if now - self._warned < _WARN:
            return
        self._warned = now
        self._warnings, self._summaries = self.warnings()
