"""Supervise agents of a host that has no event loop.

``start_in_thread`` runs the supervisor in a thread of its own; everything may be called from any
thread. The host's agents are attached; a function may be added as an agent, too.

Prints::

    summed: 6
    doubled by an owned agent: 42
    SUMMER assigned 2, succeeded 1, failed 1
    on /metrics: agents_tasks_assigned_total{agent_id="SUMMER",task_type="sum_up"} 2.0
    closed, nothing left behind: True
"""

from __future__ import annotations

import contextlib
from urllib.request import urlopen

from fleetmon import Metrics, Supervisor, SupervisorSettings


def sum_up(numbers: list[int]) -> int:
    """Stand for the host's own agent."""
    if not numbers:
        raise ValueError("nothing to sum up")
    return sum(numbers)


def double(number: int) -> int:
    """Stand for work that the supervisor is to run."""
    return 2 * number


def main() -> None:
    """Attach, add, scrape, close."""
    settings = SupervisorSettings(metrics=Metrics(listen="127.0.0.1:0"))
    fleet = Supervisor.start_in_thread(settings)
    try:
        summer = fleet.attach("SUMMER", capacity=1)
        watched = summer.watch(sum_up)
        print("summed:", watched([1, 2, 3]))
        with contextlib.suppress(ValueError):
            watched([])

        fleet.add("DOUBLER", lambda: double)
        print("doubled by an owned agent:", fleet.run("DOUBLER", "double", 21, timeout=5))

        now = summer.snapshot()
        print(f"SUMMER assigned {now.assigned}, succeeded {now.succeeded}, failed {now.failed}")
        with urlopen(fleet.metrics_url) as page:  # noqa: S310 - our own http address
            lines = page.read().decode().splitlines()
        wanted = 'agents_tasks_assigned_total{agent_id="SUMMER"'
        print("on /metrics:", next(line for line in lines if line.startswith(wanted)))
    finally:
        report = fleet.close()
    print("closed, nothing left behind:", report is not None and not report.left_behind)


if __name__ == "__main__":
    main()
