"""What the tests of the control plane share: a quick spec and an agent that does as it is told."""

from __future__ import annotations

from fleetmon import AgentSpec, Backoff, Verification

QUICK = AgentSpec(
    backoff=Backoff(floor=0, base=0.02),
    verify=Verification(timeout=2, idle_after=0.02),
)


class Echo:
    async def handle(self, task):
        if isinstance(task.payload, BaseException):
            raise task.payload
        return task.payload
