"""The metric families of a fleet: names, types, labels, HELP, and how their values are read.

Both ways of telling are built on this one table: the stock
:class:`~fleetmon.telemetry.collector.FleetCollector` and the fast
:class:`~fleetmon.telemetry.exposition.Renderer`. HELP texts hold neither backslash, quote nor
newline, so that they are the same bytes in text and OpenMetrics output.
"""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, NamedTuple, Protocol

from prometheus_client.utils import floatToGoString

from fleetmon._version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from fleetmon.numbers import AgentNumbers
    from fleetmon.readings import Exemplar
    from fleetmon.snapshot import FleetReading

_PLAIN_FROM, _PLAIN_TO = -1e300, 1e6
# between these, stock formatting is repr

EXEMPLAR_LIMIT = 128
"""Characters that OpenMetrics allows for all label names and values of one exemplar."""

ACTIVE = frozenset({"running", "recovering", "paused", "draining"})
"""Lifecycles in which an agent has an incarnation that is up."""


class NumbersSource(Protocol):
    """Where the numbers come from; the supervisor is one. Called from any thread."""

    @property
    def name(self) -> str:
        """Name of the fleet."""

    def agents(self) -> Sequence[AgentNumbers]:
        """Return the numbers of all agents, in a stable order that grows at the end."""

    def now(self) -> float:
        """Return the supervisor's clock, seconds."""

    def fleet(self) -> FleetReading:
        """Return the numbers about the supervisor itself."""

    def ready(self) -> bool:
        """Return whether the fleet is able to serve."""


class Family(NamedTuple):
    """One metric family.

    Attributes:
        name: as it appears in sample lines; a counter's ends in ``_total``.
        kind: ``counter``, ``gauge`` or ``histogram``.
        labels: label names, sorted, as they are printed; a histogram's ``le`` is left out.
        help: HELP text, units included.
    """

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str

    @property
    def stem(self) -> str:
        """The family's name in OpenMetrics: a counter's without ``_total``."""
        return self.name.removesuffix("_total") if self.kind == "counter" else self.name

    @property
    def samples(self) -> tuple[str, ...]:
        """Names of all sample lines."""
        if self.kind == "histogram":
            return tuple(self.name + suffix for suffix in ("_bucket", "_count", "_sum"))
        return (self.name,)

    def header(self, *, openmetrics: bool) -> bytes:
        """Return the HELP and TYPE lines."""
        name = self.stem if openmetrics else self.name
        return f"# HELP {name} {self.help}\n# TYPE {name} {self.kind}\n".encode()


_ID = ("agent_id",)
_TYPED = ("agent_id", "task_type")

ACTIVE_TOTAL = Family(
    "agents_active_total",
    "gauge",
    (),
    "Agents that are up now: lifecycle running, recovering, paused or draining.",
)
ASSIGNED = Family(
    "agents_tasks_assigned_total",
    "counter",
    _TYPED,
    "Tasks accepted, each counted once and before any outcome; equals the outcomes plus "
    "agents_queue_length plus agents_tasks_in_flight at any instant.",
)
COMPLETED = Family(
    "agents_tasks_completed_total",
    "counter",
    ("agent_id", "outcome", "task_type"),
    "Tasks that ended, by their one outcome: succeeded, failed, cancelled, timed_out or "
    "dead_lettered.",
)
DURATION = Family(
    "agents_task_duration_seconds",
    "histogram",
    _TYPED,
    "Time from the start of a task to its end in seconds, whatever the outcome; waiting in the "
    "queue is not part of it.",
)
UTILIZATION = Family(
    "agents_utilization_ratio",
    "gauge",
    _ID,
    "Busy capacity-seconds within the sliding window divided by (capacity x window), 0 to 1; "
    "tasks still running count up to now; the window is 60 s unless set otherwise.",
)
BUSY = Family(
    "agents_busy_seconds_total",
    "counter",
    _ID,
    "Capacity-seconds spent on tasks, in seconds, running tasks included; its rate divided by "
    "the capacity is the utilization over any window.",
)
FAILURES = Family(
    "agents_failures_total",
    "counter",
    ("agent_id", "error_type"),
    "Failures by bounded type, those of tasks and those of the agent itself.",
)
RECOVERY_ATTEMPTS = Family(
    "agents_recovery_attempts_total",
    "counter",
    _ID,
    "Tries to bring an agent back after a lapse, probes included.",
)
RECOVERIES = Family(
    "agents_recoveries_total",
    "counter",
    ("agent_id", "outcome"),
    "Recovery attempts by outcome: verified by progress, or failed.",
)
RESTARTS = Family(
    "agents_restarts_total",
    "counter",
    _ID,
    "Incarnations after the first, whatever their cause.",
)
HEALTH = Family(
    "agents_health_status",
    "gauge",
    _ID,
    "Health of an agent: 0 healthy, 1 degraded, 2 failed (not serving, for reasons of fault).",
)
LIFECYCLE = Family(
    "agents_lifecycle",
    "gauge",
    ("agent_id", "state"),
    "Lifecycle of an agent, one-hot: 1 for the state it is in, 0 for the others.",
)
INFO = Family(
    "agents_info",
    "gauge",
    ("agent_id", "field", "number", "tier"),
    "What an agent is, in labels; always 1.",
)
REDELIVERED = Family(
    "agents_tasks_redelivered_total",
    "counter",
    _ID,
    "Tasks that went back into the queue after the incarnation that had them lapsed.",
)
IN_FLIGHT = Family("agents_tasks_in_flight", "gauge", _ID, "Tasks that are being executed now.")
QUEUE = Family("agents_queue_length", "gauge", _ID, "Tasks accepted that have not started.")
BLOCKED = Family(
    "agents_loop_blocked_seconds_total",
    "counter",
    _ID,
    "Time for which an agent kept an event loop from running, in seconds.",
)

AGENT_FAMILIES = (
    ACTIVE_TOTAL,
    ASSIGNED,
    COMPLETED,
    DURATION,
    UTILIZATION,
    BUSY,
    FAILURES,
    RECOVERY_ATTEMPTS,
    RECOVERIES,
    RESTARTS,
    HEALTH,
    LIFECYCLE,
    INFO,
    REDELIVERED,
    IN_FLIGHT,
    QUEUE,
    BLOCKED,
)
"""The ``agents_*`` families in the order in which they are printed."""

FLEET_FAMILIES = (
    Family(
        "fleetmon_build_info",
        "gauge",
        ("python", "version"),
        "Version of fleetmon and of Python, in labels; always 1.",
    ),
    Family(
        "fleetmon_loop_lag_seconds",
        "gauge",
        (),
        "How late the supervisor's event loop answered the latest probe, in seconds.",
    ),
    Family(
        "fleetmon_loop_lag_max_seconds",
        "gauge",
        (),
        "Longest lag of the supervisor's event loop since its start, in seconds.",
    ),
    Family(
        "fleetmon_loop_blocked_seconds_total",
        "counter",
        (),
        "Time for which the supervisor's event loop was blocked, in seconds.",
    ),
    Family("fleetmon_events_total", "counter", (), "Events published on the bus."),
    Family(
        "fleetmon_event_drops_total",
        "counter",
        ("subscriber",),
        "Events that a slow or broken subscriber did not get, by kind of subscriber.",
    ),
    Family("fleetmon_hook_errors_total", "counter", (), "Hooks of the host that raised."),
    Family(
        "fleetmon_late_results_total",
        "counter",
        (),
        "Results and heartbeats of older generations, ignored for health.",
    ),
    Family(
        "fleetmon_zombies",
        "gauge",
        (),
        "Incarnations and tasks that would not end and were left behind.",
    ),
    Family("fleetmon_leaked_threads", "gauge", (), "Threads left behind with a stuck call."),
    Family("fleetmon_dead_letters", "gauge", (), "Dead letters kept now."),
    Family(
        "fleetmon_recoveries_in_progress",
        "gauge",
        (),
        "Recoveries that were started and are not yet verified.",
    ),
    Family(
        "fleetmon_shared_cause_open",
        "gauge",
        (),
        "1 while restarts wait for one probe because most of the fleet fell for one cause.",
    ),
    Family(
        "fleetmon_log_drops_total",
        "counter",
        ("kind",),
        "Log lines lost: the queue was full for a task, an event or a line of the host, the sink "
        "failed, the log was closed, a close could not wait, or it could not be rendered.",
    ),
    Family(
        "fleetmon_span_drops_total",
        "counter",
        ("cause",),
        "Spans lost: the queue was full, the export failed, the collector rejected them, or the "
        "shutdown was too short.",
    ),
    Family(
        "fleetmon_recorder_up",
        "gauge",
        (),
        "1 while the record of the fleet is being written, 0 while it cannot be; absent without "
        "a recorder.",
    ),
    Family("fleetmon_recorder_commits_total", "counter", (), "Commits to the record."),
    Family("fleetmon_recorder_errors_total", "counter", (), "Times that the record took nothing."),
    Family(
        "fleetmon_recorder_drops_total",
        "counter",
        ("kind",),
        "What the record lacks, by kind: ends of tasks, events, payloads.",
    ),
    Family("fleetmon_recorder_bytes", "gauge", (), "Size of the record on disk, in bytes."),
)
"""The ``fleetmon_*`` families, about the supervisor itself."""

FAMILIES = AGENT_FAMILIES + FLEET_FAMILIES

# at 0 from the first scrape, so that an alert on their increase sees the first loss
NO_LOG_DROPS = dict.fromkeys(("task", "event", "line", "sink", "closed", "unwritten", "render"), 0)
NO_SPAN_DROPS = dict.fromkeys(("queue", "export", "rejected", "shutdown"), 0)


def fleet_rows(
    reading: FleetReading,
) -> Iterator[tuple[Family, list[tuple[tuple[str, ...], float]]]]:
    """Yield each of :data:`FLEET_FAMILIES` with its (label values, value) rows."""
    recorder = reading.recorder
    values: tuple[float | Mapping[str, float] | None, ...] = (
        1,
        reading.loop_lag_seconds,
        reading.loop_lag_max_seconds,
        reading.loop_blocked_seconds,
        reading.events,
        reading.event_drops,
        reading.hook_errors,
        reading.late_results,
        reading.zombies,
        reading.leaked_threads,
        reading.dead_letters,
        reading.recovering,
        reading.shared_cause_open,
        {**NO_LOG_DROPS, **reading.log_drops},
        {**NO_SPAN_DROPS, **reading.span_drops},
        *(
            (None,) * 5
            if recorder is None
            else (recorder.up, recorder.commits, recorder.errors, recorder.drops, recorder.size)
        ),
    )
    for family, value in zip(FLEET_FAMILIES, values, strict=True):
        if family.name == "fleetmon_build_info":
            yield family, [((platform.python_version(), __version__), 1)]
        elif value is None:
            yield family, []
        elif isinstance(value, (int, float)):
            yield family, [((), value)]
        else:
            yield family, [((clean(kind),), drops) for kind, drops in value.items()]


def clean(label: str) -> str:
    """Return a label value that UTF-8 can carry: a lone surrogate becomes ``?``.

    A host's broken string must not take ``/metrics`` down.
    """
    return label if label.isascii() else label.encode("utf-8", "replace").decode("utf-8")


def escaped(label: str) -> bytes:
    """Return a label value as it stands between its quotes, in UTF-8."""
    if not label.isalnum():
        label = label.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
    return label.encode("utf-8", "replace")


def number(value: float) -> bytes:
    """Return a value as Prometheus' clients print it."""
    if _PLAIN_FROM < value < _PLAIN_TO:
        return repr(float(value)).encode()
    text: str = floatToGoString(value)  # type: ignore[no-untyped-call]
    return text.encode()


def exemplar_labels(exemplar: Exemplar) -> dict[str, str] | None:
    """Return the labels of an exemplar, or ``None`` when OpenMetrics would not take them."""
    labels = {"span_id": clean(exemplar.span_id), "trace_id": clean(exemplar.trace_id)}
    if sum(len(name) + len(value) for name, value in labels.items()) > EXEMPLAR_LIMIT:
        return None
    return labels
