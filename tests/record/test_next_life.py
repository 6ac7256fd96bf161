"""What the next life of a fleet takes over from a record: streaks and unfinished tasks."""

from __future__ import annotations

import asyncio
import pickle
import subprocess
import sys
import threading

import pytest
from helpers_recorder import QUICK, FatalError, calm, committed, recorder, worker

from fleetmon import AgentSpec, EventKind, Quarantine, Recording, Supervisor
from fleetmon.record.store import lock_of
from fleetmon.testing import capture

pytestmark = pytest.mark.anyio


async def test_the_streak_of_restarts_is_neither_forgotten_nor_invented_over_a_restart(tmp_path):
    path = tmp_path / "fleet.db"
    spec = AgentSpec(
        backoff=QUICK,
        intensity={"max_restarts": 3, "period": 600.0},
        quarantine=Quarantine(probe_interval=None),
    )

    async def lapse(fleet, agent, events):
        events.clear()
        with pytest.raises(FatalError):
            await agent.run("t", "fatal")
        while agent.snapshot().lifecycle not in ("running", "quarantined"):
            await asyncio.sleep(0.01)

    async def live(lapses):
        supervisor = Supervisor(calm(), recorder=recorder(path))
        events = capture(supervisor)
        async with supervisor as fleet:
            agent = await fleet.add("A", worker, spec=spec)
            calm_one = await fleet.add("B", worker, spec=spec)
            told = [agent.snapshot().streak]
            async with asyncio.timeout(20):
                for _ in range(lapses):
                    await lapse(fleet, agent, events)
                    told.append(agent.snapshot().streak)
            assert calm_one.snapshot().streak == 0
            return told, agent.snapshot().lifecycle

    assert await live(2) == ([0, 1, 2], "running")
    assert await live(0) == ([2], "running")  # starting the host anew is no lapse
    assert await live(1) == ([2, 3], "running")
    told, lifecycle = await live(1)  # the fourth within the period, over four lives
    assert (told[0], lifecycle) == (3, "quarantined")


async def test_a_streak_that_an_operator_has_reset_is_forgotten_for_good(tmp_path):
    path = tmp_path / "fleet.db"
    spec = AgentSpec(backoff=QUICK)
    for lapses, before in ((2, 0), (0, 2), (0, 0)):
        async with Supervisor(calm(), recorder=recorder(path)) as fleet:
            agent = await fleet.add("A", worker, spec=spec)
            assert agent.snapshot().streak == before
            async with asyncio.timeout(20):
                for n in range(lapses):
                    with pytest.raises(FatalError):
                        await agent.run("t", "fatal")
                    while agent.snapshot().lifecycle != "running" or agent.generation < n + 2:
                        await asyncio.sleep(0.01)
            if not lapses:
                await agent.reset()


async def test_only_payloads_of_tasks_that_are_to_survive_are_stored(tmp_path):
    path = tmp_path / "fleet.db"
    record = recorder(path)
    async with Supervisor(calm(), recorder=record) as fleet:
        plain = await fleet.add("plain", worker)
        durable = await fleet.add("durable", worker, spec=AgentSpec(after_crash="redeliver"))
        tasks = [await agent.submit("t", 30.0) for agent in (plain, plain, durable, durable)]
        await committed(record)
        with Recording(path) as read:
            stored = dict(read._all("SELECT task_id, payload FROM open"))
            assert stored == {
                tasks[0].id: None,
                tasks[2].id: pickle.dumps(30.0, pickle.HIGHEST_PROTOCOL),
                tasks[3].id: pickle.dumps(30.0, pickle.HIGHEST_PROTOCOL),
            }
        await fleet.shutdown(drain=0)
    assert path.stat().st_mode & 0o777 == 0o600
    assert lock_of(path).stat().st_mode & 0o777 == 0o600
    with Recording(path) as read:
        assert read.interrupted() == (), "a stop cancels what waits; nobody is surprised by it"


async def test_a_payload_that_cannot_be_kept_is_told_once_and_the_task_runs_all_the_same(tmp_path):
    record = recorder(tmp_path / "fleet.db", max_payload=100)
    supervisor = Supervisor(calm(), recorder=record)
    events = capture(supervisor)

    async def taker():
        async def handle(payload):
            return type(payload).__name__

        return handle

    async with supervisor as fleet:
        for name, payload in (("A", threading.Lock()), ("B", "x" * 200)):
            agent = await fleet.add(name, taker, spec=AgentSpec(after_crash="redeliver"))
            for _ in range(3):
                assert await agent.run("t", payload) == type(payload).__name__
        told = [(e.agent_id, e.data["error"]) for e in events.of(EventKind.PAYLOAD_NOT_KEPT)]
        assert told == [
            ("A", "it cannot be pickled: TypeError"),
            ("B", "it has 215 bytes, and the recorder keeps 100"),
        ]
        assert fleet.snapshot().fleet.recorder.drops["payloads"] == 6


async def test_a_task_that_takes_its_process_down_again_and_again_ends_as_a_dead_letter(tmp_path):
    path = tmp_path / "fleet.db"
    program = (
        "import asyncio, os, sys\n"
        "from fleetmon import *\n"
        "async def factory():\n"
        "    async def handle(payload):\n"
        "        await asyncio.to_thread(record.flush)\n"
        "        os.kill(os.getpid(), 9)\n"
        "    return handle\n"
        "async def main():\n"
        "    async with Supervisor(recorder=record) as fleet:\n"
        "        agent = await fleet.add('A', factory, spec=AgentSpec(after_crash='redeliver'))\n"
        "        if not fleet.interrupted():\n"
        "            await agent.submit('poison', 'it')\n"
        "        letters = [(x.payload, x.attempts) for x in fleet.dead_letters()]\n"
        "        if letters:\n"
        "            print(letters, agent.snapshot().balanced, agent.snapshot().dead_lettered)\n"
        "            return\n"
        "        await asyncio.sleep(60)\n"
        "record = Recorder(sys.argv[1], interval=0.02)\n"
        "asyncio.run(main())\n"
    )

    def live():
        return subprocess.run(
            [sys.executable, "-c", program, str(path)],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )

    for _ in range(3):
        assert (await asyncio.to_thread(live)).returncode == -9
    last = await asyncio.to_thread(live)
    assert last.stdout == "[('it', 3)] True 1\n", last.stderr
    with Recording(path) as read:
        assert [t.fate for t in read.interrupted()] == ["redelivered"] * 2 + ["dead_lettered"]
        assert [t.attempt for t in read.interrupted()] == [1, 2, 3]


async def test_interrupted_tasks_of_an_agent_that_is_not_added_wait_for_a_later_life(tmp_path):
    path = tmp_path / "fleet.db"
    record = recorder(path)
    spec = AgentSpec(after_crash="redeliver")
    supervisor = Supervisor(calm(), recorder=record)
    await supervisor.__aenter__()
    agent = await supervisor.add("A", worker, spec=spec)
    await agent.submit("t", 0.01)
    await agent.submit("t", 1000.0)
    with supervisor.attach("own").task("t"):
        await committed(record)
        with record._desk._store.transaction() as database:  # as a crash would leave it
            tables = [
                database.execute(f"SELECT * FROM {table}").fetchall() for table in ("lives", "open")
            ]
    await supervisor.shutdown(drain=0)
    crashed = recorder(tmp_path / "other.db")
    async with Supervisor(calm(), recorder=crashed):
        pass
    import sqlite3

    with sqlite3.connect(tmp_path / "other.db") as database:
        for table, rows in zip(("lives", "open"), tables, strict=True):
            for row in rows:
                values = (99, *row[1:])
                marks = ",".join("?" * len(row))
                database.execute(f"INSERT INTO {table} VALUES ({marks})", values)
    database.close()
    async with Supervisor(calm(), recorder=recorder(tmp_path / "other.db")) as fleet:
        fates = {(t.agent_id, t.fate) for t in fleet.interrupted()}
        assert fates == {("A", "pending"), ("own", "uncertain")}
    async with Supervisor(calm(), recorder=recorder(tmp_path / "other.db")) as fleet:
        assert {t.fate for t in fleet.interrupted()} == {"pending"}, "uncertain ones are told once"
        other = await fleet.add("A", worker, spec=AgentSpec(**spec.model_dump(exclude_unset=True)))
        assert {t.fate for t in fleet.interrupted()} == {"redelivered"}
        assert other.snapshot().assigned in (1, 2)
        await fleet.shutdown(drain=0)
