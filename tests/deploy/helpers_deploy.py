"""What stands in deploy/, read as plain data."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml", reason="the extra yaml is not installed")

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = sorted((DEPLOY / "prometheus" / "rules").glob("*.yml"))
RUNBOOKS = DEPLOY / "runbooks"
LINK = "{{ $externalURL }}/consoles/"


@dataclass(frozen=True)
class Rule:
    """One rule of a rule file."""

    file: str
    group: str
    body: dict[str, Any]

    @property
    def name(self) -> str:
        return self.body.get("alert") or self.body["record"]

    @property
    def labels(self) -> dict[str, str]:
        return self.body.get("labels", {})

    @property
    def annotations(self) -> dict[str, str]:
        return self.body.get("annotations", {})


def rules() -> list[Rule]:
    """Return every rule that is shipped, in the order of the files."""
    return [
        Rule(path.name, group["name"], rule)
        for path in RULES
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
    ]


def alerts() -> dict[str, Rule]:
    """Return the alerts by name."""
    found = [rule for rule in rules() if "alert" in rule.body]
    by_name = {rule.name: rule for rule in found}
    assert len(by_name) == len(found), "two alerts of one name"
    return by_name


def blocks(page: Path, language: str) -> list[str]:
    """Return the fenced blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


def commands(page: Path) -> list[str]:
    """Return the lines of a page's shell blocks that call fleetmon."""
    lines = (line for block in blocks(page, "sh") for line in block.splitlines())
    return [line for line in lines if line.startswith("fleetmon ")]


def expressions(page: Path) -> list[str]:
    """Return the PromQL of a page, an expression a line."""
    return [line for block in blocks(page, "promql") for line in block.splitlines() if line]
