"""Bad input: one clear error that names value and fix, and nothing that runs is harmed (25 too)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import threading

import pytest
from support import Books, Scrapes, fleet_on, get, raising, spec

from fleetmon import (
    AgentSpec,
    AgentStartError,
    DuplicateAgentError,
    FleetmonError,
    ListenError,
    Metrics,
    NotRunningError,
    Roster,
    RosterEntry,
    SpecError,
    Supervisor,
    SupervisorSettings,
    UnknownAgentError,
)
from fleetmon.testing import current_clock

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]

NASTY = 'a"b\\c\nd\té🦊 {x="y"}'


class Echo:
    async def handle(self, task):
        return task.payload


async def works(fleet):
    """Whoever was there before still is, and is well."""
    return await fleet.agent("well").run("x", 1, timeout=5) == 1


@pytest.fixture
async def fleet():
    async with fleet_on() as fleet:
        await fleet.add("well", Echo, spec=spec())
        yield fleet
        assert await works(fleet)
        assert (await get(fleet.metrics_app()))[0] == 200


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"capacity": 0}, "capacity=0"),
        ({"capacity": "many"}, "capacity='many'"),
        ({"restart": "sometimes"}, "restart='sometimes'"),
        ({"capasity": 4}, "capasity=4: no such field"),
        ({"backoff": {"floor": 9, "cap": 1}}, "floor 9.0 is above cap 1.0"),
        ({"queue": -1}, "queue=-1"),
        ({"hang": {"soft": float("nan")}}, "soft=nan"),
        ({"max_deliveries": 0, "capacity": -1}, "max_deliveries=0"),
    ],
)
async def test_a_bad_spec_is_refused_at_construction_naming_field_and_value(values, named):
    with pytest.raises(SpecError) as caught:
        AgentSpec(**values)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_a_duplicate_agent_is_refused(fleet):
    for again in (lambda: fleet.add("well", Echo), lambda: asyncio.to_thread(fleet.attach, "well")):
        with pytest.raises(DuplicateAgentError, match=r"'well'.*remove"):
            await again()


async def test_an_unknown_agent_is_named_with_the_nearest(fleet):
    for ask in (
        lambda: fleet.remove("wel"),
        lambda: fleet.restart("wel"),
        lambda: asyncio.to_thread(fleet.agent, "wel"),
        lambda: asyncio.to_thread(fleet.explain, "wel"),
    ):
        with pytest.raises(UnknownAgentError, match="did you mean well"):
            await ask()


async def test_a_removed_agent_is_unknown(fleet):
    await fleet.add("gone", Echo, spec=spec())
    await fleet.remove("gone")
    with pytest.raises(UnknownAgentError):
        await fleet.remove("gone")
    with pytest.raises(UnknownAgentError):
        fleet.agent("gone")


async def test_removing_an_agent_that_is_only_declared_does_no_harm():
    roster = Roster(name="two", entries=(RosterEntry(agent_id="A"), RosterEntry(agent_id="B")))
    supervisor = Supervisor(SupervisorSettings(), roster=roster, clock=current_clock())
    async with supervisor as fleet:
        with pytest.raises(FleetmonError):
            await fleet.remove("A")
        agent = await fleet.add("A", Echo)
        assert await agent.run("x", 1) == 1


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        (raising(lambda: RuntimeError("no model file")), "no model file"),
        (object, "neither handle nor serve"),
        (lambda: Echo, "instead of an instance"),
        (type("Odd", (), {"handle": 42}), "42"),
        (type("Gen", (), {"serve": lambda self, agent: (yield)}), "generator"),
    ],
)
async def test_a_factory_that_gives_nothing_usable_is_refused(fleet, factory, said):
    with pytest.raises(AgentStartError, match=said) as caught:
        await fleet.add("bad", factory)
    assert "'bad'" in str(caught.value)
    assert [a.agent_id for a in fleet.agents] == ["well"]


@pytest.mark.parametrize("factory", [42, None, "module:Class", Echo()])
async def test_a_factory_that_cannot_be_called_is_refused(fleet, factory):
    with pytest.raises(SpecError, match="not callable"):
        await fleet.add("bad", factory)
    with pytest.raises(SpecError, match="not callable"):
        fleet.attach("bad", recover=factory or 1)


@pytest.mark.parametrize("name", ["", "  ", "x" * 65, None, 7, "\ud800"])
async def test_an_id_that_cannot_be_a_label_is_refused(fleet, name):
    with pytest.raises(SpecError, match="agent id"):
        await fleet.add(name, Echo)
    with pytest.raises(SpecError, match="agent id"):
        fleet.attach(name)


async def test_a_handler_that_is_not_there_is_named(fleet):
    with pytest.raises(AgentStartError, match=r"process.*handle"):
        await fleet.add("bad", Echo, spec=spec(handler="process"))


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
async def test_a_timeout_that_is_none_is_refused(fleet, timeout):
    with pytest.raises(SpecError, match="timeout"):
        await fleet.agent("well").run("x", timeout=timeout)


async def test_work_through_the_mailbox_of_an_observed_agent_is_refused(fleet):
    agent = fleet.attach("host")
    for call in (agent.run, agent.submit):
        with pytest.raises(FleetmonError, match="host"):
            async with asyncio.timeout(50):
                await call("x", 1)
    assert agent.snapshot().assigned == 0


async def test_labels_with_newlines_quotes_and_emoji_come_out_of_metrics_as_they_went_in(fleet):
    agent = await fleet.add(NASTY, Echo, spec=spec())
    await agent.run(NASTY, 1)
    with fleet.attach("host").task(NASTY) as task:
        task.progress(NASTY)
        task.fail(NASTY)
    books = await Scrapes(fleet).take()
    assert books.value("agents_tasks_assigned_total", agent_id=NASTY, task_type=NASTY) == 1
    assert books.value("agents_tasks_assigned_total", agent_id="host", task_type=NASTY) == 1
    assert books.value("agents_failures_total", agent_id="host", error_type="exception") == 1


@pytest.mark.parametrize("task_type", ["\ud800", 5, None, b"x", "", "x" * 100_000, ("a",)])
async def test_an_odd_task_type_breaks_neither_the_task_nor_the_scrape(fleet, task_type):
    agent = fleet.agent("well")
    assert await agent.run(task_type, 1) == 1
    with fleet.attach("host").task(task_type):
        pass
    status, text = await get(fleet.metrics_app())
    assert status == 200
    assert len(text) < 100_000
    Books.of(text).check()


async def test_labels_that_look_alike_once_encoded_are_one_series(fleet):
    host = fleet.attach("host")
    for task_type in ("\ud800", "\ud801", "?", "y" * 300, "y" * 301):
        with contextlib.suppress(FleetmonError), host.task(task_type):
            pass
    (await Scrapes(fleet).take()).check()  # no series twice


async def test_25_task_types_are_bounded_and_the_rest_is_other():
    async with fleet_on(metrics=Metrics(task_types=5)) as fleet:
        agent = await fleet.add("A", Echo, spec=spec(task_types=("chat", "train"), capacity=10))
        host = fleet.attach("B")
        for n in range(1000):
            with host.task(f"job-{n}"):
                pass
        await asyncio.gather(*[agent.run(f"job-{n}") for n in range(1000)])
        await agent.run("train")
        for name, kept in (
            ("A", {"chat", "train", "job-0", "job-1", "job-2", "other"}),
            ("B", {"job-0", "job-1", "job-2", "job-3", "job-4", "other"}),
        ):
            types = {t.task_type: t.assigned for t in fleet.agent(name).snapshot().numbers.types}
            assert set(types) == kept
            assert types["other"] >= 995
        assert fleet.agent("A").snapshot().assigned == 1001


async def test_25_error_types_are_an_allow_list_and_the_rest_is_exception():
    class ModelOverloadedError(Exception):
        pass

    class Failing:
        async def handle(self, task):
            if task.payload == "declared":
                raise ModelOverloadedError
            raise type(f"Error{task.payload}", (Exception,), {})

    async with fleet_on() as fleet:
        agent = await fleet.add(
            "A",
            Failing,
            spec=spec(error_types=("ModelOverloadedError",), max_consecutive_failures=None),
        )
        before = set(agent.snapshot().numbers.failures)
        for n in range(100):
            with contextlib.suppress(Exception):
                await agent.run("x", n)
        with pytest.raises(ModelOverloadedError):
            await agent.run("x", "declared")
        host = fleet.attach("B")
        for n in range(100):
            with host.task("x") as task:
                task.fail(f"reason {n}")
        numbers = agent.snapshot().numbers
        assert set(numbers.failures) == before
        assert numbers.failures["ModelOverloadedError"] == 1
        assert numbers.failures["exception"] == 100
        assert host.snapshot().numbers.failures["exception"] == 100


async def test_a_task_cannot_be_begun_or_ended_twice(fleet):
    host = fleet.attach("host")
    task = host.task("x")
    with task, pytest.raises(RuntimeError, match="begun before"):
        task.__enter__()
    with pytest.raises(RuntimeError, match="begun before"), task:
        pass
    with pytest.raises(RuntimeError, match="submit"):
        await task
    assert (host.snapshot().assigned, host.snapshot().succeeded) == (1, 1)


async def test_an_unknown_command_is_named_with_those_that_there_are(fleet):
    with pytest.raises(SpecError, match=r"'explode'.*restart"):
        await fleet.command("explode", "well")


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_supervisor_that_does_not_run_says_so(when):
    supervisor = Supervisor(SupervisorSettings(name="mine"), clock=current_clock())
    host = supervisor.attach("host")
    if when == "after":
        async with supervisor:
            pass
    for call in (
        lambda: supervisor.add("A", Echo),
        lambda: host.run("x"),
        host.restart,
        lambda: asyncio.to_thread(lambda: asyncio.run(host.run("x"))),
        lambda: asyncio.to_thread(lambda: asyncio.run(host.restart())),
    ):
        try:
            answer = await call()
        except FleetmonError:
            continue
        assert type(answer).__name__ == "Rejected"
    with host.task("x"):  # the host's own work goes on whatever we do
        pass
    with pytest.raises(NotRunningError, match="metrics"):
        _ = supervisor.metrics_url


async def test_a_supervisor_cannot_be_entered_twice():
    supervisor = Supervisor(SupervisorSettings(), clock=current_clock())
    async with supervisor:
        with pytest.raises(NotRunningError, match="started before"):
            await supervisor.__aenter__()
        agent = await supervisor.add("A", Echo)
        assert await agent.run("x", 1) == 1
    with pytest.raises(NotRunningError, match="started before"):
        await supervisor.__aenter__()


async def test_a_port_in_use_is_refused_and_leaves_nothing_running():
    before = set(threading.enumerate())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        supervisor = Supervisor(SupervisorSettings(metrics=Metrics(listen=address)))
        with pytest.raises(ListenError, match="port 0") as caught:
            await supervisor.__aenter__()
        assert address in str(caught.value)
        with pytest.raises(ListenError):
            Supervisor.start_in_thread(SupervisorSettings(metrics=Metrics(listen=address)))
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("listen", ["9003", "localhost", ":9003", "127.0.0.1:99999", "a:b"])
async def test_an_address_that_is_none_is_refused(listen):
    with pytest.raises(SpecError, match="HOST:PORT"):
        Metrics(listen=listen)


def test_import_starts_nothing_and_loads_nothing_heavy():
    code = (
        "import sys, threading; before = set(sys.modules); import fleetmon; dir(fleetmon); "
        "new = set(sys.modules) - before; "
        "assert threading.active_count() == 1; "
        "heavy = {m.split('.')[0] for m in new} & {'anyio', 'asyncio', 'pydantic', 'uvicorn', "
        "'opentelemetry', 'prometheus_client', 'multiprocessing', 'textual', 'yaml', 'ssl'}; "
        "assert not heavy, heavy; print(len(new))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < 30


@pytest.mark.parametrize("kind", ["lapsed", "task_failed"])
async def test_the_name_of_an_exception_takes_no_more_room_than_a_line(kind):
    endless = type("E" * 100_000, (Exception,), {})

    class Falling:
        async def handle(self, task):
            raise endless

        async def serve(self, agent):
            await asyncio.sleep(1.0)
            raise endless

    async with fleet_on() as fleet:
        agent = await fleet.add("A", Falling, spec=spec())
        with pytest.raises(endless):
            await agent.run("x")
        await asyncio.sleep(5)
        told = [e.data["error"] for e in fleet.recent_events() if e.kind == kind]
        assert {"E" * 200} == set(told)
