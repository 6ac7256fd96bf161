"""A model of one agent that does nothing but follow the transition tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fleetmon.policy.transitions import (
    FACTS,
    Act,
    Actual,
    Command,
    Desired,
    Fact,
    command,
    resolve,
    settle,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

ALIVE = frozenset((Actual.STARTING, Actual.RECOVERING, Actual.RUNNING, Actual.PROBING))
# timers that are cancelled, and ends of work that nobody waits for, unless desired is this
_ONLY = {
    Fact.RETRY: (Desired.RUN,),
    Fact.PROBE: (Desired.RUN,),
    Fact.DRAINED: (Desired.DRAINED,),
}
DECISIONS = ("back_off", "quarantine", "stop")


class State(NamedTuple):
    """What the tables depend on, and what a test wants to know besides."""

    desired: Desired = Desired.RUN
    actual: Actual = Actual.STARTING
    fault: bool = False
    lapse: bool = False  # ended because of a lapse, not yet decided
    restart: bool = False  # ended in order to be restarted
    over: bool = False  # ended by itself, for good: its restart type allows that
    started: bool = False  # how many lives began in this step is what matters: one


def obey(state: State, name: Command) -> tuple[str, State]:
    """Return verdict and state after a command."""
    answer = command(state.desired, state.actual, name, restarting=state.restart)
    state = state._replace(started=False)
    if answer.verdict != "accepted":
        assert answer.desired is state.desired
        assert answer.reason
        return answer.verdict, state
    over = state.over and name is Command.RESET and state.desired is answer.desired
    released = name is Command.RESET and state.desired is not answer.desired
    state = state._replace(desired=answer.desired, over=over)
    if name is Command.RESET:
        if state.actual is Actual.QUARANTINED:
            state = (
                _begin(state, Actual.RECOVERING)
                if state.desired is Desired.RUN
                else state._replace(actual=Actual.BACKING_OFF)
            )
        elif released:
            state = _do(state, settle(state.desired, state.actual, commanded=True))
        return answer.verdict, state
    if name is Command.RESTART:
        if state.actual in ALIVE:
            return answer.verdict, state._replace(actual=Actual.STOPPING, restart=True)
        if state.actual is Actual.STOPPING:
            return answer.verdict, state._replace(restart=True)
        return answer.verdict, _begin(state._replace(restart=True))
    act = settle(state.desired, state.actual, commanded=True)
    return answer.verdict, _do(state, act)


def happen(state: State, fact: Fact, decision: str = "back_off") -> tuple[Act, State]:
    """Return act and state after a fact; ``decision`` is the restart policy's, if it is asked."""
    following, act = FACTS[state.actual, fact]
    state = state._replace(started=False)
    if act is Act.IGNORE or state.desired not in _ONLY.get(fact, Desired):
        return Act.IGNORE, state
    before = state.actual
    if following is not None:
        state = state._replace(actual=following)
    if fact in (Fact.LAPSED, Fact.UNVERIFIED):
        state = state._replace(fault=True, lapse=True, restart=False)
    elif fact is Fact.FINISHED:
        state = state._replace(fault=False, over=True)
    elif fact is Fact.STARTED:
        state = state._replace(restart=False)
    elif fact is Fact.VERIFIED:
        state = state._replace(fault=False)
    if act is Act.START:
        return act, _begin(state, state.actual)
    if act is Act.RESOLVE:
        return act, _resolve(state, decision)
    if before is not state.actual and act is not Act.END:
        state = _do(state, settle(state.desired, state.actual, commanded=False))
    return act, state


def _resolve(state: State, decision: str) -> State:
    following, act = resolve(
        state.desired, lapse=state.lapse, restart=state.restart, fault=state.fault
    )
    if act is Act.DECIDE:
        state = state._replace(lapse=False)
        if decision == "back_off":
            state = state._replace(actual=Actual.BACKING_OFF)
        elif decision == "quarantine":
            state = state._replace(actual=Actual.QUARANTINED)
        else:
            state = state._replace(actual=Actual.STOPPED, over=True)
        return _do(state, settle(state.desired, state.actual, commanded=False))
    assert following is not None
    if act is Act.START:
        return _begin(state, following)
    return state._replace(actual=following, lapse=False, restart=False)


def _begin(state: State, actual: Actual | None = None) -> State:
    if actual is None:
        actual = Actual.RECOVERING if state.fault else Actual.STARTING
    return state._replace(actual=actual, lapse=False, over=False, started=True)


def _do(state: State, act: Act) -> State:
    match act:
        case Act.START if state.actual is Actual.STOPPING:  # as soon as the old life has ended
            return state._replace(restart=not state.lapse)
        case Act.START:
            return _begin(state)
        case Act.END:
            return state._replace(actual=Actual.STOPPING, restart=False)
        case Act.TO_STOPPED:
            return state._replace(actual=Actual.STOPPED, restart=False)
        case Act.TO_QUARANTINED:
            return state._replace(actual=Actual.QUARANTINED, restart=False)
        case _:
            return state


def moves(state: State) -> Iterator[tuple[object, State]]:
    """Yield every command and every fact with the state that it leads to."""
    for name in Command:
        yield name, obey(state, name)[1]
    for fact in Fact:
        for decision in DECISIONS if fact is Fact.ENDED else DECISIONS[:1]:
            yield (fact, decision), happen(state, fact, decision)[1]


def reachable() -> set[State]:
    """Return every state that any sequence of commands and facts can lead to."""
    ahead, seen = [State()], {State()}
    while ahead:
        for _, following in moves(ahead.pop()):
            if following not in seen:
                seen.add(following)
                ahead.append(following)
    return seen
