"""`status --watch`: everything that the dashboard shows, as lines that only grow."""

from __future__ import annotations

import asyncio

import pytest
from helpers_control import QUICK, Echo

from fleetmon.cli import _out, _watch, _words, main
from fleetmon.rows import COLUMNS

pytestmark = pytest.mark.anyio

HELLO = {"type": "hello", "protocol": 1, "schema": 1, "name": "hall", "epoch": "e", "version": "1",
         "pid": 7, "capabilities": [], "columns": list(COLUMNS), "resumed": False, "clock": 100.0,
         "at": 1e9, "rate": 1.0}  # fmt: skip
FLEET = {"type": "fleet", "seq": 1, "phase": "running", "health": 0, "blocked": None,
         "loop_lag": 0.0, "recovering": 0, "shared_cause_open": False, "dead_letters": 0,
         "zombies": 0, "drops": {}, "warnings": [], "summaries": []}  # fmt: skip
STALL = {"rule": "stall", "agent_id": "A", "since": 98.0, "severity": "warning", "text": "stuck"}


def row(agent_id, **values):
    told = dict.fromkeys(COLUMNS, 0) | {
        "agent_id": agent_id, "number": None, "tier": None, "field": "", "mode": "owned",
        "executor": "auto", "lifecycle": "running", "desired": "run", "conditions": [],
        "accepting": True, "task": "", "task_note": "", "p50": None, "p95": 0.25,
        "retry_at": None, "lapse": None,
    } | values  # fmt: skip
    return [told[name] for name in COLUMNS]


def rows(*found, removed=(), seq=1):
    return {
        "type": "rows",
        "seq": seq,
        "more": False,
        "removed": list(removed),
        "rows": list(found),
    }


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def screen(capsys):
    clock = Clock()
    screen = _watch._Screen(_out.Style(), 5.0, clock)

    def show(*frames, at=0.0):
        clock.now = at
        for frame in frames:
            screen.take(frame)
        return capsys.readouterr().out.splitlines()

    show.lost = screen.lost
    show.read = lambda: capsys.readouterr().out
    return show


def test_first_the_whole_fleet_then_only_what_changed(screen):
    told = screen(HELLO, rows(row("A"), row("B", task="train", task_since=90.0)), FLEET)
    assert "hall: running, 2 agents: 2 healthy (process 7)" in told[0]
    assert told[1].split() == list(_words.COLUMNS)
    assert told[3].split()[:6] == ["B", "-", "running", "healthy", "train", "10"]
    assert screen(rows(row("A", failed=1), seq=2), at=1.0) == []  # not yet
    told = screen(rows(row("A", failed=3), seq=3), at=6.0)
    assert [line.split()[0] for line in told[1:]] == ["AGENT", "A"]
    told = screen(rows(removed=["B"], seq=4), at=12.0)
    assert told == ["- removed: B"]


def test_warnings_come_change_and_go_and_dead_letters_are_counted(screen):
    screen(HELLO, rows(row("A")), FLEET)
    assert screen({**FLEET, "warnings": [STALL]}) == ["! A: stall for 2.0 s: stuck"]
    assert screen({**FLEET, "warnings": [STALL]}, at=1.0) == []
    worse = {**STALL, "severity": "critical", "text": "worse"}
    assert screen({**FLEET, "warnings": [worse]}, at=2.0) == ["!! A: stall for 4.0 s: worse"]
    assert screen({**FLEET, "dead_letters": 2}) == [
        "- A: stall is over",
        "! 2 dead letters: fleetmon dead-letters",
    ]
    assert screen({**FLEET, "dead_letters": 1}) == ["! 1 dead letter: fleetmon dead-letters"]


def test_events_losses_and_the_end_are_lines(screen):
    screen(HELLO, rows(row("A")), FLEET)
    event = {"type": "event", "seq": 9, "at": 1e9, "kind": "lapsed", "agent_id": "A",
             "generation": 1, "task_id": 0,
             "data": {"reason": "x\x1b[J", "stack": "", "after": 0.31824710999}}  # fmt: skip
    lost, told = screen({"type": "events", "lost": 4, "events": [event]})
    assert lost == "... 4 events were not kept for this reader"
    assert "lapsed             A            reason=x?[J after=0.318" in told
    assert "stack" not in told
    assert screen({"type": "end", "reason": "stopped"}) == ["-- the fleet has ended: stopped"]


def test_a_lost_connection_is_said_once_and_so_is_the_next_life(screen):
    screen(HELLO, rows(row("A")), FLEET)
    screen.lost("gone")
    screen.lost("gone")
    assert screen.read().count("-- connection lost (gone)") == 1
    assert screen({**HELLO, "resumed": True}) == ["-- connected to hall (again)"]
    told = screen({**HELLO, "epoch": "f"}, rows(row("C")), FLEET)
    assert told[0] == "-- connected to hall (a new life of it)"
    assert told[-1].startswith("C ")


async def test_it_follows_a_real_fleet_to_its_end(reachable, capsys):
    async with reachable() as fleet:
        agent = await fleet.add("APEX", Echo, spec=QUICK)
        watching = asyncio.ensure_future(
            asyncio.to_thread(main, ["status", "--watch", "--every", "0.2"])
        )
        seen = ""
        async with asyncio.timeout(10):
            while "APEX" not in seen:
                await asyncio.sleep(0.01)
                seen += capsys.readouterr().out
        await agent.pause(reason="lunch", actor="ann")
    async with asyncio.timeout(10):
        assert await watching == 0
    seen += capsys.readouterr().out
    assert "reason=lunch" in seen
    assert "-- the fleet has ended" in seen
