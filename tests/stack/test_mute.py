"""When nobody is to be told: a maintenance window, and a silence by the shipped script."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import programs
import pytest
from conftest import VERSIONS, need
from receivers import Receivers
from running import DEPLOY, Alertmanager, eventually

if TYPE_CHECKING:
    from pathlib import Path

    from receivers import Message

SCRIPT = DEPLOY / "automation" / "silence.sh"
AT_LEAST = 15  # seconds that the window has to last from now
ROUND = 12  # seconds: an interval of a group, and some


def alert(name: str, severity: str, **labels: str) -> dict[str, Any]:
    """Return an alert that lasts for ten minutes."""
    ends = datetime.now(UTC) + timedelta(minutes=10)
    return {
        "labels": {"alertname": name, "severity": severity, "job": "fleet", **labels},
        "annotations": {"summary": name, "runbook_url": f"http://127.0.0.1/{name}.md"},
        "endsAt": ends.isoformat(),
    }


class Window:
    """A maintenance window that is open now, until the next full minute but one at most."""

    def __init__(self) -> None:
        now = datetime.now(UTC)
        end = now.replace(second=0, microsecond=0) + timedelta(minutes=1)
        if (end - now).total_seconds() < AT_LEAST:
            end += timedelta(minutes=1)
        self.ends = end
        start = now.replace(second=0, microsecond=0)
        # a window does not go beyond midnight; there the day is left out, so two of them do
        self.times = [{"start_time": f"{start:%H:%M}", "end_time": f"{end:%H:%M}"}]
        if end.date() > start.date():
            self.times = [{"start_time": f"{start:%H:%M}", "end_time": "24:00"}]
            if end.minute:
                self.times.append({"start_time": "00:00", "end_time": f"{end:%H:%M}"})

    def open(self, config: dict[str, Any]) -> None:
        """Put it where the shipped window is."""
        (shipped,) = config["time_intervals"]
        shipped["time_intervals"] = [{"times": self.times, "location": "UTC"}]

    def left(self) -> float:
        return (self.ends - datetime.now(UTC)).total_seconds()


def names(messages: list[Message]) -> set[tuple[str, str]]:
    return {(message.way, message.alert) for message in messages}


def test_a_maintenance_window_mutes_all_but_the_pager_and_the_watchdog(tmp_path: Path, table):
    found = {which: programs.alertmanager(which) for which in VERSIONS}
    tools = {w: tool for w, tool in found.items() if not isinstance(tool, programs.Missing)}
    if not tools:
        need(found[VERSIONS[0]])
    muted = {
        ("slack", "Planned"),
        ("slack", "AgentQuarantined"),
        ("recovery", "AgentQuarantined"),
        ("email", "PlannedToo"),
    }
    heard = {("pagerduty", "Serious"), ("watchdog", "Watchdog")}
    window = Window()
    with ExitStack() as stack:
        all_receivers: dict[str, Receivers] = {}
        for which, tool in tools.items():
            all_receivers[tool.version] = receivers = Receivers()
            stack.callback(receivers.close)
            server = stack.enter_context(
                Alertmanager(tool, tmp_path / which, receivers, change=window.open)
            )
            server.post(
                [
                    alert("Planned", "warning"),
                    alert("PlannedToo", "info"),
                    alert("AgentQuarantined", "warning", agent_id="A", fleetmon_command="reset"),
                    alert("Serious", "critical"),
                    alert("Watchdog", "none"),
                ]
            )
        for receivers in all_receivers.values():
            receivers.wait(lambda m: heard <= names(m), 30)
        threading.Event().wait(max(0.0, window.left() - 0.5))
        inside = {version: names(them.all()) for version, them in all_receivers.items()}
        ended = time.monotonic() + window.left()
        for receivers in all_receivers.values():
            receivers.wait(lambda m: muted <= names(m), window.left() + 3 * ROUND)
        for version, receivers in all_receivers.items():
            late = [m for m in receivers.all() if (m.way, m.alert) in muted]
            assert inside[version] == heard
            assert names(late) == muted
            assert min(message.at for message in late) > ended - 0.5
            table.fact(
                f"Alertmanager {version}: what a maintenance window had muted arrived "
                f"{max(message.at for message in late) - ended:.0f} s after its end at the latest."
            )


@pytest.mark.skipif(shutil.which("amtool") is None, reason="silence.sh needs amtool")
def test_a_silence_by_the_script_mutes_until_it_is_ended(
    alertmanager, tmp_path: Path, receivers: Receivers
):
    matcher = 'alertname=~"Sigmavault.*"'

    def script(*arguments: str) -> str:
        done = subprocess.run(
            ["bash", str(SCRIPT), *arguments, matcher],
            env={**os.environ, "ALERTMANAGER_URL": f"http://{server.address}", "NO_PROXY": "*"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    with Alertmanager(alertmanager, tmp_path / "alertmanager", receivers) as server:
        silence = ("--for", "30m", "--comment", "upgrade of the vault")
        assert "would silence" in script("--dry-run", *silence)
        assert script(*silence).startswith("silenced for 30m: ")
        assert script(*silence).startswith("already silenced: ")
        server.post(
            [alert("SigmavaultLatencyHigh", "warning"), alert("RyotLatencyHigh", "warning")]
        )
        eventually(lambda: ("slack", "RyotLatencyHigh") in names(receivers.all()))
        # as long as the others of its kind need to be heard of, and a round more
        threading.Event().wait(ROUND)
        assert names(receivers.all()) == {("slack", "RyotLatencyHigh")}
        assert script("--end").startswith("ended: ")
        receivers.wait(lambda m: ("slack", "SigmavaultLatencyHigh") in names(m), 2 * ROUND)
        assert ("slack", "SigmavaultLatencyHigh") in names(receivers.all())
        assert "nothing to end" in script("--end")
