"""Makes the pictures of the dashboard again, from a fleet that runs: ``python docs/pictures.py``.

Start ``fleetmon demo --chaos`` before; the pictures are what the dashboard shows of it.
"""  # noqa: INP001 - a script

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path

from fleetmon.control.client import Client, find
from fleetmon_tui.start import Options, session_of
from fleetmon_tui.view.app import FleetApp

HERE = Path(__file__).parent
FALLEN = 12


async def main() -> None:
    """Draw the fleet, an agent, the question and the warnings."""
    session = session_of(
        Options(theme="night"), lambda name, but=(): Client(find(name, but=but).socket)
    )
    app = FleetApp(session)
    async with app.run_test(size=(110, 30)) as pilot:
        await asyncio.sleep(20)  # histories want something to show
        async with asyncio.timeout(90):  # most of the fleet falls once in a minute
            down = session.dashboard
            while sum(down.counts[1:]) < FALLEN:  # noqa: ASYNC110 - as a person would look
                await asyncio.sleep(0.1)
        for name, keys in (
            ("fleet", ("t",)),
            ("question", ("t", "g", "space", "space", "space", "r")),
            ("agent", ("escape", "escape", "n", "enter")),
            ("events", ("escape", "2")),
            ("warnings", ("3",)),
        ):
            await pilot.press(*keys)
            await asyncio.sleep(1.5)
            app.paint()
            await pilot.pause()
            picture = app.export_screenshot(title=f"fleetmon tui {time.strftime('%Y-%m-%d')}")
            # no font from elsewhere: a picture in a repository asks nobody for anything
            picture = re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL)
            (HERE / f"dashboard-{name}.svg").write_text(picture, encoding="utf-8")
    session.source.close()


if __name__ == "__main__":
    asyncio.run(main())
