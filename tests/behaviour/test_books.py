"""The books under storms: read from the text of /metrics alone, against what the callers know."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import threading
from collections import Counter, defaultdict

import pytest
from support import Scrapes, fleet_on, outcome_of, spec

from fleetmon import (
    Deadlines,
    HangLimits,
    QueueFullError,
    Restarts,
    TaskRefusedError,
    TaskTimeoutError,
)

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]

COMMANDS = ("restart", "pause", "resume", "drain", "stop", "start", "quarantine", "reset")


class FatalError(RuntimeError):
    fatal = True


class Handles:
    """Does what the payload says, and sometimes holds on when it is cancelled."""

    async def handle(self, task):
        kind, seconds = task.payload
        if kind == "fail":
            raise ValueError(kind)
        if kind == "fatal" and task.attempt < 3:
            raise FatalError(kind)
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            if kind == "swallow":
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(seconds)
                return "late"
            if kind == "messy":
                raise ConnectionResetError(kind) from None
            raise
        return "done"


class Takes(Handles):
    """The same in a body of its own, which goes down with what it cannot do."""

    handle_one = Handles.handle

    def __init__(self):
        self.handle = None

    async def serve(self, agent):
        async for task in agent.tasks():
            kind, seconds = task.payload
            if kind in ("fatal", "fail"):
                raise ValueError(kind)
            await asyncio.sleep(seconds)
            task.done("done")


KINDS = {"ok": 80, "fail": 8, "fatal": 2, "swallow": 3, "messy": 3, "long": 4}


class Storm:
    """Callers that submit, wait, give up and cancel at random, and keep their own books."""

    def __init__(self, fleet, rng):
        self.fleet = fleet
        self.rng = rng
        self.accepted = defaultdict(list)
        self.refused = Counter()

    async def caller(self, agent, tasks):
        rng = self.rng
        for _ in range(tasks):
            kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
            seconds = 60.0 if kind == "long" else rng.expovariate(5.0)
            timeout = rng.choice([None, None, 0.01, 0.5, 5.0])
            try:
                task = await agent.submit(
                    rng.choice("abc"),
                    (kind, seconds),
                    timeout=timeout,
                    wait=rng.random() < 0.5,
                )
            except TaskRefusedError as error:
                self.refused[type(error).__name__] += 1
                await asyncio.sleep(rng.expovariate(1.0))
                continue
            except TaskTimeoutError:  # no room in time: never accepted
                self.refused["timeout"] += 1
                continue
            self.accepted[agent.agent_id].append(task)
            if rng.random() < 0.1:
                asyncio.get_running_loop().call_later(rng.expovariate(2.0), task.cancel)
            if rng.random() < 0.5:
                with contextlib.suppress(Exception):
                    await task
            else:
                await asyncio.sleep(rng.expovariate(10.0))

    async def operator(self, agents, commands):
        for _ in range(commands):
            await asyncio.sleep(self.rng.expovariate(0.5))
            agent = self.rng.choice(agents)
            await self.fleet.command(self.rng.choice(COMMANDS), agent.agent_id)
            if self.rng.random() < 0.5:
                await self.calm([agent])

    async def calm(self, agents):
        """Bring every agent back, so that what waits can end."""
        for agent in agents:
            for name in ("reset", "resume", "start"):
                await self.fleet.command(name, agent.agent_id)

    def truth(self, agent_id):
        """Count what the callers heard."""
        return Counter(outcome_of(task.future) for task in self.accepted[agent_id])


# `make soak` asks for hundreds of thousands; the suite itself has to be quick
SOAK = [(4, int(os.environ["FLEETMON_SOAK"]))] if "FLEETMON_SOAK" in os.environ else []


@pytest.mark.parametrize(("seed", "least"), [(1, 2_000), (2, 2_000), (3, 8_000), *SOAK])
async def test_books_balance_in_a_storm_and_agree_with_what_every_caller_heard(seed, least):
    rng = random.Random(seed)
    async with fleet_on(restarts=Restarts(redeliveries=50), seed=seed) as fleet:
        storm = Storm(fleet, rng)
        scrapes = Scrapes(fleet)
        agents = []
        fates = ["fail", "requeue", "dead_letter"]
        for number in range(12):
            agent = await fleet.add(
                f"agent-{number}",
                Takes if number % 4 == 3 else Handles,
                spec=spec(
                    capacity=rng.randint(1, 5),
                    queue=rng.choice([1, 3, 50]),
                    in_flight=fates[number % 3],
                    at_least_once=number % 5 == 0,
                    max_deliveries=3,
                    hang=HangLimits(soft=5.0, hard=20.0, cancel_grace=1.0),
                    deadlines=Deadlines(stop=0.2, drain=2.0),
                ),
            )
            agents.append(agent)
        callers = [
            # one at a time is what those with a body of their own do
            asyncio.create_task(storm.caller(agent, least // (120 if number % 4 == 3 else 30)))
            for number, agent in enumerate(agents)
            for _ in range(7)
        ]
        operator = asyncio.create_task(storm.operator(agents, max(60, least // 500)))
        for _ in range(max(60, least // 100)):
            await asyncio.sleep(30)
            (await scrapes.take()).check()
            if all(c.done() for c in callers):
                break
            if operator.done():
                await storm.calm(agents)
        stuck = [c for c in callers if not c.done()]
        assert not stuck, f"{len(stuck)} callers wait for ever"
        await operator
        await storm.calm(agents)
        await asyncio.sleep(300)
        books = await scrapes.take()
        books.check(idle=True)
        assert sum(books.assigned.values()) > least
        for agent in agents:
            truth = storm.truth(agent.agent_id)
            told = books.outcomes[agent.agent_id]
            assert +told == truth, agent.agent_id
            assert books.assigned[agent.agent_id] == truth.total()
        dead = sum(books.outcomes[a.agent_id]["dead_lettered"] for a in agents)
        assert fleet.snapshot().fleet.dead_letters >= dead > 0


async def test_books_balance_when_the_fleet_is_shut_down_in_the_middle_of_a_storm():
    rng = random.Random(9)
    async with fleet_on() as fleet:
        storm = Storm(fleet, rng)
        agents = [
            await fleet.add(
                f"agent-{n}",
                Handles,
                spec=spec(
                    capacity=3,
                    queue=20,
                    in_flight=["fail", "requeue", "dead_letter"][n % 3],
                    deadlines=Deadlines(stop=0.2),
                ),
            )
            for n in range(6)
        ]
        callers = [
            asyncio.create_task(storm.caller(agent, 500)) for agent in agents for _ in range(5)
        ]
        await asyncio.sleep(30)
        await fleet.shutdown(drain=0.5, stop=2.0)
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
    await asyncio.sleep(100)  # whatever was left behind has ended, too
    books = await Scrapes(fleet).take()
    books.check(idle=True)
    for agent in agents:
        open_ = [t for t in storm.accepted[agent.agent_id] if not t.future.done()]
        assert not open_, f"{len(open_)} callers of {agent.agent_id} wait for ever"
        assert +books.outcomes[agent.agent_id] == storm.truth(agent.agent_id)


async def test_books_count_a_task_from_the_moment_it_is_accepted():
    async with fleet_on() as fleet:
        agent = await fleet.add("A", Handles, spec=spec(capacity=2, queue=2))
        for expected in range(1, 5):
            await agent.submit("a", ("ok", 1.0), wait=False)
            now = agent.snapshot()
            assert now.assigned == expected
            assert now.numbers.queued <= 2
            assert now.balanced
        with pytest.raises(QueueFullError):
            await agent.submit("a", ("ok", 1.0), wait=False)
        assert agent.snapshot().assigned == 4


HOSTS_OUTCOMES = ("succeeded", "failed", "failed politely", "cancelled", "timed_out")


def end_as(outcome, task):
    """End a host's task by what it raises or reports, outside any loop."""
    if outcome == "failed":
        raise ValueError(outcome)
    if outcome == "failed politely":
        task.fail("crash")
    elif outcome == "cancelled":
        raise asyncio.CancelledError  # no loop here: the host gave it up
    elif outcome == "timed_out":
        raise TaskTimeoutError("late", agent_id=task.agent_id, task_id=task.id)


@pytest.mark.parametrize("threads", [6])
async def test_books_of_observed_agents_balance_under_several_real_threads(threads):
    truth = defaultdict(Counter)
    lock = threading.Lock()
    start = threading.Barrier(threads)

    def work(fleet, seed):
        rng = random.Random(seed)
        mine = defaultdict(Counter)
        start.wait()
        for _ in range(1500):
            agent = fleet.agent(rng.choice(["A", "B", "C"]))
            outcome = rng.choices(HOSTS_OUTCOMES, (65, 10, 10, 10, 5))[0]
            with (
                contextlib.suppress(ValueError, asyncio.CancelledError, TaskTimeoutError),
                agent.task(rng.choice("abcdefgh")) as task,
            ):
                task.progress("half way")
                end_as(outcome, task)
                if rng.random() < 0.1:
                    with fleet.agent("A").task("nested"):
                        mine["A"]["succeeded"] += 1
            outcome = outcome.partition(" ")[0]
            mine[agent.agent_id][outcome] += 1
        with lock:
            for agent_id, counts in mine.items():
                truth[agent_id] += counts

    async with fleet_on(virtual=False) as fleet:
        for name in "ABC":
            fleet.attach(name, recover=lambda: None, capacity=2, spec=spec())
        scrapes = Scrapes(fleet)
        running = [asyncio.create_task(asyncio.to_thread(work, fleet, n)) for n in range(threads)]
        while not all(task.done() for task in running):
            (await scrapes.take()).check()
        await asyncio.gather(*running)
        books = await scrapes.take()
        books.check(idle=True)
        assert {name: +books.outcomes[name] for name in "ABC"} == dict(truth)
        assert all(a.numbers.utilization <= 1.0 for a in fleet.snapshot().agents)


class TestUtilization:
    async def test_utilization_is_busy_capacity_seconds_over_capacity_times_window(self):
        async with fleet_on() as fleet:
            agent = await fleet.add("A", Handles, spec=spec(capacity=4))
            scrapes = Scrapes(fleet)
            await asyncio.sleep(100)
            assert (await scrapes.take()).value("agents_utilization_ratio", agent_id="A") == 0.0
            tasks = [await agent.submit("a", ("ok", 30.0)) for _ in range(2)]
            await asyncio.gather(*tasks)
            books = await scrapes.take()
            assert books.value("agents_utilization_ratio", agent_id="A") == pytest.approx(0.25)
            assert books.value("agents_busy_seconds_total", agent_id="A") == pytest.approx(60.0)
            await asyncio.sleep(45)  # half of it has left the window
            books = await scrapes.take()
            assert books.value("agents_utilization_ratio", agent_id="A") == pytest.approx(
                0.125, abs=0.01
            )
            await asyncio.sleep(16)
            books = await scrapes.take()
            assert books.value("agents_utilization_ratio", agent_id="A") == 0.0
            assert books.value("agents_busy_seconds_total", agent_id="A") == pytest.approx(60.0)

    async def test_utilization_is_exact_for_tasks_that_still_run(self):
        async with fleet_on() as fleet:
            agent = await fleet.add("A", Handles, spec=spec(capacity=2))
            await agent.submit("a", ("long", 1000.0))
            for seconds, expected in ((15, 0.125), (15, 0.25), (30, 0.5), (500, 0.5)):
                await asyncio.sleep(seconds)
                books = await Scrapes(fleet).take()
                assert books.value("agents_utilization_ratio", agent_id="A") == pytest.approx(
                    expected
                )
            assert books.value("agents_busy_seconds_total", agent_id="A") == pytest.approx(560)

    async def test_the_help_text_says_the_formula(self):
        async with fleet_on() as fleet:
            text = (await Scrapes(fleet).take()).text
        (line,) = [x for x in text.splitlines() if x.startswith("# HELP agents_utilization_ratio")]
        assert "divided by (capacity x window)" in line
