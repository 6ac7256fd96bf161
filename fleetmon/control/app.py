"""The control plane as one ASGI 3 application, served by :mod:`fleetmon.control.server`.

Every answer below 400 has the shape that :mod:`fleetmon.control.protocol` says, every other one is
a :class:`~fleetmon.control.protocol.ProblemShape`. No request makes it raise.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from fleetmon.control.describe import describe
from fleetmon.control.guard import Guard
from fleetmon.control.hub import Hub
from fleetmon.control.orders import Orders
from fleetmon.control.problem import ProblemError, answer, problem
from fleetmon.control.reads import Reads
from fleetmon.errors import FleetmonError, UnknownAgentError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import ASGIApp, Receive, Scope, Send

    from fleetmon.supervisor import Supervisor

    Endpoint = Callable[[Request], Awaitable[Response]]

_NO_PAGE = 404


def control_app(fleet: Supervisor, guard: Guard | None = None) -> Starlette:
    """Return the application for one supervisor.

    ``GET /v1/openapi.json`` describes it. Commands and streams belong to the loop that serves the
    first of them: serve it from one loop only.

    Args:
        fleet: whom to show and to command.
        guard: who may ask; by default those who say that they are on this machine.
    """
    hub = Hub(fleet)
    reads, orders = Reads(fleet, hub), Orders(fleet)
    desk = _Desk(fleet, guard or Guard())
    get = {
        "/v1/hello": reads.hello,
        "/v1/snapshot": reads.snapshot,
        "/v1/agents/{name}": reads.agent,
        "/v1/stream": reads.stream,
        "/v1/events": reads.events,
        "/v1/dead-letters": reads.dead_letters,
        "/v1/config": reads.config,
        "/v1/openapi.json": _openapi,
    }
    post = {"/v1/command": orders.command, "/v1/dead-letters/retry": orders.retry}
    app = Starlette(
        routes=[
            *(Route(path, desk.checked(endpoint)) for path, endpoint in get.items()),
            *(Route(p, desk.checked(endpoint), methods=["POST"]) for p, endpoint in post.items()),
            Route("/v1/metrics", desk.admitted(reads.metrics), methods=["GET", "HEAD"]),
        ],
        exception_handlers={HTTPException: _routing},
    )
    app.state.hub = hub
    app.state.orders = orders
    return app


async def _openapi(_: Request) -> Response:
    return answer(200, describe())


async def _routing(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 400
    headers = error.headers if isinstance(error, HTTPException) else None
    message = "no such method here"
    if status == _NO_PAGE:
        message = "no such page; see GET /v1/openapi.json"
    return problem(ProblemError(status, "no_such_page", message, headers=headers))


class _Desk:
    """Stands before every endpoint: checks who asks, and answers for what goes wrong."""

    def __init__(self, fleet: Supervisor, guard: Guard) -> None:
        self._fleet = fleet
        self._guard = guard

    def checked(self, endpoint: Endpoint) -> Endpoint:
        """Return the endpoint behind the desk."""

        async def at_the_desk(request: Request) -> Response:
            try:
                self._guard.admit(request)
                return await endpoint(request)
            except ProblemError as error:
                return problem(error)
            except UnknownAgentError as error:
                return problem(self._unknown(error))
            except FleetmonError as error:
                return problem(ProblemError(409, "refused", str(error)))
            except ClientDisconnect:
                return Response(status_code=400)

        return at_the_desk

    def admitted(self, app: ASGIApp) -> ASGIApp:
        """Return an application behind the desk, which answers for itself what goes wrong."""
        return _Admitted(app, self._guard)

    def _unknown(self, error: UnknownAgentError) -> ProblemError:
        # the nearest names, whatever their case
        there = {agent.agent_id.casefold(): agent.agent_id for agent in self._fleet.agents}
        near = [there[x] for x in get_close_matches(error.agent_id.casefold(), there, 3)]
        hint = f"did you mean {', '.join(near)}?" if near else "fleetmon agents lists them"
        message = f"no agent {error.agent_id!r}; {hint}"
        return ProblemError(404, "unknown_agent", message, near)


class _Admitted:
    def __init__(self, app: ASGIApp, guard: Guard) -> None:
        self._app = app
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse."""
        try:
            self._guard.admit(Request(scope))
        except ProblemError as error:
            await problem(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)
