"""Which series an expression asks for, according to Prometheus' own parser.

Use from any test of this suite: ``selectors(prometheus, expression)`` for what it selects, and
``unknown(...)`` for the names among them that nobody exposes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from running import Prometheus

OF_PROMETHEUS_ITSELF = {
    *("up", "ALERTS", "ALERTS_FOR_STATE", "scrape_duration_seconds"),
    *("scrape_samples_scraped", "scrape_samples_post_metric_relabeling", "scrape_series_added"),
}
"""Series that no target exposes and every Prometheus has."""


@dataclass(frozen=True)
class Selector:
    """One vector selector.

    Attributes:
        name: of the metric; empty where matchers alone select it.
        matchers: label, operator, value.
    """

    name: str
    matchers: tuple[tuple[str, str, str], ...]

    def names(self, known: set[str]) -> set[str]:
        """Return the metric names that it asks for; of a regular expression those known."""
        if self.name:
            return {self.name}
        for label, operator, value in self.matchers:
            if label == "__name__" and operator == "=":
                return {value}
            if label == "__name__" and operator == "=~":
                found = {name for name in known if re.fullmatch(value, name)}
                return found or {value}
        return set()

    def jobs(self, all_jobs: set[str]) -> set[str]:
        """Return the jobs that it admits."""
        admitted = set(all_jobs)
        for label, operator, value in self.matchers:
            if label == "job":
                admitted = {
                    job
                    for job in admitted
                    if {
                        "=": job == value,
                        "!=": job != value,
                        "=~": re.fullmatch(value, job) is not None,
                        "!~": re.fullmatch(value, job) is None,
                    }[operator]
                }
        return admitted


def selectors(prometheus: Prometheus, expression: str) -> list[Selector]:
    """Return the selectors of an expression; needs Prometheus 3 (``/api/v1/parse_query``).

    Raises:
        AssertionError: it is no PromQL.
    """
    tree = prometheus.api("parse_query", query=expression)
    return list(_walk(tree))


def _walk(node: Any) -> Iterator[Selector]:
    if isinstance(node, list):
        for part in node:
            yield from _walk(part)
    elif isinstance(node, dict):
        if node.get("type") in {"vectorSelector", "matrixSelector"}:
            matchers = tuple(
                (m["name"], m["type"], m["value"])
                for m in node.get("matchers", ())
                if not (m["name"] == "__name__" and node.get("name"))
            )
            yield Selector(node.get("name") or "", matchers)
        else:
            for part in node.values():
                yield from _walk(part)


def unknown(asked: list[Selector], exposed: Mapping[str, set[str]], recorded: set[str]) -> set[str]:
    """Return the names that no admitted job exposes and no rule records.

    Args:
        asked: what is selected.
        exposed: names of sample lines, by job.
        recorded: names that rules record.
    """
    missing = set()
    for selector in asked:
        known = set().union(*(exposed[job] for job in selector.jobs(set(exposed))), recorded)
        missing |= selector.names(known) - known - OF_PROMETHEUS_ITSELF
    return missing


def sample_names(exposition: str) -> set[str]:
    """Return the names of all sample lines of a text exposition."""
    return {
        found[0]
        for line in exposition.splitlines()
        if line and not line.startswith("#") and (found := re.match(r"[a-zA-Z_:][\w:]*", line))
    }
