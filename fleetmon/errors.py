"""The errors that fleetmon raises, all below one root.

Each carries its facts as attributes; the message names the offending value and the fix.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class FleetmonError(Exception):
    """Root of every error that fleetmon raises on its own account."""


class SpecError(FleetmonError, ValueError):
    """A spec or a setting that cannot be carried out.

    Attributes:
        field: dotted name of the field, empty when the whole is meant.
        value: the value as given.
    """

    def __init__(self, message: str, *, field: str = "", value: object = None) -> None:
        """Build the error; ``message`` is the whole sentence."""
        super().__init__(message)
        self.field = field
        self.value = value


class RecordError(FleetmonError):
    """A record of a fleet that cannot be written or read.

    Attributes:
        path: of the file.
    """

    def __init__(self, message: str, *, path: object = "") -> None:
        """Build the error; ``message`` is the whole sentence."""
        super().__init__(message)
        self.path = str(path)


class RosterError(FleetmonError, ValueError):
    """A roster file that cannot be used: ``path:line: reason``."""

    def __init__(self, reason: str, *, path: str = "", line: int | None = None) -> None:
        """Build the message from the place and the reason."""
        place = f"{path}:{line}: " if path and line else f"{path}: " if path else ""
        super().__init__(place + reason)
        self.path = path
        self.line = line
        self.reason = reason


class UnknownAgentError(FleetmonError, LookupError):
    """No agent of that name; ``suggestions`` are the nearest names that exist."""

    def __init__(self, agent_id: str, suggestions: Sequence[str] = ()) -> None:
        """Build the sentence with up to three nearest names."""
        near = ", ".join(suggestions[:3])
        hint = f"; did you mean {near}?" if near else "; list the agents with snapshot().agents"
        super().__init__(f"no agent {agent_id!r}{hint}")
        self.agent_id = agent_id
        self.suggestions = tuple(suggestions)


class DuplicateAgentError(FleetmonError, ValueError):
    """An agent with that id is already there and has not been removed."""

    def __init__(self, agent_id: str) -> None:
        """Name the agent and the fix."""
        super().__init__(
            f"agent {agent_id!r} is already supervised; remove() it first or choose another id"
        )
        self.agent_id = agent_id


class AgentStartError(FleetmonError):
    """The first start of an agent failed; the cause is ``__cause__``."""

    def __init__(self, agent_id: str, reason: str) -> None:
        """Name the agent and what its start raised."""
        super().__init__(
            f"agent {agent_id!r} did not start: {reason}; mend the factory or add it with "
            'on_start_failure="recover"'
        )
        self.agent_id = agent_id
        self.reason = reason


class TaskRefusedError(FleetmonError):
    """An agent does not take the task now.

    Attributes:
        agent_id: who refused.
        state: lifecycle label at that moment.
    """

    def __init__(self, agent_id: str, state: str, message: str) -> None:
        """Keep the facts beside the sentence."""
        super().__init__(message)
        self.agent_id = agent_id
        self.state = state


class NotAcceptingError(TaskRefusedError):
    """The agent is paused, stopped or quarantined."""

    def __init__(self, agent_id: str, state: str) -> None:
        """Name the state and the command that would change it."""
        if state == "absent":
            said = f"agent {agent_id!r} has not been added; add() or attach() it first"
        else:
            fix = {"paused": "resume", "quarantined": "reset"}.get(state, "start")
            said = f"agent {agent_id!r} is {state} and takes no tasks; {fix} it first"
        super().__init__(agent_id, state, said)


class DrainingError(TaskRefusedError):
    """The agent, or the fleet, is draining: it finishes what it has and takes nothing new."""

    def __init__(self, agent_id: str, state: str = "draining") -> None:
        """Name who drains; ``state`` other than ``draining`` is the whole fleet's phase."""
        said = f"agent {agent_id!r} is draining and takes nothing new; resume it first"
        if state in ("stopping", "stopped"):
            said = f"agent {agent_id!r} takes nothing new: its supervisor is {state}"
        super().__init__(agent_id, state, said)


class QueueFullError(TaskRefusedError):
    """The agent's bounded queue is full and the caller asked not to wait."""

    def __init__(self, agent_id: str, limit: int) -> None:
        """Name the bound."""
        super().__init__(
            agent_id,
            "running",
            f"the queue of {agent_id!r} is full ({limit} waiting); wait for room, raise "
            "AgentSpec.queue or AgentSpec.capacity",
        )
        self.limit = limit


class TaskError(FleetmonError):
    """A task ended without a result for a reason of supervision.

    Attributes:
        agent_id: whose task it was.
        task_id: its number.
    """

    def __init__(self, message: str, *, agent_id: str, task_id: int) -> None:
        """Keep the facts beside the sentence."""
        super().__init__(message)
        self.agent_id = agent_id
        self.task_id = task_id


class TaskFailedError(TaskError):
    """The agent reported failure without an exception, or died under the task."""


class TaskTimeoutError(TaskError, TimeoutError):
    """The caller's deadline passed, queueing included."""


class TaskHungError(TaskError, TimeoutError):
    """The task ran beyond its hard hang limit and was given up."""


class TaskCancelledError(TaskError):
    """The supervisor cancelled the task (stop, drain or shutdown), not the caller."""


class DeadLetteredError(TaskError):
    """The task went to the dead letters; retry it by hand from there."""


class WorkerDiedError(FleetmonError):
    """A worker process ended by itself.

    Attributes:
        exitcode: as :attr:`multiprocessing.Process.exitcode` gives it (negative: the signal).
        blame: file and line where it died or hung, when known.
    """

    def __init__(self, message: str, *, exitcode: int | None = None, blame: str = "") -> None:
        """Keep the facts beside the sentence."""
        super().__init__(message)
        self.exitcode = exitcode
        self.blame = blame


class RemoteError(FleetmonError):
    """A faithful description of an exception that could not be pickled.

    Attributes:
        type_name: qualified name of the class in the worker.
        traceback: the worker's formatted traceback.
    """

    def __init__(self, message: str, *, type_name: str, traceback: str = "") -> None:
        """Keep the description beside the message."""
        super().__init__(f"{type_name}: {message}")
        self.type_name = type_name
        self.traceback = traceback

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by the finished message."""
        return (_remote_error, (str(self), self.type_name, self.traceback))


def _remote_error(text: str, type_name: str, traceback: str) -> RemoteError:
    return RemoteError(
        text.removeprefix(f"{type_name}: "), type_name=type_name, traceback=traceback
    )


class NotRunningError(FleetmonError, RuntimeError):
    """The supervisor is not started, or already closed."""


class ListenError(FleetmonError, OSError):
    """An address that cannot be listened on."""

    def __init__(self, address: str, reason: str) -> None:
        """Name the address and the fix."""
        super().__init__(
            f"cannot listen on {address}: {reason}; choose another port, or port 0 for a free one"
        )
        self.address = address
        self.reason = reason
