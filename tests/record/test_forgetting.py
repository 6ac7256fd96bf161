"""What is too much or too old for a record: the oldest is forgotten first."""

from __future__ import annotations

import asyncio
import time

import pytest
from helpers_clock import Turned
from helpers_recorder import QUICK, calm, committed, recorder, worker

from fleetmon import AgentSpec, Recording, Supervisor
from fleetmon.cli import main

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("set_back", [0.0, 3600.0])
async def test_a_record_is_bounded_and_forgets_the_oldest_first(tmp_path, set_back):
    path = tmp_path / "fleet.db"
    record = recorder(path, max_bytes=1024 * 1024)
    clock = Turned()
    async with Supervisor(calm(event_ring=100), recorder=record, clock=clock) as fleet:
        agent = await fleet.add("A", worker, spec=AgentSpec(backoff=QUICK))
        for turn in range(40):
            if turn == 10:
                clock.by = -set_back
            for _ in range(120):
                await agent.pause(reason="x" * 200)
                await agent.resume(reason="x" * 200)
            await committed(record)
            record._desk._tidy_at = 0.0
        await asyncio.sleep(0.3)  # some pictures after the last pruning
        assert record.reading().drops == {"tasks": 0, "events": 0, "payloads": 0}
        assert path.stat().st_size <= 1024 * 1024
        with Recording(path) as read:
            kept = read.events()
            assert kept[-1].seq == fleet.snapshot().seq
            assert 500 < len(kept) < 9000
            assert [e.seq for e in kept] == list(range(kept[0].seq, kept[-1].seq + 1))
            picture = read.at(0.0)
            assert picture.row("A").lifecycle in ("running", "paused")


async def test_what_is_too_old_is_forgotten_and_said_to_be_but_not_the_life_that_goes_on(
    tmp_path, capsys
):
    path = tmp_path / "fleet.db"
    began = time.time()
    record = recorder(path, max_age=1.0)
    async with Supervisor(calm(), recorder=record) as fleet:
        agent = await fleet.add("A", worker)
        await agent.run("t")
        await committed(record)
        async with asyncio.timeout(20):
            with Recording(path) as read:
                while read.tasks():
                    record._desk._tidy_at = 0.0
                    await agent.restart()
                    await asyncio.sleep(0.1)
                assert [life.ended for life in read.lives()] == [""]
                assert read.at(time.time()).row("A").restarts > 0
                since, until = read.forgotten()
                assert began <= since < until < time.time()
                assert all(event.at >= until for event in read.events())
                assert read.gaps() == ()  # it lacks nothing of what it is there to tell
    code, out = main(["history", "A", "--record", str(path)]), capsys.readouterr().out
    assert (code, "was forgotten to make room" in out.splitlines()[1]) == (0, True)
