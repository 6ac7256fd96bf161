"""Spans of a running fleet, through the stock exporters, as a collector receives them."""

from __future__ import annotations

import asyncio
import json
import threading
from functools import partial

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler
from otlp_receiver import REMOTE_PARENT, SAMPLED
from otlp_workers import Helper, Puller

from fleetmon import (
    AgentSpec,
    Backoff,
    OTelTracer,
    Supervisor,
    SupervisorSettings,
    Verification,
    configure_tracing,
)
from fleetmon.telemetry.propagation import extract
from fleetmon.testing import LogCapture

pytestmark = pytest.mark.anyio

CONVENTIONS = {
    "gen_ai.operation.name": "invoke_agent",
    "gen_ai.provider.name": "fleetmon",
}


@pytest.fixture
def log():
    with LogCapture() as log:
        yield log


class Leader:
    """Delegates to another agent, which is reached through its mailbox."""

    def __init__(self, fleet, other):
        self.fleet, self.other = fleet, other

    async def handle(self, task):
        return await self.fleet.agent(self.other).run("sub", task.payload)


class Slow:
    """Synchronous, so it works in a thread."""

    def handle(self, task):
        assert threading.current_thread() is not threading.main_thread()
        return trace.get_current_span().get_span_context().span_id


class Body:
    async def serve(self, agent):
        async for task in agent.tasks():
            task.done(trace.get_current_span().get_span_context().span_id)


class Crash:
    async def serve(self, agent):
        async for _ in agent.tasks():
            raise RuntimeError("down it goes")


async def test_names_kinds_attributes_and_parents_across_threads_and_mailboxes(
    receiver, endpoint, protocol
):
    at_start, asked = {}, {}

    class Watch(SpanProcessor):
        def on_start(self, span, parent_context=None):
            at_start[span.context.span_id] = dict(span.attributes)

    class Asked(Sampler):
        def should_sample(self, parent_context, trace_id, name, kind, attributes, *rest):
            asked[trace_id, name] = (kind, dict(attributes or {}))
            return ALWAYS_ON.should_sample(parent_context, trace_id, name, kind, attributes, *rest)

        def get_description(self):
            return "asked"

    tracing = configure_tracing("fleet", endpoint=endpoint, protocol=protocol, ratio=1.0)
    tracing.provider.sampler = Asked()
    tracing.provider.add_span_processor(Watch())
    async with Supervisor(tracer=OTelTracer(tracing)) as fleet:
        await fleet.add("SLOW", Slow)
        await fleet.add("BODY", Body)
        await fleet.add("LEADER", partial(Leader, fleet, "SLOW"), spec=AgentSpec(capacity=2))
        await fleet.add("CHIEF", partial(Leader, fleet, "BODY"))
        with tracing.provider.get_tracer("host").start_as_current_span("request"):
            slow, body = await asyncio.gather(
                fleet.agent("LEADER").run("lead", 1), fleet.agent("CHIEF").run("lead", 2)
            )
        await fleet.agent("SLOW").run("alone", 3)
    assert tracing.shutdown(10)
    spans = receiver.spans
    assert len(spans) == 6 == tracing.exported
    assert {span.service for span in spans} == {"fleet"}
    request = receiver.one("request")
    leader, chief = receiver.one("invoke_agent LEADER"), receiver.one("invoke_agent CHIEF")
    below, alone = sorted(receiver.named("invoke_agent SLOW"), key=lambda s: not s.parent_id)
    pulled = receiver.one("invoke_agent BODY")
    assert {leader.parent_id, chief.parent_id} == {request.span_id}
    assert (below.parent_id, below.span_id) == (leader.span_id, f"{slow:016x}")
    assert (pulled.parent_id, pulled.span_id) == (chief.span_id, f"{body:016x}")
    assert {s.trace_id for s in spans} - {alone.trace_id} == {request.trace_id}
    assert alone.parent_id == ""
    for span in (leader, chief, below, pulled, alone):
        agent_id = span.name.removeprefix("invoke_agent ")
        assert (span.kind, span.scope) == ("INTERNAL", "fleetmon")
        wanted = {**CONVENTIONS, "gen_ai.agent.id": agent_id, "gen_ai.agent.name": agent_id}
        assert wanted.items() <= span.attributes.items()
        # nothing was added later: what the sampler and the processors saw is what was exported
        assert at_start[int(span.span_id, 16)] == span.attributes
        kind, attributes = asked[int(span.trace_id, 16), span.name]
        assert kind is trace.SpanKind.INTERNAL
        assert attributes.keys() == span.attributes.keys()


async def test_worker_processes_go_on_with_the_trace_in_spans_and_in_log_lines(
    receiver, endpoint, protocol, tmp_path, log
):
    tracing = configure_tracing("fleet", endpoint=endpoint, protocol=protocol, ratio=1.0)
    file = tmp_path / "worker.jsonl"
    async with Supervisor(tracer=OTelTracer(tracing), log=log.log) as fleet:
        for agent_id, kind in (("HELPER", Helper), ("PULLER", Puller)):
            await fleet.add(
                agent_id,
                partial(kind, endpoint, protocol, str(file)),
                spec=AgentSpec(executor="process"),
            )
            sent = await fleet.agent(agent_id).run("help", 7)
            (told,) = log.of(agent_id=agent_id, message="task succeeded")
            assert sent == f"00-{told['trace_id']}-{told['span_id']}-03"
    assert tracing.shutdown(10)
    spans = receiver.until(lambda spans: len(spans) == 4)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for agent_id in ("HELPER", "PULLER"):
        task = receiver.one(f"invoke_agent {agent_id}")
        (step,) = [s for s in spans if s.name == "step" and s.parent_id == task.span_id]
        assert (step.trace_id, step.service) == (task.trace_id, "worker")
        (line,) = [x for x in lines if x["message"] == "at work" and x["agent_id"] == agent_id]
        assert (line["trace_id"], line["span_id"]) == (step.trace_id, step.span_id)
        assert line["task_id"] == task.attributes["fleetmon.task_id"]
        assert (line["task_type"], line["generation"], line["service"]) == ("help", 1, "worker")
    (last,) = [line for line in lines if line["message"] == "between tasks"]
    assert not {"trace_id", "agent_id"} & last.keys()  # the task was left behind


async def test_restarts_and_recoveries_are_spans_linked_to_the_task_that_failed(
    receiver, endpoint, protocol
):
    tracing = configure_tracing("fleet", endpoint=endpoint, protocol=protocol, ratio=1.0)
    spec = AgentSpec(backoff=Backoff(floor=0, base=0), verify=Verification(idle_after=0.01))
    async with Supervisor(tracer=OTelTracer(tracing)) as fleet:
        with fleet.events() as stream:
            crash = await fleet.add("CRASH", Crash, spec=spec)
            with pytest.raises(Exception, match="CRASH"):
                await crash.run("x", None)
            async for event in stream:
                if event.kind == "verified":
                    break
        await crash.restart()
    assert tracing.shutdown(10)
    task, recovery = receiver.one("invoke_agent CRASH"), receiver.one("recover_agent CRASH")
    assert task.attributes["error.type"] == "crash"
    assert recovery.links == [(task.trace_id, task.span_id)]
    assert recovery.trace_id != task.trace_id  # a root of its own: sampled by itself
    assert {"starting", "recovering", "started", "verified"} <= set(recovery.events)
    assert receiver.one("start_agent CRASH").attributes["fleetmon.cause"] == "command"


async def test_one_in_ten_of_ten_thousand_roots_is_sampled_and_each_line_has_an_id(
    receiver, endpoint, protocol, log
):
    tracing = configure_tracing("fleet", endpoint=endpoint, protocol=protocol)  # 10 % by default
    async with Supervisor(tracer=OTelTracer(tracing), log=log.log) as fleet:
        agent = fleet.attach("A")
        for i in range(10_000):
            with agent.task("t"):
                pass
            if i % 1000 == 0:
                await asyncio.sleep(0)
        exemplars = agent.snapshot().numbers.types[0].exemplars
    assert tracing.shutdown(10)
    spans = receiver.spans
    assert abs(len(spans) - 1000) <= 120
    assert not any(span.parent_id for span in spans)
    lines = log.of(agent_id="A", message="task succeeded")
    assert len({line["trace_id"] for line in lines}) == 10_000
    sampled = {(span.trace_id, span.span_id) for span in spans}
    assert sampled < {(line["trace_id"], line["span_id"]) for line in lines}
    assert {(e.trace_id, e.span_id) for e in exemplars.values()} <= sampled


@pytest.mark.parametrize("flags", ["00", "01", "02", "03"])
async def test_the_decision_of_a_caller_is_kept_whatever_our_own_ratio(
    receiver, endpoint, protocol, log, flags
):
    ratio = 0.0 if int(flags, 16) & SAMPLED else 1.0
    tracing = configure_tracing("fleet", endpoint=endpoint, protocol=protocol, ratio=ratio)
    caller = f"00-{'ab' * 16}-{'cd' * 8}-{flags}"
    async with Supervisor(tracer=OTelTracer(tracing), log=log.log) as fleet:
        await fleet.add("SLOW", Slow)
        from opentelemetry import context

        token = context.attach(extract({"Traceparent": caller}))
        try:
            await fleet.agent("SLOW").run("x", None)
        finally:
            context.detach(token)
        numbers = fleet.agent("SLOW").snapshot().numbers
    assert tracing.shutdown(10)
    (line,) = log.of(message="task succeeded")
    assert line["trace_id"] == "ab" * 16
    if int(flags, 16) & SAMPLED:
        span = receiver.one("invoke_agent SLOW")
        assert (span.trace_id, span.parent_id) == ("ab" * 16, "cd" * 8)
        assert span.raw.flags & REMOTE_PARENT
        (exemplar,) = numbers.types[0].exemplars.values()
        assert (exemplar.trace_id, exemplar.span_id) == (span.trace_id, span.span_id)
    else:
        assert receiver.spans == []
        assert numbers.types[0].exemplars is None


async def test_otel_variables_are_honoured(receiver, endpoint, protocol, monkeypatch, log):
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=acme",
        "OTEL_SERVICE_NAME": "from-env",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0.5",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    before = trace.get_tracer_provider()
    tracing = configure_tracing()
    async with Supervisor(tracer=OTelTracer(tracing), log=log.log) as fleet:
        agent = fleet.attach("A")
        for _ in range(400):
            with agent.task("t"):
                pass
    assert tracing.shutdown(10)
    assert trace.get_tracer_provider() is before  # the host's, whatever it is, stays
    spans = receiver.spans
    assert abs(len(spans) - 200) <= 50
    assert {span.service for span in spans} == {"from-env"}
    assert {span.resource["deployment.environment.name"] for span in spans} == {"test"}
    assert {headers["x-tenant"] for headers in receiver.headers} == {"acme"}
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    quiet = configure_tracing()
    tracer = OTelTracer(quiet)
    async with Supervisor(SupervisorSettings(), tracer=tracer) as fleet:
        with fleet.attach("A").task("t") as task:
            assert task.trace_id
            assert not task.sampled
    assert quiet.shutdown()
