"""Serves an ASGI application from a daemon thread with an event loop of its own.

So ``/metrics`` still answers while the host's loop is blocked.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING, Self

from fleetmon.errors import ListenError
from fleetmon.telemetry._thread import Listener, ServerThread, bind, parse, url_of

if TYPE_CHECKING:
    from fleetmon.telemetry.app import ASGIApp

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
        parse(listen)
        self.patience = patience
        self._app = app
        self._listen = listen
        self._lock = threading.Lock()
        self._thread: ServerThread | None = None
        self._url = ""

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
        return self._url

    def start(self) -> None:
        """Bind, and serve from a thread; returns once requests are answered. Idempotent.

        Raises:
            ListenError: the address cannot be listened on.
        """
        with self._lock:
            if self._thread is not None:
                return
            sock = bind(self._listen)
            url = url_of(sock)
            try:
                self._thread = ServerThread(
                    [Listener(sock, self._app)], patience=self.patience, name="fleetmon-metrics"
                )
            except OSError as error:
                raise ListenError(self._listen, str(error)) from error
            self._url = url
            _servers.add(self)

    def close(self) -> None:
        """Stop serving within a few seconds. Idempotent; from any thread but the server's own."""
        with self._lock:
            thread, self._thread, self._url = self._thread, None, ""
            _servers.discard(self)
        if thread is not None:
            thread.stop()

    def _forget(self) -> None:
        # in a forked child: the thread stayed with the parent, and so may have the lock
        self._lock = threading.Lock()
        self._thread, self._url = None, ""


def _after_fork_in_child() -> None:
    for server in list(_servers):
        server._forget()  # noqa: SLF001 - its own module
    _servers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
