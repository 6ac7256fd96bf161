"""Observed agents: the host's own; fleetmon measures, advises and calls back. In virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import pytest
from support import FatalError, events_of, fleet_on, raising, spec

from fleetmon import (
    Deadlines,
    DrainingError,
    Intensity,
    NotAcceptingError,
    Probing,
    Quarantine,
    Supervisor,
    TaskRefusedError,
    Verification,
)
from fleetmon.testing import current_clock

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]

LONG = Verification(idle_after=50.0, timeout=100.0)


def crash(agent):
    """Bring it down: a fatal error in the host's own work."""
    with pytest.raises(FatalError), agent.task("crash"):
        raise FatalError


@pytest.mark.parametrize("kind", ["sync", "async", "awaitable"])
async def test_recover_and_probe_are_called_whatever_kind_they_are_of(kind):
    calls = []

    def note(what, answer=None):
        calls.append((what, threading.current_thread() is threading.main_thread()))
        return answer

    async def later(what, answer=None):
        return note(what, answer)

    def callback(what, answer=None):
        if kind == "sync":
            return lambda: note(what, answer)
        if kind == "awaitable":
            return lambda: later(what, answer)

        async def function():
            return note(what, answer)

        return function

    async with fleet_on() as fleet:
        agent = fleet.attach(
            "A",
            recover=callback("recover"),
            probe=callback("probe", answer=True),
            spec=spec(verify=LONG, probing=Probing(every=None)),
        )
        assert calls == []  # it is up: the host has made it
        crash(agent)
        await asyncio.sleep(1)
        assert [what for what, _ in calls] == ["recover", "probe"]
        in_loop = kind != "sync"
        assert calls == [("recover", in_loop), ("probe", in_loop)]
        assert (agent.generation, agent.snapshot().health) == (2, 0)
        assert [e.data["by"] for e in events_of(fleet, "verified")] == ["probe"]


@pytest.mark.parametrize(
    "probe", [raising(OSError), lambda: False, lambda: 0, lambda: asyncio.sleep(1e6, True)]
)
async def test_a_probe_that_raises_says_no_or_does_not_answer_is_a_lapse(probe):
    recovered = []
    async with fleet_on() as fleet:

        async def ask():
            answer = probe() if not recovered else True
            return await answer if asyncio.iscoroutine(answer) else answer

        async def recover():
            recovered.append(1)

        agent = fleet.attach(
            "A",
            probe=ask,
            recover=recover,
            spec=spec(probing=Probing(every=10), deadlines=Deadlines(probe=3)),
        )
        await asyncio.sleep(9)
        assert not events_of(fleet, "lapsed")
        await asyncio.sleep(6)
        assert [e.data["reason"] for e in events_of(fleet, "lapsed")] == ["its probe failed"]
        assert (recovered, agent.generation, agent.snapshot().health) == ([1], 2, 0)


async def test_a_probe_that_returns_nothing_has_passed():
    async with fleet_on() as fleet:
        fleet.attach("A", probe=lambda: None, spec=spec(probing=Probing(every=1)))
        await asyncio.sleep(10)
        assert not events_of(fleet, "lapsed")


async def test_a_recover_that_raises_or_hangs_is_a_failed_attempt_and_ends_in_quarantine():
    attempts = []

    async def recover():
        attempts.append(asyncio.get_running_loop().time())
        if len(attempts) % 2:
            raise ConnectionError
        await asyncio.sleep(1e6)

    async with fleet_on() as fleet:
        agent = fleet.attach(
            "A",
            recover=recover,
            spec=spec(
                intensity=Intensity(max_restarts=4, period=1000),
                deadlines=Deadlines(start=5),
                quarantine=Quarantine(probe_interval=None),
            ),
        )
        crash(agent)
        await asyncio.sleep(100)
        assert len(attempts) == 4
        assert agent.snapshot().actual == "quarantined"
        assert list(agent.snapshot().numbers.recoveries) == [0, 4]
        assert agent.snapshot().health == 2


async def test_a_late_outcome_from_before_a_recovery_is_booked_once_and_verifies_nothing():
    async with fleet_on() as fleet:
        agent = fleet.attach("A", recover=lambda: None, spec=spec(verify=LONG))
        with agent.task("old"):
            crash(agent)
            await asyncio.sleep(10)
            assert (agent.generation, agent.snapshot().actual) == (2, "recovering")
        assert (agent.snapshot().succeeded, agent.snapshot().actual) == (1, "recovering")
        with agent.task("new"):
            await asyncio.sleep(1)
        assert (agent.snapshot().succeeded, agent.snapshot().actual) == (2, "running")
        assert [e.data["by"] for e in events_of(fleet, "verified")] == ["progress"]


async def test_late_failures_from_before_a_recovery_bring_nothing_down_again():
    async with fleet_on() as fleet:
        agent = fleet.attach(
            "A", recover=lambda: None, spec=spec(capacity=10, max_consecutive_failures=3)
        )
        with contextlib.ExitStack() as stack:
            for n in range(6):
                stack.enter_context(contextlib.suppress(OSError, FatalError))
                task = stack.enter_context(agent.task("old"))
                task.fail("crash", FatalError() if n % 2 else None)
            crash(agent)
            await asyncio.sleep(10)
            assert agent.snapshot().health == 0
        await asyncio.sleep(10)
        assert (agent.snapshot().failed, agent.generation) == (7, 2)
        assert len(events_of(fleet, "lapsed")) == 1


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("pause", NotAcceptingError),
        ("drain", TaskRefusedError),
        ("quarantine", NotAcceptingError),
        ("stop", NotAcceptingError),
    ],
)
async def test_commands_are_advice_unless_the_host_asks_to_be_refused(command, error):
    async with fleet_on() as fleet:
        agent = fleet.attach("A", spec=spec())
        assert agent.accepting
        await fleet.command(command, "A")
        await asyncio.sleep(1)
        assert not agent.accepting
        with agent.task("x"):
            pass
        assert agent.watch(lambda: 5)() == 5
        assert agent.snapshot().succeeded == 2
        with pytest.raises(error, match="'A'"):
            agent.task("x", refuse=True)
        assert agent.snapshot().assigned == 2


async def test_a_draining_host_is_refused_as_draining_while_its_work_goes_on():
    async with fleet_on() as fleet:
        agent = fleet.attach("A", spec=spec())
        with agent.task("x"):
            await agent.drain()
            with pytest.raises(DrainingError):
                agent.task("x", refuse=True)


async def test_fail_reports_without_raising_by_a_bounded_type_and_a_run_of_it_is_a_lapse():
    recovered = []
    async with fleet_on() as fleet:
        agent = fleet.attach(
            "A",
            recover=lambda: recovered.append(1),
            spec=spec(error_types=("OutOfMemory",), max_consecutive_failures=4),
        )
        for error_type in ("OutOfMemory", "crash", "no such type"):
            with agent.task("x") as task:
                task.fail(error_type)
        failures = agent.snapshot().numbers.failures
        assert [failures[x] for x in ("OutOfMemory", "crash", "exception")] == [1, 1, 1]
        assert not events_of(fleet, "lapsed")
        with agent.task("x"):
            pass  # a success: the run begins anew
        for _ in range(4):
            with agent.task("x") as task:
                task.fail()
        await asyncio.sleep(5)
        assert (recovered, agent.generation) == ([1], 2)
        assert (agent.snapshot().failed, agent.snapshot().succeeded) == (7, 1)


async def test_without_callbacks_only_the_hosts_next_success_is_the_recovery():
    async with fleet_on() as fleet:
        agent = fleet.attach("A", spec=spec())
        crash(agent)
        assert agent.snapshot().health == 2
        await asyncio.sleep(10_000)  # nobody to ask: waiting proves nothing, and costs nothing
        assert (agent.snapshot().actual, agent.snapshot().health) == ("recovering", 1)
        assert len(events_of(fleet, "lapsed")) == 1
        with agent.task("x"):
            pass
        assert (agent.snapshot().actual, agent.snapshot().health) == ("running", 0)


class TestQuarantine:
    def attach(self, fleet, *, probe=None, interval=60.0):
        agent = fleet.attach(
            "A",
            probe=probe,
            spec=spec(
                intensity=Intensity(max_restarts=0, period=10),
                quarantine=Quarantine(probe_interval=interval),
                probing=Probing(every=None),
            ),
        )
        crash(agent)
        return agent

    async def test_a_quarantined_agent_is_probed_slowly_until_it_passes(self):
        asked = []

        async def probe():
            asked.append(asyncio.get_running_loop().time())
            return len(asked) >= 3

        async with fleet_on() as fleet:
            agent = self.attach(fleet, probe=probe)
            await asyncio.sleep(1)
            assert (agent.snapshot().actual, agent.snapshot().health) == ("quarantined", 2)
            await asyncio.sleep(200)
            assert asked[:3] == [60, 120, 180]
            assert (agent.snapshot().actual, agent.snapshot().health) == ("running", 0)

    async def test_one_that_works_again_unasked_has_recovered_by_itself(self):
        async with fleet_on() as fleet:
            agent = self.attach(fleet, interval=None)
            await asyncio.sleep(100)
            assert agent.snapshot().actual == "quarantined"
            for _ in range(2):
                with agent.task("x"):
                    await asyncio.sleep(1)
            await asyncio.sleep(1)
            assert (agent.snapshot().actual, agent.snapshot().health) == ("running", 0)

    async def test_one_that_goes_on_failing_has_not(self):
        async with fleet_on() as fleet:
            agent = self.attach(fleet, interval=None)
            for _ in range(3):
                with pytest.raises(OSError), agent.task("x"):
                    raise OSError
                await asyncio.sleep(1)
            assert (agent.snapshot().actual, agent.snapshot().health) == ("quarantined", 2)

    async def test_an_operators_quarantine_is_not_lifted_by_work(self):
        async with fleet_on() as fleet:
            agent = fleet.attach("A", probe=lambda: True, spec=spec())
            await agent.quarantine(wait=True)
            for _ in range(3):
                with agent.task("x"):
                    await asyncio.sleep(1)
            await asyncio.sleep(500)
            assert agent.snapshot().actual == "quarantined"
            await agent.reset(wait=True)
            assert agent.snapshot().actual == "running"


async def test_an_agent_attached_before_the_start_is_up_once_the_fleet_is():
    supervisor = Supervisor(clock=current_clock())
    agent = supervisor.attach("A", recover=lambda: None)
    with agent.task("early"):
        pass
    async with supervisor:
        with agent.task("x"):
            pass
        assert (agent.snapshot().succeeded, agent.snapshot().actual) == (2, "running")


async def test_a_recovery_of_the_hosts_that_runs_does_not_outlive_the_fleet():
    ended = []

    async def recover():
        try:
            await asyncio.sleep(1e6)
        finally:
            ended.append(True)

    async with fleet_on() as fleet:
        agent = fleet.attach("A", recover=recover, spec=spec(deadlines=Deadlines(start=1e6)))
        crash(agent)
        await asyncio.sleep(1)
    await asyncio.sleep(0)
    assert ended == [True]
