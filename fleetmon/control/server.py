"""Serves the control plane on a Unix socket that is private from birth.

It runs as the metrics server does: a daemon thread with a plain event loop of its own, so that it
answers while the host's loop is blocked. What is a Unix socket's own is here: its mode, its place,
who may connect, and that a fork and a dead process leave nothing that misleads.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
import time
from typing import TYPE_CHECKING

from fleetmon._version import __version__
from fleetmon.control import registry
from fleetmon.control.app import control_app
from fleetmon.control.protocol import PROTOCOL, ControlError
from fleetmon.telemetry.server import MetricsServer

if TYPE_CHECKING:
    from fleetmon.control.hub import Hub
    from fleetmon.supervisor import Supervisor

_BACKLOG = 128
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


class ControlServer(MetricsServer):
    """The control plane of one supervisor.

    Attributes:
        path: of the socket; empty before :meth:`start`.
    """

    def __init__(self, fleet: Supervisor, *, patience: float = 10.0) -> None:
        """Prepare; nothing is bound before :meth:`start`.

        Args:
            fleet: whom to show and to command.
            patience: seconds that a client has to finish a request and to take an answer.
        """
        app = control_app(fleet)
        super().__init__(app, "unix:0", patience=patience)
        self._hub: Hub = app.state.hub
        self.path = ""
        self._fleet = fleet
        self._owner = 0

    def start(self) -> None:
        """Bind, serve, and say so in the registry; removes what dead fleets left there.

        Raises:
            ControlError: no private place for the socket.
            ListenError: the socket cannot be had.
        """
        if self.path:
            return
        snapshot = self._fleet.snapshot()
        self.path = self._listen = registry.place(snapshot.name, os.getpid(), snapshot.epoch)
        self._owner = os.getpid()
        registry.sweep()
        try:
            super().start()
            if self._thread is not None:
                self._thread.name = "fleetmon-control"
            registry.publish(
                registry.Entry(
                    snapshot.name,
                    os.getpid(),
                    snapshot.epoch,
                    __version__,
                    PROTOCOL,
                    self.path,
                    time.time(),
                )
            )
        except OSError as error:
            self.close()
            if isinstance(error, ControlError):
                raise
            message = f"the control plane cannot be served at {self._listen}: {error}"
            raise ControlError(message) from error

    def close(self) -> None:
        """Stop serving and take the files away. Idempotent."""
        path, self.path = self.path, ""
        if path and self._owner == os.getpid():
            registry.withdraw(path)  # first: nobody is sent to a server that is on its way out
        self.call_soon(self._hub.over.set)  # streams say that it is over, within the server's grace
        super().close()

    def _bind(self) -> socket.socket:
        sock = _OwnersOnly(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # On Linux the file gets the mode that the socket has before bind(); elsewhere the
            # closed directory stands in until the chmod. Nobody can connect before listen().
            with contextlib.suppress(OSError):
                os.fchmod(sock.fileno(), 0o600)
            sock.bind(self.path)
            os.chmod(self.path, 0o600)  # noqa: PTH101 - a strange umask may have taken more
            sock.listen(_BACKLOG)
            sock.setblocking(False)
        except BaseException:
            sock.close()
            raise
        return sock


class _OwnersOnly(socket.socket):
    """Hands out connections of the same user, and of root, who could do anything as it is."""

    def accept(self) -> tuple[socket.socket, object]:
        sock, address = super().accept()
        if not trusted(sock):
            sock.close()
            raise ConnectionAbortedError  # which an event loop takes for "nobody there"
        return sock, address


def trusted(sock: socket.socket) -> bool:
    """Return whether the process at the other end runs as this user or as root.

    Where the system does not tell (SO_PEERCRED is Linux), directory and mode have to do.
    """
    if not sys.platform.startswith("linux"):
        return True
    try:
        told = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    except OSError:
        return False
    return _CREDENTIALS.unpack(told)[1] in {0, os.geteuid()}
