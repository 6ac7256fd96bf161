"""The control plane as one ASGI 3 application, served by :mod:`fleetmon.control.server`.

Every answer below 400 has the shape that :mod:`fleetmon.control.protocol` says, every other one is
a :class:`~fleetmon.control.protocol.ProblemShape`. No request makes it raise.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import time
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from fleetmon.control import picture
from fleetmon.control.hub import CHUNK_BYTES, PAUSE, SLICE, Hub, blocked_after, encode
from fleetmon.control.protocol import (
    CAPABILITIES,
    COMMANDS,
    HOST,
    PROTOCOL,
    SCHEMA,
    VERSION_HEADER,
    mismatch,
    understood,
)
from fleetmon.control.request import CommandRequest, Ledger
from fleetmon.control.respond import Streamed
from fleetmon.control.stream import USUAL, Reader, as_lines, as_server_sent
from fleetmon.errors import FleetmonError, UnknownAgentError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

    from starlette.datastructures import QueryParams

    from fleetmon.control.protocol import AnswerShape
    from fleetmon.supervisor import Supervisor

BODY_LIMIT = 64 * 1024
"""Bytes of a request's body."""

_HEARTBEAT = 1.0  # seconds
_LOOK = 0.25  # seconds between two looks at the events
_BATCH = 200  # events in one piece of a stream
_LATEST = 2**63  # sequence numbers from here on make no sense
_HOSTS = frozenset({HOST})


def control_app(fleet: Supervisor) -> Starlette:
    """Return the application for one supervisor.

    ``GET /v1/snapshot``, ``/v1/agents/{name}``, ``/v1/events?since=&epoch=&follow=`` (NDJSON) and
    ``/v1/dead-letters``; ``POST /v1/command``. Commands belong to the loop that serves the first
    of them: serve it from one loop only.
    """
    control = _Control(fleet)
    app = Starlette(
        routes=[
            Route("/v1/snapshot", _checked(control.snapshot, control.unknown)),
            Route("/v1/agents/{name}", _checked(control.agent, control.unknown)),
            Route("/v1/stream", _checked(control.stream, control.unknown)),
            Route("/v1/events", _checked(control.events, control.unknown)),
            Route("/v1/dead-letters", _checked(control.dead_letters, control.unknown)),
            Route("/v1/command", _checked(control.command, control.unknown), methods=["POST"]),
        ],
        exception_handlers={HTTPException: _routing},
    )
    app.state.hub = control.hub
    return app


class _ProblemError(Exception):
    def __init__(
        self, status: int, code: str, message: str, suggestions: Sequence[str] = ()
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.suggestions = suggestions


def _answer(status: int, body: Any) -> Response:
    text = json.dumps(body, separators=(",", ":"))
    return Response(text + "\n", status, media_type="application/json")


def _problem(error: _ProblemError) -> Response:
    body = {
        "schema": SCHEMA,
        "protocol": PROTOCOL,
        "code": error.code,
        "message": str(error),
        "suggestions": list(error.suggestions),
    }
    return _answer(error.status, body)


async def _routing(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 400
    message = "no such page; see GET /v1/snapshot" if status == 404 else "no such method here"  # noqa: PLR2004
    return _problem(_ProblemError(status, "no_such_page", message))


def _checked(
    handler: Callable[[Request], Awaitable[Response]],
    unknown: Callable[[UnknownAgentError], _ProblemError],
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            _admit(request)
            return await handler(request)
        except _ProblemError as error:
            return _problem(error)
        except UnknownAgentError as error:
            return _problem(unknown(error))
        except FleetmonError as error:
            return _problem(_ProblemError(409, "refused", str(error)))
        except ClientDisconnect:
            return Response(status_code=400)

    return endpoint


def _admit(request: Request) -> None:
    # A browser sends Origin, and a rebound name comes with a Host of its own: neither is a client.
    if request.headers.getlist("host") not in [[host] for host in _HOSTS]:
        raise _ProblemError(403, "foreign_host", f"Host must be {HOST}")
    if "origin" in request.headers:
        raise _ProblemError(403, "foreign_origin", "requests of web pages are refused")
    told = request.headers.get(VERSION_HEADER)
    if told is not None:
        if not told.isascii() or not told.isdecimal() or len(told) > 9:  # noqa: PLR2004
            raise _ProblemError(400, "bad_request", f"{VERSION_HEADER} must be a number")
        if not understood(int(told)):
            raise _ProblemError(426, "version", mismatch(int(told), who="the client"))


class _Control:
    def __init__(self, fleet: Supervisor) -> None:
        self._fleet = fleet
        self.hub = Hub(fleet)
        self._ledger = Ledger()
        self._known_epoch = ""

    def _epoch(self) -> str:
        if not self._known_epoch:
            self._known_epoch = self._fleet.snapshot(agents=False).epoch
        return self._known_epoch

    def unknown(self, error: UnknownAgentError) -> _ProblemError:
        """Name the nearest names, whatever their case."""
        there = {agent.agent_id.casefold(): agent.agent_id for agent in self._fleet.agents}
        near = [there[x] for x in get_close_matches(error.agent_id.casefold(), there, 3)]
        hint = f"did you mean {', '.join(near)}?" if near else "fleetmon agents lists them"
        message = f"no agent {error.agent_id!r}; {hint}"
        return _ProblemError(404, "unknown_agent", message, near)

    # -- reads -----------------------------------------------------------------------------------

    async def snapshot(self, _: Request) -> Response:
        return Streamed(self._snapshot(), "application/json")

    async def _snapshot(self) -> AsyncGenerator[bytes, None]:
        # agent by agent, with pauses: one call that encodes ten thousand of them would keep the
        # interpreter from the agents' own thread for a tenth of a second
        fleet = self._fleet
        health = 0
        size, piece = 0, [b'{"agents":[']
        began = time.perf_counter()
        for at, agent in enumerate(fleet.agents):
            shape = picture.agent_shape(agent.snapshot(), fleet.snapshot(agents=False).monotonic)
            if shape["mode"] != "declared":
                health = max(health, shape["health"])
            text = (("," if at else "") + encode(shape)).encode()
            piece.append(text)
            size += len(text)
            if size > CHUNK_BYTES:
                yield b"".join(piece)
                size, piece = 0, []
            if time.perf_counter() - began > SLICE:
                await asyncio.sleep(PAUSE)
                began = time.perf_counter()
        now = fleet.snapshot(agents=False)
        blocked = blocked_after(None, fleet.recent_events(), now.monotonic)
        rest = encode(picture.fleet_shape(now, health, blocked, *self.hub.warnings()))
        yield b"".join((*piece, b"],", rest[1:].encode(), b"\n"))

    async def agent(self, request: Request) -> Response:
        agent = self._fleet.agent(request.path_params["name"]).snapshot()
        shape = picture.agent_shape(agent, self._fleet.snapshot(agents=False).monotonic)
        return _answer(200, {"schema": SCHEMA, **shape})

    async def dead_letters(self, _: Request) -> Response:
        letters = [picture.letter_shape(letter) for letter in self._fleet.dead_letters()]
        return _answer(200, {"schema": SCHEMA, "dead_letters": letters})

    async def events(self, request: Request) -> Response:
        query = request.query_params
        since = _number(query, "since")
        follow = query.get("follow", "1")
        if follow not in {"0", "1"}:
            raise _ProblemError(400, "bad_request", f"follow={follow[:40]!r} must be 0 or 1")
        lines = self._lines(since, query.get("epoch"), follow=follow == "1")
        return Streamed(lines, "application/x-ndjson", endless=True)

    async def _lines(
        self, since: int, epoch: str | None, *, follow: bool
    ) -> AsyncGenerator[bytes, None]:
        fleet = self._fleet
        now = fleet.snapshot(agents=False)
        resumed = epoch in (None, now.epoch) and since <= now.seq
        last = since if resumed else 0  # another life counts from one again
        yield _line(
            type="hello", protocol=PROTOCOL, name=now.name, epoch=now.epoch, seq=now.seq,
            resumed=resumed, capabilities=CAPABILITIES,
        )  # fmt: skip
        beat = time.monotonic() + _HEARTBEAT
        over = False
        while True:
            # asked before the events are read, so that the last ones are told
            over = not follow or self.hub.over.is_set() or self._stopped()
            newer = fleet.recent_events(last)
            for start in range(0, len(newer), _BATCH):
                piece = newer[start : start + _BATCH]
                yield b"".join(_told(event, last if i == 0 else event.seq - 1)
                               for i, event in enumerate(piece))  # fmt: skip
                last = piece[-1].seq
            if over:
                yield _line(type="end", seq=last)
                return
            if time.monotonic() >= beat:
                beat = time.monotonic() + _HEARTBEAT
                yield _line(type="heartbeat", seq=last, at=time.time())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK):
                    await self.hub.over.wait()

    def _stopped(self) -> bool:
        return self._fleet.snapshot(agents=False).phase == "stopped"

    async def stream(self, request: Request) -> Response:
        query = request.query_params
        since = None if "since" not in query else _number(query, "since")
        events = query.get("events")
        try:
            rate = float(query.get("rate", str(USUAL)))
        except ValueError:
            rate = 0.0
        if not 0 < rate < math.inf:
            told = query["rate"][:40]
            raise _ProblemError(400, "bad_request", f"rate={told!r} must be above 0 Hz")
        server_sent = "text/event-stream" in request.headers.get("accept", "")
        reader = Reader(
            self.hub,
            since=since,
            epoch=query.get("epoch"),
            events=-1 if events is None else None if events == "none" else _number(query, "events"),
            rate=rate,
            framed=as_server_sent if server_sent else as_lines,
        )
        kind = "text/event-stream" if server_sent else "application/x-ndjson"
        return Streamed(reader.frames(), kind, endless=True)

    # -- commands --------------------------------------------------------------------------------

    async def command(self, request: Request) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise _ProblemError(415, "not_json", "send the command as application/json")
        try:
            wanted = CommandRequest.model_validate_json(await _body(request))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "body"
            raise _ProblemError(400, "bad_request", f"{where[:80]}: {first['msg']}") from None
        if wanted.command not in COMMANDS:
            there = f"no command {wanted.command!r}; there are {', '.join(COMMANDS)}"
            raise _ProblemError(400, "unknown_command", there)
        epoch = self._epoch()
        if wanted.epoch not in (None, epoch):
            gone = f"the fleet that the command was meant for has ended; this one is {epoch}"
            raise _ProblemError(409, "another_life", gone)
        try:
            answer = await self._ledger.settle(wanted, lambda: self._carry_out(wanted))
        except ValueError as error:
            raise _ProblemError(409, "key_used", str(error)) from None
        except OverflowError as error:
            raise _ProblemError(429, "too_many", str(error)) from None
        if isinstance(answer, Exception):
            raise answer
        if answer is None:
            return _answer(202, self._pending(wanted))
        return _answer(200, answer)

    async def _carry_out(self, wanted: CommandRequest) -> AnswerShape | Exception:
        try:
            result = await self._fleet.command(
                wanted.command,
                wanted.agent_id,
                actor=wanted.actor,
                reason=wanted.reason,
                wait=wanted.wait,
                timeout=wanted.timeout,
                generation=wanted.generation,
            )
        except UnknownAgentError as error:
            return error
        except FleetmonError as error:
            return _ProblemError(409, "refused", str(error))
        except (asyncio.CancelledError, RuntimeError):
            # the host's loop went away under it
            return _ProblemError(409, "refused", "the fleet stopped before the command was done")
        except Exception as error:  # noqa: BLE001 - a mistake of ours is still an answer
            return _ProblemError(409, "failed", f"{type(error).__name__}: {error}")
        return picture.answer_shape(result)

    def _pending(self, wanted: CommandRequest) -> AnswerShape:
        now = self._fleet.snapshot(agents=False).monotonic
        blocked = blocked_after(None, self._fleet.recent_events(), now)
        reason = "under way; what it asks for has not come about yet"
        if blocked is not None:
            who = blocked["agent_id"] or "something that is no agent's task"
            reason = (
                f"the host's event loop is blocked by {who} for {blocked['seconds']:.1f} s "
                f"({blocked['file']}:{blocked['line']}); it goes on when the loop is free"
            )
        agent = self._fleet.agent(wanted.agent_id).snapshot()
        return {
            "schema": SCHEMA,
            "result": "pending",
            "command": wanted.command,
            "agent_id": agent.agent_id,
            "state": agent.lifecycle,
            "settled": None,
            "reason": reason,
        }


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > BODY_LIMIT:
            message = f"a command has {BODY_LIMIT} bytes at most"
            raise _ProblemError(413, "too_large", message)
    return bytes(body)


def _number(query: QueryParams, name: str) -> int:
    told = query.get(name, "0")
    if not told.isascii() or not told.isdecimal() or len(told) > 19 or int(told) >= _LATEST:  # noqa: PLR2004
        raise _ProblemError(400, "bad_request", f"{name}={told[:40]!r} is no sequence number")
    return int(told)


def _line(**fields: Any) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def _told(event: Any, last: int) -> bytes:
    line = json.dumps(picture.event_shape(event), separators=(",", ":")).encode() + b"\n"
    lost = event.seq - last - 1
    return _line(type="lost", seq=event.seq - 1, lost=lost) + line if lost > 0 else line
