"""A fleet that logs to its standard output, whatever that is; run by test_bad_sinks.

Says on standard error, as JSON, how its tasks went and what became of their lines.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time

from fleetmon import Supervisor, configure_logging

TASKS = 3000


async def main() -> dict[str, object]:
    logs = configure_logging("svc", limit=1000)
    slowest = 0.0
    async with Supervisor(log=logs.log) as fleet:
        agent = fleet.attach("A")
        for i in range(TASKS):
            began = time.perf_counter()
            with agent.task("t"):
                if i % 10 == 0:
                    logging.getLogger("host").warning("a line of the host's own")
            slowest = max(slowest, time.perf_counter() - began)
            if i % 100 == 0:
                await asyncio.sleep(0)
        succeeded = agent.snapshot().succeeded
    began = time.perf_counter()
    logs.close(0.5)
    took = time.perf_counter() - began
    shown = fleet.snapshot().fleet.log_drops
    return {"succeeded": succeeded, "slowest": slowest, "close": took, "lost": shown}


if __name__ == "__main__":
    told = asyncio.run(main())
    sys.stderr.write(json.dumps(told) + "\n")
