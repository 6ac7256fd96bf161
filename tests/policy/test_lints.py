"""Each lint: what raises it, what does not, and the two sentences."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetmon.events import Event, EventKind
from fleetmon.policy.lint_rules import RULES
from fleetmon.policy.lints import AgentFacts, Lookout, Picture
from fleetmon.snapshot import Condition

SEQ = count(1)
KIND = EventKind


def event(kind, at, agent_id="APEX", **data):
    task = data.pop("task_id", 0)
    return Event(next(SEQ), 1e9 + at, at, kind, agent_id, 1, task, data)


def picture(now=100.0, *agents, size=10, cause=False, **drops):
    return Picture(now, agents, size, cause, drops)


def ill(name, since=90.0, reason="why"):
    return AgentFacts("APEX", conditions=(Condition(name, since, reason),))


def falls(*times):
    return [
        event(kind, at, agent)
        for at in times
        for agent in ("APEX",)
        for kind in (KIND.VERIFIED, KIND.LAPSED)
    ]


def lapses(*agents, at=99.0, **data):
    return [event(KIND.LAPSED, at, agent, **data) for agent in agents]


WHERE = {"file": "a.py", "line": 7, "function": "run", "seconds": 0.5}
BLOCKED = event(KIND.LOOP_BLOCKED, 95.0, "", **WHERE)
HELD = event(KIND.LOOP_BLOCKED, 95.0, interpreter_held=True, **WHERE)
HUNG = event(KIND.TASK_HUNG, 95.0, limit="hard", seconds=12, task_type="train", task_id=3)
DOWN = AgentFacts("APEX", "quarantined", lapses=5)

RAISED = [
    ("blocked_loop", picture(100.0, ill("blocked_loop")), [], "why", "an event loop is blocked"),
    ("blocked_loop", picture(), [BLOCKED], "no agent's task blocks the event loop at a.py:7 in run",
     "an event loop is blocked"),
    ("blocked_loop", picture(), [HELD], "a call in C stopped every thread at a.py:7",
     "an event loop is blocked"),
    ("hang", picture(100.0, ill("suspect")), [], "why", "1 agent has a task that hangs"),
    ("hang", picture(), [HUNG], "task 3 (train) hung for 12.0 s", "1 agent has a task that hangs"),
    ("stall", picture(100.0, ill("stalled")), [], "why", "1 agent has work and finishes nothing"),
    ("zombie", picture(100.0, ill("zombie")), [], "why", "1 agent left an incarnation"),
    ("failing", picture(100.0, ill("failing")), [], "why", "1 agent fails too often"),
    ("throttled", picture(100.0, ill("throttled")), [], "why", "1 agent is throttled"),
    ("flapping", picture(), falls(10.0, 40.0, 90.0), "came back and fell again 3 times",
     "1 agent flaps"),
    ("storm", picture(cause=True), [event(KIND.SHARED_CAUSE_OPENED, 99.0, "", cause="Io")],
     "fell for one reason (Io)", "agents fall in numbers"),
    ("storm", picture(), lapses("A", "B", "C", "D", "E"), "5 of 10 agents lapsed within 30 s",
     "agents fall in numbers"),
    ("storm", picture(),
     [*lapses("A", "B", "C", "D", error="Io"), *lapses("E", error="Other", reason="hung")],
     "5 of 10 agents lapsed within 30 s, 4 of them: Io", "agents fall in numbers"),
    ("storm", picture(), lapses("A", "B", "C", "D", "E", reason="factory raised"),
     "5 of 10 agents lapsed within 30 s, 5 of them: factory raised",
     "agents fall in numbers"),
    ("near_exhaustion", picture(100.0, AgentFacts("APEX", lapses=4)), [],
     "4 of 5 restarts within 600 s are spent; 2 more lapses", "1 agent has nearly spent"),
    ("near_exhaustion", picture(100.0, AgentFacts("APEX", lapses=1, max_restarts=1)), [],
     "1 of 1 restarts within 600 s are spent; 1 more lapse and", "1 agent has nearly spent"),
    ("cardinality_overflow", picture(100.0, AgentFacts("APEX", overflowed=True)), [],
     "more than 20 task types", "1 agent has too many task types"),
]  # fmt: skip

SILENT = [
    ("blocked_loop", picture(), [BLOCKED, event(KIND.LOOP_FREED, 96.0, "")]),
    ("blocked_loop", picture(), [event(KIND.LOOP_BLOCKED, 95.0, **WHERE)]),  # its condition tells
    ("blocked_loop", picture(156.0), [HELD]),
    ("hang", picture(), [event(KIND.TASK_HUNG, 95.0, limit="soft")]),
    ("hang", picture(156.0), [HUNG]),
    ("stall", picture(100.0, ill("suspect")), []),
    ("zombie", picture(100.0, ill("stalled")), []),
    ("failing", picture(100.0, ill("stalled")), []),
    ("throttled", picture(100.0, ill("stalled")), []),
    ("flapping", picture(), falls(10.0, 90.0)),
    ("flapping", picture(600.0), falls(10.0, 40.0, 90.0)),
    ("flapping", picture(), lapses(*["APEX"] * 5)),  # never came back: no flapping
    ("flapping", picture(), [*falls(10.0, 40.0, 90.0), event(KIND.AGENT_REMOVED, 91.0)]),
    ("storm", picture(), lapses(*["APEX"] * 20)),  # one agent is no storm
    ("storm", picture(size=40), lapses("A", "B", "C", "D", "E")),
    ("storm", picture(130.0), lapses("A", "B", "C", "D", "E")),
    ("near_exhaustion", picture(100.0, AgentFacts("APEX", lapses=3)), []),
    ("near_exhaustion", picture(100.0, AgentFacts("APEX", max_restarts=0)), []),
    ("near_exhaustion", picture(100.0, DOWN), []),
    ("cardinality_overflow", picture(100.0, AgentFacts("APEX")), []),
    ("drops", picture(stream=7), []),  # from before the first look
]


@pytest.mark.parametrize(("rule", "seen", "events", "text", "summary"), RAISED)
def test_it_is_raised_with_a_sentence_for_the_instance_and_one_for_all(
    rule, seen, events, text, summary
):
    told = Lookout().look(seen, events)
    (found,) = told.instances
    assert (found.rule, found.agent_id) == (rule, found.agent_id)
    assert text in found.text
    assert found.severity == next(r.severity for r in RULES if r.name == rule)
    assert found.since <= seen.now
    (said,) = told.summaries
    assert said.startswith(summary)


@pytest.mark.parametrize(("rule", "seen", "events"), SILENT)
def test_it_is_not_raised(rule, seen, events):
    assert rule not in {w.rule for w in Lookout().look(seen, events).instances}


def test_every_rule_is_raised_by_one_test_and_not_by_another():
    names = {rule.name for rule in RULES}
    assert {case[0] for case in RAISED} | {"drops"} == names
    assert {case[0] for case in SILENT} == names


def test_drops_are_told_when_they_rise_and_for_a_minute():
    lookout = Lookout()
    assert lookout.look(picture(10.0, stream=1)).instances == ()
    told = lookout.look(picture(20.0, stream=5))
    assert [(w.rule, w.agent_id, w.since) for w in told.instances] == [("drops", "", 20.0)]
    assert "5 in all" in told.instances[0].text
    assert told.summaries == ("events were lost on their way to subscribers",)
    assert lookout.look(picture(79.0, stream=5)).instances == told.instances
    assert lookout.look(picture(80.0, stream=5)).instances == ()


def test_what_has_no_time_of_its_own_began_with_the_first_look_that_found_it():
    lookout, near = Lookout(), AgentFacts("APEX", lapses=4)
    assert lookout.look(picture(10.0, near)).instances[0].since == 10.0
    assert lookout.look(picture(12.0, near)).instances[0].since == 10.0
    assert lookout.look(picture(13.0)).instances == ()
    assert lookout.look(picture(14.0, near)).instances[0].since == 14.0


def test_critical_ones_come_first_and_many_are_counted_in_one_sentence():
    agents = [
        AgentFacts(name, conditions=(Condition("failing", 1.0, "x"), Condition("zombie", 1.0, "y")))
        for name in ("A", "B")
    ]
    told = Lookout().look(picture(100.0, *agents))
    assert [w.rule for w in told.instances] == ["zombie", "zombie", "failing", "failing"]
    assert told.summaries == (
        "2 agents left incarnations that would not end",
        "2 agents fail too often",
    )


@given(
    st.lists(
        st.builds(
            event,
            st.sampled_from(list(KIND)),
            st.floats(0, 1000),
            st.sampled_from(["", "A", "B"]),
            limit=st.sampled_from(["soft", "hard", "survived"]),
        ),
        max_size=60,
    ),
    st.floats(0, 2000),
)
def test_whatever_happened_it_answers_and_what_it_keeps_ages_away(events, now):
    lookout = Lookout()
    lookout.look(picture(now), events)
    past = lookout._past
    lookout.look(picture(now + 2000.0))
    assert not past.hung
    assert not past.dropped
    lookout.look(picture(now + 5000.0))
    assert not past.falls
    assert not past.lapses
