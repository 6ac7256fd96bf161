"""An agent for worker processes, with a log and spans of its own; imported there."""

from __future__ import annotations

import logging
from pathlib import Path


class Equipped:
    """Sets up log and spans of its own."""

    def __init__(self, endpoint, protocol, path):
        self._settings = endpoint, protocol
        self._path = path

    def start(self):
        from fleetmon import configure_logging, configure_tracing

        endpoint, protocol = self._settings
        self._file = Path(self._path).open("a", buffering=1)  # noqa: SIM115 - closed in stop()
        self._logs = configure_logging("worker", stream=self._file)
        self._tracing = configure_tracing("worker", endpoint=endpoint, protocol=protocol)

    def work(self, task):
        with self._tracing.provider.get_tracer("helper").start_as_current_span("step"):
            logging.getLogger("helper").warning("at work", extra={"n": task.payload})
        return task.carrier["traceparent"]

    def stop(self):
        self._tracing.shutdown()
        self._logs.close()
        self._file.close()


class Helper(Equipped):
    """Logs, and traces a step of its work, as agents of hosts do."""

    def handle(self, task):
        return self.work(task)


class Puller(Equipped):
    """Takes its work itself."""

    async def serve(self, agent):
        async for task in agent.tasks():
            task.done(self.work(task))
            logging.getLogger("helper").warning("between tasks")
