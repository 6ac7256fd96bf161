"""A recording of a real fleet, looked at later: it leads to what went wrong and explains it."""

from __future__ import annotations

import asyncio
import io
import time

import pytest
from helpers_clock import Turned
from helpers_tui import Stage

from fleetmon import Recorder, Supervisor, SupervisorSettings
from fleetmon.demo.console import Console
from fleetmon.demo.host import DemoOptions, perform
from fleetmon.record.reader import Recording
from fleetmon_tui.replay import Replay
from fleetmon_tui.session import Session
from fleetmon_tui.state.text import plain
from fleetmon_tui.view.app import FleetApp

pytestmark = pytest.mark.anyio


@pytest.fixture
async def chaos(tmp_path):
    """A record of a demonstration in which, after other things, most of the fleet fell at once."""
    path = tmp_path / "chaos.db"
    options = DemoOptions(
        duration=5.0, metrics="127.0.0.1:0", control="0", seed=5, chaos=True, tempo=0.25,
        record=str(path),
    )  # fmt: skip
    await perform(options, Console(io.StringIO()), signals=False)
    return path


class Watched:
    """The dashboard over a recording, in an application that a pilot drives."""

    def __init__(self, path):
        self.replay = Replay(path, time.monotonic())
        stage = Stage(timeline=self.replay.timeline)
        self.ui = stage.ui
        self.app = FleetApp(Session(stage.dashboard, stage.ui, self.replay))

    @property
    def text(self):
        return "\n".join(plain(line) for line, _ in self.app.canvas.drawn)


async def test_next_warning_leads_to_a_mass_failure_and_the_views_explain_it(chaos):
    with Recording(chaos) as record:
        event = record.events(kinds=["shared_cause_opened"])[0]
        assert "SharedOutageError" in event.data["cause"]
        opened = event.at
        assert not record.at(opened - 0.01).facts["shared_cause_open"]
        assert record.at(opened).facts["shared_cause_open"]
        storms = [w.since for w in record.warnings() if w.rule == "storm"]
        assert max(storms) >= opened - 10.0  # rules look back for so long, once they look
    watched = Watched(chaos)
    async with watched.app.run_test(size=(80, 24)) as pilot:
        await pilot.press("P", "3")  # stand still between the jumps
        for _ in range(20):
            await pilot.press("w")
            if "storm" in watched.text:
                break
        at = watched.replay.timeline.at(time.monotonic())
        assert min(abs(at - since) for since in storms) < 0.01
        for _ in range(20):
            await pilot.press("w")
        assert "no warning after this in the recording" in watched.text
        watched.replay.timeline.seek(opened + 0.05, time.monotonic())
        await pilot.press("1")
        assert "many agents fell for one reason" in watched.text
        await pilot.press("2", "/", *"cause", "enter")
        assert "one cause behind many failures" in watched.text
        await pilot.press("}", "3")
        # it is over by now, and nothing says that it goes on
        assert "restarts wait for a probe" not in " ".join(watched.text.split())
        await pilot.press("q")


async def test_where_the_clock_was_set_back_the_events_say_so_at_that_place(tmp_path):
    clock = Turned()
    recorder = Recorder(tmp_path / "fleet.db", interval=0.02, pictures=0.05)
    async with Supervisor(SupervisorSettings(), recorder=recorder, clock=clock) as fleet:
        agent = fleet.attach("APEX")
        await agent.pause(reason="early")
        assert await asyncio.to_thread(recorder.flush)
        clock.by = -3600.0
        await agent.resume(reason="late")
        assert await asyncio.to_thread(recorder.flush)
    watched = Watched(tmp_path / "fleet.db")
    async with watched.app.run_test(size=(120, 24)) as pilot:
        await pilot.press("P", "}", "2")
        lines = watched.text.splitlines()
        (at,) = [n for n, line in enumerate(lines) if "the clock was set back by 1h00 here" in line]
        assert any("(late)" in line for line in lines[at - 2 : at + 3])
        await pilot.press("q")
