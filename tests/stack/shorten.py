"""The stated transformation: the shipped files, with all durations divided by one factor.

Of a rule file: ``interval``, ``for``, ``keep_firing_for`` of groups and rules, and in expressions
the ranges in brackets and what follows ``offset``. Of Alertmanager's file: ``group_wait``,
``group_interval``, ``repeat_interval`` and ``resolve_timeout``. Of Prometheus' file and flags: its
intervals and the two flags whose defaults are durations (a scrape is given all of its interval, as
it takes no less time for having less of it). Nothing else of an expression is touched:
no threshold, no name, no label. Texts are left as they are, so a message says "5 minutes" where the
shortened rule waited for ten seconds.
"""

from __future__ import annotations

import re
from typing import Any

FACTOR = 30

_UNITS = {
    "ms": 1,
    "s": 1000,
    "m": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
    "w": 604_800_000,
    "y": 31_536_000_000,
}
_DURATION = r"(?:\d+(?:ms|[smhdwy]))+"
_RANGE = re.compile(rf"\[({_DURATION})(:(?:{_DURATION})?)?\]")
_OFFSET = re.compile(rf"\boffset\s+(-?)({_DURATION})")

RULE_KEYS = ("interval", "for", "keep_firing_for", "query_offset")
ROUTE_KEYS = ("group_wait", "group_interval", "repeat_interval")
GLOBAL_KEYS = ("scrape_interval", "scrape_timeout", "evaluation_interval")


def milliseconds(duration: str) -> int:
    """Return a Prometheus duration in milliseconds."""
    if duration == "0":
        return 0
    parts = re.findall(r"(\d+)(ms|[smhdwy])", duration)
    assert "".join(number + unit for number, unit in parts) == duration, duration
    return sum(int(number) * _UNITS[unit] for number, unit in parts)


def shorter(duration: str, factor: float = FACTOR) -> str:
    """Return a duration divided by the factor, in whole milliseconds."""
    return f"{round(milliseconds(duration) / factor)}ms"


def expression(text: str, factor: float = FACTOR) -> str:
    """Return an expression with its ranges and offsets divided by the factor."""

    def brackets(found: re.Match[str]) -> str:
        step = found[2]
        if step and len(step) > 1:
            step = ":" + shorter(step[1:], factor)
        return f"[{shorter(found[1], factor)}{step or ''}]"

    text = _RANGE.sub(brackets, text)
    return _OFFSET.sub(lambda found: f"offset {found[1]}{shorter(found[2], factor)}", text)


def rules(content: dict[str, Any], factor: float = FACTOR) -> dict[str, Any]:
    """Return a rule file's content, shortened."""

    def durations(part: dict[str, Any]) -> dict[str, Any]:
        return {
            key: shorter(value, factor) if key in RULE_KEYS else value
            for key, value in part.items()
        }

    return {
        "groups": [
            {
                **durations(group),
                "rules": [
                    {**durations(rule), "expr": expression(rule["expr"], factor)}
                    for rule in group["rules"]
                ],
            }
            for group in content["groups"]
        ]
    }


def routes(content: dict[str, Any], factor: float = FACTOR) -> dict[str, Any]:
    """Return the content of an Alertmanager's configuration, shortened."""

    def shortened(route: dict[str, Any]) -> dict[str, Any]:
        return {
            key: shorter(value, factor)
            if key in ROUTE_KEYS
            else [shortened(child) for child in value]
            if key == "routes"
            else value
            for key, value in route.items()
        }

    top = {**content["global"]}
    top["resolve_timeout"] = shorter(top["resolve_timeout"], factor)
    return {**content, "global": top, "route": shortened(content["route"])}
