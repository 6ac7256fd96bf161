"""``fleetmon metrics``: what a scrape gets, over the control plane."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from fleetmon.cli import _fleet as fleet
from fleetmon.cli import _out as out
from fleetmon.control.protocol import SCHEMA

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "family", metavar="FAMILY", nargs="*", help="families whose names begin so; all by default"
    )
    fleet.where(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print them; returns the exit code."""
    return fleet.answered("metrics", lambda: _metrics(arguments))


def _metrics(arguments: argparse.Namespace) -> int:
    text = fleet.connect(arguments).metrics()
    wanted = tuple(arguments.family)
    found = [line for line in text.splitlines() if not wanted or _name(line).startswith(wanted)]
    if wanted and not found:
        out.complain("metrics", f"no family begins with {' or '.join(wanted)}; leave the name out")
        return fleet.FAILED
    if arguments.json or arguments.jsonl:
        samples = [sample for line in found for sample in _sample(line)]
        if arguments.jsonl:
            for sample in samples:
                out.say_json({"schema": SCHEMA, **sample})
        else:
            out.say_json({"schema": SCHEMA, "samples": samples})
    else:
        sys.stdout.write("".join(f"{line}\n" for line in found))
        sys.stdout.flush()
    return fleet.DONE


def _name(line: str) -> str:
    if line.startswith("# "):
        return line.split(" ", 3)[2] if line.count(" ") > 1 else ""
    return line.partition("{")[0].partition(" ")[0]


def _sample(line: str) -> Iterator[dict[str, object]]:
    # our own exposition: a number last, no timestamps
    if not line or line.startswith("#"):
        return
    series, _, value = line.rpartition(" ")
    name, _, labels = series.partition("{")
    yield {"name": name, "labels": _labels(labels.removesuffix("}")), "value": value}


def _labels(text: str) -> dict[str, str]:
    import re

    found = re.findall(r'([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)"', text)
    back = {r"\\": "\\", r"\"": '"', r"\n": "\n"}
    return {name: re.sub(r'\\[\\"n]', lambda m: back[m.group()], value) for name, value in found}
