"""Every alert that a fleet can cause, for real: from the fault to the page and back."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

import drill
import programs
import pytest
import yaml
from conftest import VERSIONS
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


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory, table: Table) -> Iterator[Course]:
    fleets = {scenario: drill.Fleet(scenario) for scenario in drill.SCENARIOS}
    stacks = []
    for which in VERSIONS:
        tools = programs.prometheus(which), programs.alertmanager(which)
        if any(isinstance(tool, programs.Missing) for tool in tools):
            continue
        name = f"prometheus {tools[0].version}, alertmanager {tools[1].version}"
        directory = tmp_path_factory.mktemp(which)
        table.component("Prometheus", tools[0].version)
        table.component("Alertmanager", tools[1].version)
        stacks.append(drill.Stack.lay_out(name, tools, directory, list(fleets.values())))
    if not stacks:
        pytest.skip("no Prometheus with an Alertmanager (make system-packages)")
    try:
        course = drill.Course(stacks)
        drill.run(course, fleets)
        tell(course, table)
        yield course
    finally:
        for fleet in fleets.values():
            fleet.kill()
        for stack in stacks:
            stack.prometheus.stop()
            stack.alertmanager.stop()
            stack.receivers.close()


def tell(course: Course, table: Table) -> None:
    """Write the times into the table."""
    for alert, scenario in [*ALL.items(), ("FleetAbsent", "")]:
        for stack in course.stacks:
            began = course.broken.get(scenario, course.absent[0])
            over = course.mended.get(scenario, course.absent[1])
            page = course.first(stack, alert, scenario, firing=True, after=began)
            end = course.first(stack, alert, scenario, firing=False, after=over)
            table.alert(
                alert,
                WAYS[SEVERITY[alert]],
                stack.name,
                page.at - began if page else None,
                end.at - over if end else None,
            )


@pytest.mark.parametrize("alert", ALL)
def test_the_page_arrives_where_its_severity_says_and_nowhere_else(course: Course, alert: str):
    for stack in course.stacks:
        page = course.first(stack, alert, ALL[alert], firing=True)
        assert page is not None, f"{alert} did not arrive ({stack.name})"
        ways = {m.way for m in stack.receivers.all() if m.alert == alert} - {"recovery"}
        assert ways == {WAYS[SEVERITY[alert]]}
        assert page.at > course.broken[ALL[alert]], "before its cause"


@pytest.mark.parametrize("alert", ALL)
def test_its_end_arrives_after_the_recovery(course: Course, alert: str):
    for stack in course.stacks:
        began = course.mended[ALL[alert]]
        over = course.first(stack, alert, ALL[alert], firing=False, after=began)
        assert over is not None, f"no end of {alert} ({stack.name})"
        assert over.way == WAYS[SEVERITY[alert]]


@pytest.mark.parametrize("alert", ALL)
def test_the_link_in_the_message_is_that_of_a_runbook_that_exists(course: Course, alert: str):
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
        assert fired >= {"FleetMassFailure", "AgentDown"}, fired
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


def test_the_watchdog_is_heard_until_prometheus_stops(course: Course):
    for stack in course.stacks:
        barks = [m.at for m in stack.receivers.all() if m.way == "watchdog"]
        before = [at for at in barks if at <= course.stopped]
        assert len(before) >= 4
        gaps = [b - a for a, b in itertools.pairwise(before)]
        assert max(gaps) < 25, "a dead man's switch would have raised the alarm"
        # one may be on its way, or repeated while Alertmanager still believes in it
        assert not [at for at in barks if at > course.stopped + 12]
        assert course.ended - course.stopped > 30


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
