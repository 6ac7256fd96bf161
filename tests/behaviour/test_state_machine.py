"""A real supervisor, driven through random commands and lapses in virtual time."""

from __future__ import annotations

import asyncio
import contextlib

from helpers_dial import Dial
from helpers_fleet import steady
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fleetmon import (
    Accepted,
    Deadlines,
    Intensity,
    Quarantine,
    Rejected,
    SharedCause,
    Supervisor,
    SupervisorSettings,
    TaskRefusedError,
)
from fleetmon.testing import VirtualTimeLoop, capture, current_clock

NAMES = ("PERM", "DEP", "TRANS", "TEMP")
ALIVE = {"starting", "recovering", "running", "probing"}
COMMANDS = ("start", "stop", "restart", "pause", "resume", "drain", "quarantine", "reset")
DESIRED = {
    "start": "run",
    "stop": "stopped",
    "restart": "run",
    "pause": "paused",
    "resume": "run",
    "drain": "drained",
    "quarantine": "quarantined",
}
COMMON = {
    "intensity": Intensity(max_restarts=3, period=60),
    "deadlines": Deadlines(start=10, stop=5, drain=10),
    "quarantine": Quarantine(probe_interval=30),
    "capacity": 2,
    "queue": 3,
}
SPECS = {
    "PERM": steady(**COMMON, strategy="rest_for_one", in_flight="requeue"),
    "DEP": steady(**COMMON, depends_on=("PERM",)),
    "TRANS": steady(**COMMON, restart="transient", in_flight="dead_letter"),
    "TEMP": steady(**COMMON, restart="temporary"),
}
agents = st.sampled_from(NAMES)


def expected_gauge(agent, *, fault):
    """Read the health table of section State, independently of the implementation."""
    if agent.actual in ALIVE:
        if any(c.hard for c in agent.conditions):
            return 2
        degraded = agent.actual in {"recovering", "probing"} or agent.conditions
        return int(bool(degraded or (fault and agent.actual == "running")))
    if fault:
        return 2
    return int(agent.actual == "backing_off")


class LiveFleet(RuleBasedStateMachine):
    """Commands, lapses and time, in any order; every invariant after every step."""

    def __init__(self):
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=VirtualTimeLoop)
        self.dials = {name: Dial() for name in NAMES}
        self.desired = dict.fromkeys(NAMES, "run")
        self.down_since: dict[str, int] = {}
        self.generations = dict.fromkeys(NAMES, 0)
        self.tasks = []

    def run(self, coroutine):
        return self.runner.run(coroutine)

    @initialize()
    def enter(self):
        self.run(self._enter())

    async def _enter(self):
        values = SupervisorSettings(seed=1, shared_cause=SharedCause(enabled=False))
        self.fleet = Supervisor(values, clock=current_clock())
        self.cap = capture(self.fleet)
        await self.fleet.__aenter__()
        for name, dial in self.dials.items():
            await self.fleet.add(name, dial.agent, spec=SPECS[name])

    # -- what can be done to it ------------------------------------------------------------------

    @rule(name=agents, command=st.sampled_from(COMMANDS), turn=st.booleans())
    def command(self, name, command, turn):
        self.run(self._command(name, command, turn=turn))

    async def _command(self, name, command, *, turn):
        before = self.desired[name]
        result = await self.fleet.command(command, name)
        if isinstance(result, Accepted):
            released = command == "reset" and before == "quarantined"
            self.desired[name] = "run" if released else DESIRED.get(command, before)
            if self.desired[name] in {"stopped", "drained", "quarantined"}:
                self.down_since.setdefault(name, self.fleet.agent(name).generation)
            else:
                self.down_since.pop(name, None)
        else:
            assert result.reason
            assert result.state
            if isinstance(result, Rejected):
                assert before != "run" or command == "start"
        if turn:
            await current_clock().idle()

    @rule(name=agents, how=st.sampled_from(["crash", "end", "denied"]))
    def body_ends(self, name, how):
        error = {"crash": RuntimeError("crash"), "denied": PermissionError("denied")}.get(how)
        self.run(self._body_ends(name, error))

    async def _body_ends(self, name, error):
        self.dials[name].end(error)
        await current_clock().idle()

    @rule(name=agents, start=st.sampled_from(["ok", "slow", "fail", "denied", "hang"]))
    def turn_start(self, name, start):
        self.dials[name].start = start

    @rule(name=agents, stubborn=st.booleans())
    def turn_stubborn(self, name, stubborn):
        self.dials[name].stubborn = stubborn

    @rule(name=agents, payload=st.sampled_from(["ok", "fail", "fatal", "long"]), turn=st.booleans())
    def submit(self, name, payload, turn):
        self.run(self._submit(name, payload, turn=turn))

    async def _submit(self, name, payload, *, turn):
        with contextlib.suppress(TaskRefusedError):
            self.tasks.append(await self.fleet.agent(name).submit("work", payload, wait=False))
        if turn:
            await current_clock().idle()

    @rule()
    def cancel_the_latest_task(self):
        if self.tasks:
            self.run(self._cancel())

    async def _cancel(self):
        self.tasks[-1].cancel()

    @rule(seconds=st.sampled_from([0.0, 0.5, 1.0, 2.0, 6.0, 35.0]))
    def time_passes(self, seconds):
        self.run(asyncio.sleep(seconds))

    # -- what has to hold at every moment --------------------------------------------------------

    @invariant()
    def everything_holds(self):
        if not hasattr(self, "fleet"):
            return
        faults = dict.fromkeys(NAMES, False)
        for event in self.cap.events:
            if event.kind == "lapsed":
                faults[event.agent_id] = True
            elif event.kind == "verified":
                faults[event.agent_id] = False
            elif event.kind == "stopped":  # a normal end leaves no fault
                faults[event.agent_id] = event.data["fault"]
        for agent in self.fleet.snapshot().agents:
            name = agent.agent_id
            assert agent.desired == self.desired[name], "desired is changed by commands only"
            assert agent.balanced, f"books of {name}: {agent.numbers}"
            if agent.actual != "stopping":  # whether its end was a normal one is told after it
                assert agent.health == expected_gauge(agent, fault=faults[name]), agent
            assert self.dials[name].overlap <= 1, f"two living incarnations of {name}"
            assert agent.generation >= self.generations[name]
            self.generations[name] = agent.generation
            since = self.down_since.get(name)
            assert since is None or agent.generation == since, f"ghost start of {name}"

    def teardown(self):
        try:
            if hasattr(self, "fleet"):
                self.run(self._left_alone())
        finally:
            self.runner.close()

    async def _left_alone(self):
        # left alone, with nothing going wrong any more, each comes to where desired points
        for dial in self.dials.values():
            dial.calm()
        await asyncio.sleep(400)
        self.everything_holds()
        for agent in self.fleet.snapshot().agents:
            goals = {
                "run": {"running"},
                "paused": {"paused", "backing_off", "quarantined", "stopped"},
                "drained": {"stopped"},
                "stopped": {"stopped"},
                "quarantined": {"quarantined"},
            }[agent.desired]
            if agent.agent_id in {"TRANS", "TEMP", "DEP"} and agent.desired == "run":
                goals = self._goals_of_run(agent)
            assert agent.lifecycle in goals, agent
            if agent.lifecycle == "running":
                assert (agent.health, agent.zombies) == (0, 0), agent
                assert not agent.numbers.in_flight, agent
        for task in self.tasks:
            assert task.future.done() or self._may_wait(task), "a caller that waits for ever"
        report = await self.fleet.shutdown()
        assert not report.left_behind
        for task in self.tasks:
            assert task.future.done(), "a caller that waits for ever"

    def _may_wait(self, task):
        agent = self.fleet.agent(task.agent_id).snapshot()
        return agent.lifecycle in {"backing_off", "quarantined"} and agent.desired == "paused"

    def _goals_of_run(self, agent):
        if agent.agent_id == "DEP":
            up = self.fleet.agent("PERM").snapshot().lifecycle == "running"
            return {"running"} if up else {"running", "backing_off"}
        ended = [
            e.kind
            for e in self.cap.events
            if e.agent_id == agent.agent_id and e.kind in {"stopped", "starting"}
        ]
        # a body that ended as its type allows stays down, until the next command
        return {"stopped"} if ended[-1] == "stopped" and agent.generation else {"running"}


TestLiveFleet = LiveFleet.TestCase
TestLiveFleet.settings = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    phases=(Phase.generate,),  # shrinking whole histories takes minutes; they are short enough
    suppress_health_check=list(HealthCheck),
)
