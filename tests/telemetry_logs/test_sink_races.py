"""Threads that come to a log at one moment."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor

from fleetmon.telemetry.sink import LineWriter


def test_a_close_waits_for_a_thread_that_is_just_being_started(monkeypatch):
    begun, go, closing = threading.Event(), threading.Event(), threading.Event()
    start = threading.Thread.start

    def started_late(thread):
        if thread.name == "late":
            begun.set()
            assert go.wait(20)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", started_late)
    writer = LineWriter("".join, io.StringIO(), name="late")
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(writer.put, "x\n", "kept")
        assert begun.wait(20)
        monkeypatch.setattr(writer._wake, "set", closing.set)  # close() has come as far as that
        last = pool.submit(writer.close, 20)
        assert closing.wait(20)
        go.set()
        assert last.result(20)
        first.result(20)
