"""A supervisor in a thread of its own, for a host without an event loop. In real time."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import threading
import time
from urllib.request import urlopen

import pytest
from support import spec

from fleetmon import (
    Accepted,
    FleetmonError,
    ListenError,
    Metrics,
    NoOp,
    NotRunningError,
    Shutdown,
    Supervisor,
    SupervisorSettings,
    TaskCancelledError,
    TaskTimeoutError,
    UnknownAgentError,
)

SETTINGS = SupervisorSettings(
    shutdown=Shutdown(drain=0.0, stop=1.0), metrics=Metrics(listen="127.0.0.1:0")
)


class Worker:
    async def handle(self, task):
        if callable(task.payload):
            return task.payload()
        await asyncio.sleep(task.payload)
        return task.payload


@pytest.fixture
def fleet():
    with Supervisor.start_in_thread(SETTINGS) as background:
        yield background


def ours():
    return [t for t in threading.enumerate() if t.name.startswith("fleetmon")]


def test_a_host_without_a_loop_has_everything(fleet):
    agent = fleet.add("A", Worker, spec=spec(capacity=2))
    host = fleet.attach("B")
    assert fleet.run("A", "x", 0.01) == 0.01
    assert agent.call("x", 0) == 0
    with host.task("train") as task:
        task.progress("half")
    assert host.watch(lambda: 5, task_type="watched")() == 5
    assert fleet.snapshot().agent("A").succeeded == 2
    assert host.snapshot().succeeded == 2
    assert isinstance(fleet.command("pause", "A", reason="lunch", actor="me"), Accepted)
    assert isinstance(fleet.command("pause", "A"), NoOp)
    assert fleet.command("resume", "A", wait=True).settled
    assert fleet.command("restart", "A", wait=True, timeout=5).settled
    assert fleet.agent("A") == agent
    assert agent.generation == 2
    with urlopen(fleet.metrics_url, timeout=5) as page:
        assert 'agents_tasks_assigned_total{agent_id="A"' in page.read().decode()
    fleet.remove("A")
    with pytest.raises(UnknownAgentError):
        fleet.agent("A")


def test_what_goes_wrong_arrives_in_the_thread_that_asked(fleet):
    fleet.add("A", Worker)
    with pytest.raises(ZeroDivisionError):
        fleet.run("A", "x", lambda: 1 / 0)
    with pytest.raises(TaskTimeoutError):
        fleet.run("A", "x", 60, timeout=0.05)
    with pytest.raises(UnknownAgentError):
        fleet.run("nobody", "x")
    with pytest.raises(UnknownAgentError):
        fleet.command("pause", "nobody")


def test_a_second_close_gives_the_same_report_and_then_all_is_refused():
    background = Supervisor.start_in_thread(SETTINGS)
    agent = background.add("A", Worker)
    report = background.close()
    assert report.left_behind == ()
    assert background.close() is report
    for action in (
        lambda: background.run("A", "x", 0),
        lambda: background.add("B", Worker),
        lambda: background.attach("B"),
        lambda: background.command("restart", "A"),
        lambda: agent.call("x", 0),
    ):
        with pytest.raises(FleetmonError, match=r"closed|stopped"):
            action()
    assert background.snapshot().phase == "stopped"
    assert ours() == []


def test_closed_by_many_threads_at_once_it_ends_once():
    background = Supervisor.start_in_thread(SETTINGS)
    reports = []
    threads = [
        threading.Thread(target=lambda: reports.append(background.close())) for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert len(reports) == 5
    assert set(map(id, reports)) == {id(background.supervisor.report)}


def test_closing_ends_what_another_thread_waits_for():
    background = Supervisor.start_in_thread(SETTINGS)
    background.add("A", Worker)
    begun, heard = threading.Event(), []

    def wait():
        begun.set()
        try:
            background.run("A", "x", 60)
        except BaseException as error:  # noqa: BLE001 - what it hears is the point
            heard.append(type(error))

    waiting = threading.Thread(target=wait)
    waiting.start()
    begun.wait()
    while not background.snapshot().agent("A").tasks:
        time.sleep(0.005)
    background.close()
    waiting.join(5)
    assert heard == [TaskCancelledError]


def test_from_its_own_thread_it_says_so_instead_of_waiting_for_itself(fleet):
    fleet.add("A", Worker)
    for action in (
        lambda: fleet.run("A", "x", 0),
        lambda: fleet.add("B", Worker),
        lambda: fleet.agent("A").call("x", 0),
    ):
        with pytest.raises(NotRunningError, match="own"):
            fleet.run("A", "x", action, timeout=5)


def test_close_from_its_own_thread_is_refused_in_words_or_done():
    background = Supervisor.start_in_thread(SETTINGS)
    background.add("A", Worker)
    with contextlib.suppress(FleetmonError):
        background.run("A", "x", background.close, timeout=5)
    background.close()
    assert background.snapshot().phase == "stopped"


def test_what_cannot_start_raises_and_leaves_no_thread():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ListenError, match=address):
            Supervisor.start_in_thread(SupervisorSettings(metrics=Metrics(listen=address)))
    assert ours() == []


def test_a_host_that_forgets_to_close_can_still_exit():
    program = (
        "from fleetmon import Supervisor\n"
        "fleet = Supervisor.start_in_thread()\n"
        "with fleet.attach('A').task('x'): pass\n"
        "print(fleet.snapshot().agent('A').succeeded)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("1\n", "")
