"""The other side's copy of a fleet, made from frames: pure, without clock or connection.

``status --watch``, the dashboard and the replay of a recording all read a :class:`Mirror`.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, cast

from fleetmon.rows import COLUMNS, AgentRow

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fleetmon.control.protocol import EventShape, FleetFrame, HelloFrame

# Of columns that the other side does not know.
_MISSING: dict[str, Any] = dict.fromkeys(COLUMNS, 0) | {
    "number": None, "tier": None, "field": "", "mode": "owned", "executor": "", "lifecycle": "",
    "desired": "", "conditions": (), "accepting": True, "capacity": 1, "utilization": 0.0,
    "task": "", "task_since": 0.0, "task_note": "", "p50": None, "p95": None, "retry_at": None,
    "lapse": None,
}  # fmt: skip


class Mirror:
    """What is known of a fleet.

    It outlives connections: after a new ``hello`` the old rows stay until the new ones are
    complete, so that a reader never sees an empty fleet in between.

    Attributes:
        hello: of the latest connection, ``None`` before the first.
        rows: the agents by id, in the order in which they became known.
        complete: every agent is among the rows.
        fleet: what is true of the fleet as a whole, ``None`` until it has been told.
        events: the latest ones, oldest first.
        lost: events that were told to be lost.
        seq: number of the latest change; see :attr:`since`.
        event_seq: what to resume events from.
        clock: the supervisor's clock at :attr:`heard`.
        wall: seconds since the epoch on its side, at the same moment.
        heard: when the latest frame with a clock came, as the caller said.
        ended: why the fleet has ended; empty while it has not.
        changed: ids whose row came, changed or went since :meth:`take_changes`.
    """

    def __init__(self, *, events: int = 1000) -> None:
        """Start empty.

        Args:
            events: how many are kept.
        """
        self.hello: HelloFrame | None = None
        self.rows: dict[str, AgentRow] = {}
        self.complete = False
        self.fleet: FleetFrame | None = None
        self.events: deque[EventShape] = deque(maxlen=events)
        self.lost = 0
        self.seq = 0
        self.event_seq = 0
        self.clock = 0.0
        self.wall = 0.0
        self.heard = 0.0
        self.ended = ""
        self.changed: set[str] = set()
        self._columns: tuple[int, ...] | None = None  # None: they are ours, in our order
        self._fresh: set[str] | None = None  # ids of the full set that is coming in

    @property
    def name(self) -> str:
        """Name of the fleet; empty before the first ``hello``."""
        return self.hello["name"] if self.hello is not None else ""

    @property
    def epoch(self) -> str | None:
        """Which life of the fleet the numbers belong to."""
        return self.hello["epoch"] if self.hello is not None else None

    @property
    def since(self) -> int | None:
        """What to resume rows from; ``None`` asks for the whole fleet."""
        return self.seq if self.complete else None

    @property
    def health(self) -> int:
        """The worst of all agents: 0 healthy, 1 degraded, 2 failed."""
        return max((r.health for r in self.rows.values() if r.mode != "declared"), default=0)

    def now(self, local: float) -> float:
        """Return the supervisor's clock at ``local``, on the clock that :meth:`apply` was given."""
        return self.clock + max(0.0, local - self.heard)

    def take_changes(self) -> set[str]:
        """Return :attr:`changed` and begin a new one."""
        changed, self.changed = self.changed, set()
        return changed

    def apply(self, frame: Mapping[str, Any], local: float = 0.0) -> None:
        """Take a frame; one of an unknown type changes nothing.

        Args:
            frame: as it came.
            local: the caller's clock in seconds, any that does not go back.
        """
        kind = frame.get("type")
        if kind == "rows":
            self._rows(frame)
        elif kind == "events":
            self._events(frame)
        elif kind == "fleet":
            self.fleet = cast("FleetFrame", frame)
        elif kind == "heartbeat":
            self._tick(frame, local)
        elif kind == "hello":
            self._hello(cast("HelloFrame", frame))
            self._tick(frame, local)
        elif kind == "end":
            self.ended = str(frame.get("reason")) or "ended"

    def _tick(self, frame: Mapping[str, Any], local: float) -> None:
        self.clock, self.wall, self.heard = float(frame["clock"]), float(frame["at"]), local

    def _hello(self, frame: HelloFrame) -> None:
        if self.epoch != frame["epoch"]:
            self.events.clear()
            self.event_seq = 0
            self.fleet = None
            self.seq = 0
        self.hello = frame
        self.ended = ""
        names = tuple(frame["columns"])
        self._columns = (
            None
            if names[: len(COLUMNS)] == COLUMNS
            else tuple(names.index(name) if name in names else -1 for name in COLUMNS)
        )
        if not frame["resumed"]:
            self.complete = False
            self._fresh = set()

    def _rows(self, frame: Mapping[str, Any]) -> None:
        fresh = self._fresh
        for agent_id in frame["removed"]:
            if self.rows.pop(agent_id, None) is not None:
                self.changed.add(agent_id)
        for values in frame["rows"]:
            row = self._row(values)
            if fresh is not None:
                fresh.add(row.agent_id)
            self.rows[row.agent_id] = row
            self.changed.add(row.agent_id)
        self.seq = frame["seq"]
        if fresh is not None and not frame["more"]:
            for agent_id in [known for known in self.rows if known not in fresh]:
                del self.rows[agent_id]
                self.changed.add(agent_id)
            self._fresh = None
            self.complete = True

    def _row(self, values: Sequence[Any]) -> AgentRow:
        if self._columns is None:
            return AgentRow._make(values[: len(COLUMNS)])
        return AgentRow._make(
            _MISSING[name] if at < 0 else values[at]
            for name, at in zip(COLUMNS, self._columns, strict=True)
        )

    def _events(self, frame: Mapping[str, Any]) -> None:
        self.lost += frame["lost"]
        self.events.extend(frame["events"])
        if frame["events"]:
            self.event_seq = frame["events"][-1]["seq"]
