"""Warnings as the fleet tells them: by rule, one sentence for all, one for each agent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from fleetmon_tui.state.text import clean

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_SEVERE = ("info", "warning", "critical")


class Alarm(NamedTuple):
    """One warning about one agent, or about the fleet with an empty ``agent_id``."""

    rule: str
    agent_id: str
    since: float  # the fleet's clock, seconds
    severity: str
    text: str


class Alarms:
    """What is the matter now.

    Attributes:
        all: worst first, then by rule, then longest first.
        summaries: the fleet's own sentences, one a rule.
    """

    def __init__(self) -> None:
        """Begin with nothing the matter."""
        self.all: tuple[Alarm, ...] = ()
        self.summaries: tuple[str, ...] = ()

    def apply(self, warnings: Iterable[Mapping[str, Any]], summaries: Iterable[str]) -> None:
        """Take what the fleet says; what it no longer says is over."""
        found = [
            Alarm(
                clean(w.get("rule", "warning")),
                clean(w.get("agent_id", "")),
                float(w.get("since") or 0.0),
                str(w.get("severity", "warning")),
                clean(w.get("text", "")),
            )
            for w in warnings
        ]
        self.all = tuple(sorted(found, key=lambda a: (-_rank(a), a.rule, a.since, a.agent_id)))
        self.summaries = tuple(clean(text) for text in summaries)

    def of(self, agent_id: str) -> tuple[Alarm, ...]:
        """Return what concerns one agent."""
        return tuple(alarm for alarm in self.all if alarm.agent_id == agent_id)

    def rules(self) -> dict[str, list[Alarm]]:
        """Return the warnings by rule, the worst rule first."""
        found: dict[str, list[Alarm]] = {}
        for alarm in self.all:
            found.setdefault(alarm.rule, []).append(alarm)
        return found

    @property
    def worst(self) -> str:
        """Role in which the count is drawn."""
        if not self.all:
            return "quiet"
        return role(self.all[0])


def role(alarm: Alarm) -> str:
    """Return the role in which a warning is drawn."""
    return ("", "warn", "bad")[_rank(alarm)]


def _rank(alarm: Alarm) -> int:
    return _SEVERE.index(alarm.severity) if alarm.severity in _SEVERE else 1
