"""What a record gives to its reader; all times are wall clock, seconds, unless they say clock."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from fleetmon.rows import AgentRow


CLOCK_SET_BACK = "clock_set_back"
"""Kind in :attr:`Gap.lost` of seconds that the wall clock was set back by: nothing lacks then, but
what was before and what came after bear the same times."""


class LifeSpan(NamedTuple):
    """One life of a supervisor.

    Attributes:
        life: its number in the record.
        epoch: tells two lives apart.
        name: of the fleet.
        version: of fleetmon.
        pid: of the process.
        began: wall clock, seconds.
        last: until when the record knows what happened.
        ended: ``stopped``, ``crashed``, ``left`` where only the recording ended, or empty while it
            goes on.
    """

    life: int
    epoch: str
    name: str
    version: str
    pid: int
    began: float
    last: float
    ended: Literal["", "stopped", "crashed", "left"]


class Picture(NamedTuple):
    """How a fleet stood.

    Attributes:
        at: wall clock, seconds, as asked for, but within the life.
        clock: the supervisor's clock at that time; times in rows are on it.
        life: whose picture it is.
        seq: number of the newest event in it.
        rows: all agents.
        facts: about the whole fleet, as in a stream's ``fleet`` frame: ``phase``, ``health``,
            ``loop_lag``, ``blocked``, ``recovering``, ``shared_cause_open``, ``dead_letters``,
            ``zombies``, ``drops``, ``warnings``, ``summaries``.
        state: ``recorded``; ``gap`` where the record lacks something; ``stopped`` or ``crashed``
            after the end of a life, when this is how it stood last.
    """

    at: float
    clock: float
    life: LifeSpan
    seq: int
    rows: tuple[AgentRow, ...]
    facts: dict[str, Any]
    state: Literal["recorded", "gap", "stopped", "crashed"]

    def row(self, agent_id: str) -> AgentRow:
        """Return one agent's row; raises :class:`KeyError` for an unknown id."""
        for row in self.rows:
            if row.agent_id == agent_id:
                return row
        raise KeyError(agent_id)


class RecordedEvent(NamedTuple):
    """One event, as :class:`fleetmon.Event`, with the life in which it happened."""

    life: int
    seq: int
    at: float
    monotonic: float
    kind: str
    agent_id: str
    generation: int
    task_id: int
    data: dict[str, Any]


class RecordedTask(NamedTuple):
    """The end of one task.

    Attributes:
        life: in which it ended.
        task_id: unique within that life.
        agent_id: whose work it was.
        task_type: bounded label.
        attempt: 1 for the first delivery.
        generation: incarnation that worked on it; 0 when it ended while it waited.
        began: wall clock, seconds; 0.0 when it ended while it waited.
        ended: wall clock, seconds.
        outcome: one of :data:`fleetmon.numbers.OUTCOMES`.
        error_type: of a failure, empty otherwise.
    """

    life: int
    task_id: int
    agent_id: str
    task_type: str
    attempt: int
    generation: int
    began: float
    ended: float
    outcome: str
    error_type: str


class RecordedWarning(NamedTuple):
    """Something that was worth a warning; ``until`` is ``None`` while it lasts."""

    life: int
    since: float
    until: float | None
    rule: str
    agent_id: str
    severity: str
    text: str


class Gap(NamedTuple):
    """A time of which the record lacks something; ``lost`` says how much, by kind."""

    life: int
    since: float
    until: float
    lost: dict[str, int]


def blocked_of(agent_id: str, began: float, text: str, *, clock: float) -> dict[str, Any]:
    """Return who blocks an event loop, as a frame of the stream tells it.

    Args:
        agent_id: whose task it is.
        began: the supervisor's clock when the event was told.
        text: the event's data, JSON.
        clock: the supervisor's clock now.
    """
    data = json.loads(text)
    return {
        "agent_id": agent_id,
        "task_type": data.get("task_type", ""),
        "seconds": round(max(0.0, clock - began) + data.get("seconds", 0.0), 3),
        "since": round(began - data.get("seconds", 0.0), 3),
        "file": data.get("file", ""),
        "line": data.get("line", 0),
        "function": data.get("function", ""),
    }
