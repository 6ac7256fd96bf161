"""A daemon thread with an event loop of its own, in which applications are served.

So they still answer while the host's loop is blocked. uvicorn is loaded when the first thread
starts and not before; sockets are bound by the caller, so that a port in use is the caller's error,
and neither signals nor loggers of the host are touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import threading
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from fleetmon.errors import ListenError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence

    from fleetmon.telemetry.app import ASGIApp

BACKLOG = 128

_GRACE = 1.0  # seconds that answers under way get at the end
_LAST_PORT = 65535  # getaddrinfo takes larger ones, modulo
_ACCEPTING = 5  # turns of the loop from accept() to connection_made()
_START = 10.0  # seconds for the thread to come up
_STOP = 3.0  # seconds for it to end

_threads: weakref.WeakSet[ServerThread] = weakref.WeakSet()


class Listener(NamedTuple):
    """A bound socket, what is served there, and with which certificate."""

    sock: socket.socket
    app: ASGIApp
    tls: ssl.SSLContext | None = None


class ServerThread:
    """Serves some listeners, all in one loop, until it is stopped."""

    def __init__(self, listeners: Sequence[Listener], *, patience: float, name: str) -> None:
        """Start; returns once requests are answered. The sockets are closed at the end.

        Args:
            listeners: what to serve where.
            patience: seconds that a client has to finish sending a request, and to take what was
                sent to it, before its connection is cut.
            name: of the thread.

        Raises:
            OSError: the thread did not come up.
        """
        self._sockets = [listener.sock for listener in listeners]
        try:
            self._prepare(listeners, patience)
            self._thread = threading.Thread(target=self._run, name=name, daemon=True)
            self._thread.start()
        except BaseException:
            self._close_sockets()
            raise
        _threads.add(self)
        if not self._started.wait(_START) or self._failed:
            self.stop()
            message = "the server's thread did not come up"
            raise OSError(message)

    def _prepare(self, listeners: Sequence[Listener], patience: float) -> None:
        from fleetmon.telemetry._http import ServerState, protocol_factory

        # a state each: clients of one listener must not use up the connections of another
        self._states = [ServerState() for _ in listeners]
        self._protocols = [
            protocol_factory(x.app, patience, state)
            for x, state in zip(listeners, self._states, strict=True)
        ]
        self._tls = [listener.tls for listener in listeners]
        self._patience = patience
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._failed = False
        self._started = threading.Event()

    @property
    def connections(self) -> list[asyncio.Transport]:
        """Transports of the present connections; for its own loop."""
        return [c.transport for state in self._states for c in list(state.connections)]

    def stop(self) -> None:
        """End within a few seconds; from any thread but its own."""
        _threads.discard(self)
        if self._stop is not None:
            self.call_soon(self._stop.set)
        self._thread.join(_STOP)
        self._close_sockets()

    def call_soon(self, function: Callable[[], object]) -> None:
        """Have the loop call a function; from any thread. Nothing happens once it is closed."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(function)

    def forget(self) -> None:
        """In a forked child: the thread is not there, the sockets are.

        They are covered with /dev/null rather than closed, so that no later close() of theirs hits
        a number that means something else by then; the loop's epoll set is the parent's and stays
        untouched.
        """
        numbers = [sock.fileno() for sock in self._sockets]
        for transport in self.connections:
            inner = transport.get_extra_info("socket")
            numbers.append(-1 if inner is None else inner.fileno())
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for number in numbers:
            if number >= 0:
                os.dup2(null, number, inheritable=False)
        os.close(null)

    def _close_sockets(self) -> None:
        for sock in self._sockets:
            sock.close()

    def _run(self) -> None:
        try:
            # a plain loop, whatever policy the host has set
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                runner.run(self._main())
        except BaseException:
            self._failed = True
            raise
        finally:
            self._started.set()

    async def _main(self) -> None:
        # not uvicorn's Server: that one polls ten times a second and speaks on the host's loggers
        stop = self._stop = asyncio.Event()
        loop = self._loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._told)
        servers = [
            await loop.create_server(
                protocol,
                sock=sock,
                ssl=tls,
                ssl_handshake_timeout=None if tls is None else self._patience,
                ssl_shutdown_timeout=None if tls is None else _GRACE,
                backlog=BACKLOG,
            )
            for protocol, sock, tls in zip(self._protocols, self._sockets, self._tls, strict=True)
        ]
        self._started.set()
        await stop.wait()
        # A client just accepted has no protocol yet; CPython 3.11 loses its socket when the server
        # is closed before it has.
        for sock in self._sockets:
            loop.remove_reader(sock)
        for _ in range(_ACCEPTING):
            await asyncio.sleep(0)
        for server in servers:
            server.close()
        for state in self._states:
            for connection in list(state.connections):
                connection.shutdown()  # an answer under way may still be finished
        tasks = [task for state in self._states for task in state.tasks]
        if tasks:
            await asyncio.wait(tasks, timeout=_GRACE)
        for transport in self.connections:
            transport.abort()

    def _told(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in {errno.EMFILE, errno.ENFILE}:
            return  # once a second, with a traceback, until the host has descriptors again
        if isinstance(error, ValueError) and self._stop is not None and self._stop.is_set():
            return  # the second is over, and the listener is closed by now
        loop.default_exception_handler(context)


def parse(listen: str) -> tuple[str, int]:
    """Return host and port of ``HOST:PORT``, IPv6 as ``[::1]:9003``.

    Raises:
        ListenError: it is no address.
    """
    host, colon, port = listen.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > _LAST_PORT:
        raise ListenError(listen, "expected HOST:PORT, for example 127.0.0.1:9003")
    return host.removeprefix("[").removesuffix("]"), int(port)


def bind(listen: str) -> socket.socket:
    """Return a socket that listens at ``HOST:PORT``; port 0 takes a free one.

    Raises:
        ListenError: it is no address, or cannot be had.
    """
    host, port = parse(listen)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        sock = socket.socket(family, kind, protocol)
    except (OSError, OverflowError, UnicodeError) as error:
        raise ListenError(listen, _reason(error)) from error
    try:
        # A restart need not wait for old connections; two listeners at once stay refused.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(address)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise ListenError(listen, _reason(error)) from error
    return sock


def url_of(sock: socket.socket, scheme: str = "http") -> str:
    """Return ``http://HOST:PORT`` with the port really bound."""
    host, port = sock.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _after_fork_in_child() -> None:
    for thread in list(_threads):
        thread.forget()
    _threads.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
