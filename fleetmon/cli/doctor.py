"""``fleetmon doctor``: why nothing can be reached, and what is misconfigured; a line a finding."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetmon.cli import _fleet as fleet
from fleetmon.cli import _out as out
from fleetmon.control.protocol import SCHEMA

if TYPE_CHECKING:
    import argparse

    from fleetmon.cli._findings import Finding

_COLOURS = {"ok": "green", "note": "yellow", "bad": "red"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    fleet.where(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print what was found; returns 0 unless something is bad."""
    from fleetmon.cli import _findings

    style = out.Style(wanted=not arguments.no_color)
    found: list[Finding] = []
    for finding in _findings.look(arguments):
        found.append(finding)
        if arguments.jsonl:
            out.say_json({"schema": SCHEMA, **finding._asdict()})
        elif not arguments.json:
            out.say(_line(finding, style))
    bad = sum(finding.level == "bad" for finding in found)
    if arguments.json and not arguments.jsonl:
        told = [finding._asdict() for finding in found]
        out.say_json({"schema": SCHEMA, "ok": not bad, "findings": told})
    return fleet.FAILED if bad else fleet.DONE


def _line(finding: Finding, style: out.Style) -> str:
    fix = f"; {finding.fix}" if finding.fix else ""
    mark = style(f"{finding.level:<4}", _COLOURS[finding.level])
    return f"{mark}  {out.clean(finding.text)}{out.clean(fix)}"
