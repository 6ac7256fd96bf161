"""The shapes of what goes over the wire: typed dictionaries and nothing else.

Receivers ignore keys that they do not know. Durations are seconds, ``at`` is seconds since the
epoch. Import them from :mod:`fleetmon.control.protocol`, where that is for annotations alone: a
command line then does without this module.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypeAlias, TypedDict


class TaskShape(TypedDict):
    """A task in flight; ``seconds`` since it started, ``note`` what it said last."""

    task_id: int
    task_type: str
    attempt: int
    seconds: float
    note: str


class ConditionShape(TypedDict):
    """Something that is the matter with an agent; ``seconds`` since when."""

    name: str
    seconds: float
    reason: str
    hard: bool


class LapseShape(TypedDict):
    """Why an agent had to be brought back the last time."""

    at: float
    generation: int
    reason: str
    error_type: str
    error: str


class AgentShape(TypedDict):
    """One agent; ``health`` 0 healthy, 1 degraded, 2 failed; ``utilization`` a ratio 0 to 1.

    ``p50`` and ``p95`` are durations of its tasks so far in seconds, ``None`` before the first.
    """

    agent_id: str
    number: int | None
    tier: int | None
    field: str
    mode: Literal["owned", "observed", "declared"]
    executor: str
    lifecycle: str
    desired: str
    health: int
    conditions: list[ConditionShape]
    generation: int
    accepting: bool
    capacity: int
    queue_limit: int
    queued: int
    in_flight: int
    tasks: list[TaskShape]
    utilization: float
    assigned: int
    succeeded: int
    failed: int
    cancelled: int
    timed_out: int
    dead_lettered: int
    failures: dict[str, int]
    p50: float | None
    p95: float | None
    restarts: int
    streak: int
    retry_in: float | None
    zombies: int
    last_lapse: LapseShape | None


class RecentTaskShape(TypedDict):
    """A task that has ended; ``ended`` on the supervisor's clock, ``seconds`` it took."""

    task_id: int
    task_type: str
    generation: int
    attempt: int
    ended: float
    seconds: float
    outcome: str
    error_type: str


class FailureShape(RecentTaskShape):
    """A task that failed: what the error says, and its frames, innermost first."""

    error: str
    frames: list[str]


class AgentDetailShape(AgentShape):
    """One agent, as ``GET /v1/agents/{name}`` gives it.

    ``recent_tasks`` and ``recent_failures`` are newest first and are noted only while somebody
    reads a stream; ``history`` and ``log`` are oldest first, out of the events that are kept:
    what brought the agent where it is (lapses, restarts, commands), and everything.
    """

    schema: int
    clock: float
    recent_tasks: list[RecentTaskShape]
    recent_failures: list[FailureShape]
    history: list[EventShape]
    log: list[EventShape]
    policy: list[str]


class BlockedShape(TypedDict):
    """An event loop that does not answer, and who holds it; ``agent_id`` empty when unknown.

    ``seconds`` so far, ``since`` on the supervisor's clock.
    """

    agent_id: str
    task_type: str
    seconds: float
    since: float
    file: str
    line: int
    function: str


class WarningShape(TypedDict):
    """Something that the rules of the house find worth a look; ``since`` on the fleet's clock."""

    rule: str
    agent_id: str
    since: float
    severity: str
    text: str


class CountsShape(TypedDict):
    """Agents by health; ``declared`` are those that the host has not added."""

    healthy: int
    degraded: int
    failed: int
    declared: int


class SnapshotShape(TypedDict):
    """The whole fleet, as ``GET /v1/snapshot`` gives it.

    ``clock`` is the supervisor's at ``at``; ``took`` how many seconds the server needed for it.
    With ``view=brief`` there are ``counts`` of all agents, and of a large fleet ``agents`` has only
    those that do not run as usual, the worst first; ``left_out`` says how many others there are.
    """

    schema: int
    protocol: int
    name: str
    epoch: str
    version: str
    pid: int
    seq: int
    at: float
    clock: float
    took: float
    phase: str
    health: int
    blocked: BlockedShape | None
    loop_lag_seconds: float
    recovering: int
    shared_cause_open: bool
    dead_letters: int
    warnings: list[WarningShape]
    summaries: list[str]
    agents: list[AgentShape]
    counts: NotRequired[CountsShape]
    left_out: NotRequired[int]


class EventShape(TypedDict):
    """One event, wherever events are told."""

    type: Literal["event"]
    seq: int
    at: float
    kind: str
    agent_id: str
    generation: int
    task_id: int
    data: dict[str, Any]


class FrameShape(TypedDict):
    """Any other line of ``GET /v1/events``.

    ``hello`` comes first, ``heartbeat`` every second, ``lost`` in place of events that are no
    longer kept or came too fast for this reader, ``end`` when the fleet has ended.
    """

    type: Literal["hello", "heartbeat", "lost", "end"]
    seq: int
    protocol: NotRequired[int]
    epoch: NotRequired[str]
    name: NotRequired[str]
    resumed: NotRequired[bool]
    capabilities: NotRequired[list[str]]
    lost: NotRequired[int]
    at: NotRequired[float]


class HelloShape(TypedDict):
    """Who answers, as ``GET /v1/hello`` gives it."""

    protocol: int
    schema: int
    name: str
    epoch: str
    version: str
    pid: int
    capabilities: list[str]
    clock: float
    at: float


class HelloFrame(HelloShape):
    """First frame of ``GET /v1/stream``.

    ``resumed``: the rows go on where ``since`` said; otherwise the whole fleet follows. ``clock``
    is the supervisor's, to which all times in rows belong, at the moment ``at``; ``rate`` in Hz.
    ``ticks`` names what a tick tells, for who asked for them.
    """

    type: Literal["hello"]
    columns: list[str]
    ticks: NotRequired[list[str]]
    resumed: bool
    rate: float


class RowsFrame(TypedDict):
    """Agents as they are now, those only that changed; values in the order of ``columns``.

    ``seq`` is what to resume from once the frame is applied. After a ``hello`` that is not
    ``resumed``, frames with ``more`` and the one after them are the whole fleet: agents that are
    not among them are gone. ``removed`` names agents that went later. ``ticks`` come to who asked
    for them: the agent's id and the values that hello names, of agents of which nothing else has
    changed and whose row came before.
    """

    type: Literal["rows"]
    seq: int
    more: bool
    removed: list[str]
    rows: list[list[Any]]
    ticks: NotRequired[list[list[Any]]]


class FleetFrame(TypedDict):
    """What is true of the fleet as a whole; sent when it changes."""

    type: Literal["fleet"]
    seq: int
    phase: str
    health: int
    blocked: BlockedShape | None
    loop_lag: float
    recovering: int
    shared_cause_open: bool
    dead_letters: int
    zombies: int
    drops: dict[str, int]
    warnings: list[WarningShape]
    summaries: list[str]


class EventsFrame(TypedDict):
    """Events in order; ``lost`` says how many before them were not kept for this reader."""

    type: Literal["events"]
    lost: int
    events: list[EventShape]


class HeartbeatFrame(TypedDict):
    """Each second, whatever happens."""

    type: Literal["heartbeat"]
    seq: int
    event_seq: int
    clock: float
    at: float


class EndFrame(TypedDict):
    """The fleet has ended; nothing follows."""

    type: Literal["end"]
    reason: str


Frame: TypeAlias = HelloFrame | RowsFrame | FleetFrame | EventsFrame | HeartbeatFrame | EndFrame
"""A frame of ``GET /v1/stream``; receivers pass over types that they do not know."""


class DeadLetterShape(TypedDict):
    """A task that was given up; ``payload`` as ``repr``, cut to 2,000 characters if so said."""

    task_id: int
    agent_id: str
    task_type: str
    payload: str
    payload_cut: bool
    attempts: int
    reason: str
    at: float


class DeadLettersShape(TypedDict):
    """What ``GET /v1/dead-letters`` gives, oldest first."""

    schema: int
    dead_letters: list[DeadLetterShape]


class ConfigShape(TypedDict):
    """What ``GET /v1/config`` gives: the settings, secrets starred out, and what agents differ in.

    ``agents`` has, by id, those fields of the spec that are not ``settings.defaults``.
    """

    schema: int
    version: str
    settings: dict[str, Any]
    agents: dict[str, dict[str, Any]]


class RetryShape(TypedDict):
    """What ``POST /v1/dead-letters/retry`` gives.

    ``pending``: the task waits or runs; the same request sent again waits on. ``reason`` says why
    it failed.
    """

    schema: int
    result: Literal["succeeded", "failed", "pending"]
    task_id: int
    agent_id: str
    reason: str


class AlertShape(TypedDict):
    """What was done for one alert.

    ``result`` is ``accepted``, ``noop``, ``rejected`` or ``pending`` as for any command; ``known``
    when it came before; ``over_budget`` when its agent had its share; ``refused`` when it could not
    be asked for; ``ignored`` when it asks for nothing.
    """

    fingerprint: str
    alertname: str
    agent_id: str
    command: str
    result: str
    reason: str


class AlertsShape(TypedDict):
    """What ``POST /v1/alertmanager`` gives: one for each alert, in the same order."""

    schema: int
    alerts: list[AlertShape]


class AnswerShape(TypedDict):
    """What ``POST /v1/command`` gives.

    ``pending``: not applied, or not come about, yet; ``reason`` says what it waits for. The same
    request sent again waits on and never applies the command twice.
    """

    schema: int
    result: Literal["accepted", "noop", "rejected", "pending"]
    command: str
    agent_id: str
    state: str
    settled: bool | None
    reason: str


class ProblemShape(TypedDict):
    """Body of every answer with a status of 400 and above."""

    schema: int
    protocol: int
    code: str
    message: str
    suggestions: list[str]
