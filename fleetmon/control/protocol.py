"""The wire protocol: its versions, the names of its shapes, and what can go wrong.

The shapes of :mod:`fleetmon.control.shapes` are typed dictionaries, so that a command line which
only reads them loads no validation library; what the server has to believe is checked in
:mod:`fleetmon.control.request`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetmon.errors import FleetmonError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetmon.control.shapes import (
        AgentDetailShape,
        AgentShape,
        AlertShape,
        AlertsShape,
        AnswerShape,
        BlockedShape,
        ConditionShape,
        ConfigShape,
        CountsShape,
        DeadLetterShape,
        DeadLettersShape,
        EndFrame,
        EventsFrame,
        EventShape,
        FailureShape,
        FleetFrame,
        Frame,
        FrameShape,
        HeartbeatFrame,
        HelloFrame,
        HelloShape,
        LapseShape,
        ProblemShape,
        RecentTaskShape,
        RetryShape,
        RowsFrame,
        SnapshotShape,
        TaskShape,
        WarningShape,
    )

PROTOCOL = 1
"""Version of the protocol; both sides work with their own and those one before and one after."""

SCHEMA = 1
"""Version of the shapes below, also of what ``--json`` prints; it is in each outermost object."""

VERSION_HEADER = "fleetmon-protocol"
"""Header in which a client names its version; without it the server takes it for its own."""

HOST = "localhost"
"""What a client on the Unix socket sends as ``Host``."""

COMMANDS = ("start", "stop", "restart", "pause", "resume", "drain", "quarantine", "reset")
"""Commands that an agent takes."""

CAPABILITIES = (
    "snapshot",
    "agent",
    "stream",
    "events",
    "commands",
    "dead-letters",
    "retry",
    "config",
    "metrics",
)
"""What a server of this version can do."""


TICKS = (
    "in_flight", "queued", "utilization", "task", "task_id", "task_since", "assigned", "succeeded",
    "p50", "p95",
)  # fmt: skip
"""Columns that move whenever an agent works: a quarter of its row."""


class ControlError(FleetmonError):
    """A fleet could not be reached or did not do as asked."""


class NoFleetError(ControlError):
    """No fleet answers where one was looked for."""


class AmbiguousFleetError(ControlError):
    """Several fleets answer, and none was chosen.

    Attributes:
        fleets: name, process id and start (wall clock, seconds) of each, where they are known.
    """

    def __init__(self, message: str, fleets: Sequence[tuple[str, int, float]] = ()) -> None:
        """Keep the fleets beside the sentence."""
        super().__init__(message)
        self.fleets = tuple(fleets)


class RequestError(ControlError):
    """The fleet refused a request.

    Attributes:
        code: a word for programs, such as ``unknown_agent`` or ``bad_request``.
        status: of the HTTP answer.
    """

    def __init__(self, message: str, *, code: str, status: int) -> None:
        """Keep the facts beside the sentence."""
        super().__init__(message)
        self.code = code
        self.status = status


def understood(version: int) -> bool:
    """Return whether two sides, one of them this one, can work together."""
    return abs(version - PROTOCOL) <= 1


def mismatch(other: int, *, who: str) -> str:
    """Return the one sentence for two versions that are too far apart."""
    older, newer = (who, "this fleetmon") if other < PROTOCOL else ("this fleetmon", who)
    return (
        f"{who} speaks control protocol {other} and this fleetmon {PROTOCOL}, which is too far "
        f"apart; upgrade {older} or use a version next to {newer}'s"
    )


__all__ = [
    "CAPABILITIES",
    "COMMANDS",
    "HOST",
    "PROTOCOL",
    "SCHEMA",
    "TICKS",
    "VERSION_HEADER",
    "AgentDetailShape",
    "AgentShape",
    "AlertShape",
    "AlertsShape",
    "AmbiguousFleetError",
    "AnswerShape",
    "BlockedShape",
    "ConditionShape",
    "ConfigShape",
    "ControlError",
    "CountsShape",
    "DeadLetterShape",
    "DeadLettersShape",
    "EndFrame",
    "EventShape",
    "EventsFrame",
    "FailureShape",
    "FleetFrame",
    "Frame",
    "FrameShape",
    "HeartbeatFrame",
    "HelloFrame",
    "HelloShape",
    "LapseShape",
    "NoFleetError",
    "ProblemShape",
    "RecentTaskShape",
    "RequestError",
    "RetryShape",
    "RowsFrame",
    "SnapshotShape",
    "TaskShape",
    "WarningShape",
    "mismatch",
    "understood",
]
