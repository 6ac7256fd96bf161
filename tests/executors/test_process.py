"""Real worker processes, really killed; on asyncio and on uvloop."""

from __future__ import annotations

import asyncio
import functools
import gc
import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import asynccontextmanager
from pathlib import Path

import agents
import pytest

from fleetmon.errors import RemoteError, SpecError, TaskFailedError, WorkerDiedError
from fleetmon.runtime.executors import make_executor, wire
from fleetmon.spec import AgentSpec

pytestmark = pytest.mark.anyio
_NO_UVLOOP = importlib.util.find_spec("uvloop") is None


@pytest.fixture(
    params=[
        pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
        pytest.param(
            ("asyncio", {"use_uvloop": True}),
            id="uvloop",
            marks=pytest.mark.skipif(_NO_UVLOOP, reason="uvloop is not installed"),
        ),
    ]
)
def anyio_backend(request):
    return request.param


@asynccontextmanager
async def running(factory, host, **spec):
    executor = make_executor("process", factory, AgentSpec(**spec), host)
    await executor.start()
    try:
        yield executor
    finally:
        await executor.stop()


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def descriptors():
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_tasks_run_in_a_child_that_ignores_ctrl_c_and_loads_no_heavy_library(host, new_task):
    async with running(agents.make_sync, host) as executor:
        assert await executor.call(new_task(["add", 2, 3])) == 5
        pid, parent, ignored = await executor.call(new_task(["pid"]))
        assert (pid, parent, ignored) == (executor.pid, os.getpid(), True)
        loaded = await executor.call(new_task(["modules"]))
        assert not {"pydantic", "anyio", "opentelemetry", "structlog"} & set(loaded)
        assert await executor.probe()
        assert (executor.has_handle, executor.has_serve, executor.has_probe) == (True, False, False)
        big = await executor.call(new_task(["big", 3_000_000]))
        assert len(big) == 3_000_000
    assert not alive(pid)
    assert host.deaths == []


async def test_failures_arrive_as_themselves_or_faithfully_described(host, new_task):
    async with running(agents.make_sync, host) as executor:
        with pytest.raises(agents.CustomError) as own:
            await executor.call(new_task(["raise", "custom"]))
        assert own.value.code == 7
        assert "in sync_job" in own.value.__notes__[0]
        with pytest.raises(RemoteError, match=r"agents\.Unpicklable: broken with E42") as told:
            await executor.call(new_task(["raise", "unpicklable"]))
        assert (told.value.error_code, told.value.is_retryable) == ("E42", True)
        assert "in sync_job" in told.value.traceback
        for name, kind in [
            ("exit", "SystemExit"),
            ("interrupt", "KeyboardInterrupt"),
            ("stop", "StopIteration"),
            ("cancelled", "asyncio.exceptions.CancelledError"),
        ]:
            with pytest.raises(RemoteError) as ended:
                await executor.call(new_task(["raise", name]))
            assert ended.value.type_name == kind
        with pytest.raises(TaskFailedError, match="its result does not pickle"):
            await executor.call(new_task(["lambda"]))
        with pytest.raises(TaskFailedError, match=r"payload of task .* does not pickle"):
            await executor.call(new_task(lambda: None))
        with pytest.raises(TaskFailedError, match="more than 67108864"):
            await executor.call(new_task(b"x" * (wire.MAX_BODY + 1)))
        assert await executor.call(new_task(["add", 1, 1])) == 2


@pytest.mark.parametrize(
    ("payload", "code", "words"),
    [
        (["segv"], -signal.SIGSEGV, r"SIGSEGV at .*agents\.py:\d+ in sync_job"),
        (["kill"], -signal.SIGKILL, "SIGKILL; if nobody killed it"),
        (["exit"], 7, "exited with code 7"),
    ],
    ids=["segfault", "kill", "exit"],
)
async def test_a_worker_that_dies_is_told_once_and_fails_all_that_waits(
    host, new_task, payload, code, words
):
    executor = make_executor("process", agents.make_sync, AgentSpec(capacity=2), host)
    await executor.start()
    calls = [executor.call(new_task(["sleep", os.devnull])), executor.call(new_task(payload))]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    for error in outcomes:
        assert isinstance(error, WorkerDiedError)
        assert error.exitcode == code
    await host.until(lambda: host.deaths)
    with pytest.raises(WorkerDiedError, match=words):
        raise host.deaths[0]
    with pytest.raises(WorkerDiedError):
        await executor.call(new_task(["add", 1, 1]))
    await executor.stop()
    assert len(host.deaths) == 1


@pytest.mark.parametrize("how", ["sleep", "regex"])
async def test_a_hang_in_c_is_blamed_and_killed_for_real(host, new_task, tmp_path, how):
    executor = make_executor("process", agents.make_sync, AgentSpec(), host)
    await executor.start()
    marker = tmp_path / "there"
    call = asyncio.create_task(executor.call(new_task([how, str(marker)])))
    await until(marker.exists)
    source = Path(agents.__file__)
    line = int((await executor.blame()).partition(":")[2].split()[0])
    wanted = "time.sleep(600)" if how == "sleep" else "re.match"
    assert wanted in source.read_text().splitlines()[line - 1]
    call.cancel()
    await asyncio.wait([call], timeout=0.05)
    assert not call.done()  # sync work cannot be stopped: only the kill ends it
    executor.kill()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert not alive(executor.pid)
    await executor.stop()
    assert host.deaths == []


async def test_cancelling_reaches_asynchronous_work_which_ends_in_order(host, new_task, tmp_path):
    log = tmp_path / "log"
    factory = functools.partial(agents.AsyncAgent, str(log))
    async with running(factory, host, capacity=2) as executor:
        call = asyncio.create_task(executor.call(new_task("hang")))
        await until(lambda: "hanging" in log.read_text())
        assert await executor.call(new_task("beside")) == "beside"
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        early = asyncio.create_task(executor.call(new_task("hang")))
        await asyncio.sleep(0)
        early.cancel()
        with pytest.raises(asyncio.CancelledError):
            await early
        with pytest.raises(RemoteError, match="CancelledError"):
            await executor.call(new_task("cancel myself"))
        task = new_task("facts", deadline=time.monotonic() + 100, carrier={"traceparent": "00"})
        facts = await executor.call(task)
        assert facts[:3] == (task.id, "test", 1)
        assert 90 < facts[3] <= 100
        assert facts[4] == {"traceparent": "00"}
        assert (task.id, "half") in host.notes
    lines = log.read_text().splitlines()
    assert lines[:2] == ["built", "started"]
    assert "hang ended, cancelled=True" in lines
    assert lines[-1] == "stopped"


async def test_generators_give_lists_and_report_progress(host, new_task):
    for handler in ("count", "acount"):
        async with running(agents.Streamer, host, handler=handler) as executor:
            task = new_task(50)
            assert await executor.call(task) == list(range(50))
            assert task.id in {number for number, _ in host.notes}


@pytest.mark.parametrize("factory", [agents.Puller, agents.SyncPuller])
async def test_a_body_pulls_tasks_and_books_their_outcomes(host, new_task, factory):
    async with running(factory, host) as executor:
        body = asyncio.create_task(executor.serve())
        host.queue.put_nowait(new_task(4))
        await host.until(lambda: host.settled)
        assert host.settled == [(4, 8 if factory is agents.Puller else 5, None)]
        if factory is agents.Puller:
            assert host.beats == ["ready"]
            host.queue.put_nowait(new_task("fail"))
            await host.until(lambda: len(host.settled) == 2)
            assert host.settled[1][2].code == 9
            host.queue.put_nowait(new_task("forget"))  # succeeds when the next is asked for
            host.queue.put_nowait(new_task("leave"))
            await body
            assert host.settled[2] == ("forget", None, None)
            assert host.settled[3][:2] == ("leave", "left")
            body = asyncio.create_task(executor.serve())
            await asyncio.sleep(0)
        body.cancel()
        with pytest.raises(asyncio.CancelledError):
            await body


async def test_a_failing_start_says_why_and_leaves_nothing(host):
    before = descriptors()
    for factory, error in [
        (agents.broken_factory, agents.CustomError),
        (agents.exiting_factory, WorkerDiedError),
        (object, SpecError),
    ]:
        executor = make_executor("process", factory, AgentSpec(), host)
        with pytest.raises(error):
            await executor.start()
        await executor.stop()
        assert not alive(executor.pid)
    with pytest.raises(SpecError, match=r"lambda.* does not pickle"):
        await make_executor("process", lambda: 1, AgentSpec(), host).start()
    assert host.deaths == []
    assert descriptors() == before


async def test_a_product_that_will_not_stop_is_killed_within_the_callers_bound(host, new_task):
    executor = make_executor("process", agents.AsyncAgent, AgentSpec(), host)
    await executor.start()
    call = asyncio.create_task(executor.call(new_task("block")))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(executor.stop(), 0.1)
    with pytest.raises(WorkerDiedError):
        await call
    assert not alive(executor.pid)
    assert host.deaths == []


async def test_many_lives_leak_neither_descriptors_nor_threads_nor_zombies(host, new_task):
    threads = threading.active_count()
    before = descriptors()
    for round_ in range(4):
        executor = make_executor("process", agents.make_sync, AgentSpec(), host)
        await executor.start()
        await executor.call(new_task(["add", 1, 1]))
        if round_ % 2:
            executor.kill()
        await executor.stop()
        assert not Path(f"/proc/{executor.pid}").exists()
    assert descriptors() == before
    assert threading.active_count() == threads


async def test_what_the_agent_started_dies_with_it(host, new_task, tmp_path):
    executor = make_executor("process", agents.make_sync, AgentSpec(), host)
    await executor.start()
    path = tmp_path / "pid"
    call = asyncio.create_task(executor.call(new_task(["child", str(path)])))
    await until(lambda: path.exists() and path.read_text())
    os.kill(executor.pid, signal.SIGKILL)
    with pytest.raises(WorkerDiedError):
        await call
    await until(lambda: not alive(int(path.read_text())))
    await executor.stop()


_PARENT = """
import asyncio, sys
from conftest import Host, Task
from fleetmon.runtime.executors import make_executor
from fleetmon.spec import AgentSpec

def job(payload):
    import agents
    return agents.sync_job(payload)

def make():
    return job

async def main():
    executor = make_executor("process", make, AgentSpec(), Host())
    await executor.start()
    print(executor.pid, flush=True)
    await executor.call(Task(sys.argv[1:]))

if __name__ == "__main__":
    asyncio.run(main())
"""


@pytest.mark.parametrize("how", ["sleep", "regex"])
def test_no_orphan_outlives_a_killed_parent_however_busy(tmp_path, how):
    script = tmp_path / "parent.py"
    script.write_text(_PARENT)
    marker = tmp_path / "there"
    here = str(Path(__file__).parent)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([here, *filter(None, sys.path)])}
    with subprocess.Popen(
        [sys.executable, script, how, marker], stdout=subprocess.PIPE, env=environment, text=True
    ) as parent:
        pid = int(parent.stdout.readline())
        asyncio.run(until(marker.exists))
        assert alive(pid)
        parent.kill()
        parent.wait()
    asyncio.run(until(lambda: not alive(pid)))
