"""The books, audited: from the snapshot, and from what ``/metrics`` says alone."""

from __future__ import annotations

import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from fleetmon import FleetSnapshot

OUTCOMES = ("succeeded", "failed", "cancelled", "timed_out", "dead_lettered")
_TIMEOUT = 5.0  # seconds for one scrape of ourselves


@dataclass(slots=True)
class Account:
    """One agent's tasks: assigned, by outcome, waiting and at work."""

    assigned: int = 0
    queued: int = 0
    in_flight: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    timed_out: int = 0
    dead_lettered: int = 0

    @property
    def ended(self) -> int:
        """Tasks with an outcome."""
        return sum(getattr(self, outcome) for outcome in OUTCOMES)

    @property
    def balanced(self) -> bool:
        """Whether every task that was assigned is somewhere, and only once."""
        return self.assigned == self.ended + self.queued + self.in_flight


def scrape(url: str) -> str:
    """Return what ``/metrics`` says, as text.

    Raises:
        OSError: it does not answer.
    """
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never by a proxy
    with direct.open(url, timeout=_TIMEOUT) as answer:
        text: str = answer.read().decode("utf-8")
    return text


def read_exposition(text: str) -> dict[str, Account]:
    """Return the account of each agent, by its id, from an exposition in Prometheus' text format.

    Raises:
        ValueError: the text is no such exposition.
    """
    accounts: dict[str, Account] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            agent_id = sample.labels.get("agent_id")
            if agent_id is None:
                continue
            account = accounts.setdefault(agent_id, Account())
            count = int(sample.value)
            if sample.name == "agents_tasks_assigned_total":
                account.assigned += count
            elif sample.name == "agents_queue_length":
                account.queued += count
            elif sample.name == "agents_tasks_in_flight":
                account.in_flight += count
            elif sample.name == "agents_tasks_completed_total":
                outcome = sample.labels["outcome"]
                setattr(account, outcome, getattr(account, outcome) + count)
    return accounts


def read_snapshot(snapshot: FleetSnapshot) -> dict[str, Account]:
    """Return the account of each agent, by its id, from a snapshot."""
    return {
        agent.agent_id: Account(
            agent.assigned,
            agent.numbers.queued,
            agent.numbers.in_flight,
            agent.succeeded,
            agent.failed,
            agent.cancelled,
            agent.timed_out,
            agent.dead_lettered,
        )
        for agent in snapshot.agents
    }


def audit(
    final: dict[str, Account], scraped: dict[str, Account], *, quiet: bool = True
) -> list[str]:
    """Return what is wrong, one sentence for each agent and trouble; empty when all is right.

    Args:
        final: the accounts after the end.
        scraped: the accounts that ``/metrics`` showed just before.
        quiet: nothing was under way at the scrape, so that both must be equal.
    """
    wrong = [f"{agent_id}: not in /metrics" for agent_id in final if agent_id not in scraped]
    wrong += [f"{agent_id}: in /metrics only" for agent_id in scraped if agent_id not in final]
    for agent_id, account in final.items():
        if not account.balanced:
            wrong.append(f"{agent_id}: the snapshot does not balance: {account}")
        if account.queued or account.in_flight:
            wrong.append(
                f"{agent_id}: {account.queued} queued and {account.in_flight} in flight at the end"
            )
        shown = scraped.get(agent_id)
        if shown is None:
            continue
        if not shown.balanced:
            wrong.append(f"{agent_id}: /metrics does not balance: {shown}")
        elif quiet and shown != account:
            wrong.append(f"{agent_id}: /metrics says {shown}, the snapshot {account}")
        elif shown.assigned > account.assigned or shown.ended > account.ended:
            wrong.append(f"{agent_id}: counted back since /metrics said {shown}: {account}")
    return wrong
