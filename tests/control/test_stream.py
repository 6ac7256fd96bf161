"""The stream: the whole fleet, then what changes; resumed, conflated, and its losses said."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket

import pytest
from helpers_control import Echo, read

from fleetmon.control import hub
from fleetmon.control.aclient import AsyncClient
from fleetmon.control.client import Client, find
from fleetmon.control.hub import CHUNK
from fleetmon.control.mirror import Mirror
from fleetmon.control.protocol import PROTOCOL
from fleetmon.rows import COLUMNS

pytestmark = pytest.mark.anyio


async def test_hello_comes_first_then_the_whole_fleet_then_what_changes(hall):
    mirror = Mirror()
    async with read(mirror, rate=10) as until:
        await until(lambda: mirror.complete)
        hello = mirror.hello
        assert (hello["protocol"], hello["name"], hello["resumed"]) == (PROTOCOL, "hall", False)
        assert tuple(hello["columns"]) == COLUMNS
        assert set(mirror.rows) == {"APEX", "CIPHER", "SENTRY"}
        assert mirror.rows["APEX"] == _plain(hall.agent("APEX").row())
        mirror.take_changes()
        await hall.agent("APEX").run("echo", 1)
        await until(lambda: mirror.rows["APEX"].succeeded == 1)
        assert mirror.take_changes() == {"APEX"}
        await hall.remove("CIPHER")
        hall.attach("LATE")
        await until(lambda: set(mirror.rows) == {"APEX", "SENTRY", "LATE"})
        await hall.quarantine("SENTRY", reason="test", wait=True)
        await until(lambda: mirror.rows["SENTRY"].lifecycle == "quarantined")
        assert (mirror.fleet["phase"], mirror.fleet["warnings"]) == ("running", [])
        await until(lambda: "command" in {e["kind"] for e in mirror.events})
        assert mirror.lost == 0


async def test_the_stream_ends_with_the_fleet_and_says_so(reachable):
    mirror = Mirror()
    async with reachable() as fleet:
        await fleet.add("APEX", Echo)
        reading = read(mirror)
        until = await reading.__aenter__()
        await until(lambda: mirror.complete)
    await until(lambda: mirror.ended == "stopped")
    assert "fleet_stopped" in {e["kind"] for e in mirror.events}
    await reading.__aexit__(None, None, None)


async def test_rows_and_events_are_taken_up_where_they_were_left(hall):
    mirror = Mirror()
    async with read(mirror, events=0, rate=10) as until:
        await until(lambda: mirror.complete and mirror.events)
    await hall.agent("APEX").run("echo", 1)
    await hall.pause("CIPHER")
    known = dict(mirror.rows)
    mirror.take_changes()
    seen = [e["seq"] for e in mirror.events]
    resume = {"since": mirror.since, "epoch": mirror.epoch, "events": mirror.event_seq}
    async with read(mirror, rate=10, **resume) as until:
        await until(lambda: mirror.rows["CIPHER"].desired == "paused")
        await until(lambda: mirror.event_seq == hall.snapshot(agents=False).seq)
    assert mirror.hello["resumed"] is True
    assert mirror.take_changes() == {"APEX", "CIPHER"}
    assert mirror.rows["SENTRY"] is known["SENTRY"]
    told = [e["seq"] for e in mirror.events]
    assert told == list(range(seen[0], hall.snapshot(agents=False).seq + 1))
    for stale in ({"since": mirror.seq, "epoch": "another"}, {"since": mirror.seq + 1000}):
        anew = Mirror()
        async with read(anew, **stale) as until:
            await until(lambda mirror=anew: mirror.complete)
        assert anew.hello["resumed"] is False
        assert set(anew.rows) == set(mirror.rows)


async def test_an_agent_that_went_while_nobody_read_is_told_to_the_one_who_resumes(hall):
    mirror = Mirror()
    async with read(mirror, rate=10) as until:
        await until(lambda: mirror.complete)
    await hall.remove("SENTRY")
    async with read(mirror, since=mirror.since, epoch=mirror.epoch) as until:
        await until(lambda: "SENTRY" not in mirror.rows)
    assert mirror.hello["resumed"] is True


async def test_a_large_fleet_comes_in_chunks(hall):
    for n in range(2 * CHUNK):
        hall.attach(f"A{n:04}")
    frames = []
    client = AsyncClient(find().socket)
    stream = client.stream(events=-1)
    async for frame in stream:
        frames.append(frame)
        if frame["type"] == "rows" and not frame["more"]:
            break
    await stream.aclose()
    chunks = [f for f in frames if f["type"] == "rows"]
    assert len(chunks) > 2
    assert all(len(f["rows"]) <= CHUNK for f in chunks)
    told = [row[0] for f in chunks for row in f["rows"]]
    assert sorted(told) == sorted(a.agent_id for a in hall.agents)
    assert [f["seq"] for f in chunks] == sorted({f["seq"] for f in chunks})


async def test_a_look_that_breaks_off_leaves_nobody_out_of_the_next_one(hall, monkeypatch):
    for number in range(3):
        hall.attach(f"MORE-{number}")
    watching = hub.Hub(hall)
    with monkeypatch.context() as patch:
        patch.setattr(hub, "give_way", broken)
        with pytest.raises(OSError, match="broken"):
            await watching.look(0.0)
    await watching.look(0.0)
    assert len(watching.rows_after(0, -1).rows) == len(hall.agents)


async def broken():
    raise OSError("broken")


async def test_changes_that_come_in_chunks_end_with_one_that_says_so(hall, monkeypatch):
    monkeypatch.setattr(hub, "SLICE", 0.0)  # what is found is told in the middle of the look
    agents = [hall.attach(f"A{n:04}") for n in range(2 * CHUNK - 3)]
    last = []
    async for frame in AsyncClient(find().socket).stream(events=-1, rate=10):
        if frame["type"] != "rows":
            continue
        last.append(frame)
        if not frame["more"] and len(last) > 1 and frame["seq"] > 2 * CHUNK:
            break
        if not frame["more"]:
            last.clear()
            for agent in (*agents, *(hall.agent(x) for x in ("APEX", "CIPHER", "SENTRY"))):
                with agent.task("work"):
                    pass
    assert sum(len(frame["rows"]) for frame in last) >= 2 * CHUNK
    assert [frame["more"] for frame in last] == [True] * (len(last) - 1) + [False]


async def test_events_that_are_no_longer_kept_are_counted(reachable):
    async with reachable(event_ring=16) as fleet:
        agent = await fleet.add("APEX", Echo)
        for _ in range(20):
            await agent.pause()
            await agent.resume()
        mirror = Mirror()
        async with read(mirror, events=3) as until:
            await until(lambda: mirror.events)
        assert mirror.lost == fleet.snapshot(agents=False).seq - 16 - 3
        assert len(mirror.events) == 16


async def test_nothing_is_serialised_while_nobody_is_attached(hall):
    hub = hall._control._plane.hub
    await hall.agent("APEX").run("echo", 1)
    assert (hub.looks, hub.encoded) == (0, 0)
    mirror = Mirror()
    async with read(mirror, rate=10) as until:
        await until(lambda: mirror.complete)
    while hub._attached:
        await asyncio.sleep(0.01)
    looks, encoded = hub.looks, hub.encoded
    assert encoded >= 3
    for _ in range(5):
        await hall.agent("APEX").run("echo", 1)
    await asyncio.to_thread(Client(find().socket).dead_letters)  # the server had its turn
    assert (hub.looks, hub.encoded) == (looks, encoded)


async def test_readers_share_what_is_encoded(hall):
    hub = hall._control._plane.hub
    first, second = Mirror(), Mirror()
    async with read(first, rate=10) as until, read(second, rate=10) as also:
        await until(lambda: first.complete)
        await also(lambda: second.complete)
        assert hub.encoded == 3


class Ticked:
    """A copy of a fleet made from whole rows and from ticks, over several connections."""

    def __init__(self):
        self.rows, self.seq, self.ticks, self.told = {}, None, 0, []

    def apply(self, frame):
        if frame["type"] == "hello":
            self.told = [COLUMNS.index(name) for name in frame["ticks"]]
            self.fresh = None if frame["resumed"] else set()
        elif frame["type"] == "rows":
            for row in frame["rows"]:
                self.rows[row[0]] = row
            for agent_id, *values in frame.get("ticks", ()):
                self.ticks += 1
                for at, value in zip(self.told, values, strict=True):
                    self.rows[agent_id][at] = value
            for agent_id in frame["removed"]:
                self.rows.pop(agent_id, None)
            self.seq = frame["seq"]

    def shows(self, fleet):
        wanted = {a.agent_id: json.loads(json.dumps(a.row())) for a in fleet.agents}
        still = COLUMNS.index("utilization")  # moves by itself

        def blank(rows):
            return {k: [*r[:still], *r[still + 1 :]] for k, r in rows.items()}

        return blank(self.rows) == blank(wanted)


async def test_ticks_and_the_rows_before_them_say_what_whole_rows_would(hall):
    client = AsyncClient.of(Client(find().socket))
    copy = Ticked()
    chance = random.Random(11)
    for turn in range(6):
        epoch = hall.snapshot(agents=False).epoch
        frames = client.stream(copy.seq, epoch=epoch, rate=10, ticks=True)
        async with asyncio.timeout(20), contextlib.aclosing(frames):
            for _ in range(chance.randrange(8, 30)):
                agent = chance.choice([a for a in hall.agents if a.agent_id != "LATE"])
                if chance.random() < 0.2:
                    await agent.pause()
                    await agent.resume()
                else:
                    await agent.run("echo", 1)
                copy.apply(await anext(frames))
            if turn == 3:
                await hall.remove("CIPHER")
                hall.attach("LATE")
            while chance.random() < 0.7 or not copy.rows:  # left in the middle of something
                copy.apply(await anext(frames))
    frames = client.stream(copy.seq, epoch=epoch, rate=10, ticks=True)
    async with asyncio.timeout(20), contextlib.aclosing(frames):
        while not copy.shows(hall):
            copy.apply(await anext(frames))
    assert copy.ticks


async def test_a_reader_that_stops_is_owed_nothing_and_right_at_once_when_it_goes_on(hall):
    sock = socket.socket(socket.AF_UNIX)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(find().socket)
    sock.sendall(b"GET /v1/stream?rate=10 HTTP/1.1\r\nHost: localhost\r\n\r\n")
    hub = hall._control._plane.hub
    agents = [hall.attach(f"B{n:04}") for n in range(800)]

    async def change():
        for agent in agents:
            with agent.task("train"):
                pass
        await asyncio.sleep(0.02)

    # until its transport is full, it takes no turn and nobody looks any more
    looks = -1
    while hub.looks != looks:
        looks = hub.looks
        for _ in range(15):
            await change()
    before = hub.encoded
    for _ in range(15):
        await change()
    assert hub.encoded == before
    sock.setblocking(False)
    reader, writer = await asyncio.open_unix_connection(sock=sock)
    mirror = Mirror()
    wanted = agents[-1].snapshot().assigned
    async with asyncio.timeout(5):
        await reader.readuntil(b"\r\n\r\n")
        text = b""
        while "B0799" not in mirror.rows or mirror.rows["B0799"].assigned != wanted:
            size = int(await reader.readline(), 16)
            text += (await reader.readexactly(size + 2))[:-2]
            *lines, text = text.split(b"\n")
            for line in lines:
                mirror.apply(json.loads(line))
    writer.close()
    assert all(mirror.rows[a.agent_id].assigned == wanted for a in agents)


async def test_server_sent_events_carry_the_same_frames(hall):
    reader, writer = await asyncio.open_unix_connection(find().socket)
    writer.write(b"GET /v1/stream HTTP/1.0\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    assert b"content-type: text/event-stream" in head
    kinds = []
    while kinds[-1:] != ["heartbeat"]:
        event = (await reader.readuntil(b"\n\n")).decode().splitlines()
        kind, data = event[0].removeprefix("event: "), event[1].removeprefix("data: ")
        assert json.loads(data)["type"] == kind
        kinds.append(kind)
    writer.close()
    assert kinds[0] == "hello"
    assert "rows" in kinds


@pytest.mark.parametrize(
    "query", ["rate=0", "rate=x", "rate=nan", "since=x", "events=-2", "since="]
)
async def test_a_stream_that_makes_no_sense_is_refused(hall, query):
    reader, writer = await asyncio.open_unix_connection(find().socket)
    writer.write(f"GET /v1/stream?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert (await reader.readline()).startswith(b"HTTP/1.1 400 ")
    writer.close()


async def test_the_synchronous_client_reads_the_same_stream(hall):
    def whole():
        mirror = Mirror()
        for frame in Client(find().socket).stream(events=0):
            mirror.apply(frame)
            if mirror.complete and mirror.events:
                return mirror
        raise AssertionError

    mirror = await asyncio.to_thread(whole)
    assert set(mirror.rows) == {"APEX", "CIPHER", "SENTRY"}


async def test_an_agents_utilization_moves_without_a_change_of_its_own(hall):
    agent = hall.attach("BUSY", capacity=1)
    mirror = Mirror()
    async with read(mirror, rate=10) as until:
        with agent.task("wait"):
            await until(lambda: mirror.complete and mirror.rows["BUSY"].in_flight)
            before = mirror.rows["BUSY"].utilization
            await until(lambda: mirror.rows["BUSY"].utilization > before)


def _plain(row):
    return type(row)._make(json.loads(json.dumps(row)))
