"""The control plane as ASGI 3 applications, served by :mod:`fleetmon.control.server`.

Every answer below 400 has the shape that :mod:`fleetmon.control.protocol` says, every other one is
a :class:`~fleetmon.control.shapes.ProblemShape`. No request makes it raise.
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
from fleetmon.control.protocol import HOST
from fleetmon.control.reads import MetricsPage, Reads
from fleetmon.control.webhook import PATH, Webhook
from fleetmon.errors import FleetmonError, UnknownAgentError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from fleetmon.control.secrets import Token
    from fleetmon.settings import AlertWebhook
    from fleetmon.supervisor import Supervisor

    Endpoint = Callable[[Request], Awaitable[Response]]

_NO_PAGE = 404


class ControlPlane:
    """What all listeners of one supervisor share. Belongs to the one loop that serves it.

    Attributes:
        hub: what readers of the stream share.
    """

    def __init__(self, fleet: Supervisor) -> None:
        """Prepare for one supervisor."""
        self.hub = Hub(fleet)
        self._fleet = fleet
        self._reads = Reads(fleet, self.hub)
        self._orders = Orders(fleet)
        self._metrics = MetricsPage(fleet)

    def app(
        self,
        *,
        hosts: Collection[str] | None = (HOST,),
        token: Token | None = None,
        webhook: tuple[AlertWebhook, Token] | None = None,
    ) -> Guard:
        """Return the application of one listener; ``GET /v1/openapi.json`` describes it.

        Args:
            hosts: names that ``Host`` may have, whatever the port; ``None`` for any.
            token: what every request has to carry; ``None`` asks for none.
            webhook: how alerts may drive recoveries, and the token that they carry.
        """
        reads, orders = self._reads, self._orders
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
        own = {}
        if webhook is not None:
            post[PATH] = Webhook(self._fleet, orders, webhook[0]).deliver
            own[PATH] = webhook[1]
        routes = [
            *(Route(path, self._answered(endpoint)) for path, endpoint in get.items()),
            *(Route(p, self._answered(endpoint), methods=["POST"]) for p, endpoint in post.items()),
            Route("/v1/metrics", self._metrics, methods=["GET", "HEAD"]),
        ]
        app = Starlette(routes=routes, exception_handlers={HTTPException: _routing})
        # a path with a slash too many is no page: its redirection is not in the description, and
        # raises where a carrier hands on a path that is no Unicode
        app.router.redirect_slashes = False
        return Guard(app, hosts=hosts, token=token, own=own)

    def _answered(self, endpoint: Endpoint) -> Endpoint:
        async def answered(request: Request) -> Response:
            try:
                return await endpoint(request)
            except ProblemError as error:
                return problem(error)
            except UnknownAgentError as error:
                return problem(self._unknown(error))
            except FleetmonError as error:
                return problem(ProblemError(409, "refused", str(error)))
            except ClientDisconnect:
                return Response(status_code=400)

        return answered

    def _unknown(self, error: UnknownAgentError) -> ProblemError:
        # the nearest names, whatever their case
        there = {agent.agent_id.casefold(): agent.agent_id for agent in self._fleet.agents}
        near = [there[x] for x in get_close_matches(error.agent_id.casefold(), there, 3)]
        hint = f"did you mean {', '.join(near)}?" if near else "fleetmon agents lists them"
        message = f"no agent {error.agent_id!r}; {hint}"
        return ProblemError(404, "unknown_agent", message, near)


async def _openapi(_: Request) -> Response:
    return answer(200, describe())


async def _routing(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 400
    headers = error.headers if isinstance(error, HTTPException) else None
    message = "no such method here"
    if status == _NO_PAGE:
        message = "no such page; see GET /v1/openapi.json"
    return problem(ProblemError(status, "no_such_page", message, headers=headers))
