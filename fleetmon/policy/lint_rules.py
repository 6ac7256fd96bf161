"""The rules of :mod:`fleetmon.policy.lints`: each with its sentences for one and for many."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from fleetmon.policy.lints import (
    CRITICAL,
    FLAP_WINDOW,
    FLAPS,
    RECENT,
    STORM_AGENTS,
    STORM_SHARE,
    STORM_WINDOW,
    WARNING,
    Rule,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleetmon.policy.lints import Past, Picture

    Found = Iterator[tuple[str, float | None, str]]

_NEAR = 0.8  # share of the restarts that is spent when little is left
_DOWN = frozenset(("quarantined", "stopped"))


def _agents(count: int, one: str, many: str) -> str:
    return f"1 agent {one}" if count == 1 else f"{count} agents {many}"


class _OfCondition(Rule):
    """Tells of a condition that the supervisor raised itself."""

    def __init__(self, name: str, condition: str, one: str, many: str, severity: str) -> None:
        self.name = name
        self.severity = severity
        self._condition = condition
        self._words = one, many

    def find(self, picture: Picture, past: Past) -> Found:  # noqa: ARG002 - a condition is now
        for agent in picture.agents:
            for condition in agent.conditions:
                if condition.name == self._condition:
                    yield agent.agent_id, condition.since, condition.reason

    def summary(self, count: int) -> str:
        return _agents(count, *self._words)


class BlockedLoop(_OfCondition):
    """Somebody holds an event loop up; everything else in it waits."""

    def __init__(self) -> None:
        """Take agents from their condition, everything else from the events."""
        super().__init__("blocked_loop", "blocked_loop", "", "", CRITICAL)

    def find(self, picture: Picture, past: Past) -> Found:
        """Name agent, task and line as far as they are known."""
        yield from super().find(picture, past)
        if past.blocked is not None:
            data = past.blocked.data
            since = past.blocked.monotonic - float(data.get("seconds", 0.0))
            where = f"{data.get('file')}:{data.get('line')} in {data.get('function')}"
            yield "", since, f"something that is no agent's task blocks the event loop at {where}"
        held = past.held
        if held is not None:
            data = held.data
            where = f"{data.get('file')}:{data.get('line')} in {data.get('function')}"
            yield held.agent_id, held.monotonic, f"a call in C stopped every thread at {where}"

    def summary(self, count: int) -> str:
        """Count the blockers."""
        return "an event loop is blocked" if count == 1 else f"event loops are blocked by {count}"


class Hang(_OfCondition):
    """A task makes no progress."""

    def __init__(self) -> None:
        """Take the soft limit from the condition, the hard one from the events."""
        one, many = "has a task that hangs", "have tasks that hang"
        super().__init__("hang", "suspect", one, many, WARNING)

    def find(self, picture: Picture, past: Past) -> Found:
        """Tell of tasks without progress, and for a minute of those that were given up."""
        told = set()
        for found in super().find(picture, past):
            told.add(found[0])
            yield found
        for agent_id, (at, text) in past.hung.items():
            if agent_id not in told:
                yield agent_id, at, text


class Flapping(Rule):
    """An agent that comes back each time and does not stay."""

    name = "flapping"

    def find(self, picture: Picture, past: Past) -> Found:
        """Count falls that followed a verified recovery."""
        for agent_id, times in past.falls.items():
            recent = [at for at in times if picture.now - at < FLAP_WINDOW]
            if len(recent) >= FLAPS:
                yield (
                    agent_id,
                    recent[0],
                    f"came back and fell again {len(recent)} times within {FLAP_WINDOW:g} s",
                )

    def summary(self, count: int) -> str:
        """Count the agents."""
        return _agents(count, "flaps", "flap")


class Storm(Rule):
    """A good part of the fleet falls at once."""

    name = "storm"
    severity = CRITICAL

    def find(self, picture: Picture, past: Past) -> Found:
        """Look at the breaker for shared causes, and at how many agents lapsed."""
        if picture.shared_cause_open:
            cause = f" ({past.cause})" if past.cause else ""
            text = f"most of the fleet fell for one reason{cause}; restarts wait for a probe"
            yield "", None, text
            return
        fallen = {agent_id: what for _, agent_id, what in past.lapses}
        if len(fallen) >= max(STORM_AGENTS, STORM_SHARE * picture.size):
            text = f"{len(fallen)} of {picture.size} agents lapsed within {STORM_WINDOW:g} s"
            what, many = Counter(fallen.values()).most_common(1)[0]
            if what and 2 * many >= len(fallen):
                text += f", {many} of them: {what}"
            yield "", past.lapses[0][0], text

    def summary(self, count: int) -> str:  # noqa: ARG002 - a fleet has one storm
        """Say so."""
        return "agents fall in numbers"


class NearExhaustion(Rule):
    """An agent that has nearly spent its restarts."""

    name = "near_exhaustion"

    def find(self, picture: Picture, past: Past) -> Found:  # noqa: ARG002 - lapses are counted
        """Compare lapses with what the intensity allows."""
        for agent in picture.agents:
            limit, lapses = agent.max_restarts, agent.lapses
            if limit and lapses >= _NEAR * limit and agent.lifecycle not in _DOWN:
                left = max(0, limit - lapses) + 1
                lapse = "lapse" if left == 1 else "lapses"
                yield (
                    agent.agent_id,
                    None,
                    (
                        f"{lapses} of {limit} restarts within {agent.period:g} s are spent; "
                        f"{left} more {lapse} and it is quarantined"
                    ),
                )

    def summary(self, count: int) -> str:
        """Count the agents."""
        return _agents(count, "has nearly spent its restarts", "have nearly spent their restarts")


class CardinalityOverflow(Rule):
    """More task types than are told apart, so that some are counted together."""

    name = "cardinality_overflow"

    def find(self, picture: Picture, past: Past) -> Found:  # noqa: ARG002 - counted once and for all
        """Name the limit and the setting."""
        for agent in picture.agents:
            if agent.overflowed:
                yield (
                    agent.agent_id,
                    None,
                    (
                        f"more than {agent.type_limit} task types; the rest is counted as 'other' "
                        "(metrics.task_types)"
                    ),
                )

    def summary(self, count: int) -> str:
        """Count the agents."""
        return _agents(
            count, "has too many task types to tell apart", "have too many task types to tell apart"
        )


class Drops(Rule):
    """Events that a slow subscriber did not get."""

    name = "drops"

    def find(self, picture: Picture, past: Past) -> Found:  # noqa: ARG002 - the past has the counts
        """Tell of each kind of subscriber for a minute."""
        for kind, (at, count) in sorted(past.dropped.items()):
            who = {"subscriber_error": "subscribers raised", "stream": "streams were too slow for"}
            what = who.get(kind, "subscribers were too slow for")
            yield "", at, f"{kind}: {what} events, {count} in all; the last within {RECENT:g} s"

    def summary(self, count: int) -> str:  # noqa: ARG002 - kinds are not worth counting
        """Say so."""
        return "events were lost on their way to subscribers"


RULES: tuple[Rule, ...] = (
    BlockedLoop(),
    Storm(),
    _OfCondition(
        "zombie",
        "zombie",
        "left an incarnation that would not end",
        "left incarnations that would not end",
        CRITICAL,
    ),
    Hang(),
    _OfCondition(
        "stall", "stalled", "has work and finishes nothing", "have work and finish nothing", WARNING
    ),
    Flapping(),
    NearExhaustion(),
    _OfCondition("failing", "failing", "fails too often", "fail too often", WARNING),
    _OfCondition("throttled", "throttled", "is throttled", "are throttled", WARNING),
    CardinalityOverflow(),
    Drops(),
)
"""All rules."""
