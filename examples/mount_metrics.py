"""Mount the metrics in the host's own ASGI application instead of opening another port.

Prints::

    GET /hello -> 200 hello
    GET /fleet/readyz -> 200 api: ready
    GET /fleet/metrics -> 200 agents_health_status{agent_id="GREETER"} 0.0
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.request import urlopen

import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from fleetmon import Supervisor, SupervisorSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

fleet = Supervisor(SupervisorSettings(name="api"))
greeter = fleet.attach("GREETER")


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    """Run the supervisor as long as the application runs, in each worker process."""
    async with fleet:
        yield


async def hello(_: Request) -> PlainTextResponse:
    """Answer a request as a task of the agent."""
    with greeter.task("greet"):
        return PlainTextResponse("hello")


app = Starlette(
    routes=[Route("/hello", hello), Mount("/fleet", fleet.metrics_app())], lifespan=lifespan
)


async def main() -> None:
    """Serve the application for three requests, as ``uvicorn mount_metrics:app`` would."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        serving = asyncio.create_task(server.serve([listener]))

        def get(path: str) -> tuple[int, list[str]]:
            with urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as page:
                return page.status, page.read().decode().splitlines()

        for path, starts in (
            ("/hello", ""),
            ("/fleet/readyz", ""),
            ("/fleet/metrics", "agents_health_status{"),
        ):
            status, lines = await asyncio.to_thread(get, path)
            print(f"GET {path} -> {status}", next(x for x in lines if x.startswith(starts)))
        server.should_exit = True
        await serving


if __name__ == "__main__":
    asyncio.run(main())
