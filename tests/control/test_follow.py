"""Staying with a fleet: over lost connections, over its death, and into its next life."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager
from itertools import pairwise

import pytest
from helpers_control import Echo
from hypothesis import given
from hypothesis import strategies as st

from fleetmon.control.aclient import AsyncClient, follow
from fleetmon.control.client import Client, find, order
from fleetmon.control.mirror import Mirror
from fleetmon.control.protocol import ControlError, NoFleetError, RequestError
from fleetmon.control.wire import Answer, Lines, request

pytestmark = pytest.mark.anyio


def locate():
    return Client(find("hall").socket)


async def until(frames, mirror, condition):
    async with asyncio.timeout(8):
        async for frame in frames:
            if condition(frame):
                return frame
    raise AssertionError


def link(state):
    return lambda frame: frame["type"] == "link" and frame["state"] == state


@asynccontextmanager
async def speaking(serve):
    """Answer with a stream of one's own; gives where."""

    async def answer(reader, writer):
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            await serve(writer)
            await reader.read()
        finally:
            writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_fleet_is_found_lost_and_found_again_in_its_next_life(reachable):
    mirror = Mirror()
    async with aclosing(follow(locate, mirror, rate=10)) as frames:
        assert (await anext(frames))["state"] == "connecting"
        told = await until(frames, mirror, link("lost"))
        assert "no fleet runs for this user" in told["reason"]
        async with reachable() as fleet:
            await fleet.add("APEX", Echo)
            told = await until(frames, mirror, link("live"))
            assert (told["reason"], told["again"]) == ("", 0)
            await until(frames, mirror, lambda _: mirror.complete)
            epoch = mirror.epoch
        told = await until(frames, mirror, link("lost"))
        assert told["reason"] == "the fleet has ended (stopped)"
        assert set(mirror.rows) == {"APEX"}  # what was known stays, for whoever shows it as stale
        async with reachable() as fleet:
            await fleet.add("CIPHER", Echo)
            told = await until(frames, mirror, link("live"))
            assert told["again"] == 1
            await until(frames, mirror, lambda _: set(mirror.rows) == {"CIPHER"})
            assert mirror.epoch != epoch


async def test_a_lost_connection_is_taken_up_where_it_was(reachable):
    mirror = Mirror()
    async with reachable() as fleet:
        for name in ("APEX", "CIPHER"):
            await fleet.add(name, Echo)
        async with aclosing(follow(locate, mirror, rate=10)) as frames:
            await until(frames, mirror, lambda _: mirror.complete and mirror.events)
            seen, known = mirror.event_seq, mirror.rows["CIPHER"]
            thread = fleet._control._thread
            thread.call_soon(lambda: [transport.abort() for transport in thread.connections])
            await fleet.agent("APEX").run("echo", 1)
            await fleet.agent("APEX").pause()
            told = await until(frames, mirror, link("lost"))
            assert "no fleet answers at" in told["reason"]
            hello = await until(frames, mirror, lambda frame: frame["type"] == "hello")
            assert hello["resumed"] is True
            await until(frames, mirror, lambda _: mirror.rows["APEX"].desired == "paused")
            await until(frames, mirror, lambda _: mirror.event_seq > seen)
            assert mirror.rows["CIPHER"] is known
            assert mirror.lost == 0
            told = [e["seq"] for e in mirror.events]
            assert told == list(range(told[0], told[-1] + 1))


async def test_a_fleet_that_does_not_get_on_is_stale_and_then_lost(monkeypatch):
    monkeypatch.setattr("fleetmon.control.aclient._STALE", 0.05)
    monkeypatch.setattr("fleetmon.control.aclient.PATIENCE", 0.12)
    go_on = asyncio.Event()

    async def serve(writer):
        writer.write(HELLO)
        await go_on.wait()
        writer.write(HEARTBEAT)

    mirror = Mirror()
    async with speaking(serve) as where, aclosing(follow(lambda: Client(where), mirror)) as frames:
        await until(frames, mirror, link("live"))
        told = await until(frames, mirror, link("stale"))
        assert "does not get on" in told["reason"]
        go_on.set()
        await until(frames, mirror, link("live"))
        await until(frames, mirror, link("stale"))
        told = await until(frames, mirror, link("lost"))
        assert "nothing came for" in told["reason"]


async def test_frames_that_make_no_sense_are_a_lost_connection_and_no_crash():
    async def serve(writer):
        writer.write(HELLO + b'{"type":"rows","rows":7}\n')

    mirror = Mirror()
    async with speaking(serve) as where, aclosing(follow(lambda: Client(where), mirror)) as frames:
        told = await until(frames, mirror, link("lost"))
        assert "makes no sense" in told["reason"]


HELLO = (
    b'{"type":"hello","protocol":1,"schema":1,"name":"x","epoch":"e","version":"0","pid":1,'
    b'"capabilities":[],"columns":["agent_id"],"resumed":false,"clock":1.0,"at":1.0,"rate":4.0}\n'
)
HEARTBEAT = b'{"type":"heartbeat","seq":0,"event_seq":0,"clock":2.0,"at":2.0}\n'


async def test_the_asynchronous_client_makes_the_same_calls(reachable):
    async with reachable() as fleet:
        await fleet.add("APEX", Echo)
        client = AsyncClient(find().socket)
        assert (await client.snapshot())["agents"][0]["agent_id"] == "APEX"
        assert (await client.agent("APEX"))["lifecycle"] == "running"
        assert await client.dead_letters() == []
        answer = await client.command(order("pause", "APEX", actor="ann"))
        assert answer["result"] == "accepted"
        with pytest.raises(RequestError, match="did you mean APEX") as refused:
            await client.agent("apx")
        assert refused.value.code == "unknown_agent"
    with pytest.raises(NoFleetError, match="no fleet answers at"):
        await client.snapshot()


def test_answers_are_understood_however_they_are_cut():
    whole = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n"
        b'9;x=1\r\n{"a": 1}\n\r\n1\r\n{\r\nA\r\n"b": 2}\n{}\r\n1\r\n\n\r\n0\r\n\r\n'
    )

    @given(st.lists(st.integers(0, len(whole)), max_size=12))
    def cut(places):
        edges = [0, *sorted(places), len(whole)]
        answer, lines = Answer(), Lines()
        told = []
        for start, end in pairwise(edges):
            told += lines.feed(answer.feed(whole[start:end]))
        assert told == [{"a": 1}, {"b": 2}, {}]
        assert answer.done
        assert answer.head.status == 200
        assert answer.head.headers["x"] == "y"

    cut()


@given(st.binary(max_size=200), st.booleans())
def test_rubbish_is_told_as_such_and_never_as_an_error_of_ours(data, headed):
    answer = Answer()
    try:
        answer.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" * headed + data)
        answer.close()
    except (ControlError, ConnectionError):
        return
    assert answer.done


def test_an_answer_that_ends_too_early_is_no_answer():
    answer = Answer()
    answer.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc")
    with pytest.raises(ConnectionError, match="closed within an answer"):
        answer.close()


def test_a_request_is_one_piece_of_bytes():
    assert request("POST", "/x", {"Host": "h"}, b"{}") == (
        b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n"
        b"Content-Length: 2\r\n\r\n{}"
    )
