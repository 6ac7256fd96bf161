"""The dashboard as a person uses it: real programs in a terminal."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from pathlib import Path

import pytest
from helpers_tmux import DEADLINE, Terminal

from fleetmon import AgentSpec, Backoff, Supervisor, SupervisorSettings
from fleetmon.record.recorder import Recorder

COLOURS = re.compile(r"\x1b\[[0-9;]*(3[0-7]|4[0-7]|9[0-7]|38|48)[0-9;]*m")
DEMO = ("demo", "--metrics", "0", "--seed", "7")


def shows_tier(screen):
    return re.search(r"/tier1 5(/| of )40", screen)


def lines_with(screen, text):
    return [line for line in screen.splitlines() if text in line]


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
def test_an_operator_finds_restarts_and_keeps_his_place_through_the_death_of_the_fleet(size):
    with Terminal(*size) as terminal:
        demo = terminal.background(*DEMO)
        terminal.run("tui")
        first = terminal.until(lambda s: "● live" in s and "APEX" in s, "live rows")
        assert "40" in first.splitlines()[0]

        # sort: every agent has done something, the busiest first
        terminal.enter(":", "sort by tasks")
        terminal.until("TASKS↓")

        # filter by what shall not be there, then by what shall, and mark the three first
        terminal.enter("/", "!tier1")
        terminal.until(lambda s: re.search(r"/!tier1 35(/| of )40", s), "35 agents")
        terminal.enter("/", "tier1")
        terminal.until(shows_tier)
        terminal.press("<")
        terminal.enter(":", "sort by roster")
        terminal.press("g")
        terminal.until(lambda s: "APEX" in s.splitlines()[3], "APEX on the first line")

        # drill down and come back
        terminal.press("Enter")
        terminal.until(lambda s: "agent APEX" in s and "computer science" in s, "the agent view")
        terminal.until("Recent tasks")
        terminal.press("G")
        terminal.until(lambda s: "Policy" in s or "Log" in s, "what the fleet told of it")
        terminal.press("Escape")
        terminal.until(shows_tier)

        # mark three, restart them through the question, see them come back
        terminal.press("Space", "Space", "Space")
        terminal.until(lambda s: re.search(r"✚ 3\b", s), "three marks")
        terminal.press("r")
        asked = terminal.until("Restart 3 agents?")
        assert "APEX, CIPHER, ARCHITECT" in asked
        assert "[ Cancel ]" in asked
        terminal.press("Enter")
        terminal.until("cancelled, nothing was done")
        terminal.press("r")
        terminal.until("Restart 3 agents?")
        terminal.press("y")
        terminal.until("3 of 3 running again")

        # the demo dies: said within a second or so, rows stay, commands are refused
        demo.kill()
        demo.wait()
        gone = terminal.until("✖ disconnected since")
        assert lines_with(gone, "APEX")
        terminal.press("r")
        terminal.until("refused")

        # it comes back: attached again by itself, filter and marks are what they were
        terminal.background(*DEMO)
        back = terminal.until(lambda s: "● reconnected" in s or "● live" in s, "live again")
        assert "/tier1" in back
        assert len(lines_with(back, "✚")) >= 3
        assert re.search(r"▶.VELOCITY|▶.AXIOM", back)
        terminal.press("q")
        terminal.until("left with 0")


async def recorded(path):
    class Flaky:
        async def handle(self, task):
            if task.payload == "crash":
                raise SystemError("the disk is gone")
            return task.payload

    spec = AgentSpec(backoff=Backoff(floor=0.2, base=0.3), max_consecutive_failures=2)
    recorder = Recorder(path, interval=0.1, pictures=0.1)
    async with Supervisor(SupervisorSettings(name="night"), recorder=recorder) as fleet:
        agents = [await fleet.add(name, Flaky, spec=spec) for name in ("APEX", "CIPHER", "AXIOM")]
        for _ in range(4):
            for agent in agents:
                await agent.run("read", "page")
        for _ in range(2):
            with pytest.raises(SystemError):
                await agents[1].run("read", "crash")
        await asyncio.sleep(1.0)  # a recording has a length; this is its


@pytest.mark.anyio
async def test_a_recording_is_replayed_and_explains_what_happened(tmp_path):
    path = tmp_path / "night.db"
    await recorded(path)
    with Terminal(120, 40) as terminal:
        terminal.run("tui", "--replay", str(path))
        terminal.until(lambda s: "recording" in s and "CIPHER" in s, "the recording")
        terminal.press("}")
        terminal.until(lambda s: re.search(r"CIPHER .* 6 ", s), "the tasks at the end")
        terminal.press("2")
        terminal.until("lapsed: 2 failures in a row")
        terminal.press("1", "G", "Enter")
        told = terminal.until(lambda s: "agent CIPHER" in s and "Failures" in s, "its story")
        assert "lapsed" in told
        terminal.press("{")
        terminal.press("P")
        terminal.until("paused")
        terminal.press("r")
        terminal.until("this is a recording")
        terminal.resize(80, 24)
        terminal.until(lambda s: len(s.splitlines()[0]) <= 80 and "paused" in s, "a smaller screen")
        terminal.press("q")
        terminal.until("left with 0")


def test_without_colour_and_unicode_everything_is_still_said():
    with Terminal(80, 24) as terminal:
        terminal.run("tui", "--ascii", "--read-only", NO_COLOR="1")
        terminal.until("looking for a fleet")
        terminal.background(*DEMO)
        screen = terminal.until(lambda s: "* live" in s and "APEX" in s, "live rows")
        assert screen.isascii()
        assert "read-only" in screen
        styled = terminal.screen(styles=True)
        assert not COLOURS.search(styled)
        terminal.press("Q")
        terminal.until("quarantine refused")
        terminal.press("C-c")
        terminal.until("left with 0")


def stopped(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def threads(pid):
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def test_a_dashboard_that_was_suspended_is_whole_again_and_does_not_take_old_frames_for_new(
    tmp_path,
):
    roster = tmp_path / "trio.toml"
    roster.write_text("".join(f'[[agents]]\nid = "{name}"\n' for name in ("ANT", "BEE", "CAT")))
    with Terminal(80, 24) as terminal:
        demo = terminal.background(*DEMO, "--agents", str(roster))
        terminal.run("tui")
        whole = terminal.until(lambda s: "● live" in s and "ANT" in s, "live rows")
        dashboard = terminal.program()
        before = threads(dashboard)
        for stop in (lambda: terminal.press("C-z"), lambda: os.kill(dashboard, signal.SIGSTOP)):
            stop()
            terminal.wait(lambda: stopped(dashboard), "it is suspended")
            frozen = terminal.screen()
            os.kill(dashboard, signal.SIGCONT)
            # other than what stood there before: a key pressed before it has begun anew is lost
            terminal.until(lambda s: s != frozen and "● live" in s and "CAT" in s, "live rows")  # noqa: B023 - asked here and now
            terminal.until(lambda s: s.splitlines()[2] == whole.splitlines()[2], "the headings")
            terminal.until(lambda s: s.splitlines()[-1] == whole.splitlines()[-1], "the keys")
            # two that read keys would take them from each other
            terminal.wait(lambda: threads(dashboard) == before, "as many threads as before")
        terminal.press("C-z")
        terminal.wait(lambda: stopped(dashboard), "it is suspended")
        os.kill(demo.pid, signal.SIGSTOP)  # and sends nothing more, but what is on its way
        time.sleep(3.0)  # silence takes its time
        os.kill(dashboard, signal.SIGCONT)
        back = terminal.until(lambda s: "stale" in s or "live" in s, "how things stand")
        assert "▲ stale since" in back
        os.kill(demo.pid, signal.SIGCONT)
        terminal.until("● live")
        terminal.press("q")
        terminal.until("left with 0")


def test_of_two_fleets_one_is_chosen_and_stayed_with(tmp_path):
    roster = tmp_path / "trio.toml"
    roster.write_text("".join(f'[[agents]]\nid = "{name}"\n' for name in ("ANT", "BEE", "CAT")))
    small = (*DEMO, "--agents", str(roster))
    with Terminal(80, 24) as terminal:
        first, second = terminal.background(*small), terminal.background(*small)
        end = time.monotonic() + DEADLINE
        while len(list(terminal.directory.glob("fleetmon/*.sock"))) < 2:
            assert time.monotonic() < end
            time.sleep(0.05)  # they are other processes' doing
        terminal.run("tui")
        pids = (f"process {first.pid}", f"process {second.pid}")
        terminal.until(lambda s: all(pid in s for pid in pids), "the choice between two fleets")
        offered = next(
            at for at, line in enumerate(lines_with(terminal.screen(), "fleet demo"))
            if f"process {second.pid}" in line
        )  # fmt: skip
        terminal.press(*["Down"] * offered, "Enter")
        terminal.until(lambda s: "● live" in s and "BEE" in s, "live rows")
        assert f"process {second.pid}" in terminal.screen().splitlines()[1]
        second.kill()
        second.wait()
        terminal.until("✖ disconnected since")
        third = terminal.background(*small)  # its own next life, and not the one beside it
        terminal.until(lambda s: (f"process {third.pid}" in s and "live" in s) or "reconn" in s)
        terminal.press("q")
        terminal.until("left with 0")


def test_a_fleet_that_stands_still_is_called_stale_also_on_a_narrow_terminal_without_colour(
    tmp_path,
):
    roster = tmp_path / "trio.toml"
    roster.write_text("".join(f'[[agents]]\nid = "{name}"\n' for name in ("ANT", "BEE", "CAT")))
    with Terminal(80, 24) as terminal:
        demo = terminal.background(*DEMO, "--agents", str(roster))
        terminal.run("tui", TERM="vt100")
        terminal.until(lambda s: "● live" in s and "ANT" in s, "live rows")
        assert not COLOURS.search(terminal.screen(styles=True))
        os.kill(demo.pid, signal.SIGSTOP)
        terminal.until("▲ stale since")
        terminal.press("r")
        terminal.until("restart refused; stale")
        terminal.resize(40, 12)
        narrow = terminal.until(lambda s: "▲ stale" in s and "● running" in s, "it on a narrow one")
        assert len(narrow.splitlines()[0]) <= 40
        os.kill(demo.pid, signal.SIGCONT)
        terminal.until("● live")
        terminal.resize(39, 9)
        terminal.until("fleetmon needs 40x10, this is 39x9")
        terminal.resize(120, 40)
        terminal.until(lambda s: "● live" in s and "P95" in s, "a wide screen")
        demo.kill()
        demo.wait()
        for width in (90, 60, 100):  # resized while it looks for the fleet again
            terminal.resize(width, 24)
        terminal.until(lambda s: "✖ disconnected" in s and "ANT" in s, "it says so")


def test_a_size_that_some_program_exported_long_ago_is_not_that_of_the_terminal():
    with Terminal(100, 30) as terminal:
        terminal.run("tui", "--read-only", COLUMNS="80", LINES="24")
        terminal.until("looking for a fleet")
        terminal.background(*DEMO)
        screen = terminal.until(lambda s: "● live" in s and "APEX" in s, "live rows")
        assert len(screen.splitlines()[0]) > 80
        assert screen.splitlines()[29].strip()
        terminal.resize(90, 26)
        terminal.until(lambda s: 80 < len(s.splitlines()[0]) <= 90 and s.splitlines()[25].strip())
        terminal.press("q")
        terminal.until("left with 0")
