"""What the demonstration says at the end, and while it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fleetmon.demo.books import OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetmon import FleetSnapshot
    from fleetmon.demo.books import Account

_NO_TURN = "the run ended before its turn"
_HEALTH = ("healthy", "degraded", "failed")


@dataclass(frozen=True, slots=True)
class Results:
    """How a run went.

    Attributes:
        seconds: how long the agents were fed.
        metrics_url: where the metrics were.
        last: the fleet as it was when the run ended, before it was drained and stopped.
        final: the fleet at the very end.
        accounts: each agent's tasks at the very end.
        faults: for each kind how many were injected, detected and recovered.
        impossible: kinds that were not injected, and why.
        quarantines: how often an agent was taken out.
        wrong: what is wrong with the books.
        left_behind: what shutdown had to leave.
    """

    seconds: float
    metrics_url: str
    last: FleetSnapshot
    final: FleetSnapshot
    accounts: dict[str, Account]
    faults: dict[str, dict[str, int]]
    impossible: Mapping[str, str]
    quarantines: int
    wrong: list[str]
    left_behind: tuple[str, ...]

    @property
    def tasks(self) -> dict[str, int]:
        """Sums over all agents."""
        names = ("assigned", *OUTCOMES, "queued", "in_flight")
        return {
            name: sum(getattr(account, name) for account in self.accounts.values())
            for name in names
        }

    @property
    def recoveries(self) -> dict[str, int]:
        """Sums over all agents."""
        numbers = [agent.numbers for agent in self.final.agents]
        return {
            "attempted": sum(n.recovery_attempts for n in numbers),
            "verified": sum(n.recoveries[0] for n in numbers),
            "failed": sum(n.recoveries[1] for n in numbers),
            "quarantined": self.quarantines,
        }

    def as_json(self) -> dict[str, Any]:
        """Return what ``--json`` prints.

        An agent's ``lifecycle`` and ``health`` (0 healthy, 1 degraded, 2 failed) are those at the
        end of the run, before everything was stopped; its numbers are final. ``tasks`` is what it
        was assigned.
        """
        last = {agent.agent_id: agent for agent in self.last.agents}
        return {
            "duration_seconds": round(self.seconds, 3),
            "metrics_url": self.metrics_url,
            "tasks": self.tasks,
            "recoveries": self.recoveries,
            "faults": self.faults,
            "agents": [
                {
                    "agent_id": agent.agent_id,
                    "lifecycle": last[agent.agent_id].lifecycle,
                    "health": last[agent.agent_id].health,
                    "tasks": agent.assigned,
                    "failures": agent.failures,
                    "restarts": agent.numbers.restarts,
                }
                for agent in self.final.agents
            ],
        }

    def lines(self, *, chaos: bool) -> list[str]:
        """Return the summary for people."""
        tasks, recoveries = self.tasks, self.recoveries
        ends = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in tasks.items())
        ways = ", ".join(f"{count} {name}" for name, count in recoveries.items())
        lines = [f"ran {self.seconds:.1f} s, tasks: {ends}", f"recoveries: {ways}"]
        if chaos:
            for kind, counts in self.faults.items():
                why = "" if counts["injected"] else self.impossible.get(kind, _NO_TURN)
                lines.append(
                    f"fault {kind:<23} {counts['injected']} injected, {counts['detected']} "
                    f"detected, {counts['recovered']} recovered" + (f" ({why})" if why else "")
                )
        lines += [f"left behind: {what}" for what in self.left_behind]
        lines += [f"the books are wrong: {what}" for what in self.wrong]
        if not self.wrong:
            lines.append("the books balance, for every agent, in the snapshot and in /metrics")
        return lines


def progress(snapshot: FleetSnapshot, seconds: float, rate: float, load: float) -> str:
    """Return one line about the fleet now.

    Args:
        snapshot: the fleet.
        seconds: since the start.
        rate: tasks that ended a second, of late.
        load: cores that this process uses, of late.
    """
    agents = [agent for agent in snapshot.agents if agent.mode != "declared"]
    health = [sum(agent.health == value for agent in agents) for value in (0, 1, 2)]
    word = ", ".join(
        f"{count} {name}" for count, name in zip(health, _HEALTH, strict=True) if count
    )
    tasks = sum(agent.assigned for agent in agents)
    phase = "" if snapshot.phase == "running" else f"{snapshot.phase}: "
    restarts = sum(agent.numbers.restarts for agent in agents)
    return (
        f"{seconds:6.1f} s  {phase}{word}  {tasks} tasks {rate:.0f}/s  "
        f"{sum(agent.failed for agent in agents)} failed  {restarts} restarts  "
        f"lag {snapshot.fleet.loop_lag_seconds * 1000:.0f} ms  cpu {load:.0%}"
    )
