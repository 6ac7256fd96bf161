"""fleetmon.testing's virtual time, on real loops, threads and processes."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import sys
import threading
import time

import anyio
import anyio.to_thread
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fleetmon.testing as helpers
from fleetmon.testing import (
    DeadlockError,
    ForeignWorkError,
    VirtualClock,
    VirtualTimeError,
    VirtualTimeLoop,
    current_clock,
    run,
)

pytest_plugins = ["pytester"]
virtual = [pytest.mark.anyio, pytest.mark.virtual_time]


class TestClock:
    pytestmark = virtual

    async def test_a_day_of_sleep_takes_no_real_time(self, clock):
        began = time.monotonic()
        await anyio.sleep(86_400 * 3)
        assert clock.monotonic() == 259_200
        assert time.monotonic() - began < 5

    async def test_timers_fire_in_order_each_at_its_exact_moment(self, clock):
        seen = []

        async def note(delay):
            await asyncio.sleep(delay)
            seen.append((delay, clock.monotonic()))

        async with anyio.create_task_group() as group:
            for delay in (0.3, 0.1, 7.7, 0.2):
                group.start_soon(note, delay)
        assert seen == [(0.1, 0.1), (0.2, 0.2), (0.3, 0.3), (7.7, 7.7)]

    async def test_running_code_takes_no_virtual_time(self, clock):
        for _ in range(1000):
            await asyncio.sleep(0)
        assert clock.monotonic() == 0

    async def test_a_timeout_that_never_comes_due_is_not_waited_for(self, clock):
        with anyio.fail_after(3600):
            await anyio.sleep(1)
        assert clock.monotonic() == 1

    async def test_wall_jumps_leave_monotonic_time_alone(self, clock):
        before = clock.time()
        await anyio.sleep(2)
        assert clock.wall() - before == 2
        clock.set_wall(1e9)
        assert clock.time() == 1e9
        assert clock.time_ns() == 10**18
        await anyio.sleep(1)
        assert clock.time() == 1e9 + 1
        assert clock.monotonic() == 3

    async def test_advance_makes_due_timers_late_like_a_blocked_loop(self, clock):
        woke = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(1, lambda: woke.set_result(clock.monotonic()))
        clock.advance(10)
        assert await woke == 10

    @pytest.mark.parametrize("seconds", [-1.0, float("inf"), float("nan")])
    async def test_advance_refuses_what_is_no_span(self, clock, seconds):
        with pytest.raises(VirtualTimeError, match="give a finite number"):
            clock.advance(seconds)

    async def test_idle_returns_when_all_others_wait_and_moves_no_clock(self, clock):
        steps = []

        async def worker():
            for step in range(50):
                steps.append(step)
                await asyncio.sleep(0)
            await asyncio.sleep(5)
            steps.append("late")

        task = asyncio.create_task(worker())
        await clock.idle()
        assert steps == list(range(50))
        assert clock.monotonic() == 0
        await task

    async def test_cancelled_idle_leaves_nothing_behind(self, clock):
        with anyio.CancelScope() as scope:
            scope.cancel()
            await clock.idle()
        assert not clock.loop._idle_waiters

    async def test_wait_all_tasks_blocked_of_anyio_works(self):
        steps = []

        async def worker():
            for step in range(5):
                steps.append(step)
                await asyncio.sleep(0)
            await anyio.sleep_forever()

        async with anyio.create_task_group() as group:
            group.start_soon(worker)
            await anyio.wait_all_tasks_blocked()
            assert steps == [0, 1, 2, 3, 4]
            group.cancel_scope.cancel()

    async def test_cancelled_timers_are_skipped(self, clock):
        loop = asyncio.get_running_loop()
        for handle in [loop.call_later(n / 1000, pytest.fail) for n in range(1, 500)]:
            handle.cancel()
        await asyncio.sleep(9)
        assert clock.monotonic() == 9


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=20), st.floats(0, 1e9))
def test_any_set_of_timers_ends_at_the_latest_and_never_goes_back(delays, start):
    async def main():
        clock = current_clock()
        readings = [clock.monotonic()]

        async def one(delay):
            await asyncio.sleep(delay)
            readings.append(clock.monotonic())

        await asyncio.gather(*map(one, delays))
        assert readings == sorted(readings)
        return clock.monotonic()

    # A timer of less than the clock's resolution is due at once, hence the nanosecond.
    assert run(main(), start=start) == pytest.approx(start + max(delays), abs=2e-9, rel=1e-15)


class TestForeignWork:
    pytestmark = virtual

    @pytest.mark.parametrize("via", ["anyio", "executor"])
    async def test_the_clock_stands_still_while_a_worker_thread_works(self, clock, via):
        gate = threading.Event()
        seen = []

        def work():
            assert gate.wait(10)
            return clock.monotonic()

        async def deadline():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(1)
                seen.append("too early")

        timer = asyncio.create_task(deadline())
        threading.Timer(0.05, gate.set).start()
        if via == "anyio":
            at = await anyio.to_thread.run_sync(work)
        else:
            at = await asyncio.get_running_loop().run_in_executor(None, work)
        assert (at, clock.monotonic(), seen) == (0, 0, [])
        assert clock.loop.pending_foreign_work() == ()
        timer.cancel()

    async def test_a_plain_thread_wakes_the_loop_while_its_work_is_booked(self, clock):
        loop, done = clock.loop, asyncio.Event()

        def thread(work):
            with work:
                loop.call_soon_threadsafe(done.set)

        threading.Thread(target=thread, args=(loop.foreign_work("thread"),)).start()
        with anyio.fail_after(0.001):
            await done.wait()
        assert clock.monotonic() == 0

    async def test_work_that_ends_without_a_word_lets_time_go_on(self, clock):
        work = clock.loop.foreign_work("silent")
        threading.Timer(0.02, work.done).start()
        await asyncio.sleep(4)
        work.done()
        assert clock.monotonic() == 4

    async def test_idle_waits_for_foreign_work(self, clock):
        done = []
        work = clock.loop.foreign_work("other")
        threading.Timer(0.02, lambda: (done.append(1), work.done())).start()
        await clock.idle()
        assert done == [1]

    async def test_elapse_passes_time_in_order_beside_a_hanging_thread(self, clock):
        gate, seen = threading.Event(), []
        task = asyncio.create_task(anyio.to_thread.run_sync(gate.wait))
        for second in (1, 2, 9):
            clock.loop.call_later(second, lambda: seen.append(clock.monotonic()))
        await clock.elapse(5)
        assert seen == [1, 2]
        assert clock.loop.pending_foreign_work() == ("AnyIO worker thread",)
        gate.set()
        await task

    async def test_the_clock_stands_still_while_a_child_process_lives(self, clock):
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "import sys; sys.stdin.read()", stdin=asyncio.subprocess.PIPE
        )
        assert clock.loop.pending_foreign_work() == (f"child process {child.pid}",)
        assert await asyncio.wait_for(child.communicate(b""), 0.001) == (None, None)
        assert (child.returncode, clock.monotonic()) == (0, 0)
        await asyncio.sleep(1)
        assert clock.monotonic() == 1

    async def test_sockets_are_served_before_time_passes(self, clock):
        async def echo(reader, writer):
            writer.write(await reader.readline())
            await writer.drain()
            writer.close()
            await writer.wait_closed()

        async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"hello\n")
            assert await reader.readline() == b"hello\n"
            writer.close()
            await writer.wait_closed()
        assert clock.monotonic() == 0


def test_a_failed_hand_over_to_an_executor_books_nothing():
    class Broken:
        def submit(self, *_):
            raise RuntimeError("no threads left")

    async def main():
        loop = asyncio.get_running_loop()
        with pytest.raises(RuntimeError, match="no threads left"):
            loop.run_in_executor(Broken(), print)
        return loop.pending_foreign_work()

    assert run(main()) == ()


def test_foreign_work_that_never_reports_is_named_when_patience_ends():
    async def main():
        with current_clock().loop.foreign_work("worker 3"):
            await asyncio.sleep(1)

    with pytest.raises(ForeignWorkError, match=r"0\.02 s, waiting for worker 3") as caught:
        run(main(), patience=0.02)
    assert (caught.value.pending, caught.value.patience) == (("worker 3",), 0.02)


def test_a_loop_with_only_a_listening_socket_waits_really_then_says_so():
    async def main():
        async with await asyncio.start_server(print, "127.0.0.1", 0):
            await asyncio.get_running_loop().create_future()

    with pytest.raises(ForeignWorkError, match=r"open file\(s\) or socket\(s\)"):
        run(main(), patience=0.02)


class TestDeadlock:
    def test_it_is_raised_at_once_and_names_each_task_with_its_line(self):
        async def stuck():
            await asyncio.Event().wait()

        async def main():
            other = asyncio.create_task(stuck(), name="other")
            await asyncio.sleep(3)
            await other

        with pytest.raises(DeadlockError, match="at virtual time 3 s") as caught:
            run(main())
        assert len(caught.value.waiting) == 2
        assert any(
            line.startswith("other waits in stuck, ") and "test_testing_loop.py:" in line
            for line in caught.value.waiting
        )

    def test_clean_up_still_runs_and_the_loop_closes(self):
        steps = []

        async def main():
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(1)
                steps.append("cleaned")

        with pytest.raises(DeadlockError):
            run(main())
        assert steps == ["cleaned"]

    def test_under_pytest_it_fails_the_test_and_the_next_one_runs(self, pytester):
        pytester.makeconftest(
            "import pytest\nfrom fleetmon.testing import VIRTUAL_ASYNCIO\n"
            "@pytest.fixture\ndef anyio_backend():\n    return VIRTUAL_ASYNCIO\n"
        )
        pytester.makepyfile(
            "import anyio, pytest\npytestmark = pytest.mark.anyio\n"
            "async def test_stuck():\n    await anyio.Event().wait()\n"
            "async def test_fine():\n    await anyio.sleep(9)\n"
        )
        result = pytester.runpytest_inprocess("-p", "anyio", "-p", "no:cacheprovider", "-Werror")
        result.assert_outcomes(passed=1, failed=1)
        result.stdout.fnmatch_lines(["*DeadlockError: deadlock at virtual time 0 s*"])


def test_the_default_executor_is_joined_without_a_warning_and_in_real_time():
    async def main():
        await asyncio.get_running_loop().run_in_executor(None, threading.Event)
        return asyncio.get_running_loop()

    loop = run(main())
    assert loop.is_closed()
    assert loop.time() == 0


def test_an_abandoned_thread_may_end_after_the_loop_closed():
    gate, ended = threading.Event(), threading.Event()
    works = []

    async def main():
        works.append(current_clock().loop.foreign_work("late"))

    run(main())

    def late():
        gate.wait(10)
        works[0].done()
        ended.set()

    threading.Thread(target=late).start()
    gate.set()
    assert ended.wait(10)


def test_the_clock_is_refused_on_a_real_loop_and_without_one():
    async def main():
        with pytest.raises(VirtualTimeError, match="VIRTUAL_ASYNCIO"):
            current_clock()

    asyncio.run(main())
    with pytest.raises(VirtualTimeError, match="the running loop is None"):
        current_clock()


def test_the_clock_is_readable_from_another_thread():
    async def main():
        clock = VirtualClock(asyncio.get_running_loop(), epoch=100.0)
        await asyncio.sleep(7)
        return await anyio.to_thread.run_sync(lambda: (clock.monotonic(), clock.time()))

    assert run(main()) == (7, 107)


def test_run_returns_the_result_and_passes_errors_on():
    async def main(value):
        if value is None:
            raise LookupError("nothing")
        return value

    assert run(main(5)) == 5
    with pytest.raises(LookupError, match="nothing"):
        run(main(None))


def test_public_names_are_exactly_those_promised_and_load_late():
    fresh = importlib.reload(helpers)
    assert set(fresh.__all__) == {
        "VIRTUAL_ASYNCIO",
        "Capture",
        "DeadlockError",
        "ForeignWork",
        "ForeignWorkError",
        "LogCapture",
        "Moment",
        "ScriptedAgent",
        "ScriptedError",
        "SpanCapture",
        "Step",
        "VirtualClock",
        "VirtualTimeError",
        "VirtualTimeLoop",
        "capture",
        "current_clock",
        "run",
    }
    assert set(fresh.__all__) == set(fresh._HOME)
    assert set(fresh.__all__) <= set(dir(fresh))
    assert fresh.VirtualTimeLoop is VirtualTimeLoop
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = fresh.no_such_name
