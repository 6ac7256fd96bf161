"""What the suite has proven, as one table: alerts, dashboards, and who it was proven against.

Tests get it as the fixture ``table`` and write into it as they go; it is shown when all is done.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Times:
    """Seconds of one alert before one pair of programs; None for what was not seen."""

    to_page: float | None
    to_end: float | None

    def __str__(self) -> str:
        """Return both in columns."""
        return f"{_seconds(self.to_page)} {_seconds(self.to_end)}"


def _seconds(value: float | None) -> str:
    return f"{'never' if value is None else f'{value:.1f}':>8}"


@dataclass
class Table:
    """Everything that is to be told at the end."""

    alerts: dict[str, tuple[str, dict[str, Times]]] = field(default_factory=dict)
    rules_only: dict[str, str] = field(default_factory=dict)
    dashboards: dict[str, tuple[int, int]] = field(default_factory=dict)
    components: dict[str, set[str]] = field(default_factory=dict)
    facts: list[str] = field(default_factory=list)

    def alert(
        self, name: str, way: str, programs: str, to_page: float | None, to_end: float | None
    ) -> None:
        """Tell of an alert that fired for real.

        Args:
            name: of the alert.
            way: where its page goes.
            programs: who looked on, with their versions.
            to_page: seconds from the fault to the page; None: it did not come.
            to_end: seconds from the recovery to the message that it is over.
        """
        self.alerts.setdefault(name, (way, {}))[1][programs] = Times(to_page, to_end)

    def rule_only(self, name: str, why: str) -> None:
        """Tell of an alert that ``promtool test rules`` alone covers, and why."""
        self.rules_only[name] = why

    def dashboard(self, name: str, queries: int, answered: int) -> None:
        """Tell of a dashboard: its queries, and those with a sample that is a number."""
        self.dashboards[name] = queries, answered

    def component(self, name: str, version: str) -> None:
        """Tell of a program that something was proven against; any number of versions."""
        self.components.setdefault(name, set()).add(version)

    def fact(self, line: str) -> None:
        """Tell something else that was seen, in one line."""
        self.facts.append(line)

    def lines(self, factor: float) -> Iterator[str]:
        """Yield the table.

        Args:
            factor: that durations of rules and routes were divided by.
        """
        if self.alerts:
            pairs = list(dict.fromkeys(p for _, times in self.alerts.values() for p in times))
            yield f"Alerts, with all durations of rules and routes divided by {factor:g}; seconds"
            yield "from the fault to the page, and from recovery to the message that it is over:"
            yield from (f"  ({at}) {pair}" for at, pair in enumerate(pairs, 1))
            heads = (f"{f'page ({at})':>8} {f'over ({at})':>8}" for at in range(1, len(pairs) + 1))
            yield f"{'alert':26} {'goes to':23} {'  '.join(heads)}"
            for name, (way, times) in self.alerts.items():
                cells = "  ".join(str(times.get(pair, f"{'':17}")) for pair in pairs)
                yield f"{name:26} {way:23} {cells}".rstrip()
            yield ""
        if self.rules_only:
            yield "Alerts by promtool only:"
            yield from (f"{name:26} because {why}" for name, why in self.rules_only.items())
            yield ""
        if self.dashboards:
            yield f"{'dashboard':40} {'queries':>8} {'answered':>9}"
            for name, (queries, answered) in sorted(self.dashboards.items()):
                yield f"{name:40} {queries:8} {answered:9}"
            yield ""
        yield from self.facts
        if self.facts:
            yield ""
        if self.components:
            yield "Proven against:"
            for name, versions in sorted(self.components.items()):
                yield f"{name:26} {', '.join(sorted(versions))}"
