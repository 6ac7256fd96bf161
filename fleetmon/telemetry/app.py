"""``/metrics``, ``/healthz`` and ``/readyz`` as one ASGI 3 application.

Read-only: it carries no commands. :class:`~fleetmon.telemetry.server.MetricsServer` serves it off
the host's loop; a host may mount it in an application of its own as well.
"""

from __future__ import annotations

import zlib
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qs

from anyio import CancelScope, CapacityLimiter, create_task_group, to_thread
from anyio.lowlevel import RunVar
from prometheus_client.exposition import (
    CONTENT_TYPE_PLAIN_0_0_4,
    choose_encoder,
    generate_latest,
    gzip_accepted,
)

from fleetmon.telemetry.exposition import Renderer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterator, MutableMapping

    from fleetmon.telemetry.families import NumbersSource

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    ASGIApp = Callable[[Message, Receive, Send], Awaitable[None]]

_THREADS = 2  # scrapes that render at a time on one loop; further ones wait
_GZIP = 31  # zlib's window bits for a gzip wrapper
_QUERY_LIMIT = 100  # name[] parameters
_PLAIN = "text/plain; charset=utf-8"

_limiter: RunVar[CapacityLimiter] = RunVar("fleetmon_metrics_threads")


def metrics_app(
    source: NumbersSource,
    registry: Any = None,
    *,
    cache: bool = True,
    compression: int = 1,
    renderer: Renderer | None = None,
) -> ASGIApp:
    """Return the application.

    ``GET`` and ``HEAD`` of ``/metrics`` (text 0.0.4, or OpenMetrics where ``Accept`` asks for it;
    gzip where it is accepted; ``name[]`` restricts the sample names), ``/healthz`` (200 while the
    process answers) and ``/readyz`` (200 or 503, as ``source.ready()`` says). Mounted under a
    path, it answers below that path; mounted as ``/metrics`` itself, at that path.

    Args:
        source: where the numbers come from.
        registry: a ``CollectorRegistry`` whose other families follow ours.
        cache: keep the text of unchanged agents between scrapes.
        compression: gzip level, 0 to 9; 0 turns gzip off.
        renderer: one to share, instead of ``registry`` and ``cache``.
    """
    if renderer is None:
        renderer = Renderer(source, cache=cache, registry=registry)
    return App(source, renderer, compression)


class _Source(Protocol):
    """Who is behind ``/readyz``: a fleet, or a service."""

    @property
    def name(self) -> str: ...

    def ready(self) -> bool: ...


class _Renderer(Protocol):
    """Who is behind ``/metrics``: of a fleet, or of a registry."""

    def render(
        self,
        openmetrics: bool = False,
        *,
        names: Collection[str] | None = None,
        encode: Callable[[Any], bytes] | None = None,
    ) -> Iterator[bytes]: ...


class App:
    """The application, over whatever has a name and is ready, and whatever renders."""

    def __init__(self, source: _Source, renderer: _Renderer, compression: int) -> None:
        """See :func:`metrics_app` and :func:`fleetmon.telemetry.standalone.registry_app`."""
        self._source = source
        self._renderer = renderer
        self._compression = compression

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI 3)."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1000})
            return
        path, root = scope["path"], scope.get("root_path", "")
        if root and (path == root or path.startswith(root + "/")):
            path = path[len(root) :]
        if path in {"", "/"} and root.endswith("/metrics"):
            path = "/metrics"
        if path not in {"/metrics", "/healthz", "/readyz"}:
            await _answer(scope, send, 404, "no such page; try /metrics, /healthz or /readyz\n")
        elif scope["method"] not in {"GET", "HEAD"}:
            allow = (b"allow", b"GET, HEAD")
            await _answer(scope, send, 405, "read only; use GET or HEAD\n", allow)
        elif path == "/healthz":
            await _answer(scope, send, 200, "alive\n")
        elif path == "/readyz":
            ready = self._source.ready()
            state = "ready" if ready else "not ready"
            await _answer(scope, send, 200 if ready else 503, f"{self._source.name}: {state}\n")
        else:
            await self._metrics(scope, receive, send)

    async def _metrics(self, scope: Message, receive: Receive, send: Send) -> None:
        encode, content_type = _negotiate(_header(scope, b"accept"))
        zipped = bool(self._compression) and gzip_accepted(_header(scope, b"accept-encoding"))
        headers = [(b"content-type", content_type.encode("latin-1", "replace"))]
        headers.append((b"vary", b"accept, accept-encoding"))
        if zipped:
            headers.append((b"content-encoding", b"gzip"))
        start = {"type": "http.response.start", "status": 200, "headers": headers}
        if scope["method"] == "HEAD":
            await send(start)
            await send({"type": "http.response.body", "body": b""})
            return
        names = _names(scope.get("query_string", b""))
        openmetrics = content_type.startswith("application/openmetrics-text")
        chunks = self._renderer.render(openmetrics, names=names, encode=encode)
        if zipped:
            chunks = _zipped(chunks, self._compression)
        # The first chunk before the status: a failure is then a 500 and not a torn body.
        body = await _in_thread(chunks)
        async with create_task_group() as group:
            group.start_soon(_until_gone, receive, group.cancel_scope)
            await send(start)
            while body is not None:
                await send({"type": "http.response.body", "body": body, "more_body": True})
                body = await _in_thread(chunks)
            await send({"type": "http.response.body", "body": b""})
            group.cancel_scope.cancel()


async def _until_gone(receive: Receive, scope: CancelScope) -> None:
    # servers take what is sent to a client that has left without a word: stop rendering for it
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def _in_thread(chunks: Iterator[bytes]) -> bytes | None:
    try:
        limiter = _limiter.get()
    except LookupError:
        limiter = CapacityLimiter(_THREADS)  # never anyio's own, which the host may have used up
        _limiter.set(limiter)
    return await to_thread.run_sync(partial(next, chunks, None), limiter=limiter)


def _zipped(chunks: Iterator[bytes], level: int) -> Iterator[bytes]:
    squeeze = zlib.compressobj(level, zlib.DEFLATED, _GZIP)
    for chunk in chunks:
        body = squeeze.compress(chunk)
        if body:
            yield body
    yield squeeze.flush()


def _negotiate(accept: str) -> tuple[Callable[[Any], bytes], str]:
    try:
        return choose_encoder(accept)
    except TypeError:  # stock compares a version such as "x" with a number
        return generate_latest, CONTENT_TYPE_PLAIN_0_0_4


def _header(scope: Message, name: bytes) -> str:
    return ",".join([value.decode("latin-1") for key, value in scope["headers"] if key == name])


def _names(query: bytes) -> frozenset[str] | None:
    try:
        found = parse_qs(query.decode("latin-1"), max_num_fields=_QUERY_LIMIT).get("name[]")
    except ValueError:  # too many: all of it is the honest answer
        return None
    return None if found is None else frozenset(found)


async def _answer(
    scope: Message, send: Send, status: int, text: str, *headers: tuple[bytes, bytes]
) -> None:
    body = text.encode()
    length = (b"content-length", str(len(body)).encode())
    kind = (b"content-type", _PLAIN.encode())
    await send(
        {"type": "http.response.start", "status": status, "headers": [kind, length, *headers]}
    )
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


async def _lifespan(receive: Receive, send: Send) -> None:
    while (await receive())["type"] != "lifespan.shutdown":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})
