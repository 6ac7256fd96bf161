"""Observers (21): one that raises, blocks or lags harms itself alone; what it lost is counted."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from support import Scrapes, fleet_on, raising, spec, until

from fleetmon import EventKind
from fleetmon.runtime.bus import EventBus

pytestmark = pytest.mark.anyio


class Echo:
    async def handle(self, task):
        return task.payload


async def happenings(agent, number):
    """Make so many events, each a command."""
    for n in range(number):
        await (agent.resume() if n % 2 else agent.pause())


def drops(fleet):
    return fleet.snapshot().fleet.event_drops


@pytest.mark.parametrize("error", [RuntimeError, asyncio.CancelledError, SystemExit])
async def test_21_a_subscriber_that_raises_goes_on_getting_events_and_its_errors_are_counted(error):
    calls = []

    def bad(event):
        calls.append(event.seq)
        raise error

    async with fleet_on(virtual=False) as fleet:
        agent = await fleet.add("A", Echo, spec=spec())
        subscription = fleet.subscribe(bad)
        await happenings(agent, 20)
        assert await agent.run("x", 7) == 7
        await until(lambda: len(calls) == 20, timeout=2)
        await until(lambda: subscription.errors == 20)
        assert subscription.lost == 0
        assert drops(fleet)["subscriber_error"] == 20
        books = await Scrapes(fleet).take()
        assert 20.0 in [v for (name, _), v in books.values.items() if "drop" in name]


async def test_21_a_subscriber_that_blocks_delays_nobody_and_loses_what_does_not_fit():
    release, entered, good = threading.Event(), threading.Event(), []

    def stuck(_):
        entered.set()
        release.wait(10)

    async with fleet_on(virtual=False) as fleet:
        agent = await fleet.add("A", Echo, spec=spec())
        blocked = fleet.subscribe(stuck, limit=5)
        fleet.subscribe(good.append)
        await agent.pause()
        await until(entered.is_set)
        await happenings(agent, 100)
        assert await agent.run("x", 1, timeout=5) == 1
        await until(lambda: len(good) == 101)
        assert blocked.lost == 100 - 5
        assert drops(fleet) == {"subscriber": 95, "subscriber_error": 0, "stream": 0}
        release.set()


async def test_21_a_subscriber_that_lags_gets_a_gap_and_never_disorder():
    turn, got = threading.Semaphore(0), []

    def slow(event):
        turn.acquire(timeout=10)
        got.append(event.seq)

    async with fleet_on(virtual=False) as fleet:
        agent = await fleet.add("A", Echo, spec=spec())
        subscription = fleet.subscribe(slow, limit=10)
        await happenings(agent, 50)
        turn.release(1000)
        await until(lambda: len(got) + subscription.lost == 50)
        assert subscription.lost > 0
        await happenings(agent, 3)
        await until(lambda: len(got) + subscription.lost == 53)
        assert got == sorted(set(got))
        assert got[-1] == fleet.recent_events()[-1].seq


async def test_21_the_fleet_ends_in_time_although_a_subscriber_is_stuck():
    release = threading.Event()
    async with fleet_on(virtual=False) as fleet:
        agent = await fleet.add("A", Echo, spec=spec())
        subscription = fleet.subscribe(lambda _: release.wait(30))
        await happenings(agent, 2)
    assert fleet.report.seconds < 1.0
    release.set()
    subscription.close(5)
    assert not subscription._thread.is_alive()


async def test_21_a_subscriber_may_use_the_fleet_and_leave_it_from_inside():
    seen = []

    async with fleet_on(virtual=False) as fleet:
        agent = await fleet.add("A", Echo, spec=spec())

        def nosy(event):
            seen.append((event.kind, fleet.snapshot().seq, len(fleet.recent_events())))
            with agent.task("from a subscriber"):
                pass
            subscription.close()

        subscription = fleet.subscribe(nosy)
        await happenings(agent, 1)
        await until(lambda: seen)
        await until(lambda: not subscription._thread.is_alive())
        await happenings(agent, 5)
        assert len(seen) == 1


async def test_21_a_subscriber_gets_every_event_of_a_fleets_end_too():
    got = []
    async with fleet_on(virtual=False) as fleet:
        await fleet.add("A", Echo, spec=spec())
        subscription = fleet.subscribe(got.append)
    subscription._thread.join(5)
    assert got[-1].kind == "fleet_stopped"
    assert [e.seq for e in got] == list(range(got[0].seq, got[-1].seq + 1))


@pytest.mark.parametrize("callback", [None, 5, "print"])
async def test_21_what_cannot_be_called_is_refused_by_name(callback):
    async with fleet_on(virtual=False) as fleet:
        with pytest.raises(TypeError, match="callable"):
            fleet.subscribe(callback)


async def test_21_hooks_that_raise_on_every_event_are_counted_and_harm_nothing():
    class Hook:
        event = ended = begin = end = capture = staticmethod(raising(lambda: ValueError("hook")))

    async with fleet_on(virtual=False, tracer=Hook(), log=Hook()) as fleet:
        agent = await fleet.add("A", Echo, spec=spec())
        assert (await agent.restart(wait=True)).settled
        assert await agent.run("x", 1) == 1
        assert fleet.snapshot().fleet.hook_errors >= 2 * len(fleet.recent_events())


async def collect(stream, into):
    async for event in stream:
        into.append(event)


class TestStream:
    async def test_21_a_stream_gives_events_in_order_and_ends_with_the_fleet(self):
        got = []
        async with fleet_on(virtual=False) as fleet:
            reading = asyncio.create_task(collect(fleet.events(), got))
            agent = await fleet.add("A", Echo, spec=spec())
            await happenings(agent, 10)
        await asyncio.wait_for(reading, 5)
        assert [e.seq for e in got] == [e.seq for e in fleet.recent_events()][-len(got) :]
        assert got[-1].kind == "fleet_stopped"

    async def test_21_two_streams_each_get_everything(self):
        first, second = [], []
        async with fleet_on(virtual=False) as fleet:
            readers = [asyncio.create_task(collect(fleet.events(), got)) for got in (first, second)]
            await asyncio.sleep(0)
            agent = await fleet.add("A", Echo, spec=spec())
            await happenings(agent, 10)
        await asyncio.wait_for(asyncio.gather(*readers), 5)
        assert first == second
        assert len(first) > 10

    async def test_21_two_readers_of_one_stream_share_it_and_both_come_to_its_end(self):
        first, second = [], []
        async with fleet_on(virtual=False) as fleet:
            agent = await fleet.add("A", Echo, spec=spec())
            stream = fleet.events()
            readers = [asyncio.create_task(collect(stream, got)) for got in (first, second)]
            await asyncio.sleep(0)
            await happenings(agent, 10)
            await until(lambda: len(first) + len(second) == 10)
            stream.close()
            await asyncio.wait_for(asyncio.gather(*readers), 2)

    async def test_21_what_does_not_fit_a_stream_is_lost_and_counted(self):
        async with fleet_on(virtual=False) as fleet:
            agent = await fleet.add("A", Echo, spec=spec())
            with fleet.events(limit=5) as stream:
                await happenings(agent, 20)
                assert stream.lost == 15
                assert drops(fleet)["stream"] == 15
                kept = [await anext(stream) for _ in range(5)]
                await happenings(agent, 1)
                after = await anext(stream)
                assert [e.seq for e in kept] == list(range(kept[0].seq, kept[0].seq + 5))
                assert after.seq == kept[-1].seq + 16

    async def test_21_a_closed_stream_gives_what_it_has_and_then_ends(self):
        async with fleet_on(virtual=False) as fleet:
            agent = await fleet.add("A", Echo, spec=spec())
            stream = fleet.events()
            await happenings(agent, 3)
            stream.close()
            await happenings(agent, 3)
            got = []
            await asyncio.wait_for(collect(stream, got), 5)
            assert len(got) == 3
            with pytest.raises(StopAsyncIteration):
                await anext(stream)

    async def test_21_a_reader_that_gives_up_waiting_loses_nothing(self):
        async with fleet_on(virtual=False) as fleet:
            agent = await fleet.add("A", Echo, spec=spec())
            stream = fleet.events()
            for n in range(1, 4):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(anext(stream), 0.01)
                await happenings(agent, 1)
                assert (await asyncio.wait_for(anext(stream), 2)).data["command"] == "pause", n
                await agent.resume()
                await anext(stream)

    async def test_21_a_stream_may_be_read_in_the_loop_of_another_thread(self):
        ready, got = threading.Event(), []

        async def read(fleet):
            stream = fleet.events()
            ready.set()
            await collect(stream, got)

        async with fleet_on(virtual=False) as fleet:
            agent = await fleet.add("A", Echo, spec=spec())
            reading = asyncio.create_task(asyncio.to_thread(lambda: asyncio.run(read(fleet))))
            await until(ready.is_set)
            await happenings(agent, 5)
            await until(lambda: len(got) == 5)
        await asyncio.wait_for(reading, 5)

    def test_21_a_stream_whose_loop_has_gone_is_forgotten(self):
        # the bus alone, and from a thread: where it is wrong, it stops a whole fleet for good
        bus = EventBus(100, time.monotonic, time.time)

        async def leave():
            stream = bus.stream()
            waiting = asyncio.create_task(anext(stream))
            await asyncio.sleep(0)
            waiting.cancel()
            return stream

        stream = asyncio.run(leave())
        publishing = threading.Thread(target=bus.publish, args=(EventKind.STALLED,), daemon=True)
        publishing.start()
        publishing.join(2)
        assert not publishing.is_alive(), "publish() waits for itself"
        assert stream not in bus._sinks
