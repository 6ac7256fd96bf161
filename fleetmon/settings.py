"""Settings of a supervisor, nested by concern. All durations are seconds."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator

from fleetmon.numbers import DEFAULT_BUCKETS
from fleetmon.spec import AgentSpec, Part, Positive, Seconds

_MIN_TOKEN = 8  # characters


def _strong_enough(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if len(text) < _MIN_TOKEN or not text.isascii() or not text.isprintable() or " " in text:
        msg = f"a token has at least {_MIN_TOKEN} printable ASCII characters and no space"
        raise ValueError(msg)
    return value


Secret = Annotated[SecretStr, AfterValidator(_strong_enough)]


def _host_and_port(value: str | None) -> str | None:
    if value is None:
        return None
    host, colon, port = value.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:  # noqa: PLR2004 - the last port
        msg = "expected HOST:PORT, for example 127.0.0.1:9003"
        raise ValueError(msg)
    return value


class Restarts(Part):
    """What the whole fleet may do at once."""

    max_concurrent: Annotated[int, Field(ge=1, le=1_000_000)] = 8
    """Recoveries in progress at a time (started and not yet verified)."""
    spread: Seconds = 0.02
    """Least time between two of them while others wait."""
    redeliveries: Annotated[int, Field(ge=0)] = 1000
    """Redeliveries of tasks per minute, over the whole fleet; beyond it they are dead letters."""


class SharedCause(Part):
    """When most of the fleet falls for one reason, restarts wait for one probe."""

    enabled: bool = True
    fraction: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of the fleet that has to lapse ..."""
    min_agents: Annotated[int, Field(ge=2)] = 5
    """... and at least this many, with one cause ..."""
    window: Positive = 10.0
    """... within this time."""
    cooldown: Seconds = 2.0
    """Wait before the probe agent is let through, doubled with each failed probe."""
    cooldown_cap: Seconds = 60.0


class Shutdown(Part):
    """Leaving the supervisor."""

    drain: Seconds = 10.0
    """Tasks in flight may finish for this long."""
    stop: Positive = 5.0
    """Then incarnations have this long to end; what does not is left behind by name."""


class Watchdog(Part):
    """The thread that looks at the loop."""

    enabled: bool = True
    idle_interval: Positive = 0.1
    busy_interval: Positive = 0.01
    """Interval while the latest probe has not come back."""
    blocked_after: Positive = 0.3
    """A loop that does not answer for this long is blocked."""
    hard_after: Positive = 30.0
    """Who blocks a loop for this long does not serve: gauge 2."""
    faulthandler: bool = False
    """Also give the line when a call in C keeps the interpreter lock, which stops every thread.
    Takes over the process-wide timer of :mod:`faulthandler`, so it is the host's decision."""
    stall_after: Positive = 60.0
    """Work waiting and nothing finishing for this long is a stall."""


class Metrics(Part):
    """Families and how they are served."""

    listen: str | None = None
    """``HOST:PORT`` of /metrics, /healthz and /readyz; port 0 takes a free one; ``None``: none."""
    buckets: tuple[float, ...] = DEFAULT_BUCKETS
    """Upper bounds of ``agents_task_duration_seconds`` in seconds, rising, without +Inf."""
    window: Positive = 60.0
    """Window of ``agents_utilization_ratio``."""
    task_types: Annotated[int, Field(ge=1, le=10_000)] = 20
    """Task types per agent; further ones are counted as ``other``."""
    agents: Annotated[int, Field(ge=1)] = 100_000
    """Agent ids that are admitted; further ones are refused."""
    cache: bool = True
    """Keep the text of unchanged agents between scrapes (about 11 kB an agent)."""

    @field_validator("buckets")
    @classmethod
    def _rising(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or any(b <= a for a, b in pairwise(value)):
            msg = "buckets must rise strictly and not be empty"
            raise ValueError(msg)
        if value[-1] == float("inf") or value[0] <= 0:
            msg = "buckets must be above 0 and without +Inf, which is added"
            raise ValueError(msg)
        return value

    @field_validator("listen")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        return _host_and_port(value)


class AlertWebhook(Part):
    """Alertmanager may drive recoveries: an alert that names an agent and a command.

    Served on the TCP listener of :class:`Control` at ``/v1/alertmanager``.
    """

    enabled: bool = False
    token: Secret | None = None
    """What has to come as ``Authorization: Bearer``; or ``token_file``, or
    ``FLEETMON_WEBHOOK_TOKEN`` in the environment. Another one than the control plane's."""
    token_file: str | None = None
    """File that holds it."""
    commands: tuple[Literal["start", "restart", "reset"], ...] = ("start", "restart", "reset")
    """Commands that an alert may ask for, of an agent that no operator has paused, drained, stopped
    or quarantined: an alert undoes a fault, never a decision."""
    per_agent: Annotated[int, Field(ge=1, le=10_000)] = 3
    """Commands for one agent ..."""
    period: Positive = 3600.0
    """... within this time: an alert, a reset and the next failure must not chase each other."""


class Control(Part):
    """How the fleet is seen and commanded from another terminal, or another machine."""

    enabled: bool = False
    """Serve the control plane on a private Unix socket of this user."""
    directory: str | None = None
    """Where that socket is; by default ``$FLEETMON_CONTROL_DIRECTORY``, else
    ``$XDG_RUNTIME_DIR/fleetmon`` or a directory of this user under the temporary one. ``fleetmon``
    looks there by itself, and elsewhere with ``--directory``."""
    listen: str | None = None
    """``HOST:PORT`` to serve it on TCP as well; port 0 takes a free one. Wants a token."""
    hosts: tuple[str, ...] = ()
    """Further names by which clients reach ``listen``, as they put them in ``Host``."""
    token: Secret | None = None
    """What has to come as ``Authorization: Bearer`` on TCP; or ``token_file``, or
    ``FLEETMON_CONTROL_TOKEN`` in the environment."""
    token_file: str | None = None
    """File that holds it."""
    tls_cert: str | None = None
    """File with the certificate chain (PEM), for HTTPS on TCP."""
    tls_key: str | None = None
    """File with its key, unless that is in ``tls_cert``."""
    webhook: AlertWebhook = AlertWebhook()

    @field_validator("listen")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        return _host_and_port(value)

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.tls_key is not None and self.tls_cert is None:
            msg = "tls_key needs tls_cert, the certificate that it belongs to"
            raise ValueError(msg)
        if self.webhook.enabled and self.listen is None:
            msg = "webhook.enabled needs listen, HOST:PORT where Alertmanager reaches it"
            raise ValueError(msg)
        return self


class SupervisorSettings(Part):
    """Settings of one :class:`Supervisor`."""

    name: Annotated[str, Field(min_length=1, max_length=64)] = "fleet"
    unknown_agents: Literal["refuse", "admit"] = "admit"
    """With a roster: whether ids that are not on it may be added."""
    defaults: AgentSpec = AgentSpec()
    """The spec of agents that are added without one."""
    restarts: Restarts = Restarts()
    shared_cause: SharedCause = SharedCause()
    shutdown: Shutdown = Shutdown()
    watchdog: Watchdog = Watchdog()
    metrics: Metrics = Metrics()
    control: Control = Control()
    event_ring: Annotated[int, Field(ge=16, le=10_000_000)] = 10_000
    """Events kept for readers that come later."""
    dead_letters: Annotated[int, Field(ge=1, le=10_000_000)] = 1000
    """Dead letters kept; the oldest go first, counted."""
    seed: int | None = None
    """Seed of the jitter."""

    @model_validator(mode="after")
    def _watch(self) -> Self:
        if self.watchdog.hard_after <= self.watchdog.blocked_after:
            msg = "watchdog.hard_after must be above watchdog.blocked_after"
            raise ValueError(msg)
        return self
