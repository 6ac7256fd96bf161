"""When nobody is to be told: inhibition, a maintenance window, and a silence by the script.

All of it goes on at once, before Alertmanagers of both versions: what has to be quiet is looked at
when the others of its kind were heard and a round of the groups has passed, and then let speak.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import programs
import pytest
import yaml
from conftest import VERSIONS, need
from receivers import Receivers
from running import DEPLOY, Alertmanager

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from receivers import Message

SCRIPT = DEPLOY / "automation" / "silence.sh"
MATCHER = 'alertname=~"Sigmavault.*"'
AT_LEAST = 15  # seconds that the window has to last from now
ROUND = 12  # seconds: an interval of a group, and some

# For each rule of inhibition, in the file's order: who speaks, and who is not heard meanwhile.
INHIBITED = (
    ("ServiceDown", "RyotLatencyHigh"),
    ("FleetMassFailure", "AgentFailuresRepeated"),
    ("FleetLoopBlocked", "AgentQueueStalled"),
    ("ErrorBudgetBurn14x", "ErrorBudgetBurn6x"),
    ("ErrorBudgetBurn6x", "ErrorBudgetBurn3x"),
    ("ErrorBudgetBurn3x", "ErrorBudgetBurn1x"),
)
IN_WINDOW = {("pagerduty", "Serious"), ("watchdog", "Watchdog")}
AFTER_WINDOW = {
    ("slack", "Planned"),
    ("slack", "AgentQuarantined"),
    ("recovery", "AgentQuarantined"),
    ("email", "PlannedToo"),
}


def alert(name: str, severity: str, *, over: bool = False, **labels: str) -> dict[str, Any]:
    """Return an alert that lasts for ten minutes, or has just ended."""
    now = datetime.now(UTC)
    return {
        "labels": {"alertname": name, "severity": severity, "job": "fleet", **labels},
        "annotations": {
            "summary": f"{name} {labels.get('job', '')}",
            "runbook_url": f"http://127.0.0.1/{name}.md",
        },
        "startsAt": (now - timedelta(minutes=1)).isoformat(),
        "endsAt": (now if over else now + timedelta(minutes=10)).isoformat(),
    }


class Window:
    """A maintenance window that is open now, until the next full minute but one at most."""

    def __init__(self) -> None:
        now = datetime.now(UTC)
        start = now.replace(second=0, microsecond=0)
        end = start + timedelta(minutes=1)
        if (end - now).total_seconds() < AT_LEAST:
            end += timedelta(minutes=1)
        self.ends = end
        # no window goes beyond midnight: there it takes two
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
        return max(0.0, (self.ends - datetime.now(UTC)).total_seconds())


@dataclass
class Heard:
    """What one Alertmanager sent, for both configurations.

    Attributes:
        server: with the shipped configuration.
        receivers: what came from it.
        in_window: what came from another whose window is open now.
        quiet: what had come from the first when all that may speak had spoken.
        inside: what had come from the second just before its window closed.
        said: by the script, in order.
        ended: when the window was over.
    """

    server: Alertmanager
    receivers: Receivers
    in_window: Receivers
    quiet: list[Message] = field(default_factory=list)
    inside: list[Message] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    ended: float = 0.0

    def script(self, *arguments: str) -> None:
        """Run ``silence.sh`` and keep what it says."""
        done = subprocess.run(
            ["bash", str(SCRIPT), *arguments, MATCHER],
            env={**os.environ, "ALERTMANAGER_URL": f"http://{self.server.address}"},
            capture_output=True,
            text=True,
            check=False,
        )
        self.said.append(done.stdout + done.stderr)


def names(messages: list[Message]) -> set[tuple[str, str]]:
    return {(message.way, message.alert) for message in messages}


def told(messages: list[Message], name: str, case: str) -> list[Message]:
    """Return the messages that say of one case that an alert fires."""
    return [m for m in messages if m.alert == name and m.firing and f"case-{case}!" in m.text]


def sources(*, over: bool = False) -> list[dict[str, Any]]:
    """Return who speaks."""
    alerts = []
    for number, (source, _) in enumerate(INHIBITED):
        here = f"case-{number}-here!"
        alerts.append(alert(source, "critical", over=over, instance=here, job=here, slo=here))
    return alerts


def targets() -> list[dict[str, Any]]:
    """Return who does not, and each of them once more, elsewhere."""
    return [
        alert(target, "warning", instance=place, job=place, slo=place)
        for number, (_, target) in enumerate(INHIBITED)
        for place in (f"case-{number}-here!", f"case-{number}-elsewhere!")
    ]


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Heard]]:
    found = {which: programs.alertmanager(which) for which in VERSIONS}
    tools = {w: tool for w, tool in found.items() if not isinstance(tool, programs.Missing)}
    if not tools:
        need(found[VERSIONS[0]])
    window = Window()
    with ExitStack() as stack:
        all_heard: dict[str, Heard] = {}

        def start(tool: programs.Tool, directory: Path, **options: Any) -> tuple[Any, Receivers]:
            receivers = Receivers()
            stack.callback(receivers.close)
            server = Alertmanager(tool, directory, receivers, **options)
            return stack.enter_context(server), receivers

        for which, tool in tools.items():
            directory = tmp_path_factory.mktemp(which)
            muted, in_window = start(tool, directory / "window", change=window.open)
            muted.post(
                [
                    alert("Planned", "warning"),
                    alert("PlannedToo", "info"),
                    alert("AgentQuarantined", "warning", agent_id="A", fleetmon_command="reset"),
                    alert("Serious", "critical"),
                    alert("Watchdog", "none"),
                ]
            )
            server, receivers = start(tool, directory / "shipped")
            all_heard[tool.version] = Heard(server, receivers, in_window)
        for one in all_heard.values():
            silence = ("--for", "30m", "--comment", "upgrade of the vault")
            one.script("--dry-run", *silence)
            one.script(*silence)
            one.script(*silence)
            one.server.post(
                [
                    *sources(),
                    alert("SigmavaultLatencyHigh", "warning", job="case-silence!"),
                    alert("RyotLatencyHigh", "warning", job="case-silence!"),
                ]
            )
        for one in all_heard.values():
            one.receivers.wait(who_inhibits, 30)
            one.server.post(targets())
        for one in all_heard.values():
            one.receivers.wait(all_that_may, 30)
            one.in_window.wait(lambda m: names(m) >= IN_WINDOW, 30)
        threading.Event().wait(ROUND)
        for one in all_heard.values():
            one.quiet = one.receivers.all()
            one.script("--end")
            one.script("--end")
            one.server.post(sources(over=True))
        threading.Event().wait(window.left() - 0.5)
        for one in all_heard.values():
            one.inside = one.in_window.all()
            one.ended = time.monotonic() + window.left()
        for one in all_heard.values():
            one.receivers.wait(all_that_might, 3 * ROUND)
            one.in_window.wait(lambda m: names(m) >= AFTER_WINDOW, window.left() + 3 * ROUND)
        yield all_heard


def who_inhibits(messages: list[Message]) -> bool:
    """Tell whether those were heard that keep others quiet."""
    return all(
        told(messages, source, f"{number}-here") for number, (source, _) in enumerate(INHIBITED)
    )


def all_that_may(messages: list[Message]) -> bool:
    """Tell whether everything was heard that nothing keeps quiet."""
    return bool(told(messages, "RyotLatencyHigh", "silence")) and all(
        told(messages, target, f"{number}-elsewhere")
        for number, (_, target) in enumerate(INHIBITED)
    )


def all_that_might(messages: list[Message]) -> bool:
    """Tell whether everything was heard that was kept quiet."""
    return bool(told(messages, "SigmavaultLatencyHigh", "silence")) and all(
        told(messages, target, f"{number}-here") for number, (_, target) in enumerate(INHIBITED)
    )


def test_each_rule_of_inhibition_has_its_case():
    shipped = yaml.safe_load((DEPLOY / "alertmanager" / "alertmanager.yml").read_text())
    sources = [rule["source_matchers"] for rule in shipped["inhibit_rules"]]
    assert sources == [[f'alertname="{source}"'] for source, _ in INHIBITED]


@pytest.mark.parametrize(("number", "source", "target"), [(n, *p) for n, p in enumerate(INHIBITED)])
def test_while_one_speaks_the_other_keeps_quiet_there_and_only_there(heard, number, source, target):
    for one in heard.values():
        assert told(one.quiet, source, f"{number}-here")
        assert told(one.quiet, target, f"{number}-elsewhere")
        assert not told(one.quiet, target, f"{number}-here")
        assert told(one.receivers.all(), target, f"{number}-here"), "it is heard afterwards"


def test_a_page_is_over_in_time_whatever_else_fires_meanwhile(alertmanager, receivers, tmp_path):
    place = {"instance": "here", "job": "here", "slo": "here"}
    with Alertmanager(alertmanager, tmp_path / "alertmanager", receivers) as server:
        server.post([alert("AgentDown", "critical", **place)])
        assert receivers.wait(lambda m: ("pagerduty", "AgentDown") in names(m), 30)
        causes = [source for source, _ in INHIBITED]
        server.post([alert(cause, "critical", **place) for cause in causes])
        everything = {("pagerduty", cause) for cause in causes[:4]}
        assert receivers.wait(lambda m: names(m) >= everything, 30)
        server.post([alert("AgentDown", "critical", over=True, **place)])
        assert receivers.wait(
            lambda m: any(one.alert == "AgentDown" and not one.firing for one in m), 3 * ROUND
        )


def test_a_maintenance_window_mutes_all_but_the_pager_and_the_watchdog(heard, table):
    for version, one in heard.items():
        assert names(one.inside) == IN_WINDOW
        late = [m for m in one.in_window.all() if (m.way, m.alert) in AFTER_WINDOW]
        assert names(late) == AFTER_WINDOW
        assert min(message.at for message in late) > one.ended - 0.5
        table.fact(
            f"Alertmanager {version}: what a maintenance window had muted arrived "
            f"{max(message.at for message in late) - one.ended:.0f} s after its end at the latest."
        )


@pytest.mark.skipif(shutil.which("amtool") is None, reason="silence.sh needs amtool")
def test_a_silence_by_the_script_mutes_until_it_is_ended(heard):
    for one in heard.values():
        dry, first, again, end, no_more = one.said
        assert dry.startswith("would silence for 30m: ")
        assert first.startswith("silenced for 30m: ")
        assert again.startswith("already silenced: ")
        assert told(one.quiet, "RyotLatencyHigh", "silence")
        assert not told(one.quiet, "SigmavaultLatencyHigh", "silence")
        assert end.startswith("ended: ")
        assert "nothing to end" in no_more
        assert told(one.receivers.all(), "SigmavaultLatencyHigh", "silence")
