"""No payload, result or message of an exception in a span, a log line or a label, by any path."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
from urllib.parse import urlsplit

import pytest
from leaky import MARKER, Body, LeakError, Leaky, NeverStarts, StopsBadly, Synchronous, fails

from fleetmon import (
    AgentSpec,
    Backoff,
    Deadlines,
    HangLimits,
    Metrics,
    OTelTracer,
    Probing,
    Supervisor,
    SupervisorSettings,
    Verification,
    configure_tracing,
)
from fleetmon.testing import LogCapture

pytestmark = pytest.mark.anyio

QUICK = {
    "backoff": Backoff(floor=0, base=0),
    "verify": Verification(idle_after=0.01),
    "deadlines": Deadlines(stop=0.5),
}


@contextlib.contextmanager
def whatever_comes():
    with contextlib.suppress(Exception, asyncio.CancelledError):
        yield


async def every_path(fleet):
    """Drive the marker through whatever takes, works on, gives back or tells of a payload."""
    specs = {
        "INLINE": (Leaky, AgentSpec(hang=HangLimits(soft=0.05, hard=0.1), **QUICK)),
        "THREAD": (Synchronous, AgentSpec(**QUICK)),
        "PROCESS": (Synchronous, AgentSpec(executor="process", **QUICK)),
        "BODY": (Body, AgentSpec(in_flight="dead_letter", **QUICK)),
        "STOPS": (StopsBadly, AgentSpec(**QUICK)),
        "PROBED": (Leaky, AgentSpec(probing=Probing(every=0.05), **QUICK)),
    }
    for agent_id, (factory, spec) in specs.items():
        await fleet.add(agent_id, factory, spec=spec)
    with whatever_comes():
        await fleet.add("NEVER", NeverStarts)
    with whatever_comes():
        await fleet.add("LATER", NeverStarts, spec=AgentSpec(on_start_failure="recover", **QUICK))
    for agent_id in ("INLINE", "THREAD", "PROCESS", "BODY"):
        agent = fleet.agent(agent_id)
        for how in ("fine", "raise", "fail", "sleep", "raise", "fine"):
            with whatever_comes():
                await agent.run(how, MARKER, timeout=10)
    inline = fleet.agent("INLINE")
    for timeout in (0.02, 10):  # the caller's deadline, then a hang
        with whatever_comes():
            await inline.run("hang", MARKER, timeout=timeout)
    task = await inline.submit("hang", MARKER)
    task.cancel()
    with whatever_comes():
        await task
    for agent_id in ("STOPS", "INLINE", "BODY"):
        await fleet.agent(agent_id).restart(wait=True, timeout=5)
    await observed(fleet)
    fleet.dead_letters()


async def observed(fleet):
    def recover():
        fails(MARKER)

    def bad(result):
        raise LeakError(result)

    seen = fleet.attach("SEEN", recover=recover, probe=recover)
    with whatever_comes(), seen.task("t") as task:
        task.progress(MARKER)
        fails(MARKER)
    with seen.task("t") as task:
        task.fail("returned_failure", LeakError(MARKER))
    for failed in (None, bad, bool):
        for work in (fails, str, len):
            with whatever_comes():
                seen.watch(work, failed=failed)(MARKER)

    async def coroutine(text):
        await asyncio.sleep(0)
        return fails(text)

    def generator(text):
        yield text
        fails(text)

    async def agenerator(text):
        yield text
        fails(text)

    with whatever_comes():
        await seen.watch(coroutine)(MARKER)
    with whatever_comes():
        list(seen.watch(generator)(MARKER))
    with whatever_comes():
        _ = [item async for item in seen.watch(agenerator)(MARKER)]
    with whatever_comes(), seen.task("t"):
        error = LeakError(MARKER)
        error.fatal = True
        raise error


def scrape(url, accept):
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", parts.path, headers={"Accept": accept})
        return connection.getresponse().read().decode()


async def told(receiver, endpoint, protocol, *, messages):
    settings = SupervisorSettings(metrics=Metrics(listen="127.0.0.1:0"))
    tracing = configure_tracing(endpoint=endpoint, protocol=protocol, ratio=1.0)
    tracer = OTelTracer(tracing, messages=messages)
    with LogCapture(messages=messages, tracebacks=1e9) as log:
        async with Supervisor(settings, tracer=tracer, log=log.log) as fleet:
            await every_path(fleet)
            pages = [
                await asyncio.to_thread(scrape, fleet.metrics_url, accept)
                for accept in ("text/plain", "application/openmetrics-text")
            ]
        text = log.text
    assert tracing.shutdown(10)
    wire = b"".join(request.SerializeToString() for request in receiver.requests)
    return text, pages, wire


async def test_the_marker_is_nowhere_by_default(receiver, endpoint, protocol):
    text, pages, wire = await told(receiver, endpoint, protocol, messages=False)
    assert [line for line in text.splitlines() if MARKER in line] == []
    assert MARKER.encode() not in wire
    for page in pages:
        assert [line for line in page.splitlines() if MARKER in line] == []
    # what is to be told is there: types, places, kinds
    assert "leaky.LeakError" in text
    assert b"leaky.LeakError" in wire
    assert b"leaky.py" in wire
    for kind in ("lapsed", "task hung", "quarantined", "dead lettered", "probe failed"):
        assert f'"message":"{kind}"' in text, kind


async def test_messages_of_exceptions_are_there_where_they_are_switched_on(
    receiver, endpoint, protocol
):
    text, pages, wire = await told(receiver, endpoint, protocol, messages=True)
    assert f"cannot digest '{MARKER}'" in text
    assert MARKER.encode() in wire
    assert not any(MARKER in page for page in pages)  # a label never quotes
    assert f'"{MARKER}"' not in text  # a payload alone is no message
