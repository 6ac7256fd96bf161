"""A loop that is blocked (14): who, where, and nobody else to suffer for it. In real time."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import linecache
import math
import re
import threading
import time
from urllib.request import urlopen

import pytest
from support import Books, events_of, fleet_on, spec, until

from fleetmon import HangLimits, Metrics, Watchdog

pytestmark = pytest.mark.anyio

QUICK = Watchdog(idle_interval=0.02, blocked_after=0.1, hard_after=0.3)
LEAST = 0.7  # seconds for which a loop is blocked; longer only while a witness has not seen it all


def sleeping(seen):
    time.sleep(LEAST)
    while not seen:
        time.sleep(0.02)


def computing(seen):
    least = time.monotonic() + LEAST
    while not seen or time.monotonic() < least:
        pass


class Witness(threading.Thread):
    """Asks the metrics server again and again, as Prometheus would, while the loop is blocked."""

    def __init__(self, fleet, agent_id):
        super().__init__(daemon=True)
        self.base = fleet.metrics_url.removesuffix("/metrics")
        self.agent_id = agent_id
        self.seen = []
        self.stop = threading.Event()
        self.gauges = []
        self.health = []
        self.others = set()
        self.subscription = fleet.subscribe(self.notice)
        self.noticed = {}
        self.start()

    def notice(self, event):
        self.noticed.setdefault(str(event.kind), time.monotonic())

    def run(self):
        give_up = time.monotonic() + 8
        while not self.stop.is_set() and time.monotonic() < give_up:
            with urlopen(f"{self.base}/healthz", timeout=2) as answer:
                self.health.append(answer.status)
            with urlopen(f"{self.base}/metrics", timeout=2) as answer:
                books = Books.of(answer.read().decode())
            for (name, labels), value in books.values.items():
                if name == "agents_health_status":
                    if dict(labels)["agent_id"] == self.agent_id:
                        self.gauges.append(value)
                    else:
                        self.others.add(value)
            if 2.0 in self.gauges and "loop_blocked" in self.noticed:
                self.seen.append(True)
        self.seen.append(False)


@contextlib.contextmanager
def witness_of(fleet, agent_id):
    witness = Witness(fleet, agent_id)
    try:
        yield witness
    finally:
        witness.stop.set()
        witness.join(5)
        witness.subscription.close(1)


def blocks(fleet, agent_id=None):
    return events_of(fleet, "loop_blocked", agent_id)


def line_of(event):
    return linecache.getline(event.data["file"], event.data["line"]).strip()


class Waits:
    """Holds its tasks until told; a body beside it says that it is alive."""

    go: asyncio.Event

    async def handle(self, task):
        await Waits.go.wait()
        return "done"


@pytest.mark.parametrize("how", [sleeping, computing])
async def test_14_a_blocked_loop_is_reported_by_agent_task_and_line_and_the_others_are_forgiven(
    how,
):
    Waits.go = asyncio.Event()
    began = []

    class Blocker:
        async def handle(self, task):
            began.append(time.monotonic())
            how(task.payload)
            began.append(time.monotonic())
            return "blocked"

    async with fleet_on(
        virtual=False, watchdog=QUICK, metrics=Metrics(listen="127.0.0.1:0")
    ) as fleet:
        blocker = await fleet.add("A", Blocker, spec=spec())
        tight = spec(hang=HangLimits(soft=0.4, hard=0.6, cancel_grace=0.1))
        others = [await fleet.add(f"B{n}", Waits, spec=tight) for n in range(6)]
        host = fleet.attach("host", spec=tight)
        with witness_of(fleet, "A") as witness:
            await until(lambda: witness.gauges)
            waiting = [await agent.submit("x") for agent in others]
            with host.task("beside"):
                task = await blocker.submit("compute", witness.seen)
                assert await task == "blocked"
                Waits.go.set()
                assert await asyncio.gather(*waiting) == ["done"] * 6
        await until(lambda: events_of(fleet, "loop_freed", "A"))

        (event,) = blocks(fleet, "A")
        start, end = began
        assert event.monotonic - start < 1.0
        assert start < witness.noticed["loop_blocked"] < end  # told while it was so
        assert (event.task_id, event.data["task_type"]) == (task.id, "compute")
        assert event.data["file"] == __file__
        assert event.data["function"] == how.__name__
        source, first = inspect.getsourcelines(how)
        assert first < event.data["line"] < first + len(source)
        assert any("in handle" in frame for frame in event.data["stack"])

        # ours went from degraded to failed; theirs never moved; both pages answered meanwhile
        moved = [
            g
            for g, before in zip(witness.gauges, [None, *witness.gauges], strict=False)
            if g != before
        ]
        assert moved[:3] in ([0.0, 1.0, 2.0], [0.0, 2.0], [0.0, 2.0, 0.0])
        changes = [e.data["after"] for e in events_of(fleet, "health_changed", "A")]
        assert changes == [1, 2, 0]
        assert witness.others == {0.0}
        assert set(witness.health) == {200}
        for kind in ("task_hung", "lapsed", "stalled"):
            assert not events_of(fleet, kind)
        assert {e.agent_id for e in events_of(fleet, "condition_raised")} == {"A"}
        assert {a.generation for a in fleet.agents} == {1}
        freed = events_of(fleet, "loop_freed", "A")[0].data["seconds"]
        assert freed == pytest.approx(end - start, abs=0.3)
        assert fleet.snapshot().fleet.loop_blocked_seconds >= LEAST - 0.1


async def test_14_its_own_hard_limit_makes_the_blocker_failed_before_the_watchdogs():
    class Blocker:
        async def handle(self, task):
            time.sleep(0.5)

    slow = QUICK.model_copy(update={"hard_after": 60.0})
    async with fleet_on(virtual=False, watchdog=slow) as fleet:
        limits = {"tight": HangLimits(hard=0.2)}
        agent = await fleet.add("A", Blocker, spec=spec(task_limits=limits))
        await agent.run("loose")
        assert 2 not in [e.data["after"] for e in events_of(fleet, "health_changed", "A")]
        await until(lambda: events_of(fleet, "loop_freed", "A"))
        with contextlib.suppress(Exception):  # its own limit: it may be booked as a hang
            await agent.run("tight")
        assert 2 in [e.data["after"] for e in events_of(fleet, "health_changed", "A")]


async def test_14_a_body_that_blocks_without_a_task_is_named_by_agent_and_line():
    class Body:
        async def serve(self, agent):
            time.sleep(0.4)
            await asyncio.sleep(1e6)

    async with fleet_on(virtual=False, watchdog=QUICK) as fleet:
        await fleet.add("quiet", Waits, spec=spec())
        adding = asyncio.create_task(fleet.add("A", Body, spec=spec()))
        await until(lambda: events_of(fleet, "loop_freed"))
        (event,) = blocks(fleet)
        assert (event.agent_id, event.task_id) == ("A", 0)
        assert line_of(event) == "time.sleep(0.4)"
        await adding


async def test_14_the_hosts_own_code_that_blocks_is_named_by_line_and_no_agent_is_blamed():
    async with fleet_on(virtual=False, watchdog=QUICK) as fleet:
        agent = await fleet.add("A", Waits, spec=spec())
        time.sleep(0.3)
        await until(lambda: events_of(fleet, "loop_freed"))
        (event,) = blocks(fleet)
        assert (event.agent_id, event.data["file"]) == ("", __file__)
        assert line_of(event) == "time.sleep(0.3)"
        assert not events_of(fleet, "condition_raised")
        assert agent.snapshot().health == 0


def blocking_in_own_loop(agent, task_type="epoch"):
    async def work():
        with agent.task(task_type):
            time.sleep(0.4)
        await asyncio.sleep(0.1)

    asyncio.run(work())


async def quick(agent):
    with agent.task("quick"):
        await asyncio.sleep(0.1)


async def test_14_a_scope_in_a_loop_of_another_thread_is_named_and_this_loop_is_not_blocked():
    async with fleet_on(virtual=False, watchdog=QUICK) as fleet:
        agent = fleet.attach("host", spec=spec())
        await asyncio.to_thread(blocking_in_own_loop, agent)
        (event,) = blocks(fleet)
        assert (event.agent_id, event.data["task_type"]) == ("host", "epoch")
        assert line_of(event) == "time.sleep(0.4)"
        await until(lambda: events_of(fleet, "loop_freed", "host"))
        assert agent.snapshot().conditions == ()
        assert fleet.snapshot().fleet.loop_blocked_seconds == 0.0


async def test_14_every_loop_that_a_thread_runs_is_watched_and_not_its_first_alone():
    async with fleet_on(virtual=False, watchdog=QUICK) as fleet:
        agent = fleet.attach("host", spec=spec())

        def thread():
            asyncio.run(quick(agent))
            blocking_in_own_loop(agent)

        await asyncio.to_thread(thread)
        assert [e.agent_id for e in blocks(fleet)] == ["host"]


async def test_14_a_loop_that_nobody_runs_at_the_moment_is_not_blocked():
    async with fleet_on(virtual=False, watchdog=QUICK) as fleet:
        agent = fleet.attach("host", spec=spec())

        def thread():
            loop = asyncio.new_event_loop()
            for _ in range(2):
                loop.run_until_complete(quick(agent))
                time.sleep(0.3)  # the host does something else between two jobs
            loop.close()

        await asyncio.to_thread(thread)
        assert not blocks(fleet)


_SLOW = re.compile(r"(a+)+$")


def holding(text):
    return _SLOW.match(text)


def text_that_takes(seconds):
    """Return what the pattern takes about so long for: every further letter doubles it."""
    letters = 16
    while True:
        began = time.thread_time()  # of the CPU: what others take from it meanwhile is not its own
        holding("a" * letters + "b")
        took = time.thread_time() - began
        if took > 0.01:
            return "a" * (letters + round(math.log2(seconds / took))) + "b"
        letters += 1


async def test_14_a_call_in_c_that_keeps_the_interpreter_is_given_by_line_and_agent_if_asked_for():
    seen = threading.Event()

    class Blocker:
        async def handle(self, task):
            for _ in range(5):  # a busy machine may keep the watchdog away just before
                holding(task.payload)
                if seen.wait(1):  # still at work when the watchdog, kept from looking, does so
                    break

    def is_ours(event):
        return event.kind == "loop_blocked" and line_of(event) == "return _SLOW.match(text)"

    text = text_that_takes(0.6)
    settings = QUICK.model_copy(update={"faulthandler": True})
    async with fleet_on(virtual=False, watchdog=settings) as fleet:
        agent = await fleet.add("A", Blocker, spec=spec())
        with contextlib.closing(fleet.subscribe(lambda event: is_ours(event) and seen.set())):
            await asyncio.sleep(0.1)  # the watchdog has come round
            task = await agent.submit("match", text)
            await task
        told = {(e.agent_id, e.task_id) for e in blocks(fleet) if is_ours(e)}
        assert told == {("A", task.id)}
