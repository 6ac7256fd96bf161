"""docs/operating.md is true: its transcripts are what the commands print, its tables complete.

`FLEETMON_REWRITE_DOCS=1` writes what is printed into the page, for a look at the difference.
"""

from __future__ import annotations

import asyncio
import io
import itertools
import os
import re
import shlex
import sys
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from fleetmon import (
    AgentSpec,
    Backoff,
    DeadLetteredError,
    HangLimits,
    Intensity,
    Quarantine,
    Roster,
    RosterEntry,
    Supervisor,
    SupervisorSettings,
    Verification,
    Watchdog,
)
from fleetmon.cli import COMMANDS, main
from fleetmon.numbers import LIFECYCLES
from fleetmon.policy.lint_rules import RULES
from fleetmon.settings import Control

PAGE = Path(__file__).resolve().parents[2] / "docs" / "operating.md"
TEXT = PAGE.read_text("utf-8")

BLOCK = re.compile(r"(?:<!-- scene: ([\w ]+) -->\n)?```console\n(.*?)```", re.DOTALL)

SAME = (
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "2026-05-04 12:34:56"),
    (r"\b\d\d:\d\d:\d\d\b", "12:34:56"),
    (r"process \d+", "process 4711"),
    (r"\b\d+(\.\d+)? min( \d+ s)?", "0.1 s"),
    (r"\b\d+\.\d s\b", "0.1 s"),
    (r"\b\d+ s\b", "0.1 s"),
    (r"\b\d+ms\b|\b\d+\.\d+s\b", "1ms"),
    (r"\b\d+%", "1%"),
    (r"[^\s(]+\.py:\d+", "newsroom.py:34"),
    (r"/\S*/fm-\w+/tmp\b", "/tmp"),
    (r"/\S*/fm-\w+/fleetmon\b", "/run/user/1000/fleetmon"),
    (r"newsroom\.\d+\.[0-9a-f]{6}\.sock", "newsroom.4711.0a1b2c.sock"),
    (r"fleetmon-\d+", "fleetmon-1000"),
    (r"user [\w-]+$", "user ann"),
    (r"actor=\S+", "actor=ann"),
    (r"Python \d\.\d+\.\d+\w*", "Python 3.11.7"),
    (r"^ *\d+ (?=12:34:56|2026)", "   1 "),
    (r"\btask \d+", "task 1"),
    (r"^\d+(?=: retry)", "1"),
    (r"(?<=rest )\d+", "1"),
    (r"delay_seconds=\S+", "delay_seconds=0.1"),
    (r" {2,}", "  "),
)


def same(text):
    """Make alike what differs from run to run."""
    for pattern, instead in SAME:
        text = re.sub(pattern, instead, text, flags=re.MULTILINE)
    answers = re.compile(r"[A-Z]+: \w+ accepted; now ")  # of several agents: as they come
    told = itertools.groupby(text.splitlines(), lambda line: bool(answers.match(line)))
    return [line for several, lines in told for line in (sorted(lines) if several else lines)]


class Newsroom:
    """A fleet of four that gets into trouble as it is told."""

    def __init__(self, fleet):
        self.fleet = fleet
        self.broken = False
        self.go_on = asyncio.Event()
        self.tasks = []
        self.busy = None

    async def open(self):
        quick = {"backoff": Backoff(floor=0, base=0.01), "verify": Verification(idle_after=0.01)}
        outer = self

        class Worker:
            async def handle(self, task):
                match task.payload:
                    case "wait":
                        task.progress("page 2")
                        await outer.go_on.wait()
                    case "block":
                        time.sleep(3)  # long enough for a busy machine
                    case "die":
                        error = RuntimeError("out of paper")
                        error.fatal = True
                        raise error
                return task.payload

        class Printer(Worker):
            async def start(self):
                if outer.broken:
                    raise RuntimeError("out of paper")

        add = self.fleet.add
        await add("EDITOR", Worker, spec=AgentSpec(capacity=2, **quick))
        limits = HangLimits(soft=0.05, hard=None)
        await add(
            "WRITER",
            Worker,
            spec=AgentSpec(capacity=2, hang=limits, in_flight="dead_letter", **quick),
        )
        await add("CHECKER", Worker, spec=AgentSpec(**quick))
        await add(
            "PRINTER",
            Printer,
            spec=AgentSpec(
                intensity=Intensity(max_restarts=1, period=60),
                quarantine=Quarantine(probe_interval=None),
                **quick,
            ),
        )

    async def calm(self):
        for name in ("EDITOR", "WRITER", "CHECKER", "PRINTER"):
            await self.fleet.agent(name).run("edit", "x")

    async def until(self, condition):
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.005)

    async def hang(self):
        writer = self.fleet.agent("WRITER")
        self.tasks.append(asyncio.ensure_future(writer.run("write", "wait")))
        await self.until(lambda: writer.snapshot().conditions)

    async def blocked(self):
        self.go_on.set()
        await asyncio.gather(*self.tasks)
        await self.until(lambda: not self.fleet.warnings().instances)
        self.busy = asyncio.ensure_future(self.fleet.agent("EDITOR").run("edit", "block"))
        # what the page shows is asked for by a thread while this loop stands still
        self.tasks.clear()

    async def quarantined(self):
        await self.busy
        await self.until(lambda: self.fleet.agent("EDITOR").snapshot().lifecycle == "paused")
        await self.fleet.resume("EDITOR")
        await self.until(lambda: not self.fleet.warnings().instances)
        self.broken = True
        printer = self.fleet.agent("PRINTER")
        with pytest.raises(RuntimeError):
            await printer.run("print", "die")
        await self.until(lambda: printer.snapshot().lifecycle == "quarantined")
        self.broken = False

    async def free(self):
        pass

    async def letter(self):
        self.go_on.clear()
        writer = self.fleet.agent("WRITER")
        lost = asyncio.ensure_future(writer.run("write", "wait"))
        await self.until(lambda: writer.snapshot().tasks)
        with pytest.raises(RuntimeError):
            await writer.run("write", "die")
        with pytest.raises(DeadLetteredError):
            await lost
        self.go_on.set()
        await self.until(lambda: writer.snapshot().lifecycle == "running")


def run(command):
    """Run a command line; gives what a terminal shows, and no terminal is there to ask."""
    told = io.StringIO()
    with redirect_stdout(told), redirect_stderr(told):
        main(shlex.split(command)[1:])
    return told.getvalue()


def wait_for_block(room):
    from fleetmon.control.client import Client, find

    client = Client(find().socket)
    until = time.monotonic() + 5
    while client.snapshot()["blocked"] is None and time.monotonic() < until:
        time.sleep(0.01)


def transcript(commands, room, scene):
    if scene == "blocked":
        wait_for_block(room)
    return "".join(f"$ {command}\n{run(command)}" for command in commands)


async def play():
    """Yield, block by block, where it stands, what the page says, and what is printed."""
    roster = Roster(
        "newsroom",
        tuple(
            RosterEntry(name, number=at, tier=tier, field=field)
            for at, (name, tier, field) in enumerate(
                (("EDITOR", 1, "decides"), ("WRITER", 1, "writes"), ("CHECKER", 2, "checks"),
                 ("PRINTER", 2, "prints")), 1,
            )
        ),
    )  # fmt: skip
    settings = SupervisorSettings(
        name="newsroom",
        control=Control(enabled=True),
        watchdog=Watchdog(idle_interval=0.02, blocked_after=0.1),
        seed=1,
    )
    found = []
    async with Supervisor(settings, roster=roster) as fleet:
        room = Newsroom(fleet)
        await room.open()
        for block in BLOCK.finditer(TEXT):
            scene = (block[1] or "free").replace("dead letter", "letter")
            await getattr(room, scene)()
            commands = [line[2:] for line in block[2].splitlines() if line.startswith("$ ")]
            told = await asyncio.to_thread(transcript, commands, room, scene)
            found.append((block.span(2), block[2], told))
    return found


@pytest.fixture
def alone(monkeypatch):
    from fleetmon.cli import _findings

    monkeypatch.setattr(_findings, "_elsewhere", lambda _: iter(()))
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with tempfile.TemporaryDirectory(prefix="fm-") as directory:
        monkeypatch.setenv("XDG_RUNTIME_DIR", directory)
        monkeypatch.setenv("TMPDIR", f"{directory}/tmp")
        yield


def test_every_transcript_is_what_the_commands_print(alone):
    found = asyncio.run(play())
    assert found
    if os.environ.get("FLEETMON_REWRITE_DOCS"):
        text = TEXT
        for (start, end), _, told in reversed(found):
            text = text[:start] + tidy(told) + text[end:]
        PAGE.write_text(text, "utf-8")
    else:
        for _, said, told in found:
            assert same(said) == same(told)


def tidy(told):
    """Return a transcript as the page shows it: with an ordinary user, process and place."""
    for pattern, instead in SAME:
        if instead[0] in "/n" or instead.startswith(("process", "fleetmon-", "user", "actor")):
            told = re.sub(pattern, instead, told, flags=re.MULTILINE)
    return told


def test_every_command_has_a_transcript_or_is_explained():
    assert [name for name in COMMANDS if f"fleetmon {name}" not in TEXT] == []
    shown = {line.split()[2] for line in TEXT.splitlines() if line.startswith("$ fleetmon")}
    assert set(COMMANDS) - shown <= {"tui", "history", "completion", "demo"}


def rows(head):
    (table,) = re.findall(rf"^\| {head} \|.*\n\|[-|]+\n((?:\|.*\n)+)", TEXT, re.MULTILINE)
    return {line.split("|")[1].strip().strip("`") for line in table.splitlines()}


def test_every_state_and_every_warning_is_explained():
    assert rows("state") == {*LIFECYCLES, "declared"}
    assert rows("warning") == {rule.name for rule in RULES}
    assert rows("health") == {"healthy", "degraded", "failed"}
