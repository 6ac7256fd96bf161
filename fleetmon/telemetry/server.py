"""Serves an ASGI application from a daemon thread with an event loop of its own.

So ``/metrics`` still answers while the host's loop is blocked. uvicorn is loaded at
:meth:`MetricsServer.start` and not before; the socket is bound by us, so that a port in use is
the caller's error, and neither signals nor loggers of the host are touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import weakref
from typing import TYPE_CHECKING, Self

from fleetmon.errors import ListenError

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetmon.telemetry.app import ASGIApp

_BACKLOG = 128
_GRACE = 1.0  # seconds that answers under way get at close
_LAST_PORT = 65535  # getaddrinfo takes larger ones, modulo
_ACCEPTING = 5  # turns of the loop from accept() to connection_made()
_START = 10.0  # seconds for the thread to come up
_CLOSE = 3.0  # seconds for it to end

_servers: weakref.WeakSet[MetricsServer] = weakref.WeakSet()


class MetricsServer:
    """One listener for one application.

    Attributes:
        patience: seconds that a client has to finish sending a request, and to take what was
            sent to it, before its connection is cut.
    """

    def __init__(self, app: ASGIApp, listen: str, *, patience: float = 10.0) -> None:
        """Prepare; nothing is bound before :meth:`start`.

        Args:
            app: what to serve.
            listen: ``HOST:PORT``, IPv6 as ``[::1]:9003``; port 0 takes a free one.
            patience: see the attribute.

        Raises:
            ListenError: ``listen`` is not an address.
        """
        host, colon, port = listen.rpartition(":")
        if not colon or not host or not port.isdecimal() or int(port) > _LAST_PORT:
            raise ListenError(listen, "expected HOST:PORT, for example 127.0.0.1:9003")
        self.patience = patience
        self._app = app
        self._listen = listen
        self._host = host.removeprefix("[").removesuffix("]")
        self._port = int(port)
        self._lock = threading.Lock()
        self._sock: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._running: _Running | None = None
        self._address: tuple[str, int] | None = None

    def __enter__(self) -> Self:
        """Start, unless it has."""
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        """Close."""
        self.close()

    @property
    def url(self) -> str:
        """``http://HOST:PORT`` with the port really bound; empty before :meth:`start`."""
        if self._address is None:
            return ""
        host, port = self._address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def start(self) -> None:
        """Bind, and serve from a thread; returns once requests are answered. Idempotent.

        Raises:
            ListenError: the address cannot be listened on.
        """
        with self._lock:
            if self._thread is not None:
                return
            sock = self._bind()
            try:
                running = _Running(self._app, self.patience)
                thread = threading.Thread(
                    target=running.run, args=(sock,), name="fleetmon-metrics", daemon=True
                )
                thread.start()
            except BaseException:
                sock.close()
                raise
            self._sock, self._running, self._thread = sock, running, thread
            self._address = sock.getsockname()[:2]
            _servers.add(self)
        if not running.started.wait(_START) or running.failed:
            self.close()
            raise ListenError(self._listen, "the server's thread did not come up")

    def call_soon(self, function: Callable[[], object]) -> None:
        """Have the server's loop call a function; nothing happens if it is not serving."""
        running = self._running
        if running is not None:
            running.call_soon(function)

    def close(self) -> None:
        """Stop serving within a few seconds. Idempotent; from any thread but the server's own."""
        with self._lock:
            thread, running, sock = self._thread, self._running, self._sock
            self._thread = self._running = self._sock = None
            self._address = None
            _servers.discard(self)
        if thread is None or running is None or sock is None:
            return
        running.stop()
        thread.join(_CLOSE)
        sock.close()

    def _bind(self) -> socket.socket:
        try:
            found = socket.getaddrinfo(
                self._host, self._port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            family, kind, protocol, _, address = found[0]
            sock = socket.socket(family, kind, protocol)
        except (OSError, OverflowError, UnicodeError) as error:
            raise ListenError(self._listen, _reason(error)) from error
        try:
            # A restart need not wait for old connections; two listeners at once stay refused.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            sock.bind(address)
            sock.listen(_BACKLOG)
            sock.setblocking(False)
        except OSError as error:
            sock.close()
            raise ListenError(self._listen, _reason(error)) from error
        return sock

    def _forget(self) -> None:
        # In a forked child: the thread is not there, the sockets are. They are covered with
        # /dev/null rather than closed, so that no later close() of theirs hits a number that
        # means something else by then; the loop's epoll set is the parent's and stays untouched.
        running, sock = self._running, self._sock
        self._lock = threading.Lock()
        self._thread = self._running = self._sock = self._address = None
        numbers = [] if sock is None else [sock.fileno()]
        if running is not None:
            for connection in list(running.state.connections):
                inner = connection.transport.get_extra_info("socket")
                numbers.append(-1 if inner is None else inner.fileno())
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for number in numbers:
            if number >= 0:
                os.dup2(null, number, inheritable=False)
        os.close(null)


def _after_fork_in_child() -> None:
    for server in list(_servers):
        server._forget()  # noqa: SLF001 - its own module
    _servers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


class _Running:
    """What the thread has, made before it starts and used by it alone but for :meth:`stop`."""

    def __init__(self, app: ASGIApp, patience: float) -> None:
        from fleetmon.telemetry._http import ServerState, protocol_factory

        self.state = ServerState()
        self.started = threading.Event()
        self.failed = False
        self._protocol = protocol_factory(app, patience, self.state)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None

    def run(self, sock: socket.socket) -> None:
        """Serve ``sock`` until :meth:`stop`; the body of the thread."""
        try:
            # a plain loop, whatever policy the host has set
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                runner.run(self._main(sock))
        except BaseException:
            self.failed = True
            raise
        finally:
            self.started.set()

    def stop(self) -> None:
        """Ask the thread to end; from any thread."""
        if self._stop is not None:
            self.call_soon(self._stop.set)

    def call_soon(self, function: Callable[[], object]) -> None:
        """Call a function in the loop; from any thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                self._loop.call_soon_threadsafe(function)

    async def _main(self, sock: socket.socket) -> None:
        # not uvicorn's Server: that one polls ten times a second and speaks on the host's loggers
        self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        server = await self._loop.create_server(self._protocol, sock=sock, backlog=_BACKLOG)
        self.started.set()
        await self._stop.wait()
        # A client just accepted has no protocol yet; CPython 3.11 loses its socket when the server
        # is closed before it has.
        self._loop.remove_reader(sock)
        for _ in range(_ACCEPTING):
            await asyncio.sleep(0)
        server.close()
        for connection in list(self.state.connections):
            connection.shutdown()  # an answer under way may still be finished
        if self.state.tasks:
            await asyncio.wait(self.state.tasks, timeout=_GRACE)
        for connection in list(self.state.connections):
            connection.transport.abort()
