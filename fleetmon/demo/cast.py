"""Who plays what: where each agent's work runs, and how it is kept alive."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from fleetmon import (
    ELITE,
    AgentSpec,
    AlertWebhook,
    Backoff,
    Control,
    Deadlines,
    HangLimits,
    HealthPolicy,
    Intensity,
    Metrics,
    Quarantine,
    SharedCause,
    Shutdown,
    SupervisorSettings,
    Verification,
)
from fleetmon.demo.agents import Recipe

if TYPE_CHECKING:
    from pathlib import Path

    from fleetmon import Roster, RosterEntry
    from fleetmon.demo.corpus import Corpus

Role = Literal["thread", "inline", "process", "serve", "observed"]

_ELITE_ROLES: dict[str, Role] = {
    "HELIX": "process",
    "MORPH": "process",
    "TENSOR": "observed",
    "VANGUARD": "observed",
    "STREAM": "serve",
    "OMNISCIENT": "serve",
    **dict.fromkeys(("VELOCITY", "PRISM", "SENTRY", "ORBIT", "LEDGER", "PULSE"), "inline"),
}
_CHAIN = ("ATLAS", "FORGE", "FLUX")  # the cloud, what is built on it, what is released from that
_PATTERN: tuple[Role, ...] = ("inline", "process", "serve", "thread", "observed", "thread")
_KEPT_FOR_WORKERS = 200  # files that a worker process hears of beforehand; the rest by assignment
_CHAIN_LENGTH = 3
_SMALL = 10  # agents from which on a shared cause needs five of them

# How the agents are built is the demonstration's own affair, whatever a roster's entry says.
_OURS = frozenset(["executor", "handler", "strategy", "group", "depends_on", "task_types"])


@dataclass(frozen=True, slots=True)
class Player:
    """One agent of the demonstration.

    Attributes:
        agent_id: its id.
        role: where its work runs, or that it is the host's own.
        recipe: makes its job.
        spec: how it is kept alive.
        corpus: the files it works on.
        labels: its types of task as the roster calls them, each with the job's own verb.
        chained: restarts together with others.
    """

    agent_id: str
    role: Role
    recipe: Recipe
    spec: AgentSpec
    corpus: Corpus
    labels: tuple[tuple[str, str], ...]
    chained: bool = False


def settings(
    listen: str,
    agents: int,
    seed: int,
    *,
    tempo: float = 1.0,
    grace: float = 8.0,
    control: str = "1",
) -> SupervisorSettings:
    """Return the supervisor's settings, with reactions quick enough to be watched.

    Args:
        listen: address of ``/metrics``.
        agents: size of the fleet.
        seed: of the jitter.
        tempo: factor on the durations that a fault has to last, 1 for people.
        grace: seconds that a drain may take.
        control: as in :class:`~fleetmon.demo.host.DemoOptions`.
    """
    return SupervisorSettings(
        name="demo",
        metrics=Metrics(listen=listen),
        shared_cause=SharedCause(
            window=5.0,
            cooldown=tempo,
            cooldown_cap=8.0,
            min_agents=5 if agents >= _SMALL else max(2, agents // 2),
        ),
        control=_control(control),
        shutdown=Shutdown(drain=grace, stop=3.0),
        seed=seed,
    )


def _control(asked: str) -> Control:
    # tokens are in the environment: see Control and AlertWebhook
    on_tcp = asked not in {"0", "1"}
    hosts = os.environ.get("FLEETMON_CONTROL_HOSTS", "").split(",")
    return Control(
        enabled=asked != "0",
        listen=asked if on_tcp else None,
        hosts=tuple(host.strip() for host in hosts if host.strip()),
        webhook=AlertWebhook(enabled=on_tcp and "FLEETMON_WEBHOOK_TOKEN" in os.environ),
    )


def choose_cast(
    roster: Roster, corpus: Corpus, seed: int, directory: Path, *, tempo: float = 1.0
) -> tuple[Player, ...]:
    """Return the players, in the roster's order.

    Args:
        roster: who there is.
        corpus: what they work on.
        seed: of their choices.
        directory: where services of worker processes may write.
        tempo: as in :func:`settings`.

    Raises:
        SpecError: what the roster says of an agent does not fit.
    """
    roles = {
        entry.agent_id: _ELITE_ROLES.get(entry.agent_id, "thread")
        if roster is ELITE
        else _PATTERN[at % len(_PATTERN)]
        for at, entry in enumerate(roster)
    }
    threads = [agent_id for agent_id, role in roles.items() if role == "thread"]
    chain: tuple[str, ...] = _CHAIN if roster is ELITE else tuple(threads[-_CHAIN_LENGTH:])
    if len(chain) < _CHAIN_LENGTH:
        chain = ()
    small = replace(corpus, files=_few(corpus.files), texts=(), sources=_few(corpus.sources))
    players = []
    for at, entry in enumerate(roster):
        agent_id, role = entry.agent_id, roles[entry.agent_id]
        recipe = Recipe(agent_id, corpus, seed)
        if role == "process":
            recipe = Recipe(agent_id, small, seed, directory / f"worker-{at}")
        verbs = recipe.job.task_types
        names = entry.task_types or verbs
        labels = tuple((name, verbs[n % len(verbs)]) for n, name in enumerate(names))
        above = chain[: chain.index(agent_id)][-1:] if agent_id in chain else ()
        spec = _spec(entry, role, tuple(names), above, in_chain=agent_id in chain, tempo=tempo)
        chained = agent_id in chain
        players.append(Player(agent_id, role, recipe, spec, corpus, labels, chained))
    return tuple(players)


def _few(paths: tuple[Path, ...]) -> tuple[Path, ...]:
    # "__main__" within what is sent to a worker means that it needs the host's own main module
    return tuple(p for p in paths[:_KEPT_FOR_WORKERS] if p.stem != "__main__")


def _spec(
    entry: RosterEntry,
    role: Role,
    names: tuple[str, ...],
    above: tuple[str, ...],
    *,
    in_chain: bool,
    tempo: float,
) -> AgentSpec:
    values: dict[str, Any] = {
        "executor": {"thread": "thread", "process": "process", "inline": "inline"}.get(
            role, "auto"
        ),
        "task_types": names,
        # A directory may hold undecodable files in rows: they fail their tasks, never their agent.
        "max_consecutive_failures": None,
        # A task that went down with a body or a worker is worth another try.
        "in_flight": "requeue" if role in ("serve", "process") or in_chain else "fail",
        "strategy": "rest_for_one" if in_chain else "one_for_one",
        "depends_on": above,
        "backoff": Backoff(floor=0.05, base=0.3 * tempo, cap=3.0),
        "intensity": Intensity(max_restarts=8, period=30.0),
        "hang": HangLimits(soft=2.0 * tempo, hard=4.0 * tempo, cancel_grace=0.5),
        "verify": Verification(timeout=10.0, idle_after=0.3, stable_for=5.0),
        "quarantine": Quarantine(probe_interval=5.0),
        "health": HealthPolicy(min_tasks=10, window=15.0),
        "deadlines": Deadlines(start=20.0, stop=1.0, drain=8.0),
    }
    values |= {name: value for name, value in dict(entry.spec).items() if name not in _OURS}
    return AgentSpec(**values)
