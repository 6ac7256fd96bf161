"""The great drill: every fault that there is an alert for, all at a time, each in its own process.

Everything is broken together and mended together, and a real Prometheus with a real Alertmanager
looks on; the tests then read what arrived where, and when. Several pairs of them can look on at
once, each with receivers of its own; what is wrong with monitoring itself is wrong with each pair.
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
    from collections.abc import Mapping

    from machine import Machine
    from programs import Tool
    from receivers import Message

HOST = Path(__file__).with_name("host.py")

# Each alert, and what causes it.
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
    "RyotErrorRateHigh": "services",
    "RyotLatencyHigh": "services",
    "SigmalangErrorRateHigh": "services",
    "SigmalangLatencyHigh": "services",
    "SigmavaultErrorRateHigh": "services",
    "SigmavaultLatencyHigh": "services",
    "NeurectomyErrorRateHigh": "neurectomy",
    "NeurectomyLatencyHigh": "neurectomy",
    "HostCpuHigh": "machine",
    "HostMemoryLow": "machine",
    "HostOutOfMemoryKill": "machine",
    "HostDiskLow": "machine",
    "AlertDeliveryFailing": "alertmanager",
    "RulesFailing": "prometheus",
    "ConfigurationRefused": "prometheus",
}
# The slowest burn rate is inhibited by the faster ones as long as they burn, and is heard when they
# have stopped.
AFTERWARDS = {"ErrorBudgetBurn1x": "errors"}
NO_FLEETS = {"machine", "alertmanager", "prometheus"}
SCENARIOS = sorted({*EXPECTED.values()} - NO_FLEETS)

PAGES_WITHIN = 120.0
RESOLVED_WITHIN = 120.0

# Every series on the left has many partners on the right: a rule that cannot be evaluated.
A_RULE_THAT_FAILS = {"record": "job:many:many", "expr": "up * on () scrape_duration_seconds"}


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
        cls, name: str, tools: tuple[Tool, Tool], directory: Path, targets: Mapping[str, str]
    ) -> Self:
        """Prepare the directories and configurations.

        Args:
            name: of the pair.
            tools: Prometheus and Alertmanager.
            directory: of its own.
            targets: addresses by job; the pair itself is added.
        """
        receivers = Receivers()
        alertmanager = Alertmanager(tools[1], directory / "alertmanager", receivers)
        prometheus = Prometheus(
            tools[0],
            directory / "prometheus",
            lambda own: [
                {
                    "job_name": job,
                    # so that a message tells what it is about
                    "static_configs": [{"targets": [target], "labels": {"instance": job}}],
                }
                for job, target in {
                    **targets,
                    "drill-prometheus": own,
                    "drill-alertmanager": alertmanager.address,
                }.items()
            ],
            alertmanagers=[alertmanager.address],
        )
        return cls(name, prometheus, alertmanager, receivers)

    def break_it(self) -> None:
        """A receiver refuses, a rule cannot be evaluated, and a new configuration is wrong."""
        self.receivers.refuse.add("recovery")
        self.prometheus.add_rule(A_RULE_THAT_FAILS)
        self.prometheus.spoil()

    def mend(self) -> None:
        """All of it is put right."""
        self.receivers.refuse.clear()
        self.prometheus.restore()


@dataclass
class Course:
    """What happened, on the monotonic clock.

    Attributes:
        stacks: who looked on.
        machine: whose figures they saw, if there is a node-exporter.
        broken: when each fleet's fault began.
        mended: when it was over.
        inhibited: alerts that fired for the fleet with the mass failure, by stack.
        down: how many of its agents were down then, by stack.
        left_out: alerts that cannot be caused here, and why.
        absent: when no fleet was left, and when one was back.
        stopped: when Prometheus was ended.
        ended: when nobody listened any longer.
    """

    stacks: list[Stack]
    machine: Machine | None = None
    broken: dict[str, float] = field(default_factory=dict)
    mended: dict[str, float] = field(default_factory=dict)
    inhibited: dict[str, set[str]] = field(default_factory=dict)
    down: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    absent: tuple[float, float] = (0.0, 0.0)
    stopped: float = 0.0
    ended: float = 0.0

    def first(
        self, stack: Stack, alert: str, scenario: str, *, firing: bool, after: float = 0.0
    ) -> Message | None:
        """Return the first message about an alert of a fleet, to people."""
        return find(stack.receivers.all(), alert, scenario, firing=firing, after=after)

    def story(self, stack: Stack, alert: str, scenario: str) -> str:
        """Return all that was heard of an alert, in seconds after the recovery."""
        over = self.mended.get(scenario, 0.0)
        heard = [
            f"{'firing' if message.firing else 'resolved'} {message.at - over:+.1f} ({message.way})"
            for message in stack.receivers.all()
            if message.alert == alert and f"drill-{scenario}" in message.text
        ]
        return f"{alert} at {stack.name}, seconds after {scenario} was mended: {', '.join(heard)}"

    def expected(self) -> dict[str, str]:
        """Return the alerts that can be caused here, and what causes each."""
        return {a: scenario for a, scenario in EXPECTED.items() if a not in self.left_out}


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


def run(course: Course, fleets: dict[str, Fleet]) -> None:
    """Go through all of it; what does not come within its time is for the tests to tell."""
    for fleet in fleets.values():
        fleet.start()
    if course.machine is not None:
        course.machine.start()
    for fleet in fleets.values():
        fleet.hear("ready")
    for stack in course.stacks:
        stack.alertmanager.__enter__()
        stack.prometheus.__enter__()
    # a few evaluations of a fleet that is well: counters that start at a fault tell of no increase
    pause = threading.Event()
    pause.wait(12)

    break_all(course, fleets)
    for stack in course.stacks:
        stack.receivers.wait(lambda m: everything(course, m, firing=True), PAGES_WITHIN)
    tell(course, firing=True)
    for stack in course.stacks:
        course.inhibited[stack.name] = {
            labels["alertname"]
            for labels in stack.prometheus.alerts()
            if labels.get("job") == "drill-mass"
        }
        found = stack.prometheus.query('count(agents_health_status{job="drill-mass"} == 2)')
        course.down[stack.name] = sum(value for _, value in found)

    mend_all(course, fleets)
    for stack in course.stacks:
        stack.receivers.wait(lambda m: everything(course, m, firing=False), RESOLVED_WITHIN)
        stack.receivers.wait(
            lambda m: all(
                find(m, alert, scenario, firing=False) for alert, scenario in AFTERWARDS.items()
            ),
            RESOLVED_WITHIN,
        )
    tell(course, firing=False)

    no_fleet_at_all(course, fleets)
    prometheus_stops(course)


def everything(course: Course, messages: list[Message], *, firing: bool) -> bool:
    """Tell whether all has been heard that is to be heard."""
    after = course.broken if firing else course.mended
    return all(
        find(messages, alert, scenario, firing=firing, after=after[scenario])
        for alert, scenario in course.expected().items()
    )


def break_all(course: Course, fleets: dict[str, Fleet]) -> None:
    """Break everything that there is."""
    for scenario in NO_FLEETS:
        course.broken[scenario] = time.monotonic()
    for stack in course.stacks:
        stack.break_it()
    if course.machine is not None:
        course.machine.break_it()
    for fleet in fleets.values():
        if fleet.scenario == "down":
            fleet.kill()
        else:
            fleet.say("break")
        course.broken[fleet.scenario] = time.monotonic()
    for fleet in fleets.values():
        if fleet.scenario != "down":
            fleet.hear("broken")


def mend_all(course: Course, fleets: dict[str, Fleet]) -> None:
    """Mend everything."""
    for stack in course.stacks:
        stack.mend()
    if course.machine is not None:
        course.machine.mend()
    for scenario in NO_FLEETS:
        course.mended[scenario] = time.monotonic()
    # what the recovery webhook refused is delivered now, while there is still something to recover
    for stack in course.stacks:
        stack.receivers.wait(lambda m: any(message.way == "recovery" for message in m), 30)
    for fleet in fleets.values():
        if fleet.scenario == "down":
            fleet.start()
        else:
            fleet.say("mend")
    for fleet in fleets.values():
        course.mended[fleet.scenario] = fleet.hear(
            "ready" if fleet.scenario == "down" else "mended"
        )


def tell(course: Course, *, firing: bool) -> None:
    """Say what has not come, for whoever waits; the tests say it again."""
    for stack in course.stacks:
        messages = stack.receivers.all()
        missing = [
            alert
            for alert, scenario in course.expected().items()
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
        stack.receivers.wait(lambda m: find(m, "FleetAbsent", "", firing=True, after=gone), 60)
    fleets["down"].start()
    back = fleets["down"].hear("ready")
    course.absent = (gone, back)
    for stack in course.stacks:
        stack.receivers.wait(lambda m: find(m, "FleetAbsent", "", firing=False, after=back), 60)


def prometheus_stops(course: Course) -> None:
    """Prometheus stops, and with it what the dead man's switch hears."""
    for stack in course.stacks:
        stack.prometheus.stop()
    course.stopped = time.monotonic()
    # an alert outlives its last sender by four resend delays; then three of its repetitions are due
    threading.Event().wait(8 + 3 * 10)
    course.ended = time.monotonic()
