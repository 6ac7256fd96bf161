"""Commands to several agents: the question before, the answers, and what became of them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from fleetmon_tui.state.store import GENERATION, LIFECYCLE
from fleetmon_tui.state.text import clean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fleetmon_tui.state.store import Store

COMMANDS: Mapping[str, str] = {
    "restart": "ends each incarnation and begins another; spends no restart budget",
    "pause": "takes nothing new, keeps the incarnation",
    "resume": "takes tasks again",
    "drain": "finishes what it has, then stops",
    "start": "starts a stopped agent",
    "stop": "ends the incarnation",
    "quarantine": "takes it out, without probes, until it is reset",
    "reset": "forgets streak and conditions; from quarantine brings it back",
}
"""Commands and what they do, as the question says it."""

_RETRY = "hands the task to its agent once more, with the payload that it had"

_GOALS = {
    "restart": {"running"}, "start": {"running"}, "resume": {"running"}, "reset": {"running"},
    "pause": {"paused"}, "drain": {"stopped"}, "stop": {"stopped"}, "quarantine": {"quarantined"},
}  # fmt: skip
_NAMED = 12  # agents that a question names one by one; the others it counts
_KEPT = 12.0  # seconds for which a finished order stays in sight


class Question(NamedTuple):
    """What is asked before a command is sent.

    Attributes:
        command: its name.
        agents: whom it is for.
        hidden: how many of them the filter hides.
        task_id: of the dead letter that is to be tried again.
    """

    command: str
    agents: tuple[str, ...]
    hidden: int = 0
    task_id: int = 0

    @property
    def title(self) -> str:
        """The question itself, with the number."""
        if self.task_id:
            return f"Retry task {self.task_id}?"
        count = len(self.agents)
        return f"{self.command.capitalize()} {count} agent{'s' if count != 1 else ''}?"

    @property
    def names(self) -> str:
        """The names, as many as fit on a few lines, and the number of the others."""
        names = ", ".join(clean(name) for name in self.agents[:_NAMED])
        rest = len(self.agents) - _NAMED
        return f"{names} and {rest} more" if rest > 0 else names

    @property
    def effect(self) -> str:
        """What the command does to each."""
        hidden = f" {self.hidden} of them are hidden by the filter." if self.hidden else ""
        effect = _RETRY if self.task_id else COMMANDS.get(self.command, "")
        return f"{effect}.{hidden}".capitalize()


class Order:
    """One command on its way to several agents.

    Attributes:
        command: its name.
        answers: word of the answer by agent: accepted, noop, rejected, pending, failed.
        reasons: why, where an answer says so.
    """

    def __init__(self, command: str, agents: Sequence[str], store: Store) -> None:
        """Begin; how things stand now decides later whether it came about."""
        self.command = command
        self.answers: dict[str, str] = {}
        self.reasons: dict[str, str] = {}
        self.ended: float | None = None
        self._waiting = dict.fromkeys(agents)
        self._before = {a: row[GENERATION] for a in agents if (row := store.get(a)) is not None}
        self._there: set[str] = set()
        self._count = len(agents)

    def answered(self, agent_id: str, answer: Mapping[str, Any]) -> None:
        """Note an answer."""
        result = str(answer.get("result", "failed"))
        self.answers[agent_id] = result
        if answer.get("reason"):
            self.reasons[agent_id] = clean(answer["reason"])
        if result != "pending":
            self._waiting.pop(agent_id, None)

    def look(self, store: Store, now: float) -> bool:
        """See what came about; returns whether the order may leave the screen."""
        goal = _GOALS.get(self.command, set())
        for agent_id, word in self.answers.items():
            row = store.get(agent_id)
            if word not in {"accepted", "pending"} or row is None or agent_id in self._there:
                continue
            new = self.command != "restart" or row[GENERATION] > self._before.get(agent_id, -1)
            if new and row[LIFECYCLE] in goal:
                self._there.add(agent_id)
        if self.complete and self.ended is None:
            self.ended = now
        return self.ended is not None and now - self.ended > _KEPT

    @property
    def complete(self) -> bool:
        """Every answer is there, and what was accepted has come about."""
        accepted = sum(word in {"accepted", "pending"} for word in self.answers.values())
        return not self._waiting and len(self._there) >= accepted

    @property
    def role(self) -> str:
        """Role to draw the sentence in."""
        if any(word in {"rejected", "failed"} for word in self.answers.values()):
            return "bad"
        return "ok" if self.complete else "warn"

    @property
    def sentence(self) -> str:
        """How it stands, in one line."""
        counts = Counter(self.answers.values())
        parts = [f"{counts[word]} {told}" for word, told in _TOLD if counts[word]]
        if self._waiting and (unanswered := self._count - len(self.answers)):
            parts.append(f"{unanswered} without an answer yet")
        accepted = counts["accepted"] + counts["pending"]
        if accepted:
            goal = "/".join(sorted(_GOALS.get(self.command, {"done"})))
            again = f"{goal} again" if self.command in {"restart", "reset"} else goal
            parts.append(f"{len(self._there)} of {accepted} {again}")
        whom = next(iter(self.answers or self._waiting), "") if self._count == 1 else self._count
        refused = [a for a, word in self.answers.items() if word in {"rejected", "failed", "noop"}]
        why = f" ({refused[0]}: {self.reasons[refused[0]]})" if refused and (
            refused[0] in self.reasons) else ""  # fmt: skip
        return f"{self.command} {whom}: {', '.join(parts) or 'sent'}{why}"


_TOLD = (
    ("accepted", "accepted"),
    ("succeeded", "succeeded"),
    ("noop", "had nothing to do"),
    ("rejected", "refused"),
    ("failed", "failed"),
    ("pending", "under way"),
)
