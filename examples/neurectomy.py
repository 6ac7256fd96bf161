"""A FastAPI service with forty agents behind it, which asks a second service over HTTP.

Neurectomy's agents are objects with a synchronous ``process(request)`` whose result says how it
went; they are called from asynchronous routes, ask each other, and ask Ryot, a language model
behind an HTTP API of its own. Each request is one trace through both services, named in the header
``x-trace-id``, in the spans, in the log lines and in the exemplars on ``/metrics``. As services::

    uvicorn --factory neurectomy:ryot --port 8000 --no-access-log
    export RYOT_URL=http://127.0.0.1:8000 OTEL_SEMCONV_STABILITY_OPT_IN=http
    uvicorn --factory neurectomy:neurectomy --port 8080 --no-access-log

``/metrics`` also tells rate, errors and duration of the API's own requests, under the names of the
stable conventions that the second variable opts in to (``http_server_request_duration_seconds``).
Spans go to where ``OTEL_EXPORTER_OTLP_ENDPOINT`` says. Needs ``fleetmon[fastapi,otlp]``. As a
script it runs both in one process, on free ports, and prints what becomes of three requests.

Prints::

    POST /agents/APEX/process -> 200 COMPLETED: APEX: four words were generated
    POST /agents/OMNISCIENT/process -> 200 COMPLETED: OMNISCIENT: APEX: four words were generated
    POST /agents/CIPHER/process -> 502 FAILED: CIPHER has nothing to work on

    the trace of the second request
    neurectomy  POST /agents/{agent_id}/process
    neurectomy    invoke_agent OMNISCIENT
    neurectomy      invoke_agent APEX
    neurectomy        POST
    ryot                POST /v1/chat/completions
    ryot                  invoke_agent RYOT
    its id is in the header, in 3 log lines, and in exemplars of APEX, OMNISCIENT and RYOT
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import httpx
import uvicorn
from fastapi import FastAPI, HTTPException
from fastapi.concurrency import run_in_threadpool
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry
from pydantic import BaseModel

from fleetmon import (
    ELITE,
    JsonLog,
    OTelTracer,
    Supervisor,
    SupervisorSettings,
    configure_tracing,
)
from fleetmon.telemetry import TracingHandle, instrument_fastapi, instrument_httpx

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from opentelemetry.sdk.trace import ReadableSpan


class Status(Enum):
    """How an agent did."""

    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True)
class Result:
    """What an agent returns, whatever happened: it does not raise."""

    status: Status
    output: str


class Ask(BaseModel):
    """What a caller sends."""

    text: str


class ChatRequest(BaseModel):
    """The part of a chat completion that matters here."""

    messages: list[dict[str, str]]


class CollectiveAgent:
    """One of the forty; synchronous, as those that it stands for."""

    def __init__(self, name: str, others: dict[str, CollectiveAgent], model: httpx.Client) -> None:
        """Know the others and the language model."""
        self.name = name
        self.others = others
        self.model = model

    def process(self, request: Ask) -> Result:
        """Work on a request: the orchestrator has it done, everybody else asks the model."""
        if not request.text:
            return Result(Status.FAILED, f"{self.name} has nothing to work on")
        if self.name == "OMNISCIENT":
            done = self.others["APEX"].process(request)
            return Result(done.status, f"{self.name}: {done.output}")
        message = {"role": "user", "content": request.text}
        answer = self.model.post("/v1/chat/completions", json={"messages": [message]})
        if answer.is_error:
            return Result(Status.FAILED, f"{self.name}: the model said {answer.status_code}")
        return Result(Status.COMPLETED, f"{self.name}: {answer.json()['content']}")


class Engine:
    """Ryot's engine: synchronous, like the real one."""

    def generate(self, prompt: str) -> str:
        """Continue the prompt, after its fashion."""
        counted = {1: "one word was", 4: "four words were"}.get(len(prompt.split()), "words were")
        return f"{counted} generated"


def settings(name: str) -> SupervisorSettings:
    """Return the settings of either service."""
    return SupervisorSettings(name=name)


def neurectomy(
    tracing: TracingHandle | None = None, log: JsonLog | None = None, ryot_url: str = ""
) -> FastAPI:
    """Return the API; what is not given comes from the environment."""
    tracing = tracing or configure_tracing("neurectomy")
    log = log or JsonLog("neurectomy")
    registry = CollectorRegistry()  # of the API's own metrics, served beside those of the agents
    meters = MeterProvider([PrometheusMetricReader(registry=registry)])
    fleet = Supervisor(
        settings("neurectomy"),
        roster=ELITE,
        registry=registry,
        tracer=OTelTracer(tracing),
        log=log,
    )
    model = httpx.Client(base_url=ryot_url or os.environ["RYOT_URL"], timeout=10)
    instrument_httpx(model, tracing)
    agents: dict[str, CollectiveAgent] = {}
    for name in ELITE.ids():
        agent = CollectiveAgent(name, agents, model)
        agent.process = fleet.attach(name).watch(  # type: ignore[method-assign]
            agent.process, task_type="process", failed=lambda done: done.status is Status.FAILED
        )
        agents[name] = agent

    app = FastAPI(title="Neurectomy", lifespan=life_of(fleet, tracing, log, model))

    @app.post("/agents/{agent_id}/process")
    async def process(agent_id: str, request: Ask) -> dict[str, str]:
        """Hand a request to an agent."""
        if agent_id not in agents:
            raise HTTPException(404, f"there is no agent {agent_id}")
        done = await run_in_threadpool(agents[agent_id].process, request)
        if done.status is Status.FAILED:
            raise HTTPException(502, f"FAILED: {done.output}")
        return {"status": done.status.name, "output": done.output}

    app.mount("/", fleet.metrics_app())  # /metrics, /healthz and /readyz
    instrument_fastapi(app, tracing, meters=meters)
    return app


def ryot(tracing: TracingHandle | None = None, log: JsonLog | None = None) -> FastAPI:
    """Return the language model's API; what is not given comes from the environment."""
    tracing = tracing or configure_tracing("ryot")
    log = log or JsonLog("ryot")
    fleet = Supervisor(settings("ryot"), tracer=OTelTracer(tracing), log=log)
    generate = fleet.attach("RYOT").watch(Engine().generate, task_type="generate")
    app = FastAPI(title="Ryot", lifespan=life_of(fleet, tracing, log))

    @app.post("/v1/chat/completions")
    async def complete(request: ChatRequest) -> dict[str, str]:
        """Answer the last message."""
        prompt = request.messages[-1]["content"]
        return {"content": await run_in_threadpool(generate, prompt)}

    app.mount("/", fleet.metrics_app())
    instrument_fastapi(app, tracing)
    return app


def life_of(
    fleet: Supervisor, tracing: TracingHandle, log: JsonLog, client: httpx.Client | None = None
) -> Any:
    """Return a lifespan in which the supervisor runs, and after which all is written."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with fleet:
            yield
        if client is not None:
            await run_in_threadpool(client.close)
        tracing.shutdown()
        log.close()

    return lifespan


# -- the script -----------------------------------------------------------------------------------


@asynccontextmanager
async def served(app: FastAPI, port: int = 0) -> AsyncIterator[str]:
    """Serve an application for the length of the block, on a free port unless told which."""
    with socket.create_server(("127.0.0.1", port)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        serving = asyncio.create_task(server.serve([listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving


def tree(spans: Iterable[ReadableSpan], parent: int | None = None, depth: int = 0) -> list[str]:
    """Return the spans as indented lines, children below their parents."""
    lines = []
    for span in spans:
        if (span.parent.span_id if span.parent else None) == parent and span.context is not None:
            service = str(span.resource.attributes["service.name"])
            lines.append(f"{service:<12}{'  ' * depth}{span.name}")
            lines += tree(spans, span.context.span_id, depth + 1)
    return lines


async def main() -> None:
    """Run both services, send three requests, and tell what became of the second."""
    text, kept = io.StringIO(), []

    def tracing(service: str) -> TracingHandle:
        kept.append(InMemorySpanExporter())
        return configure_tracing(service, ratio=1.0, exporter=kept[-1])

    model = ryot(tracing("ryot"), JsonLog("ryot", stream=text))
    traces, pages = [], []
    async with served(model) as ryot_url:
        front = neurectomy(tracing("neurectomy"), JsonLog("neurectomy", stream=text), ryot_url)
        async with served(front) as url, httpx.AsyncClient(base_url=url) as caller:
            for name, words in (
                ("APEX", "please write some words"),
                ("OMNISCIENT", "please write some words"),
                ("CIPHER", ""),
            ):
                path = f"/agents/{name}/process"
                answer = await caller.post(path, json={"text": words})
                said = answer.json()
                told = said.get("detail") or f"{said['status']}: {said['output']}"
                print(f"POST {path} -> {answer.status_code} {told}")
                traces.append(answer.headers["x-trace-id"])
            wanted = {"accept": "application/openmetrics-text"}
            for service in (url, ryot_url):
                page = await caller.get(f"{service}/metrics", headers=wanted)
                pages += page.text.splitlines()

    print("\nthe trace of the second request")
    spans = [s for exporter in kept for s in exporter.get_finished_spans() if s.context]
    print("\n".join(tree([s for s in spans if f"{s.context.trace_id:032x}" == traces[1]])))
    lines = [json.loads(line) for line in text.getvalue().splitlines()]
    logged = sum(line.get("trace_id") == traces[1] for line in lines)
    marked = {
        found[1]
        for line in pages
        if traces[1] in line and (found := re.search(r'agent_id="(\w+)"', line))
    }
    *some, last = sorted(marked)
    print(
        f"its id is in the header, in {logged} log lines, "
        f"and in exemplars of {', '.join(some)} and {last}"
    )


if __name__ == "__main__":
    asyncio.run(main())
