"""Which agents restart together, and in which order: OTP's strategies over ``depends_on``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetmon.errors import SpecError, UnknownAgentError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fleetmon.spec import AgentSpec


def start_order(specs: Mapping[str, AgentSpec]) -> list[str]:
    """Return all agents, dependencies first, otherwise as they stand in ``specs``.

    Stop in the reverse order.

    Raises:
        SpecError: a cycle or an unknown dependency; the message names the whole path.
    """
    return _order(specs, strict=True)


def affected(agent_id: str, specs: Mapping[str, AgentSpec]) -> tuple[str, ...]:
    """Return whom a lapse of ``agent_id`` takes along, see :meth:`DependencyGraph.affected`.

    Builds the whole index for one answer: whoever asks again keeps a :class:`DependencyGraph`.
    """
    return DependencyGraph(specs).affected(agent_id)


class DependencyGraph:
    """Dependencies and groups of a fleet, indexed so that an answer costs what it returns."""

    __slots__ = ("_dependents", "_groups", "_next", "_rank", "_specs")

    def __init__(self, specs: Mapping[str, AgentSpec] | None = None) -> None:
        """Index ``specs``; raises as :func:`start_order` does."""
        self._specs: dict[str, AgentSpec] = {}
        self._rank: dict[str, int] = {}  # position in the order of start
        self._next = 0
        self._dependents: dict[str, set[str]] = {}  # also of agents that were removed
        self._groups: dict[str, set[str]] = {}
        if specs:
            for agent_id in start_order(specs):
                self._enter(agent_id, specs[agent_id])

    def __contains__(self, agent_id: object) -> bool:
        """Whether the agent is in the graph."""
        return agent_id in self._specs

    def __len__(self) -> int:
        """How many agents are in the graph."""
        return len(self._specs)

    def add(self, agent_id: str, spec: AgentSpec) -> None:
        """Enter an agent, or its new spec.

        Raises:
            SpecError: a dependency is not in the graph, or a cycle would arise; nothing changed.
        """
        for name in spec.depends_on:
            if name not in self._specs and name != agent_id:
                raise _unknown([agent_id, name])
        fresh = agent_id not in self._specs and not self._dependents.get(agent_id)
        if fresh and agent_id not in spec.depends_on:
            self._enter(agent_id, spec)
            return
        # others depend on it already: its place in the order may change, and theirs
        specs = {**self._specs, agent_id: spec}
        order = _order(specs, strict=False)
        self.remove(agent_id)
        self._enter(agent_id, spec)
        self._rank = {name: rank for rank, name in enumerate(order)}
        self._next = len(order)

    def remove(self, agent_id: str) -> None:
        """Take an agent out; unknown ones are ignored. Its dependents stay."""
        spec = self._specs.pop(agent_id, None)
        if spec is None:
            return
        del self._rank[agent_id]
        for name in spec.depends_on:
            self._discard(self._dependents, name, agent_id)
        self._discard(self._groups, spec.group, agent_id)

    def affected(self, agent_id: str) -> tuple[str, ...]:
        """Return the other agents that must restart with this one by ITS strategy.

        ``one_for_one``: none. ``one_for_all``: its group (none without a group: nobody asked for
        company). ``rest_for_one``: whoever depends on it, directly or through others. In the order
        of start; they stop in the reverse order. Temporary agents are among them: they stop with
        the rest and are not started again.

        Raises:
            UnknownAgentError: the agent is not in the graph.
        """
        spec = self._specs.get(agent_id)
        if spec is None:
            raise UnknownAgentError(agent_id)
        if spec.strategy == "one_for_all":
            return self.in_order(self._groups.get(spec.group, ()), without=agent_id)
        if spec.strategy == "rest_for_one":
            return self.dependents(agent_id)
        return ()

    def dependents(self, agent_id: str) -> tuple[str, ...]:
        """Return whoever depends on the agent, directly or through others, in order of start."""
        found: set[str] = set()
        ahead = [agent_id]
        while ahead:
            for name in self._dependents.get(ahead.pop(), ()):
                if name not in found:
                    found.add(name)
                    ahead.append(name)
        return self.in_order(found)

    def in_order(self, agent_ids: Iterable[str], *, without: str = "") -> tuple[str, ...]:
        """Return those of ``agent_ids`` that are in the graph, in the order of start."""
        rank = self._rank
        names = [name for name in agent_ids if name in rank and name != without]
        names.sort(key=rank.__getitem__)
        return tuple(names)

    def _enter(self, agent_id: str, spec: AgentSpec) -> None:
        self._specs[agent_id] = spec
        self._rank[agent_id] = self._next
        self._next += 1
        for name in spec.depends_on:
            self._dependents.setdefault(name, set()).add(agent_id)
        if spec.group:
            self._groups.setdefault(spec.group, set()).add(agent_id)

    @staticmethod
    def _discard(index: dict[str, set[str]], key: str, agent_id: str) -> None:
        members = index.get(key)
        if members is not None:
            members.discard(agent_id)
            if not members:
                del index[key]


def _order(specs: Mapping[str, AgentSpec], *, strict: bool) -> list[str]:
    # depth first without recursion: a chain of 10,000 agents is no reason to fail
    done: dict[str, None] = {}
    for root in specs:
        if root in done:
            continue
        path, under_way = [root], {root}
        ahead = [iter(specs[root].depends_on)]
        while path:
            name = next(ahead[-1], None)
            if name is None:
                ahead.pop()
                done[path[-1]] = None
                under_way.remove(path.pop())
            elif name in under_way:
                raise _cycle([*path[path.index(name) :], name])
            elif name in specs:
                if name not in done:
                    path.append(name)
                    under_way.add(name)
                    ahead.append(iter(specs[name].depends_on))
            elif strict:
                raise _unknown([*path, name])
    return list(done)


def _unknown(path: list[str]) -> SpecError:
    return SpecError(
        f"depends_on: no agent {path[-1]!r} ({_arrows(path)}); add it first or mend the name",
        field="depends_on",
        value=path[-1],
    )


def _cycle(path: list[str]) -> SpecError:
    return SpecError(
        f"depends_on: a cycle ({_arrows(path)}); drop one of these dependencies",
        field="depends_on",
        value=tuple(path),
    )


def _arrows(path: list[str]) -> str:
    most = 12
    if len(path) > most:
        path = [*path[: most // 2], f"... {len(path) - most} more ...", *path[-(most // 2) :]]
    return " -> ".join(path)
