from __future__ import annotations

import math

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fleetmon.policy.breaker import Breaker


def test_10_half_open_admits_exactly_one_probe_until_its_fate_is_known():
    breaker = Breaker(2.0, 60.0)
    assert breaker.allow(0.0)
    breaker.fail(0.0)
    assert breaker.state == "open"
    assert not breaker.allow(1.999)
    assert breaker.wait(1.5) == 0.5
    assert breaker.allow(2.0)
    assert breaker.state == "half_open"
    assert not any(breaker.allow(t) for t in (2.0, 3.0, 1e9))
    assert breaker.wait(3.0) == math.inf
    breaker.succeed(4.0)
    assert breaker.state == "closed"
    assert breaker.allow(4.0)


def test_10_an_abandoned_probe_gives_its_place_back_and_is_no_failure():
    breaker = Breaker(2.0, 60.0)
    breaker.trip(0.0)
    assert breaker.allow(2.0)
    breaker.abandon(2.5)
    assert breaker.wait(2.5) == 0.0
    assert breaker.allow(2.5)
    assert not breaker.allow(2.5)
    breaker.fail(3.0)
    assert breaker.until == 7.0  # one failed probe, one doubling


def test_10_the_cooldown_doubles_up_to_its_cap_and_starts_again_after_success():
    breaker = Breaker(2.0, 10.0)
    breaker.trip(0.0)
    waits = []
    for _ in range(5):
        now = breaker.until
        assert breaker.allow(now)
        breaker.fail(now)
        waits.append(breaker.until - now)
    assert waits == [4.0, 8.0, 10.0, 10.0, 10.0]
    assert breaker.allow(breaker.until)
    breaker.succeed(100.0)
    breaker.fail(100.0)
    assert breaker.until == 102.0


def test_only_a_run_of_failures_as_long_as_the_threshold_opens():
    breaker = Breaker(2.0, 60.0, threshold=3)
    for report in (breaker.fail, breaker.fail, breaker.succeed, breaker.fail, breaker.fail):
        report(0.0)
    breaker.abandon(0.0)  # a cancelled call changes nothing
    assert breaker.state == "closed"
    breaker.fail(0.0)
    assert breaker.state == "open"


def test_reports_that_arrive_while_open_change_nothing():
    breaker = Breaker(2.0, 60.0)
    breaker.trip(0.0)
    breaker.succeed(1.0)
    breaker.fail(1.0)
    assert (breaker.state, breaker.until) == ("open", 2.0)


class BreakerMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.breaker = Breaker(1.0, 5.0)
        self.now = 0.0
        self.out = 0

    @rule(step=st.sampled_from([0.0, 0.5, 1.0, 7.0]))
    def wait(self, step):
        self.now += step

    @rule()
    def ask(self):
        closed = self.breaker.state == "closed"
        waits = self.breaker.wait(self.now)
        allowed = self.breaker.allow(self.now)
        assert allowed is (waits == 0.0)
        if allowed and not closed:
            self.out += 1

    @precondition(lambda self: self.out or self.breaker.state == "closed")
    @rule(report=st.sampled_from(["succeed", "fail", "abandon"]))
    def report(self, report):
        getattr(self.breaker, report)(self.now)
        self.out = 0

    @invariant()
    def at_most_one_probe_is_out(self):
        assert self.out == int(self.breaker.probing) <= 1
        assert self.breaker.until - self.now <= 5.0


TestBreakerMachine = BreakerMachine.TestCase
