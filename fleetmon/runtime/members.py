"""The agents of one supervisor: who is there, under which id, with which spec."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from fleetmon.errors import (
    DuplicateAgentError,
    NotRunningError,
    SpecError,
    UnknownAgentError,
)
from fleetmon.events import EventKind
from fleetmon.runtime.core import DECLARED, AgentCore

if TYPE_CHECKING:
    from fleetmon.numbers import AgentNumbers
    from fleetmon.roster import Roster, RosterEntry
    from fleetmon.runtime.groups import Groups
    from fleetmon.settings import SupervisorSettings
    from fleetmon.spec import AgentSpec


class Members:
    """What a fleet knows of its agents; may be asked from any thread.

    Attributes:
        cores: by id, in order of registration; removed agents stay, for their counters.
        membership: rises whenever an agent comes or goes.
        live: how many are there and not merely declared.
    """

    __slots__ = (
        "_lock",
        "_numbers",
        "accepting",
        "cores",
        "live",
        "membership",
        "roster",
        "settings",
    )

    if TYPE_CHECKING:
        name: str
        phase: str
        groups: Groups

    def __init__(self, settings: SupervisorSettings, roster: Roster | None) -> None:
        """Start without any."""
        self.settings = settings
        self.roster = roster
        self.cores: dict[str, AgentCore] = {}
        self.membership = 0
        self.live = 0
        self.accepting = True
        self._numbers: list[AgentNumbers] = []
        self._lock = threading.RLock()

    def spec_of(self, entry: RosterEntry | None, spec: AgentSpec | None) -> AgentSpec:
        """Return the spec to use: the settings' defaults, then the roster's, then what is given.

        Only fields that were set count, so that a spec which sets one leaves the others alone.
        """
        defaults = self.settings.defaults
        if spec is None and (entry is None or not (entry.spec or entry.task_types)):
            return defaults
        values: dict[str, Any] = {f: getattr(defaults, f) for f in defaults.model_fields_set}
        if entry is not None:
            values |= dict(entry.spec)
            if entry.task_types:
                values.setdefault("task_types", tuple(entry.task_types))
        if spec is not None:
            values |= {f: getattr(spec, f) for f in spec.model_fields_set}
        try:
            return type(defaults)(**values)
        except SpecError as error:
            if entry is None:
                raise
            msg = f"roster entry {entry.agent_id!r}: {error}"
            raise SpecError(msg, field=error.field, value=error.value) from None

    def admit(self, name: str, spec: AgentSpec | None, mode: str) -> AgentCore:
        """Register an agent, or bring a declared or removed one back under its old numbers.

        Raises:
            UnknownAgentError: not on the roster, and unknown agents are refused.
            DuplicateAgentError: already there.
            SpecError: an id that cannot be a label, or a spec that does not fit.
        """
        if not self.accepting:
            msg = f"supervisor {self.name!r} is {self.phase}; agents cannot be added any more"
            raise NotRunningError(msg)
        agent_id, entry = self._identify(name)
        with self._lock:
            core = self.cores.get(agent_id)
            if core is not None and core.mode != DECLARED and not core.removed:
                raise DuplicateAgentError(agent_id)
            chosen = self.spec_of(entry, spec)
            self.groups.graph.add(agent_id, chosen)
            if core is None:
                core = self._register(agent_id, chosen, entry, mode)
            else:
                core.mode = mode
                core.removed = False
                core.set_spec(chosen)
            self.live += 1
            self.membership += 1
        core.event(EventKind.AGENT_ADDED, {"mode": mode})
        return core

    def _identify(self, name: str) -> tuple[str, RosterEntry | None]:
        if not isinstance(name, str) or not name.strip() or len(name) > 64:  # noqa: PLR2004 - a label
            msg = f"agent id {name!r} must be a text of 1 to 64 characters"
            raise SpecError(msg, field="agent_id", value=name)
        try:
            name.encode()
        except UnicodeEncodeError:
            msg = f"agent id {name!r} cannot be encoded as UTF-8; leave out the lone surrogates"
            raise SpecError(msg, field="agent_id", value=name) from None
        if self.roster is None:
            return name, None
        try:
            agent_id = self.roster.normalize(name)
        except UnknownAgentError:
            if self.settings.unknown_agents == "refuse":
                raise
            return name, None
        return agent_id, next(e for e in self.roster.entries if e.agent_id == agent_id)

    def _register(
        self, agent_id: str, spec: AgentSpec, entry: RosterEntry | None, mode: str
    ) -> AgentCore:
        if len(self.cores) >= self.settings.metrics.agents:
            msg = (
                f"agent {agent_id!r} would be number {len(self.cores) + 1}, but metrics.agents "
                f"admits {self.settings.metrics.agents}: raise it or reuse ids"
            )
            raise SpecError(msg, field="metrics.agents", value=self.settings.metrics.agents)
        core = AgentCore(self, agent_id, spec, entry, mode)  # type: ignore[arg-type] # a fleet
        self.cores[agent_id] = core
        self._numbers.append(core.numbers)
        return core

    def discard(self, core: AgentCore, *, forget: bool = False) -> None:
        """Let an agent go; its counters stay, so that they never go back.

        Args:
            core: the agent.
            forget: it never was up: nothing of it stays, unless it was declared before.
        """
        with self._lock:
            if core.removed or core.mode == DECLARED:
                return
            self.live -= 1
            self.membership += 1
            self.groups.graph.remove(core.agent_id)
            core.open = False
            if core.entry is not None:
                core.mode = DECLARED
            elif forget and not core.numbers.types and core.generation == 1:
                core.removed = True
                del self.cores[core.agent_id]
                self._numbers = [n for n in self._numbers if n is not core.numbers]
            else:
                core.removed = True
        core.event(EventKind.AGENT_REMOVED, {})

    def find(self, name: str) -> AgentCore:
        """Return the agent that a name means; raises :class:`UnknownAgentError`."""
        core = self.cores.get(name)
        if core is None and self.roster is not None:
            try:
                core = self.cores.get(self.roster.normalize(name))
            except UnknownAgentError:
                core = None
        if core is None or core.removed:
            from difflib import get_close_matches  # only in the error

            there = [c.agent_id for c in self.cores.values() if not c.removed]
            raise UnknownAgentError(str(name), get_close_matches(str(name), there, 3))
        return core
