"""The command line where somebody can be asked, and over the network."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from helpers_control import QUICK, Echo

from fleetmon import DeadLetteredError, Supervisor, SupervisorSettings
from fleetmon.cli._words import COLUMNS
from fleetmon.settings import Control

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def hall(reachable):
    async with reachable() as fleet:
        for name in ("APEX", "CIPHER"):
            await fleet.add(name, Echo, spec=QUICK)
        yield fleet


def on_a_terminal(line, answer, columns=0, lines=0, *, once=(b"", None)):
    """Run a command line on a terminal of its own and answer its question; gives all it showed.

    `once` is something it may show, and what is then called.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", lines, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "fleetmon", *line.split()],
        stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT,
        env={**os.environ, "TERM": "xterm", "NO_COLOR": ""},
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    try:
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # how a terminal says that nobody is there any more
                break
            if not piece:
                break
            shown += piece
            word, act = once
            if act is not None and word in shown:
                once = (word, None)
                act()
            if answer and b"[y/N]" in shown:
                os.write(ours, answer)
                answer = b""
    finally:
        os.close(ours)
        process.wait(30)
    return process.returncode, shown.decode()


@pytest.mark.parametrize("answer", [b"\n", b"n\n", b"yo\n", b"\x04"])
async def test_a_question_lists_whom_it_is_about_and_anything_but_yes_does_nothing(hall, answer):
    code, shown = await asyncio.to_thread(on_a_terminal, "stop --all", answer)
    assert code == 1
    assert "stop 2 agents of hall:\r\n  APEX (running)\r\n  CIPHER (running)\r\n" in shown
    assert "\r\nstop 2 agents of hall? [y/N] " in shown
    assert "nothing was done" in shown
    assert [a.snapshot().lifecycle for a in hall.agents] == ["running", "running"]


async def test_yes_does_it_and_words_are_coloured_on_a_terminal(hall):
    code, shown = await asyncio.to_thread(on_a_terminal, "stop APEX --wait", b"y\n")
    assert (code, "APEX: stop done; now stopped" in shown) == (0, True)
    code, shown = await asyncio.to_thread(on_a_terminal, "status", b"")
    assert (code, "\x1b[32m" in shown) == (0, True)
    code, shown = await asyncio.to_thread(on_a_terminal, "status --no-color", b"")
    assert (code, "\x1b[" in shown) == (0, False)


async def test_a_dead_letter_is_asked_about_before_it_is_tried_again(hall):
    spec = QUICK.model_copy(
        update={"in_flight": "dead_letter", "capacity": 2, "max_consecutive_failures": 1}
    )
    go_on = asyncio.Event()

    class Loser(Echo):
        async def handle(self, task):
            if task.payload == "cargo":
                await go_on.wait()
            return await super().handle(task)

    agent = await hall.add("LOSER", Loser, spec=spec)
    lost = await agent.submit("job", "cargo")
    while not agent.snapshot().tasks:
        await asyncio.sleep(0)
    with pytest.raises(RuntimeError):
        await agent.run("job", RuntimeError("no"))
    with pytest.raises(DeadLetteredError):
        await lost
    go_on.set()
    code, shown = await asyncio.to_thread(on_a_terminal, "dead-letters retry --all", b"n\n")
    assert (code, "\r\nretry 1 dead letter? [y/N] " in shown) == (1, True)
    assert len(hall.dead_letters()) == 1
    code, shown = await asyncio.to_thread(
        on_a_terminal, "dead-letters retry --all --to APEX", b"y\n"
    )
    assert (code, "retry by APEX succeeded" in shown) == (0, True)
    assert hall.dead_letters() == ()


async def test_long_work_shows_how_far_it_is(hall):
    go_on, lives = asyncio.Event(), []

    class Slow(Echo):
        async def start(self):
            lives.append(self)
            if len(lives) > 1:
                await go_on.wait()

    await hall.add("SLOW", Slow, spec=QUICK)
    loop = asyncio.get_running_loop()
    told = b"2 of 3 done; SLOW (starting): under way"
    code, shown = await asyncio.to_thread(
        on_a_terminal, "restart --all --wait --yes", b"", 80, 24,
        once=(told, lambda: loop.call_soon_threadsafe(go_on.set)),
    )  # fmt: skip
    assert (code, shown.count("restart done; now running")) == (0, 3)
    assert told.decode() in shown


async def test_a_small_terminal_has_fewer_columns_and_says_which_and_the_heading_again(reachable):
    async with reachable() as fleet:
        for number in range(30):
            fleet.attach(f"AGENT-OF-A-LONG-NAME-{number}")
        for line in ("status", "agents"):
            for columns in (60, 80, 94, 200):
                code, shown = await asyncio.to_thread(on_a_terminal, line, b"", columns, 24)
                plain = re.sub(r"\x1b\[[\d;]*m", "", shown).splitlines()
                assert code == 0
                table = [x for x in plain if x.startswith("AGENT")]
                assert max(map(len, table)) <= columns, (line, columns)
                (note,) = [x for x in plain if x.startswith("(no room for")] or [""]
                (head,) = (x.split() for x in plain if x.startswith("AGENT  "))
                away = note.removeprefix("(no room for ").partition(";")[0].split(", ")
                assert {*head, *(x for x in away if x)} == set(COLUMNS)
                assert bool(note) == (columns < 100)
        for lines, times in ((24, 2), (50, 1)):
            _, shown = await asyncio.to_thread(on_a_terminal, "status --no-color", b"", 200, lines)
            assert shown.count("hall: running, 30 agents: 30 healthy") == times


async def test_over_tcp_the_token_comes_from_a_file_or_the_environment(
    place, fleetmon, monkeypatch, tmp_path
):
    monkeypatch.delenv("FLEETMON_CONTROL_TOKEN", raising=False)
    token = "a-token-of-some-length"
    control = Control(enabled=True, listen="127.0.0.1:0", token=token)
    file = tmp_path / "token"
    file.write_text(f"{token}\n")
    async with Supervisor(SupervisorSettings(name="far", control=control)) as fleet:
        await fleet.add("APEX", Echo)
        url = fleet.control_url
        code, out, _ = await fleetmon("--url", url, "status", "--token-file", str(file))
        assert (code, out.partition(":")[0]) == (0, "far")
        code, out, err = await fleetmon("--url", url, "status")
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert "$FLEETMON_CONTROL_TOKEN or with --token-file" in err
        monkeypatch.setenv("FLEETMON_CONTROL_TOKEN", token)
        code, out, _ = await fleetmon("--url", url, "pause", "APEX", "--yes")
        assert (code, out) == (0, "APEX: pause accepted; now paused\n")
        code, _, err = await fleetmon(
            "--url", url, "status", "--token-file", str(tmp_path / "missing")
        )
        assert (code, "check --token-file" in err) == (2, True)
        assert (await fleetmon("--url", url, "doctor"))[0] == 0
