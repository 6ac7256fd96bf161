"""Agents for worker processes, which import this module: it stays light."""

from __future__ import annotations

import faulthandler
import os
import re
import signal
import time
from pathlib import Path


class Fragile:
    """Does what its payload says; first leaves its process id in a file."""

    def handle(self, task):
        how, marker = task.payload
        if marker:
            with Path(marker).open("a") as file:
                file.write(f"{os.getpid()}\n")
        if how == "wait" and task.attempt == 1:
            time.sleep(60)
        elif how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif how == "segfault":
            faulthandler._sigsegv()
        elif how == "hang in C":
            re.match(r"(a+)+$", "a" * 64 + "b")
        return task.attempt


class Body:
    """Takes its work by itself and dies of a poisoned piece."""

    async def serve(self, agent):
        async for task in agent.tasks():
            if task.payload == "poison" and task.attempt < 2:
                os.kill(os.getpid(), signal.SIGKILL)
            task.done(task.attempt)
