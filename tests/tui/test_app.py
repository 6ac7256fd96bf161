"""The Textual application with a pilot: keys and clicks arrive, and what changed is painted."""

from __future__ import annotations

import asyncio
import time

import pytest
from helpers_tui import Stage, beat, elite, hello, row, rows

from fleetmon_tui.source import Live
from fleetmon_tui.state.text import plain
from fleetmon_tui.state.themes import THEMES
from fleetmon_tui.view.app import FleetApp

pytestmark = pytest.mark.anyio


class Shown:
    """An application over a stage whose source the test tells what to send."""

    def __init__(self, *told):
        self.stage = Stage(*told)
        self.app = FleetApp(self.stage.session)

    async def tell(self, pilot, *frames):
        """Send frames and wait until they are on the screen."""
        frames_before = self.app.frames
        await pilot.pause()
        self.stage.source.tell(*frames, now=time.monotonic())
        async with asyncio.timeout(10):
            while self.app.frames == frames_before or self.stage.source.told:
                await asyncio.sleep(0.01)
        await pilot.pause()

    @property
    def text(self):
        return "\n".join(plain(line) for line, _ in self.app.canvas.drawn)


async def test_keys_reach_the_state_and_the_screen_follows():
    shown = Shown()
    async with shown.app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        shown.app.paint()
        assert "looking for a fleet" in shown.text
        await shown.tell(pilot, hello(), rows(*elite()))
        assert "AGENT00" in shown.text
        await pilot.press("j", "j", "space", "slash", "a", "g", "e", "n", "t", "1", "enter")
        assert "/agent1 10 of 40" in shown.text
        assert "1 marked (1 hidden)" in shown.text
        await pilot.press("escape", "escape", "r")
        assert "Restart 1 agent?" in shown.text
        await pilot.press("enter")
        assert shown.stage.source.sent == []
        await pilot.press("r", "y")
        assert len(shown.stage.source.sent) == 1
        await pilot.press("q")
    assert shown.stage.session.leaving


async def test_only_lines_that_changed_are_painted():
    shown = Shown()
    async with shown.app.run_test(size=(80, 24)) as pilot:
        await shown.tell(pilot, hello(), rows(*elite()))
        shown.app.paint()
        await pilot.pause()
        before = shown.app.canvas.painted
        await shown.tell(
            pilot, rows(row("AGENT03", number=3, tier=4, queued=5, utilization=3 / 40))
        )
        painted = shown.app.canvas.painted - before
        assert 1 <= painted <= 3


async def test_a_screen_on_which_nothing_changes_is_drawn_seldom_and_silence_shows_at_once():
    shown = Shown()
    async with shown.app.run_test(size=(80, 24)) as pilot:
        await shown.tell(pilot, hello(), rows(*elite()), beat(101.0))
        before = shown.app.frames
        for _ in range(12):
            shown.app._second()
        assert 3 <= shown.app.frames - before <= 6
        shown.stage.dashboard.link.heard(time.monotonic() - 10.0, time.time() - 10.0)
        shown.app._second()
        assert "stale since" in shown.text
        await shown.tell(pilot, rows(*elite()), beat(111.0))
        await shown.tell(pilot, rows(row("AGENT03", number=3, task="t", task_since=110.0)))
        for second in range(4):  # what counts up does so each second
            before = shown.app.frames
            shown.stage.tell(beat(112.0 + second))
            shown.app._second()
            assert shown.app.frames == before + 1


async def test_a_resized_terminal_is_filled():
    shown = Shown()
    async with shown.app.run_test(size=(80, 24)) as pilot:
        await shown.tell(pilot, hello(), rows(*elite()))
        await pilot.resize_terminal(120, 40)
        await pilot.pause()
        assert len(shown.app.canvas.drawn) == 40
        assert "P95" in shown.text
        await pilot.resize_terminal(60, 12)
        await pilot.pause()
        assert len(shown.app.canvas.drawn) == 12


async def test_the_mouse_chooses_and_the_wheel_moves():
    shown = Shown()
    async with shown.app.run_test(size=(80, 24)) as pilot:
        await shown.tell(pilot, hello(), rows(*elite()))
        await pilot.click(offset=(20, 6))
        assert shown.stage.here == "AGENT03"
        await pilot.click(offset=(20, 6), times=2)
        assert "agent AGENT03" in shown.text


@pytest.mark.parametrize("name", THEMES)
async def test_every_theme_draws_states_of_lines_apart(name):
    shown = Shown()
    async with shown.app.run_test(size=(80, 24)) as pilot:
        await shown.tell(pilot, hello(), rows(*elite()), beat(101.0))
        while shown.stage.ui.theme != name:
            await pilot.press("T")
        looks = shown.app.canvas.looks
        assert looks.theme.name == name
        states = {str(looks.of("", state)) for state in ("", "cursor", "marked", "old")}
        assert len(states) == 4
        if looks.theme.plain:
            drawn = shown.app.canvas.render_line(3)
            assert all(s.style is None or s.style.color is None for s in drawn)


async def test_an_export_shows_the_screen():
    shown = Shown()
    async with shown.app.run_test(size=(80, 24)) as pilot:
        await shown.tell(pilot, hello(), rows(*elite()))
        assert "AGENT00" in shown.app.export_screenshot()


async def test_a_reader_that_fails_is_said_to_have_failed():
    def locate(name, but=()):
        raise ZeroDivisionError("not foreseen")

    live = Live(locate)
    live.start(lambda: None)
    await asyncio.to_thread(live.first.wait, 10)
    live.close()
    (told,) = [f for f, _, _ in live.take() if f.get("state") == "lost"]
    assert told["reason"].startswith("reading from the fleet has failed (ZeroDivisionError: not")
