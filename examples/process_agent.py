"""Isolate an agent in a process of its own: when it dies, nothing else does.

The factory has to be importable by the worker, so it stands at the top level of a module, and the
script has the usual ``if __name__ == "__main__"``.

Prints::

    worked in another process: True
    the task failed with its agent: its worker died (process_died)
    a new worker answers: True
    failures by type: {'process_died': 1}
"""

from __future__ import annotations

import asyncio
import os
import signal

from fleetmon import AgentSpec, Backoff, Supervisor, Task, TaskFailedError


class Fragile:
    """Calls a library that may take the whole process down."""

    def handle(self, task: Task) -> int:
        """Return the process id, or die as a crashing library would."""
        if task.payload == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        return os.getpid()


async def main() -> None:
    """Kill the worker, and use its replacement."""
    async with Supervisor() as fleet:
        spec = AgentSpec(executor="process", backoff=Backoff(floor=0, base=0.01))
        agent = await fleet.add("FRAGILE", Fragile, spec=spec)
        first = await agent.run("work", timeout=10)
        print("worked in another process:", first != os.getpid())
        try:
            await agent.run("work", "crash", timeout=10)
        except TaskFailedError:
            lapse = agent.snapshot().last_lapse
            if lapse is not None:
                print(f"the task failed with its agent: {lapse.reason} ({lapse.error_type})")
        second = await agent.run("work", timeout=10)  # waits for the replacement
        print("a new worker answers:", second not in {first, os.getpid()})
        failures = {kind: n for kind, n in agent.snapshot().numbers.failures.items() if n}
        print("failures by type:", failures)


if __name__ == "__main__":
    asyncio.run(main())
