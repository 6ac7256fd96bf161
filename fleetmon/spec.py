"""How one agent is to be run and kept alive: :class:`AgentSpec` and its parts.

Frozen, unknown keys refused, one check a field. All durations are seconds.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fleetmon.errors import SpecError

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False, le=1e9)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, le=1e9)]
Label = Annotated[str, Field(min_length=1, max_length=64)]

RestartType = Literal["permanent", "transient", "temporary"]
Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]
Fate = Literal["requeue", "fail", "dead_letter"]


class Part(BaseModel):
    """A frozen group of settings; a bad one is one :class:`SpecError` with value and fix."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    def __init__(self, **values: Any) -> None:
        """Validate; raises :class:`SpecError` naming each bad field, its value and the rule."""
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise spec_error(type(self).__name__, error) from None


# a part inside a part has told its own name already
_NESTED = ("Backoff: ", "Intensity: ", "HangLimits: ", "Verification: ", "Quarantine: ")


def spec_error(what: str, error: ValidationError) -> SpecError:
    """Turn pydantic's report into one sentence."""
    parts = []
    for item in error.errors(include_url=False):
        name = ".".join(str(piece) for piece in item["loc"])
        said = item["msg"].removeprefix("Value error, ")
        said = said.partition(": ")[2] if said.startswith(_NESTED) else said
        if item["type"] == "extra_forbidden":
            said = "no such field; remove it or mend its spelling"
        given = "..." if _secret(item["loc"]) else repr(item["input"])
        parts.append(f"{name}={given}: {said}" if name else said)
    first = error.errors(include_url=False)[0]
    field = ".".join(str(piece) for piece in first["loc"])
    value = None if _secret(first["loc"]) else first["input"]
    return SpecError(f"{what}: " + "; ".join(parts), field=field, value=value)


def _secret(where: tuple[int | str, ...]) -> bool:
    return bool(where) and where[-1] == "token"


class Backoff(Part):
    """Delay before a restart, drawn in [floor, min(cap, base * factor**streak)] (full jitter)."""

    floor: Seconds = 0.05
    """Least delay."""
    base: Seconds = 0.5
    """Upper end of the first draw."""
    factor: Annotated[float, Field(ge=1, le=100)] = 2.0
    """Growth with each lapse of a streak."""
    cap: Seconds = 30.0
    """Upper end of every draw."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.floor > self.cap:
            msg = f"floor {self.floor} is above cap {self.cap}; lower the floor or raise the cap"
            raise ValueError(msg)
        return self


class Intensity(Part):
    """More than ``max_restarts`` lapses within ``period`` end in quarantine (OTP's intensity)."""

    max_restarts: Annotated[int, Field(ge=0, le=1_000_000_000)] = 5
    period: Positive = 600.0
    """Long enough for six slow failures, so that the worst case is finite; see ``explain``."""


class HangLimits(Part):
    """When a task counts as hung. Both are crossed when strictly exceeded."""

    soft: Positive | None = 60.0
    """Without a heartbeat or progress for this long: condition ``suspect``."""
    hard: Positive | None = 600.0
    """In all: the task is cancelled, and a task that survives that is a lapse of the agent."""
    cancel_grace: Positive = 5.0
    """How long a hung task has to end after its cancellation."""


class Verification(Part):
    """When a restarted agent counts as recovered."""

    timeout: Positive = 30.0
    """Without newer progress for this long the attempt has failed."""
    idle_after: Seconds = 1.0
    """An agent without traffic and without a probe of its own is verified when it has been alive
    for this long (a worker thread or process has to answer)."""
    stable_for: Seconds = 30.0
    """Verified running for this long resets the streak."""


class Quarantine(Part):
    """What an exhausted agent does."""

    probe_interval: Positive | None = 60.0
    """A half-open probe this often; ``None`` waits for an operator."""
    probe_timeout: Positive = 10.0


class HealthPolicy(Part):
    """When failing tasks colour an agent."""

    failure_rate: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of failed tasks from which the agent is ``failing``."""
    min_tasks: Annotated[int, Field(ge=2, le=100_000)] = 5
    """Fewer tasks than this within the window colour nothing."""
    window: Positive = 60.0


class Deadlines(Part):
    """How long the phases of an incarnation may take."""

    start: Positive = 30.0
    stop: Positive = 5.0
    """From asking an incarnation to end until it is given up as a zombie."""
    drain: Positive = 30.0
    """How long a drain waits for tasks in flight before it cancels them."""
    probe: Positive = 5.0


class Probing(Part):
    """Asking an agent that runs whether it is well; only agents with a probe are asked."""

    every: Positive | None = 30.0
    """Seconds between two probes; one that fails is a lapse. ``None``: never while it runs."""


class AgentSpec(Part):
    """Everything a supervisor needs to know about one agent."""

    capacity: Annotated[int, Field(ge=1, le=100_000)] = 1
    """Tasks at once."""
    queue: Annotated[int, Field(ge=0, le=10_000_000)] = 1000
    """Tasks waiting; beyond it ``submit`` waits or raises."""
    restart: RestartType = "permanent"
    """OTP's restart types: always, only after an abnormal end, never."""
    strategy: Strategy = "one_for_one"
    """What else restarts when this agent lapses: nothing, its ``group``, or its dependents."""
    group: Annotated[str, Field(max_length=64)] = ""
    """Agents that restart together under ``one_for_all``."""
    depends_on: tuple[Label, ...] = ()
    """Agents that must be up first; order of start, and of ``rest_for_one``."""
    executor: Literal["auto", "inline", "thread", "process"] = "auto"
    """Where the work runs: ``auto`` is inline for async work and a thread for synchronous."""
    handler: Annotated[str, Field(min_length=1)] = "handle"
    """Method that takes tasks; ``handle`` gets the task, any other name gets the payload."""
    task_types: tuple[Label, ...] = ()
    """Present at 0 from the first scrape."""
    error_types: tuple[Label, ...] = ()
    """Own types beside the built-in ones, matched by class name."""
    max_consecutive_failures: Annotated[int, Field(ge=1)] | None = 5
    """A run of failed tasks this long is a lapse; ``None``: never."""
    in_flight: Fate = "fail"
    """What becomes of tasks in flight when the agent lapses."""
    max_deliveries: Annotated[int, Field(ge=1, le=1000)] = 3
    """A task that went down with its agent this often goes to the dead letters."""
    at_least_once: bool = False
    """Hand a task out again although its abandoned attempt may still be at work."""
    after_crash: Literal["report", "redeliver"] = "report"
    """What becomes of accepted tasks when the whole process crashes, with a recorder: they are
    reported as interrupted, or delivered once more when the agent is added in the next life of the
    process. That takes payloads that pickle, which are then kept in the record."""
    on_start_failure: Literal["raise", "recover"] = "raise"
    """What :meth:`Supervisor.add` does when the first start fails."""
    backoff: Backoff = Backoff()
    intensity: Intensity = Intensity()
    hang: HangLimits = HangLimits()
    task_limits: dict[str, HangLimits] = Field(default_factory=dict)
    """Limits of single task types."""
    verify: Verification = Verification()
    quarantine: Quarantine = Quarantine()
    health: HealthPolicy = HealthPolicy()
    deadlines: Deadlines = Deadlines()
    probing: Probing = Probing()
