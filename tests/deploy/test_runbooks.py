"""Each alert has its page, and the pages say things that work."""

from __future__ import annotations

import re
import shlex

import pytest
from helpers_deploy import DEPLOY, LINK, RUNBOOKS, alerts, commands, expressions

from fleetmon.cli import main

PAGES = sorted(RUNBOOKS.glob("*.md"))
SECTIONS = ["Meaning", "Impact", "Diagnosis", "Mitigation"]
PLAYBOOKS = {"error-rate", "latency", "service-down", "out-of-memory", "agent-failure"}
USAGE = 2


def test_each_alert_links_to_a_page_of_its_name_that_exists():
    for name, alert in alerts().items():
        assert alert.annotations["runbook_url"] == f"{LINK}{name}.md", name
        assert (RUNBOOKS / f"{name}.md").is_file(), f"{name} has no page"


def test_each_page_belongs_to_an_alert_or_is_a_playbook():
    playbooks = {f"playbook-{name}" for name in PLAYBOOKS}
    assert {page.stem for page in PAGES} == {*alerts(), *playbooks, "README"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_has_its_sections_in_order_and_its_links_lead_somewhere(page):
    text = page.read_text()
    if page.stem != "README":
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
        assert commands(page) or "```sh" in text, "no command"
        assert expressions(page), "no query"
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        assert (page.parent / target).exists(), target
    for script in re.findall(r"deploy/[\w/.-]+\.(?:sh|yml)", text):
        assert (DEPLOY.parent / script).exists() or script in COMING, script
    # Prometheus serves the pages as templates
    assert "{{" not in text
    assert "<" not in text


COMING: set[str] = set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_fleetmon_command_of_a_page_parses(page, capsys, tmp_path):
    nowhere = f"unix:{tmp_path}/none"
    for line in commands(page):
        words = shlex.split(line, comments=True)[1:]
        # it finds no fleet there: past the parsing, and nothing is touched
        assert main([*words, "--url", nowhere]) not in {0, USAGE}, line
        assert "none" in capsys.readouterr().err, line


def test_names_of_alerts_in_the_pages_are_names_of_alerts():
    words = set()
    for page in PAGES:
        words |= set(re.findall(r"\b(?:[A-Z][a-z]+){2,}\b(?!\.)", page.read_text()))
    families = ("Agent", "Fleet", "Host", "Ryot", "Sigma", "Neurectomy", "Service", "Error")
    named = {word for word in words if word.startswith(families)}
    assert named - set(alerts()) <= {"ErrorBudgetBurn"}
