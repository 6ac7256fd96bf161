"""Worker processes that die in the middle of a task (16), through the supervisor, for real."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from behaviour_workers import Body, Fragile
from support import events_of, fleet_on, spec, until

from fleetmon import (
    DeadLetteredError,
    Deadlines,
    HangLimits,
    Shutdown,
    Supervisor,
    SupervisorSettings,
    TaskFailedError,
    TaskHungError,
    WorkerDiedError,
)

pytestmark = pytest.mark.anyio

both_loops = pytest.mark.parametrize(
    "loop", ["asyncio", pytest.param("uvloop", marks=pytest.mark.uvloop)]
)


class Echo:
    async def handle(self, task):
        return task.payload


def in_process(**values):
    return spec(executor="process", **values)


def pids(marker):
    return [int(line) for line in marker.read_text().split()] if marker.exists() else []


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@both_loops
@pytest.mark.parametrize("fate", ["fail", "requeue", "dead_letter"])
async def test_16_a_worker_killed_in_the_middle_of_a_task_gives_it_exactly_one_fate(
    tmp_path, fate, loop
):
    marker = tmp_path / "pids"
    async with fleet_on(virtual=False) as fleet:
        other = await fleet.add("B", Echo, spec=spec())
        agent = await fleet.add("A", Fragile, spec=in_process(in_flight=fate))
        task = await agent.submit("x", ("wait", str(marker)))
        waiting = await agent.submit("x", ("fine", None))
        (pid,) = await until(lambda: pids(marker))
        os.kill(pid, signal.SIGKILL)
        if fate == "requeue":
            assert await task == 2
        else:
            error = TaskFailedError if fate == "fail" else DeadLetteredError
            with pytest.raises(error, match="went down under it"):
                await task
        assert await waiting == 1  # it only waited: not blamed
        assert await other.run("x", 5) == 5
        now = agent.snapshot()
        ends = (now.succeeded, now.failed, now.dead_lettered, now.numbers.redelivered)
        assert (
            ends
            == {
                "fail": (1, 1, 0, 0),
                "requeue": (2, 0, 0, 1),
                "dead_letter": (1, 0, 1, 0),
            }[fate]
        )
        assert now.numbers.failures["process_died"] == 1
        (lapse,) = events_of(fleet, "lapsed")
        assert (lapse.agent_id, lapse.data["reason"]) == ("A", "its worker died")
        assert (now.generation, now.zombies, other.generation) == (2, 0, 1)
        assert len(fleet.dead_letters()) == (fate == "dead_letter")


@pytest.mark.parametrize("how", ["kill", "segfault"])
async def test_17_a_task_that_kills_every_worker_goes_to_the_dead_letters(how):
    async with fleet_on(virtual=False) as fleet:
        agent = await fleet.add(
            "A", Fragile, spec=in_process(in_flight="requeue", max_deliveries=2)
        )
        poison = await agent.submit("x", (how, None))
        with pytest.raises(DeadLetteredError, match="2 times"):
            await poison
        assert await agent.run("x", ("fine", None), timeout=5) == 1
        (letter,) = fleet.dead_letters()
        assert (letter.attempts, letter.payload) == (2, (how, None))
        assert [e.data["error_type"] for e in events_of(fleet, "lapsed")] == ["process_died"] * 2


async def test_16_a_segfault_is_told_with_its_signal_and_its_line():
    async with fleet_on(virtual=False) as fleet:
        agent = await fleet.add("A", Fragile, spec=in_process())
        with pytest.raises((TaskFailedError, WorkerDiedError)) as caught:
            await agent.run("x", ("segfault", None))
        cause = caught.value.__cause__ or caught.value
        assert isinstance(cause, WorkerDiedError)
        assert cause.exitcode == -signal.SIGSEGV
        assert "behaviour_workers.py" in cause.blame
        assert agent.snapshot().last_lapse.error_type == "process_died"


@both_loops
async def test_13_a_hang_in_c_is_killed_for_real_and_the_agent_serves_again(tmp_path, loop):
    marker = tmp_path / "pids"
    limits = HangLimits(soft=None, hard=0.1, cancel_grace=0.05)
    async with fleet_on(virtual=False) as fleet:
        agent = await fleet.add(
            "A",
            Fragile,
            spec=in_process(
                task_limits={"hang": limits}, deadlines=Deadlines(stop=0.2), in_flight="requeue"
            ),
        )
        task = await agent.submit("hang", ("hang in C", str(marker)))
        waiting = await agent.submit("x", ("fine", None))
        with pytest.raises(TaskHungError):
            await task
        assert await waiting == 1
        (pid,) = pids(marker)  # a hang is not delivered again
        await until(lambda: not alive(pid))
        assert agent.snapshot().zombies == 0
        assert agent.snapshot().generation == 2
        assert events_of(fleet, "lapsed")[0].data["error_type"] == "hang"


async def test_16_a_body_in_a_worker_that_dies_gives_back_what_it_had_taken():
    async with fleet_on(virtual=False) as fleet:
        agent = await fleet.add("A", Body, spec=in_process(in_flight="requeue"))
        tasks = [await agent.submit("x", p) for p in ("fine", "poison", "fine")]
        assert [await task for task in tasks] == [1, 2, 1]
        assert agent.snapshot().numbers.redelivered == 1
        assert agent.generation == 2


async def test_20_workers_that_had_to_be_killed_in_the_end_are_reaped_by_the_time_it_is_over(
    tmp_path,
):
    markers = [tmp_path / name for name in "ABC"]
    settings = SupervisorSettings(shutdown=Shutdown(drain=0.0, stop=0.05))
    async with Supervisor(settings) as fleet:
        for marker in markers:
            agent = await fleet.add(marker.name, Fragile, spec=in_process())
            await agent.submit("x", ("hang in C", str(marker)))
            await until(lambda marker=marker: pids(marker))
    # a process that nobody has waited for is still listed
    assert [Path(f"/proc/{pid}").exists() for marker in markers for pid in pids(marker)] == [
        False
    ] * 3
    assert fleet.report.left_behind == ()


async def test_20_no_worker_outlives_the_supervisor(tmp_path):
    marker = tmp_path / "pids"
    async with fleet_on(virtual=False) as fleet:
        agent = await fleet.add("A", Fragile, spec=in_process(deadlines=Deadlines(stop=0.3)))
        await agent.submit("x", ("hang in C", str(marker)))
        (pid,) = await until(lambda: pids(marker))
    await until(lambda: not alive(pid))
    assert agent.snapshot().cancelled == 1
