"""A small fleet in virtual time, as the tests of supervision's behaviour want it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from fleetmon import AgentSpec, Backoff, Intensity, SharedCause, Supervisor, SupervisorSettings
from fleetmon.testing import capture, current_clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fleetmon.testing import Capture

STEADY = {
    "backoff": Backoff(floor=1.0, base=1.0, cap=1.0),  # no jitter: one second, always
    "intensity": Intensity(max_restarts=100, period=1000.0),
}
"""Values of a spec under which a lapse costs exactly one second and never quarantines."""


def steady(**values: Any) -> AgentSpec:
    """Return a spec without jitter; ``values`` go before."""
    return AgentSpec(**{**STEADY, **values})


@contextlib.asynccontextmanager
async def fleet_of(**settings: Any) -> AsyncIterator[tuple[Supervisor, Capture]]:
    """Run a supervisor on the virtual clock, with its events captured; seeded, no shared cause."""
    values: dict[str, Any] = {"seed": 7, "shared_cause": SharedCause(enabled=False), **settings}
    supervisor = Supervisor(SupervisorSettings(**values), clock=current_clock())
    cap = capture(supervisor)
    async with supervisor:
        yield supervisor, cap
    for agent in supervisor.snapshot().agents:
        assert agent.balanced, f"the books of {agent.agent_id} do not balance: {agent.numbers}"
