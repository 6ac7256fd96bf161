"""fleetmon: an in-process supervisor for fleets of AI agents.

Embed :class:`Supervisor` in an agent runtime: every agent is measured, recovers by itself, and can
be steered by hand. Importing this package starts nothing and loads nothing but this file.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fleetmon._version import __version__

if TYPE_CHECKING:
    from fleetmon.agent import Agent
    from fleetmon.background import BackgroundSupervisor
    from fleetmon.errors import (
        AgentStartError,
        DeadLetteredError,
        DrainingError,
        DuplicateAgentError,
        FleetmonError,
        ListenError,
        NotAcceptingError,
        NotRunningError,
        QueueFullError,
        RecordError,
        RemoteError,
        RosterError,
        SpecError,
        TaskCancelledError,
        TaskError,
        TaskFailedError,
        TaskHungError,
        TaskRefusedError,
        TaskTimeoutError,
        UnknownAgentError,
        WorkerDiedError,
    )
    from fleetmon.events import Event, EventKind
    from fleetmon.policy.classify import Verdict
    from fleetmon.record.reader import Recording
    from fleetmon.record.recorder import Recorder
    from fleetmon.results import (
        Accepted,
        CommandResult,
        LeftBehind,
        NoOp,
        Rejected,
        ShutdownReport,
    )
    from fleetmon.roster import ELITE, Roster, RosterEntry, load_roster
    from fleetmon.runtime.body import Body
    from fleetmon.runtime.task import Task
    from fleetmon.settings import (
        AlertWebhook,
        Control,
        Metrics,
        Restarts,
        SharedCause,
        Shutdown,
        SupervisorSettings,
        Watchdog,
    )
    from fleetmon.snapshot import (
        AgentSnapshot,
        Condition,
        DeadLetter,
        FleetSnapshot,
        FleetWarning,
        InterruptedTask,
        Warnings,
    )
    from fleetmon.spec import (
        AgentSpec,
        Backoff,
        Deadlines,
        HangLimits,
        HealthPolicy,
        Intensity,
        Probing,
        Quarantine,
        Verification,
    )
    from fleetmon.supervisor import Supervisor
    from fleetmon.telemetry.export import configure_tracing
    from fleetmon.telemetry.logformat import configure_logging
    from fleetmon.telemetry.logs import JsonLog
    from fleetmon.telemetry.standalone import serve_metrics
    from fleetmon.telemetry.tracing import OTelTracer

_HOMES = {
    "agent": ("Agent",),
    "background": ("BackgroundSupervisor",),
    "errors": (
        "AgentStartError",
        "DeadLetteredError",
        "DrainingError",
        "DuplicateAgentError",
        "FleetmonError",
        "ListenError",
        "NotAcceptingError",
        "NotRunningError",
        "QueueFullError",
        "RecordError",
        "RemoteError",
        "RosterError",
        "SpecError",
        "TaskCancelledError",
        "TaskError",
        "TaskFailedError",
        "TaskHungError",
        "TaskRefusedError",
        "TaskTimeoutError",
        "UnknownAgentError",
        "WorkerDiedError",
    ),
    "events": ("Event", "EventKind"),
    "policy.classify": ("Verdict",),
    "record.reader": ("Recording",),
    "record.recorder": ("Recorder",),
    "results": ("Accepted", "CommandResult", "LeftBehind", "NoOp", "Rejected", "ShutdownReport"),
    "roster": ("ELITE", "Roster", "RosterEntry", "load_roster"),
    "runtime.body": ("Body",),
    "runtime.task": ("Task",),
    "settings": (
        "AlertWebhook",
        "Control",
        "Metrics",
        "Restarts",
        "SharedCause",
        "Shutdown",
        "SupervisorSettings",
        "Watchdog",
    ),
    "snapshot": (
        "AgentSnapshot",
        "Condition",
        "DeadLetter",
        "FleetSnapshot",
        "FleetWarning",
        "InterruptedTask",
        "Warnings",
    ),
    "spec": (
        "AgentSpec",
        "Backoff",
        "Deadlines",
        "HangLimits",
        "HealthPolicy",
        "Intensity",
        "Probing",
        "Quarantine",
        "Verification",
    ),
    "supervisor": ("Supervisor",),
    "telemetry.export": ("configure_tracing",),
    "telemetry.logformat": ("configure_logging",),
    "telemetry.logs": ("JsonLog",),
    "telemetry.standalone": ("serve_metrics",),
    "telemetry.tracing": ("OTelTracer",),
}
_WHERE = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "ELITE",
    "Accepted",
    "Agent",
    "AgentSnapshot",
    "AgentSpec",
    "AgentStartError",
    "AlertWebhook",
    "BackgroundSupervisor",
    "Backoff",
    "Body",
    "CommandResult",
    "Condition",
    "Control",
    "DeadLetter",
    "DeadLetteredError",
    "Deadlines",
    "DrainingError",
    "DuplicateAgentError",
    "Event",
    "EventKind",
    "FleetSnapshot",
    "FleetWarning",
    "FleetmonError",
    "HangLimits",
    "HealthPolicy",
    "Intensity",
    "InterruptedTask",
    "JsonLog",
    "LeftBehind",
    "ListenError",
    "Metrics",
    "NoOp",
    "NotAcceptingError",
    "NotRunningError",
    "OTelTracer",
    "Probing",
    "Quarantine",
    "QueueFullError",
    "RecordError",
    "Recorder",
    "Recording",
    "Rejected",
    "RemoteError",
    "Restarts",
    "Roster",
    "RosterEntry",
    "RosterError",
    "SharedCause",
    "Shutdown",
    "ShutdownReport",
    "SpecError",
    "Supervisor",
    "SupervisorSettings",
    "Task",
    "TaskCancelledError",
    "TaskError",
    "TaskFailedError",
    "TaskHungError",
    "TaskRefusedError",
    "TaskTimeoutError",
    "UnknownAgentError",
    "Verdict",
    "Verification",
    "Warnings",
    "Watchdog",
    "WorkerDiedError",
    "__version__",
    "configure_logging",
    "configure_tracing",
    "load_roster",
    "serve_metrics",
]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for (PEP 562)."""
    home = _WHERE.get(name)
    if home is None:
        message = f"module 'fleetmon' has no attribute {name!r}"
        raise AttributeError(message)
    value = getattr(import_module(f"fleetmon.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
