"""Ctrl-C once and twice, and SIGTERM: the host's to take, and given back afterwards."""

from __future__ import annotations

import asyncio
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleetmon.demo.console import Console


@contextmanager
def signals_taken(
    asked: asyncio.Event,
    hurried: asyncio.Event,
    console: Console,
    *,
    grace: float,
    active: bool = True,
) -> Iterator[None]:
    """Turn signals into events, in the running loop.

    Args:
        asked: set by SIGTERM and by the first SIGINT: drain, then stop.
        hurried: set by a SIGINT after that: stop at once.
        console: says so.
        grace: seconds that a drain may take, to be told.
        active: do it at all; off the main thread nobody can.
    """
    if not active or threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupted() -> None:
        if asked.is_set():
            hurried.set()
            console.say("stopping at once")
        else:
            asked.set()
            console.say("draining; a second Ctrl-C stops at once")

    def terminated() -> None:
        if not asked.is_set():
            asked.set()
            console.say(f"terminating: draining for up to {grace:g} s")

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, interrupted)
    loop.add_signal_handler(signal.SIGTERM, terminated)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        loop.remove_signal_handler(signal.SIGTERM)
