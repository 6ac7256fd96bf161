"""Every alert that a fleet can cause, for real: from the fault to the page and back."""

from __future__ import annotations

import itertools
import re
from contextlib import ExitStack
from typing import TYPE_CHECKING

import drill
import programs
import pytest
import yaml
from conftest import VERSIONS
from machine import Machine
from running import DEPLOY, SECRETS, request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drill import Course
    from proof import Table
    from receivers import Message

WAYS = {"critical": "pagerduty", "warning": "slack", "info": "email"}
ALL = {**drill.EXPECTED, **drill.AFTERWARDS}
SEVERITY = {
    rule["alert"]: rule["labels"]["severity"]
    for path in (DEPLOY / "prometheus" / "rules").glob("*.yml")
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
}


def goes_to(alert: str) -> set[str]:
    """Return the ways that lead to people."""
    return {*WAYS.values()} if alert == "AlertDeliveryFailing" else {WAYS[SEVERITY[alert]]}


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory, table: Table) -> Iterator[Course]:
    fleets = {scenario: drill.Fleet(scenario) for scenario in drill.SCENARIOS}
    pairs = {
        which: (programs.prometheus(which), programs.alertmanager(which)) for which in VERSIONS
    }
    course = drill.Course([])
    with ExitStack() as cleanup:
        for fleet in fleets.values():
            cleanup.callback(fleet.kill)
        targets = {fleet.job: f"127.0.0.1:{fleet.port}" for fleet in fleets.values()}
        exporter = programs.node_exporter()
        if isinstance(exporter, programs.Missing):
            course.left_out |= {
                alert: exporter.reason
                for alert, scenario in drill.EXPECTED.items()
                if scenario == "machine"
            }
        else:
            table.component("node-exporter", exporter.version)
            course.machine = machine = Machine(exporter, tmp_path_factory.mktemp("m") / "machine")
            cleanup.callback(machine.stop)
            targets[machine.job] = machine.address
            if machine.no_disk:
                course.left_out["HostDiskLow"] = machine.no_disk
        for which, (prometheus, alertmanager) in pairs.items():
            if isinstance(prometheus, programs.Missing) or isinstance(
                alertmanager, programs.Missing
            ):
                continue
            name = f"prometheus {prometheus.version}, alertmanager {alertmanager.version}"
            table.component("Prometheus", prometheus.version)
            table.component("Alertmanager", alertmanager.version)
            directory = tmp_path_factory.mktemp(which)
            stack = drill.Stack.lay_out(name, (prometheus, alertmanager), directory, targets)
            course.stacks.append(stack)
            cleanup.callback(stack.receivers.close)
            cleanup.callback(stack.alertmanager.stop)
            cleanup.callback(stack.prometheus.stop)
        if not course.stacks:
            pytest.skip("no Prometheus with an Alertmanager (make system-packages)")
        drill.run(course, fleets)
        tell(course, table)
        yield course


def tell(course: Course, table: Table) -> None:
    """Write the times into the table."""
    for alert, why in course.left_out.items():
        table.rule_only(alert, why)
    caused = {**course.expected(), **drill.AFTERWARDS, "FleetAbsent": ""}
    for alert, scenario in caused.items():
        for stack in course.stacks:
            began = course.broken.get(scenario, course.absent[0])
            over = course.mended.get(scenario, course.absent[1])
            page = course.first(stack, alert, scenario, firing=True, after=began)
            end = course.first(stack, alert, scenario, firing=False, after=over)
            table.alert(
                alert,
                ", ".join(sorted(goes_to(alert))),
                stack.name,
                page.at - began if page else None,
                end.at - over if end else None,
            )


def possible(course: Course, alert: str) -> None:
    if alert in course.left_out:
        pytest.skip(course.left_out[alert])


def test_every_alert_is_caused_for_real():
    # the dead man's switch fires always; what is heard of it is a test of its own
    assert {*ALL, "FleetAbsent", "Watchdog"} == {*SEVERITY}


@pytest.mark.parametrize("alert", ALL)
def test_the_page_arrives_where_its_severity_says_and_nowhere_else(course: Course, alert: str):
    possible(course, alert)
    for stack in course.stacks:
        page = course.first(stack, alert, ALL[alert], firing=True)
        assert page is not None, course.story(stack, alert, ALL[alert])
        ways = {m.way for m in stack.receivers.all() if m.alert == alert} - {"recovery"}
        assert ways == goes_to(alert)
        assert page.at > course.broken[ALL[alert]], "before its cause"


@pytest.mark.parametrize("alert", ALL)
def test_its_end_arrives_after_the_recovery(course: Course, alert: str):
    possible(course, alert)
    for stack in course.stacks:
        began = course.mended[ALL[alert]]
        over = course.first(stack, alert, ALL[alert], firing=False, after=began)
        assert over is not None, course.story(stack, alert, ALL[alert])
        assert over.way in goes_to(alert)


@pytest.mark.parametrize("alert", ALL)
def test_the_link_in_the_message_is_that_of_a_runbook_that_exists(course: Course, alert: str):
    possible(course, alert)
    for stack in course.stacks:
        page = course.first(stack, alert, ALL[alert], firing=True)
        assert page is not None
        link = f"http://{stack.prometheus.address}/consoles/{alert}.md"
        assert link in page.text
        assert (DEPLOY / "runbooks" / f"{alert}.md").is_file()


def test_a_fleet_that_is_absent_is_missed_and_its_return_is_told(course: Course):
    for stack in course.stacks:
        gone, back = course.absent
        page = course.first(stack, "FleetAbsent", "", firing=True, after=gone)
        assert page is not None
        assert page.way == "pagerduty"
        assert course.first(stack, "FleetAbsent", "", firing=False, after=back) is not None


def test_when_most_agents_fall_for_one_cause_nobody_hears_of_each_of_them(course: Course):
    for stack in course.stacks:
        fired = course.inhibited[stack.name]
        assert "FleetMassFailure" in fired, fired
        # AgentDown keeps quiet by itself; it was due, for that of another fleet had paged by then
        assert "AgentDown" not in fired, fired
        assert course.down[stack.name] >= 5
        heard = {
            message.alert
            for message in stack.receivers.all()
            if re.search(r"drill-mass\b", message.text)
        }
        assert {alert for alert in heard if alert.startswith("Agent")} <= {"AgentsErrorRateHigh"}


def test_while_a_faster_burn_rate_speaks_the_slowest_keeps_quiet(course: Course):
    for stack in course.stacks:
        over = course.first(stack, "ErrorBudgetBurn3x", "errors", firing=False)
        slowest = course.first(stack, "ErrorBudgetBurn1x", "errors", firing=True)
        assert over is not None
        assert slowest is not None
        # a group looks anew once in its interval, so one may hear of it before the other
        assert slowest.at > over.at - 1.5 * 10
        assert slowest.at > course.mended["errors"]


def test_nobody_is_paged_about_a_fleet_that_is_well(course: Course):
    first = min(course.broken.values())
    for stack in course.stacks:
        # Prometheus looks for targets for its first 5 seconds, whatever the factor: shortened, that
        # is long enough for a fleet to be missed
        early = [
            message
            for message in stack.receivers.all()
            if message.at < first and message.alert not in {"Watchdog", "FleetAbsent"}
        ]
        assert early == []


def test_the_watchdog_is_heard_until_prometheus_stops(course: Course, table: Table):
    for stack in course.stacks:
        barks = [m.at for m in stack.receivers.all() if m.way == "watchdog"]
        before = [at for at in barks if at <= course.stopped]
        assert len(before) >= 4
        gaps = [b - a for a, b in itertools.pairwise(before)]
        assert max(gaps) < 25, "a dead man's switch would have raised the alarm"
        # one may be on its way, or repeated while Alertmanager still believes in it
        assert not [at for at in barks if at > course.stopped + 12]
        assert course.ended - course.stopped > 30
        table.fact(
            f"Watchdog ({stack.name}): heard every {max(gaps):.0f} s at least, last "
            f"{max(barks) - course.stopped:+.0f} s after Prometheus had stopped."
        )


def test_secrets_come_from_their_files(course: Course):
    for stack in course.stacks:
        seen: dict[str, Message] = {}
        for message in stack.receivers.all():
            seen.setdefault(message.way, message)
        assert seen["pagerduty"].body["routing_key"] == SECRETS["pagerduty_routing_key"]
        assert SECRETS["smtp_password"] in seen["email"].authorization
        assert SECRETS["recovery_token"] in seen["recovery"].authorization
        assert SECRETS["watchdog_token"] in seen["watchdog"].authorization


def test_the_recovery_webhook_gets_the_agent_and_the_command(course: Course):
    for stack in course.stacks:
        (alert,) = {
            (m.alert, m.body["alerts"][0]["labels"]["agent_id"]): m
            for m in stack.receivers.all()
            if m.way == "recovery" and "drill-quarantined" in m.text
        }.values()
        labels = alert.body["alerts"][0]["labels"]
        assert (alert.alert, labels["agent_id"]) == ("AgentQuarantined", "GUARD")
        assert labels["fleetmon_command"] == "reset"


def test_prometheus_serves_the_runbooks_that_its_links_name(prometheus, tmp_path):
    from running import Prometheus

    with Prometheus(prometheus, tmp_path / "prometheus", []) as server:
        for page in sorted((DEPLOY / "runbooks").glob("*.md")):
            status, body, kind = request(server.address, f"/consoles/{page.name}")
            assert status == 200
            assert body == page.read_text(), page.name
            assert kind.startswith("text/plain")
