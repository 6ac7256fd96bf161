from __future__ import annotations

import math

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fleetmon.policy.shared_cause import SharedCauseControl
from fleetmon.settings import SharedCause

NAMES = [f"a{n}" for n in range(10)]


def opened(count=5, fleet=10, **settings):
    control = SharedCauseControl(SharedCause(**settings))
    said = [control.lapsed(NAMES[n], "Down", 0.0, fleet) for n in range(count)]
    assert said == [False] * (count - 1) + [True]
    return control


def ramping(**settings):
    control = opened(**settings)
    assert control.admit("a0", 2.0) == 0.0
    assert control.verified("a0", 3.0)
    return control


def test_10_opens_only_for_enough_distinct_agents_with_one_cause_inside_the_window():
    control = SharedCauseControl(SharedCause(window=10.0))
    for n in range(4):
        assert not control.lapsed(NAMES[n], "Down", 0.0, 10)
    for _ in range(20):
        assert not control.lapsed("a0", "Down", 1.0, 10)  # the same agent again
    assert not control.lapsed("a8", "Other", 1.0, 10)  # another cause
    assert not control.lapsed("a9", "Down", 10.0, 10)  # a1 to a3 are out of the window
    for n in (4, 5):
        assert not control.lapsed(NAMES[n], "Down", 10.5, 10)
    assert control.state == "closed"
    assert control.lapsed("a6", "Down", 10.9, 10)  # the fifth beside a0 (at 1.0), a9, a4, a5
    assert (control.state, control.cause) == ("open", "Down")


def test_10_needs_both_the_least_number_and_the_share_of_the_fleet():
    control = SharedCauseControl(SharedCause(fraction=0.1))
    said = [control.lapsed(f"x{n}", "Down", 0.0, 70) for n in range(7)]
    assert said == [False] * 6 + [True]  # 0.1 * 70 is 7.000000000000001
    few = SharedCauseControl(SharedCause(min_agents=5))
    assert not any(few.lapsed(NAMES[n], "Down", 0.0, 4) for n in range(4))


def test_10_exactly_one_probe_after_the_cooldown_and_the_rest_wait_for_its_fate():
    control = opened()
    assert control.admit("a3", 0.5) == 1.5
    assert control.concurrency(8) == 1
    assert control.admit("a3", 2.0) == 0.0
    assert (control.state, control.probe) == ("half_open", "a3")
    assert control.admit("a3", 2.1) == 0.0  # asking again is harmless
    assert all(control.admit(name, 2.1) == math.inf for name in NAMES if name != "a3")
    assert control.concurrency(8) == 1


def test_10_a_failed_probe_opens_again_for_twice_as_long_up_to_the_cap():
    control = opened(cooldown=2.0, cooldown_cap=5.0)
    now, waits = 2.0, []
    for report in (control.failed, lambda a, t: control.lapsed(a, "Down", t, 10), control.failed):
        assert control.admit("a1", now) == 0.0
        report("a1", now)
        waits.append(control.admit("a2", now))
        now += waits[-1]
    assert waits == [4.0, 5.0, 5.0]


def test_10_a_probe_that_both_failed_and_lapsed_counts_once():
    for first, second in ((0, 1), (1, 0)):
        control = opened()
        reports = (
            lambda c=control: c.failed("a1", 3.0),
            lambda c=control: c.lapsed("a1", "Elsewhere", 3.0, 10),
        )
        assert control.admit("a1", 2.0) == 0.0
        reports[first]()
        reports[second]()
        assert control.state == "open"
        assert control.admit("a2", 3.0) == 4.0
        assert control.admit("a1", 3.0) == 4.0  # held, whatever it stumbled over


def test_10_an_abandoned_probe_gives_its_place_back_at_once():
    control = opened()
    assert control.admit("a0", 2.0) == 0.0
    assert control.admit("a1", 2.5) == math.inf
    control.gone("a0", 3.0)
    assert control.admit("a1", 3.0) == 0.0
    assert control.probe == "a1"
    assert control.admit("a2", 3.0) == math.inf


def test_10_the_ramp_doubles_with_each_verified_recovery_then_closes():
    control = ramping()
    seen = []
    for name in NAMES[1:5]:
        seen.append((control.state, control.concurrency(8)))
        assert control.admit(name, 4.0) == 0.0
        control.verified(name, 5.0)
    assert seen == [("ramping", 1), ("ramping", 2), ("ramping", 4), ("closed", 8)]
    assert control.cause == ""


def test_10_the_ramp_says_when_it_closed_because_the_limit_was_reached_or_nobody_is_left():
    control = ramping()
    control.concurrency(4)
    assert not control.verified("a1", 4.0)
    assert control.verified("a2", 4.0)
    assert control.state == "closed"
    control = opened()
    for name in NAMES[1:5]:
        control.gone(name, 1.0)
    assert control.state == "open"
    assert control.admit("a0", 2.0) == 0.0
    assert control.verified("a0", 3.0)
    assert control.state == "closed"


def test_10_a_failed_attempt_in_the_ramp_goes_back_to_one_at_a_time():
    control = ramping()
    control.concurrency(8)
    control.verified("a1", 4.0)
    control.verified("a2", 4.0)
    control.failed("a3", 5.0)
    assert (control.state, control.concurrency(8)) == ("ramping", 1)


def test_10_a_lapse_with_the_same_cause_while_ramping_opens_again_and_another_does_not():
    control = ramping()
    assert not control.lapsed("a7", "Other", 4.0, 10)
    assert control.state == "ramping"
    assert control.lapsed("a1", "Down", 4.0, 10)
    assert control.state == "open"
    assert control.admit("a2", 4.0) == 4.0


def test_02_10_an_agent_down_with_another_cause_is_not_held():
    control = opened()
    assert not control.lapsed("a8", "Own", 1.0, 10)
    assert control.cause == "Down"
    assert control.admit("a8", 1.0) == 0.0
    assert control.probe == ""
    control.admit("a0", 2.0)
    assert not control.verified("a8", 2.5)
    assert control.state == "half_open"


def test_10_a_ramp_with_nobody_under_way_ends_after_a_quiet_window():
    control = ramping(window=10.0)
    assert not control.lapsed("a9", "Down", 1000.0, 10)  # one lapse later is one lapse
    assert control.state == "closed"
    control = ramping(window=10.0)
    assert control.admit("a1", 4.0) == 0.0  # a slow attempt is under way: no quiet
    assert control.lapsed("a1", "Down", 1000.0, 10)


def test_10_after_closing_the_count_and_the_cooldown_start_afresh():
    control = ramping()
    for name in NAMES[1:5]:
        control.gone(name, 4.0)
    assert control.state == "closed"
    assert [control.lapsed(NAMES[n], "Down", 5.0, 10) for n in range(5)] == [False] * 4 + [True]
    assert control.admit("a0", 5.0) == 2.0


def test_10_switched_off_it_never_holds_anybody():
    control = SharedCauseControl(SharedCause(enabled=False))
    assert not any(control.lapsed(name, "Down", 0.0, 10) for name in NAMES)
    assert control.admit("a0", 0.0) == 0.0
    assert control.concurrency(8) == 8


def test_10_causes_are_bounded_and_do_not_push_out_the_common_one():
    control = SharedCauseControl(SharedCause())
    for n in range(5):
        for k in range(60):
            control.lapsed("noisy", f"C{n}.{k}", 0.0, 10)
        said = control.lapsed(NAMES[n], "Down", 0.0, 10)
    assert said
    for k in range(1000):
        control.lapsed("noisy", f"D{k}", 0.0, 10)
    assert len(control._seen) <= 64
    control.lapsed("noisy", "E", 100.0, 10)
    assert list(control._seen) == ["E"]


def test_10_ten_thousand_agents_fall_and_come_back_with_one_pass_over_them():
    control = SharedCauseControl(SharedCause(cooldown=2.0))
    names = [f"n{n}" for n in range(10_000)]
    assert sum(control.lapsed(name, "Down", 0.0, 10_000) for name in names) == 1
    assert control.admit(names[-1], 2.0) == 0.0
    assert control.verified(names[-1], 3.0)
    for name in names[:-1]:
        assert control.admit(name, 4.0) == 0.0
        control.verified(name, 4.0)
    assert control.state == "closed"
    assert (control._down, control._out, control._pending) == ({}, set(), 0)


class SharedCauseMachine(RuleBasedStateMachine):
    agents = st.sampled_from(NAMES)

    def __init__(self):
        super().__init__()
        self.control = SharedCauseControl(SharedCause(min_agents=2, fraction=0.3, window=5.0))
        self.now = 0.0
        self.out = ""

    @rule(step=st.sampled_from([0.0, 1.0, 2.0, 6.0]))
    def wait(self, step):
        self.now += step

    @rule(agent=agents, cause=st.sampled_from(["X", "Y", ""]))
    def lapse(self, agent, cause):
        before = self.control.state
        opens = self.control.lapsed(agent, cause, self.now, len(NAMES))
        assert not opens or (before in ("closed", "ramping") and self.control.state == "open")
        if agent == self.out:
            self.out = ""

    @rule(agent=agents)
    def admit(self, agent):
        wait = self.control.admit(agent, self.now)
        if self.control.state == "half_open" and self.control.probe == agent:
            assert wait == 0.0
            assert self.out in ("", agent)
            self.out = agent
        if wait == math.inf:
            assert self.control.probe not in ("", agent)
        assert wait >= 0.0

    @rule(agent=agents, report=st.sampled_from(["verified", "failed", "gone"]))
    def report(self, agent, report):
        before = self.control.state
        moved = getattr(self.control, report)(agent, self.now)
        if report == "verified":
            assert bool(moved) is (
                self.control.state != before and self.control.state in ("closed", "ramping")
            )
        if agent == self.out:
            self.out = ""

    @rule()
    def nothing_latches(self):
        # whatever happened: report the probe lost, wait, and someone may start
        if self.control.probe:
            self.control.gone(self.control.probe, self.now)
            self.out = ""
        assert self.control.admit("a0", self.now + 61.0) == 0.0
        self.now += 61.0
        if self.control.probe:
            self.out = "a0"

    @invariant()
    def the_books_balance(self):
        control = self.control
        assert control.probe == self.out
        assert (control.cause == "") is (control.state == "closed")
        assert 1 <= control.concurrency(8) <= 8
        if control.state == "closed":
            assert control._pending == 0
        else:
            held = sum(cause == control.cause for cause in control._down.values())
            assert control._pending == held


TestSharedCauseMachine = SharedCauseMachine.TestCase
