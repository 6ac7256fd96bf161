"""Everything that a client may look at; nothing here changes the fleet."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import time
from typing import TYPE_CHECKING, Any

from fleetmon._version import __version__
from fleetmon.control import picture
from fleetmon.control.encoding import encode
from fleetmon.control.hub import CHUNK_BYTES, SLICE, Hub, give_way
from fleetmon.control.problem import ProblemError, answer, number
from fleetmon.control.protocol import CAPABILITIES, PROTOCOL, SCHEMA
from fleetmon.control.respond import Streamed
from fleetmon.control.stream import USUAL, Reader, as_lines, as_server_sent

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

    from fleetmon.agent import Agent
    from fleetmon.control.protocol import AgentDetailShape, CountsShape, HelloShape
    from fleetmon.supervisor import Supervisor

LOOK_BACK = 20_000
"""Events that are looked through at most for what concerns one agent, or a blocked loop."""

BRIEF = 200
"""Agents that a brief view has at most; a fleet no larger than that is shown whole."""

_GLANCES = 64  # agents between two glances at the clock
_HEARTBEAT = 1.0  # seconds
_LOOK = 0.25  # seconds between two looks at the events
_BATCH = 200  # events in one piece
_TASKS = 20  # recent tasks, and failures, of one agent
_LOG = 50  # events of one agent


class Reads:
    """The endpoints that are read."""

    def __init__(self, fleet: Supervisor, hub: Hub) -> None:
        """Prepare for one supervisor."""
        self._fleet = fleet
        self._hub = hub

    async def hello(self, _: Request) -> Response:
        """Say who answers."""
        return answer(200, hello(self._fleet))

    async def snapshot(self, request: Request) -> Response:
        """Send the whole fleet, or what an operator wants to know of it at a glance."""
        view = request.query_params.get("view", "full")
        if view not in {"full", "brief"}:
            raise ProblemError(400, "bad_request", f"view={view[:40]!r} must be full or brief")
        if view == "full":
            return Streamed(self._snapshot(self._fleet.agents), "application/json")
        began = time.perf_counter()
        chosen, counts = await self._at_a_glance()
        more = {"counts": counts, "left_out": len(self._fleet.agents) - len(chosen)}
        return Streamed(self._snapshot(chosen, began=began, more=more), "application/json")

    async def _at_a_glance(self) -> tuple[Sequence[Agent], CountsShape]:
        agents = self._fleet.agents
        levels = [0, 0, 0]
        declared = 0
        odd: list[list[Agent]] = [[], [], []]  # by health
        began = time.perf_counter()
        for at, agent in enumerate(agents):
            mode, lifecycle, health, conditions = agent.standing
            if mode == "declared":
                declared += 1
            else:
                levels[health] += 1
                if health or conditions or lifecycle != "running":
                    odd[health].append(agent)
            if not at % _GLANCES and time.perf_counter() - began > SLICE:
                await give_way()
                began = time.perf_counter()
        counts: CountsShape = {
            "healthy": levels[0], "degraded": levels[1], "failed": levels[2], "declared": declared,
        }  # fmt: skip
        chosen = agents if len(agents) <= BRIEF else (*odd[2], *odd[1], *odd[0])[:BRIEF]
        return chosen, counts

    async def _snapshot(
        self,
        agents: Sequence[Agent],
        *,
        began: float | None = None,
        more: dict[str, Any] | None = None,
    ) -> AsyncGenerator[bytes, None]:
        # agent by agent, with pauses: one call that encodes ten thousand of them would keep the
        # interpreter from the agents' own thread for a tenth of a second
        fleet = self._fleet
        health = 0
        began = time.perf_counter() if began is None else began
        bounds = fleet.settings.metrics.buckets

        def shape(agent: Any) -> bytes:
            nonlocal health
            told = picture.agent_shape(agent.snapshot(), _now(fleet), bounds)
            if told["mode"] != "declared":
                health = max(health, told["health"])
            return encode(told).encode()

        yield b'{"agents":['
        async for piece in _joined(agents, shape):
            yield piece
        if more is not None:
            levels = (more["counts"]["failed"], more["counts"]["degraded"], 1)
            health = next(2 - at for at, count in enumerate(levels) if count)
        now = fleet.snapshot(agents=False)
        blocked = blocked_lately(fleet)
        warnings = self._hub.warnings()
        took = time.perf_counter() - began
        told = picture.fleet_shape(now, health, blocked, *warnings, took=took)
        rest = encode({**told, **(more or {})})
        yield b"],%b\n" % rest[1:].encode()

    async def agent(self, request: Request) -> Response:
        """Send all there is to know about one agent."""
        agent = self._fleet.agent(request.path_params["name"])
        now = _now(self._fleet)
        agent_id = agent.agent_id
        recent = self._hub.recent
        events = [e for e in self._lately() if e.agent_id == agent_id]
        history = [e for e in events if e.kind in picture.HISTORY]
        shape: AgentDetailShape = {
            **picture.agent_shape(agent.snapshot(), now, self._fleet.settings.metrics.buckets),
            "schema": SCHEMA,
            "clock": round(now, 3),
            "recent_tasks": recent.tasks(agent_id, _TASKS),
            "recent_failures": recent.failures(agent_id, _TASKS),
            "history": [picture.event_shape(event) for event in history[-_LOG:]],
            "log": [picture.event_shape(event) for event in events[-_LOG:]],
            "policy": picture.sentences(self._fleet.explain(agent.spec).text),
        }
        return answer(200, shape)

    def _lately(self) -> Any:
        return self._fleet.recent_events(max(0, self._fleet.snapshot(agents=False).seq - LOOK_BACK))

    async def dead_letters(self, _: Request) -> Response:
        """Send the tasks that were given up."""
        letters = [picture.letter_shape(letter) for letter in self._fleet.dead_letters()]
        return answer(200, {"schema": SCHEMA, "dead_letters": letters})

    async def config(self, _: Request) -> Response:
        """Send how the fleet is set up."""
        return Streamed(self._config(), "application/json")

    async def _config(self) -> AsyncGenerator[bytes, None]:
        settings = self._fleet.settings
        usual = settings.defaults.model_dump(mode="json")

        def differing(agent: Any) -> bytes:
            own = agent.spec.model_dump(mode="json")
            told = {k: picture.plain(v) for k, v in own.items() if v != usual[k]}
            return f"{encode(agent.agent_id)}:{encode(told)}".encode()

        head = {
            "schema": SCHEMA,
            "version": __version__,
            "settings": picture.plain(settings.model_dump(mode="json")),
        }
        yield encode(head)[:-1].encode() + b',"agents":{'
        async for piece in _joined(self._fleet.agents, differing):
            yield piece
        yield b"}}\n"

    async def events(self, request: Request) -> Response:
        """Send what happened, and what happens."""
        query = request.query_params
        since = number(query, "since")
        follow = query.get("follow", "1")
        if follow not in {"0", "1"}:
            raise ProblemError(400, "bad_request", f"follow={follow[:40]!r} must be 0 or 1")
        wanted = (frozenset(query.getlist("agent")), frozenset(query.getlist("kind")))
        lines = self._lines(since, query.get("epoch"), wanted, follow=follow == "1")
        return Streamed(lines, "application/x-ndjson", endless=True)

    async def _lines(
        self,
        since: int,
        epoch: str | None,
        wanted: tuple[frozenset[str], frozenset[str]],
        *,
        follow: bool,
    ) -> AsyncGenerator[bytes, None]:
        fleet = self._fleet
        agents, kinds = wanted
        now = fleet.snapshot(agents=False)
        resumed = epoch in (None, now.epoch) and since <= now.seq
        last = since if resumed else 0  # another life counts from one again
        yield _line(
            type="hello", protocol=PROTOCOL, name=now.name, epoch=now.epoch, seq=now.seq,
            resumed=resumed, capabilities=CAPABILITIES,
        )  # fmt: skip
        beat = time.monotonic() + _HEARTBEAT
        while True:
            # asked before the events are read, so that the last ones are told
            over = not follow or self._hub.over.is_set() or self._stopped()
            newer = fleet.recent_events(last)
            if newer and newer[0].seq - last > 1:
                yield _line(type="lost", seq=newer[0].seq - 1, lost=newer[0].seq - last - 1)
            for start in range(0, len(newer), _BATCH):
                batch = newer[start : start + _BATCH]
                last = batch[-1].seq
                told = b"".join(
                    _line(**picture.event_shape(event))
                    for event in batch
                    if (not agents or event.agent_id in agents)
                    and (not kinds or event.kind in kinds)
                )
                if told:
                    yield told
                await asyncio.sleep(0)
            if over:
                yield _line(type="end", seq=last)
                return
            if time.monotonic() >= beat:
                beat = time.monotonic() + _HEARTBEAT
                yield _line(type="heartbeat", seq=last, at=time.time())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK):
                    await self._hub.over.wait()

    def _stopped(self) -> bool:
        return self._fleet.snapshot(agents=False).phase == "stopped"

    async def stream(self, request: Request) -> Response:
        """Send rows as they change, events, and what is true of the fleet."""
        query = request.query_params
        since = None if "since" not in query else number(query, "since")
        events: int | None = -1
        if "events" in query:
            events = None if query["events"] == "none" else number(query, "events")
        try:
            rate = float(query.get("rate", USUAL))
        except ValueError:
            rate = 0.0
        if not 0 < rate < math.inf:
            told = query["rate"][:40]
            raise ProblemError(400, "bad_request", f"rate={told!r} must be above 0 Hz")
        server_sent = "text/event-stream" in request.headers.get("accept", "")
        reader = Reader(
            self._hub,
            hello(self._fleet),
            since=since,
            epoch=query.get("epoch"),
            events=events,
            rate=rate,
            ticks=query.get("ticks") == "1",
            framed=as_server_sent if server_sent else as_lines,
        )
        kind = "text/event-stream" if server_sent else "application/x-ndjson"
        return Streamed(reader.frames(), kind, endless=True)


class MetricsPage:
    """The exposition, as the metrics server has it."""

    def __init__(self, fleet: Supervisor) -> None:
        """Prepare; nothing is rendered before somebody asks."""
        self._fleet = fleet
        self._app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if self._app is None:
            # rendered for a look by hand: a second cache would double the first one's memory
            self._app = self._fleet.metrics_app(cache=False)
        await self._app({**scope, "path": "/metrics", "root_path": ""}, receive, send)


def hello(fleet: Supervisor) -> HelloShape:
    """Return who answers."""
    now = fleet.snapshot(agents=False)
    return {
        "protocol": PROTOCOL,
        "schema": SCHEMA,
        "name": now.name,
        "epoch": now.epoch,
        "version": __version__,
        "pid": os.getpid(),
        "capabilities": list(CAPABILITIES),
        "clock": round(now.monotonic, 3),
        "at": round(now.at, 3),
    }


def blocked_lately(fleet: Supervisor) -> Any:
    """Return who holds an event loop up right now, if anybody does."""
    now = fleet.snapshot(agents=False)
    return picture.blocked_after(
        None, fleet.recent_events(max(0, now.seq - LOOK_BACK)), now.monotonic
    )


async def _joined(agents: Any, encoded: Callable[[Any], bytes]) -> AsyncGenerator[bytes, None]:
    """Yield what ``encoded`` gives for each agent, with commas between, in chunks, with pauses."""
    size = 0
    chunk: list[bytes] = []
    lead = b""
    began = time.perf_counter()
    for agent in agents:
        text = encoded(agent)
        chunk.append(text)
        size += len(text)
        if size > CHUNK_BYTES:
            yield lead + b",".join(chunk)
            size, chunk, lead = 0, [], b","
        if time.perf_counter() - began > SLICE:
            await give_way()
            began = time.perf_counter()
    if chunk:
        yield lead + b",".join(chunk)


def _now(fleet: Supervisor) -> float:
    return fleet.snapshot(agents=False).monotonic


def _line(**fields: Any) -> bytes:
    return encode(fields).encode() + b"\n"
