"""The great drill: every fault that a fleet can have, all at a time, each in a fleet of its own.

Everything is broken together and mended together, and a real Prometheus with a real Alertmanager
looks on; the tests then read what arrived where, and when. Several pairs of them can look on at
once, each with receivers of its own.
"""

from __future__ import annotations

import queue
import re
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from receivers import Receivers
from running import ROOT, Alertmanager, Prometheus, free_port

if TYPE_CHECKING:
    from programs import Tool
    from receivers import Message

HOST = Path(__file__).with_name("host.py")

# Each alert that a fleet can cause, and the fleet that does.
EXPECTED = {
    "AgentsErrorRateHigh": "errors",
    "AgentFailuresRepeated": "errors",
    "ErrorBudgetBurn14x": "errors",
    "ErrorBudgetBurn6x": "errors",
    "ErrorBudgetBurn3x": "errors",
    "AgentsLatencyHigh": "slow",
    "AgentQuarantined": "quarantined",
    "AgentRecoveryNotWorking": "not-recovering",
    "AgentDown": "not-recovering",
    "AgentBlocksLoop": "blocking",
    "FleetLoopBlocked": "blocking",
    "AgentQueueStalled": "stalled",
    "FleetMassFailure": "mass",
    "FleetZombies": "left-overs",
    "DeadLettersWaiting": "left-overs",
    "EventsDropped": "left-overs",
    "ServiceDown": "down",
}
# The slowest burn rate is inhibited by the faster ones as long as they burn, and is heard when they
# have stopped.
AFTERWARDS = {"ErrorBudgetBurn1x": "errors"}
SCENARIOS = sorted({*EXPECTED.values()})

PAGES_WITHIN = 90.0
RESOLVED_WITHIN = 90.0


class Fleet:
    """One process of ``host.py``."""

    def __init__(self, scenario: str) -> None:
        self.scenario = scenario
        self.port = free_port()
        self.process: subprocess.Popen[str] | None = None
        self._said: queue.SimpleQueue[tuple[float, str]] = queue.SimpleQueue()

    @property
    def job(self) -> str:
        return f"drill-{self.scenario}"

    def start(self) -> None:
        self._said = queue.SimpleQueue()
        self.process = subprocess.Popen(
            [sys.executable, str(HOST), self.scenario, str(self.port)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        threading.Thread(target=self._read, args=(self.process, self._said), daemon=True).start()

    @staticmethod
    def _read(process: subprocess.Popen[str], said: queue.SimpleQueue[tuple[float, str]]) -> None:
        assert process.stdout is not None
        with process.stdout as out:
            for line in out:
                said.put((time.monotonic(), line.strip()))
        said.put((time.monotonic(), ""))

    def hear(self, word: str, within: float = 60.0) -> float:
        """Wait for a word; returns when it was said."""
        at, said = self._said.get(timeout=within)
        assert said == word, f"{self.scenario}: {said!r} instead of {word!r}"
        return at

    def say(self, word: str) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        """End it without a word; harmless twice."""
        if self.process is None:
            return
        self.process.kill()
        self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process = None


@dataclass
class Stack:
    """A Prometheus, an Alertmanager, and who hears of it."""

    name: str
    prometheus: Prometheus
    alertmanager: Alertmanager
    receivers: Receivers

    @classmethod
    def lay_out(
        cls, name: str, tools: tuple[Tool, Tool], directory: Path, fleets: list[Fleet]
    ) -> Self:
        """Prepare the directories and configurations."""
        receivers = Receivers()
        alertmanager = Alertmanager(tools[1], directory / "alertmanager", receivers)
        prometheus = Prometheus(
            tools[0],
            directory / "prometheus",
            [
                {
                    "job_name": fleet.job,
                    "static_configs": [
                        {
                            "targets": [f"127.0.0.1:{fleet.port}"],
                            # so that a message tells which fleet it is about
                            "labels": {"instance": fleet.job},
                        }
                    ],
                }
                for fleet in fleets
            ],
            alertmanagers=[alertmanager.address],
        )
        return cls(name, prometheus, alertmanager, receivers)


@dataclass
class Course:
    """What happened, on the monotonic clock.

    Attributes:
        stacks: who looked on.
        broken: when each fleet's fault began.
        mended: when it was over.
        inhibited: alerts that fired for the fleet with the mass failure, by stack.
        absent: when no fleet was left, and when one was back.
        stopped: when Prometheus was ended.
        ended: when nobody listened any longer.
    """

    stacks: list[Stack]
    broken: dict[str, float] = field(default_factory=dict)
    mended: dict[str, float] = field(default_factory=dict)
    inhibited: dict[str, set[str]] = field(default_factory=dict)
    absent: tuple[float, float] = (0.0, 0.0)
    stopped: float = 0.0
    ended: float = 0.0

    def first(
        self, stack: Stack, alert: str, scenario: str, *, firing: bool, after: float = 0.0
    ) -> Message | None:
        """Return the first message about an alert of a fleet, to people."""
        return find(stack.receivers.all(), alert, scenario, firing=firing, after=after)


def find(
    messages: list[Message], alert: str, scenario: str, *, firing: bool, after: float = 0.0
) -> Message | None:
    """Return the first message to people about an alert of one fleet."""
    about = re.compile(rf"drill-{scenario}\b(?!-)") if scenario else re.compile("")
    for message in messages:
        if (
            message.alert == alert
            and message.firing == firing
            and message.way not in {"recovery", "watchdog"}
            and message.at >= after
            and about.search(message.text)
        ):
            return message
    return None


def run(course: Course, fleets: dict[str, Fleet]) -> None:  # noqa: C901, PLR0912 - a script
    """Go through all of it; what does not come within its time is for the tests to tell."""
    for fleet in fleets.values():
        fleet.start()
    for fleet in fleets.values():
        fleet.hear("ready")
    for stack in course.stacks:
        stack.alertmanager.__enter__()
        stack.prometheus.__enter__()
    # a few evaluations of a fleet that is well: counters that start at a fault tell of no increase
    pause = threading.Event()
    pause.wait(12)

    for fleet in fleets.values():
        if fleet.scenario == "down":
            fleet.kill()
        else:
            fleet.say("break")
        course.broken[fleet.scenario] = time.monotonic()
    for fleet in fleets.values():
        if fleet.scenario != "down":
            fleet.hear("broken")

    def everything(messages: list[Message], *, firing: bool) -> bool:
        after = course.mended if not firing else course.broken
        return all(
            find(messages, alert, scenario, firing=firing, after=after[scenario])
            for alert, scenario in EXPECTED.items()
        )

    for stack in course.stacks:
        stack.receivers.wait(lambda m: everything(m, firing=True), PAGES_WITHIN)
    tell(course, firing=True)
    for stack in course.stacks:
        course.inhibited[stack.name] = {
            labels["alertname"]
            for labels in stack.prometheus.alerts()
            if labels.get("job") == "drill-mass"
        }

    for fleet in fleets.values():
        if fleet.scenario == "down":
            fleet.start()
        else:
            fleet.say("mend")
    for fleet in fleets.values():
        course.mended[fleet.scenario] = fleet.hear(
            "ready" if fleet.scenario == "down" else "mended"
        )
    for stack in course.stacks:
        stack.receivers.wait(lambda m: everything(m, firing=False), RESOLVED_WITHIN)
        stack.receivers.wait(
            lambda m: all(
                find(m, alert, scenario, firing=False) for alert, scenario in AFTERWARDS.items()
            ),
            RESOLVED_WITHIN,
        )

    tell(course, firing=False)

    no_fleet_at_all(course, fleets)
    prometheus_stops(course)


def tell(course: Course, *, firing: bool) -> None:
    """Say what has not come, for whoever waits; the tests say it again."""
    for stack in course.stacks:
        messages = stack.receivers.all()
        missing = [
            alert
            for alert, scenario in EXPECTED.items()
            if not find(messages, alert, scenario, firing=firing)
        ]
        if missing:
            what = "did not arrive" if firing else "are not over"
            sys.stderr.write(f"{stack.name}: {what}: {', '.join(missing)}\n")


def no_fleet_at_all(course: Course, fleets: dict[str, Fleet]) -> None:
    """Every fleet goes, and one comes back."""
    for fleet in fleets.values():
        fleet.kill()
    gone = time.monotonic()
    for stack in course.stacks:
        stack.receivers.wait(lambda m: find(m, "FleetAbsent", "", firing=True), 60)
    fleets["down"].start()
    course.absent = (gone, fleets["down"].hear("ready"))
    for stack in course.stacks:
        stack.receivers.wait(lambda m: find(m, "FleetAbsent", "", firing=False), 60)


def prometheus_stops(course: Course) -> None:
    """Prometheus stops, and with it what the dead man's switch hears."""
    for stack in course.stacks:
        stack.prometheus.stop()
    course.stopped = time.monotonic()
    # an alert outlives its last sender by four resend delays; then three of its repetitions are due
    threading.Event().wait(8 + 3 * 10)
    course.ended = time.monotonic()
