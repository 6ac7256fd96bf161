"""The transition table, walked as a whole: complete, convergent, and stop always wins."""

from __future__ import annotations

from itertools import product

import pytest
from helpers_table import ALIVE, DECISIONS, State, happen, moves, obey, reachable
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fleetmon import Condition
from fleetmon.policy.health import health, lifecycle
from fleetmon.policy.transitions import COMMANDS, FACTS, SETTLE, Act, Actual, Command, Desired, Fact

REACHED = reachable()

# What settles at once never rests: commanded down, nothing stays up or half-way.
UNREACHABLE = {
    *product([Desired.STOPPED, Desired.QUARANTINED], ALIVE),
    *product([Desired.DRAINED], ALIVE - {Actual.RUNNING}),
    *product([Desired.STOPPED, Desired.DRAINED], [Actual.BACKING_OFF, Actual.QUARANTINED]),
    *product([Desired.QUARANTINED], [Actual.BACKING_OFF, Actual.STOPPED]),
}

WELL = (  # what happens to an agent that is left alone and has nothing more to suffer
    Fact.ENDED,
    Fact.STARTED,
    Fact.RETRY,
    Fact.PROBE,
    Fact.PROBE_PASSED,
    Fact.VERIFIED,
    Fact.DRAINED,
)


def test_each_table_is_complete_no_pair_is_left_to_chance():
    assert set(COMMANDS) == set(product(Desired, Command))
    assert set(SETTLE) == set(product(Desired, Actual))
    assert set(FACTS) == set(product(Actual, Fact))


def test_exactly_these_pairs_of_desired_and_actual_can_be_reached():
    assert {(s.desired, s.actual) for s in REACHED} == set(product(Desired, Actual)) - UNREACHABLE


@pytest.mark.parametrize("desired", Desired)
def test_every_fact_in_every_state_that_can_be_reached_is_handled_or_known_to_be_stale(desired):
    for state in REACHED:
        if state.desired is not desired:
            continue
        for fact in Fact:
            act, after = happen(state, fact)
            if act is Act.IGNORE:
                assert after == state._replace(started=False)
            else:
                assert after.desired is desired, f"{fact} changed desired of {state}"


def test_a_fact_is_ignored_exactly_where_it_can_only_be_stale():
    handled = {pair for pair, (_, act) in FACTS.items() if act is not Act.IGNORE}
    assert handled == {
        *product([Actual.STARTING, Actual.RECOVERING, Actual.PROBING], [Fact.STARTED]),
        *product(ALIVE, [Fact.LAPSED, Fact.FINISHED]),
        (Actual.STOPPING, Fact.ENDED),
        (Actual.RECOVERING, Fact.VERIFIED),
        *product([Actual.RECOVERING, Actual.PROBING], [Fact.UNVERIFIED]),
        (Actual.BACKING_OFF, Fact.RETRY),
        (Actual.QUARANTINED, Fact.PROBE),
        (Actual.PROBING, Fact.PROBE_PASSED),
        (Actual.RUNNING, Fact.DRAINED),
    }


def test_a_life_begins_only_when_none_is_there():
    for state in REACHED:
        for move, after in moves(state):
            if after.started:
                assert state.actual not in ALIVE, f"{move} starts a second life from {state}"
                assert after.actual in ALIVE


def test_no_fact_starts_anything_unless_desired_says_run():
    for state in REACHED:
        for fact, decision in product(Fact, DECISIONS):
            _, after = happen(state, fact, decision)
            if after.started and not (state.restart and state.desired is Desired.PAUSED):
                assert state.desired is Desired.RUN, f"{fact} starts {state}"


@pytest.mark.parametrize("name", [Command.STOP, Command.DRAIN, Command.QUARANTINE])
def test_stop_drain_and_quarantine_win_in_every_state(name):
    for state in REACHED:
        verdict, now = obey(state, name)
        if verdict == "rejected":
            assert (state.desired, name) == (Desired.QUARANTINED, Command.DRAIN)
            continue
        goal = Actual.QUARANTINED if now.desired is Desired.QUARANTINED else Actual.STOPPED
        for fact in (*Fact, Fact.DRAINED, Fact.ENDED):
            _, now = happen(now, fact)
            assert not now.started
        assert now.actual is goal, f"{name} in {state} ends in {now}"


def test_left_alone_every_state_comes_to_where_desired_points():
    lost = []
    for state in REACHED:
        now = state
        for _ in range(4):
            for fact in WELL:
                _, now = happen(now, fact)
        goals = {
            Desired.RUN: {Actual.STOPPED} if now.over else {Actual.RUNNING},
            Desired.PAUSED: {
                Actual.RUNNING,
                Actual.BACKING_OFF,
                Actual.QUARANTINED,
                Actual.STOPPED,
            },
            Desired.DRAINED: {Actual.STOPPED},
            Desired.STOPPED: {Actual.STOPPED},
            Desired.QUARANTINED: {Actual.QUARANTINED},
        }[now.desired]
        if now.actual not in goals:
            lost.append((state, now))
    assert not lost, f"{len(lost)} states never get there, for example {lost[0]}"


def test_a_refused_command_says_why_and_changes_nothing():
    for state, name in product(REACHED, Command):
        verdict, after = obey(state, name)
        if verdict != "accepted":
            assert after == state._replace(started=False)


def test_a_stopped_agent_that_ended_by_itself_starts_on_command_only():
    for state in REACHED:
        if state.actual is Actual.STOPPED:
            for fact in Fact:
                assert happen(state, fact)[1].actual is Actual.STOPPED
            if state.desired is Desired.RUN:
                assert obey(state, Command.START)[1].actual in ALIVE


@pytest.mark.parametrize("fault", [False, True])
@pytest.mark.parametrize("actual", Actual)
def test_the_gauge_says_what_the_health_table_says(actual, fault):
    down = 2 if fault else 0
    plain = {
        Actual.STARTING: 0,
        Actual.RECOVERING: 1,
        Actual.RUNNING: 1 if fault else 0,
        Actual.PROBING: 1,
        Actual.STOPPING: down,
        Actual.STOPPED: down,
        Actual.QUARANTINED: down,
        Actual.BACKING_OFF: 2 if fault else 1,  # held back with others: down, but not its fault
    }[actual]
    assert health(actual, fault=fault, conditions=()) == plain
    soft = Condition("failing", 0.0, "because")
    hard = Condition("blocked_loop", 0.0, "because", hard=True)
    serving = actual in ALIVE
    assert health(actual, fault=fault, conditions=(soft,)) == (1 if serving else plain)
    assert health(actual, fault=fault, conditions=(soft, hard)) == (2 if serving else plain)


@pytest.mark.parametrize(("desired", "actual"), sorted(product(Desired, Actual)))
def test_the_lifecycle_label_is_derived_from_desired_and_actual(desired, actual):
    label = lifecycle(desired, actual)
    if actual is Actual.RUNNING and desired in (Desired.PAUSED, Desired.DRAINED):
        assert label == {"paused": "paused", "drained": "draining"}[desired]
    else:
        assert label == actual


class Table(RuleBasedStateMachine):
    """Walks the table as it comes; what holds for one step has to hold on the way."""

    def __init__(self):
        super().__init__()
        self.state = State()
        self.lives = 1
        self.stopped_at: int | None = None

    @rule(name=st.sampled_from(Command))
    def command(self, name):
        verdict, self.state = obey(self.state, name)
        self.lives += self.state.started
        if verdict == "accepted":
            down = self.state.desired in (Desired.STOPPED, Desired.DRAINED, Desired.QUARANTINED)
            self.stopped_at = self.lives if down else None

    @rule(fact=st.sampled_from(Fact), decision=st.sampled_from(DECISIONS))
    def fact(self, fact, decision):
        before = self.state
        _, self.state = happen(before, fact, decision)
        self.lives += self.state.started
        assert self.state.desired is before.desired

    @invariant()
    def known(self):
        assert (self.state.desired, self.state.actual) not in UNREACHABLE

    @invariant()
    def no_ghost_start_after_stop(self):
        assert self.stopped_at is None or self.lives == self.stopped_at

    @invariant()
    def the_gauge_is_2_only_for_reasons_of_fault(self):
        gauge = health(self.state.actual, fault=self.state.fault, conditions=())
        assert gauge < 2 or (self.state.fault and self.state.actual not in ALIVE)


TestTable = Table.TestCase
TestTable.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
