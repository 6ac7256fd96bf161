"""Warnings about a fleet as lints: a picture and recent events in, sentences out.

:class:`Lookout` remembers what the rules of :mod:`fleetmon.policy.lint_rules` need to know of the
past; all that it keeps is bounded by the number of agents.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from fleetmon.events import EventKind
from fleetmon.snapshot import FleetWarning, Warnings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from fleetmon.events import Event
    from fleetmon.snapshot import Condition

CRITICAL, WARNING = "critical", "warning"

FLAPS = 3
"""Falls after a verified recovery within :data:`FLAP_WINDOW` that make an agent flap."""
FLAP_WINDOW = 300.0
STORM_WINDOW = 30.0
"""Seconds in which so many agents have to lapse that it is a storm."""
STORM_AGENTS = 5
STORM_SHARE = 0.2
RECENT = 60.0
"""Seconds for which something that is over is still worth a warning."""

_LAPSES = 4096  # of the whole fleet that are remembered; more within the window are a storm anyway


class AgentFacts(NamedTuple):
    """What the rules look at of one agent.

    Attributes:
        agent_id: its id.
        lifecycle: label of its state.
        conditions: what is the matter with it.
        lapses: within the period of its intensity.
        max_restarts: that the intensity allows within it.
        period: of the intensity, seconds.
        type_limit: task types that are told apart.
        overflowed: further ones came and are counted as ``other``.
    """

    agent_id: str
    lifecycle: str = "running"
    conditions: tuple[Condition, ...] = ()
    lapses: int = 0
    max_restarts: int = 5
    period: float = 600.0
    type_limit: int = 20
    overflowed: bool = False


class Picture(NamedTuple):
    """The fleet at one instant.

    Attributes:
        now: the supervisor's clock, seconds.
        agents: those that something may be the matter with; the others may be left out.
        size: how many agents there are.
        shared_cause_open: restarts wait for one probe.
        drops: events that slow subscribers lost so far, by kind.
    """

    now: float
    agents: Sequence[AgentFacts]
    size: int
    shared_cause_open: bool = False
    drops: Mapping[str, int] = {}


class Past:
    """What the rules know of the past.

    Attributes:
        falls: by agent, when it fell after a verified recovery.
        lapses: ``(when, agent, what of)`` of the whole fleet, oldest first.
        hung: by agent, ``(when, sentence)`` of the last task beyond its hard limit.
        blocked: the event that says that a loop is blocked by what is no agent's task.
        held: the last event that says that a call in C kept the interpreter.
        cause: what the shared-cause breaker opened for.
        dropped: by kind, ``(when, how many in all)`` at the latest rise.
    """

    def __init__(self) -> None:
        """Know nothing."""
        self.falls: dict[str, deque[float]] = {}
        self.lapses: deque[tuple[float, str, str]] = deque(maxlen=_LAPSES)
        self.hung: dict[str, tuple[float, str]] = {}
        self.blocked: Event | None = None
        self.held: Event | None = None
        self.cause = ""
        self.dropped: dict[str, tuple[float, int]] = {}
        self._back: set[str] = set()
        self._drops: Mapping[str, int] | None = None

    def take(self, event: Event) -> None:
        """Remember an event, if it matters."""
        kind, agent_id, at = event.kind, event.agent_id, event.monotonic
        if kind == EventKind.LAPSED:
            what = str(event.data.get("error") or event.data.get("reason") or "")
            self.lapses.append((at, agent_id, what))
            if agent_id in self._back:
                self._back.discard(agent_id)
                self.falls.setdefault(agent_id, deque(maxlen=4 * FLAPS)).append(at)
        elif kind == EventKind.VERIFIED:
            self._back.add(agent_id)
        elif kind == EventKind.TASK_HUNG:
            if event.data.get("limit") != "soft":
                seconds = float(event.data.get("seconds", 0.0))
                text = f"task {event.task_id} ({event.data.get('task_type', '')}) hung"
                self.hung[agent_id] = (at, f"{text} for {seconds:.1f} s and was given up")
        elif kind in (EventKind.LOOP_BLOCKED, EventKind.LOOP_FREED):
            self._loop(event)
        elif kind == EventKind.SHARED_CAUSE_OPENED:
            self.cause = str(event.data.get("cause", ""))
        elif kind == EventKind.AGENT_REMOVED:
            self._back.discard(agent_id)
            self.falls.pop(agent_id, None)
            self.hung.pop(agent_id, None)

    def _loop(self, event: Event) -> None:
        if event.data.get("interpreter_held"):
            self.held = event
        elif event.kind == EventKind.LOOP_BLOCKED and not event.agent_id:
            self.blocked = event
        else:  # free, or an agent that bears the condition
            self.blocked = None

    def age(self, picture: Picture) -> None:
        """Note what the picture counts, and forget what is too old to matter."""
        now = picture.now
        before = picture.drops if self._drops is None else self._drops
        for kind, count in picture.drops.items():
            if count > before.get(kind, 0):
                self.dropped[kind] = (now, count)
        self._drops = dict(picture.drops)
        self.dropped = {k: x for k, x in self.dropped.items() if now - x[0] < RECENT}
        self.hung = {k: x for k, x in self.hung.items() if now - x[0] < RECENT}
        while self.lapses and now - self.lapses[0][0] >= STORM_WINDOW:
            self.lapses.popleft()
        for agent_id in [k for k, times in self.falls.items() if now - times[-1] >= FLAP_WINDOW]:
            del self.falls[agent_id]
        if self.held is not None and now - self.held.monotonic >= RECENT:
            self.held = None


class Rule:
    """One lint.

    Attributes:
        name: what it is called on the wire.
        severity: ``warning`` or ``critical``.
    """

    name: str
    severity: str = WARNING

    def find(self, picture: Picture, past: Past) -> Iterator[tuple[str, float | None, str]]:
        """Yield ``(agent, since, sentence)`` of each instance.

        ``agent`` is empty for the fleet; ``since`` is on the supervisor's clock, and ``None`` where
        only the first look that found it can tell.
        """
        raise NotImplementedError

    def summary(self, count: int) -> str:
        """Return the sentence for ``count`` instances."""
        raise NotImplementedError


class Lookout:
    """Looks at a fleet now and then, and says what is the matter with it."""

    def __init__(self, rules: Sequence[Rule] | None = None) -> None:
        """Start without a past; ``rules`` are all of them by default."""
        from fleetmon.policy.lint_rules import RULES

        self._rules = RULES if rules is None else rules
        self._past = Past()
        self._since: dict[tuple[str, str], float] = {}

    def look(self, picture: Picture, events: Iterable[Event] = ()) -> Warnings:
        """Return what is the matter now.

        Args:
            picture: of the fleet.
            events: since the last look, oldest first.

        Returns:
            Critical ones first, then by rule and agent.
        """
        for event in events:
            self._past.take(event)
        self._past.age(picture)
        found: list[FleetWarning] = []
        summaries: list[str] = []
        since: dict[tuple[str, str], float] = {}
        for rule in sorted(self._rules, key=lambda r: r.severity != CRITICAL):
            before = len(found)
            for agent_id, began, text in rule.find(picture, self._past):
                key = rule.name, agent_id
                since[key] = self._since.get(key, picture.now) if began is None else began
                found.append(FleetWarning(rule.name, agent_id, since[key], rule.severity, text))
            if len(found) > before:
                summaries.append(rule.summary(len(found) - before))
        self._since = since
        return Warnings(tuple(found), tuple(summaries))
