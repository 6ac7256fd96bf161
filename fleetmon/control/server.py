"""Serves the control plane: on a Unix socket that is private from birth, and on TCP if asked to.

It runs as the metrics server does: in a daemon thread with a plain event loop of its own, so that
it answers while the host's loop is blocked. What is a Unix socket's own is here: its mode, its
place, who may connect, and that a fork and a dead process leave nothing that misleads.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import ssl
import struct
import sys
import time
from typing import TYPE_CHECKING

from fleetmon._version import __version__
from fleetmon.control import registry, secrets
from fleetmon.control.app import ControlPlane
from fleetmon.control.protocol import PROTOCOL, ControlError
from fleetmon.control.secrets import CONTROL_TOKEN, WEBHOOK_TOKEN, Token
from fleetmon.errors import ListenError
from fleetmon.telemetry._thread import Listener, ServerThread, bind, parse, url_of

if TYPE_CHECKING:
    from fleetmon.settings import AlertWebhook
    from fleetmon.supervisor import Supervisor

_BACKLOG = 128
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_ANY = ("0.0.0.0", "::")  # noqa: S104 - compared with, not listened on


class ControlServer:
    """The control plane of one supervisor.

    Attributes:
        path: of the socket; empty before :meth:`start`.
        url: where it is served on TCP, empty where it is not.
    """

    def __init__(self, fleet: Supervisor, *, patience: float = 10.0) -> None:
        """Prepare; nothing is bound before :meth:`start`.

        Args:
            fleet: whom to show and to command, as its ``settings.control`` says.
            patience: seconds that a client has to finish a request and to take an answer.
        """
        self.path = ""
        self.url = ""
        self._fleet = fleet
        self._settings = fleet.settings.control
        self._patience = patience
        self._plane = ControlPlane(fleet)
        self._thread: ServerThread | None = None
        self._owner = 0

    def start(self) -> None:
        """Bind, serve, and say so in the registry; removes what dead fleets left there.

        Raises:
            ControlError: no private place for the socket, or no token for TCP.
            ListenError: the TCP address cannot be had.
        """
        if self._thread is not None:
            return
        self._owner = os.getpid()
        listeners: list[Listener] = []
        try:
            if self._settings.listen is not None:
                listeners.append(self._tcp(self._settings.listen))
            if self._settings.enabled:
                listeners.append(self._local())
            self._thread = ServerThread(listeners, patience=self._patience, name="fleetmon-control")
            if self.path:
                self._publish()
        except BaseException as error:
            for listener in listeners:
                listener.sock.close()
            self.close()
            if not isinstance(error, OSError) or isinstance(error, ListenError):
                raise
            message = f"the control plane cannot be served: {error}"
            raise ControlError(message) from error

    def close(self) -> None:
        """Stop serving and take the files away. Idempotent."""
        path, self.path, self.url = self.path, "", ""
        thread, self._thread = self._thread, None
        if self._owner != os.getpid():
            return  # a forked child: thread and files are the parent's
        if path:
            registry.withdraw(path)  # first: nobody is sent to a server that is on its way out
        if thread is not None:
            # streams say that it is over, within the server's grace
            thread.call_soon(self._plane.hub.over.set)
            thread.stop()

    def _local(self) -> Listener:
        now = self._fleet.snapshot(agents=False)
        path = registry.place(now.name, os.getpid(), now.epoch, self._settings.directory)
        registry.sweep(self._settings.directory)
        sock = _private(path)
        self.path = path
        return Listener(sock, self._plane.app())

    def _publish(self) -> None:
        now = self._fleet.snapshot(agents=False)
        entry = registry.Entry(
            now.name, os.getpid(), now.epoch, __version__, PROTOCOL, self.path, time.time()
        )
        registry.publish(entry)

    def _tcp(self, listen: str) -> Listener:
        settings = self._settings
        token = secrets.find(settings.token, settings.token_file, CONTROL_TOKEN)
        webhook = self._webhook(settings.webhook, token)
        if token is None and webhook is None:
            message = (
                f"the control plane on {listen} wants a token: set control.token, "
                f"control.token_file or {CONTROL_TOKEN}"
            )
            raise ControlError(message)
        tls = _context(settings.tls_cert, settings.tls_key)
        host, _ = parse(listen)
        names = {*settings.hosts, *_LOOPBACK}
        if host not in _ANY:
            names.add(host)
        sock = bind(listen)
        self.url = url_of(sock, "http" if tls is None else "https")
        # with the webhook's token alone, all but the webhook is closed to everybody
        app = self._plane.app(hosts=names, token=Token(token), webhook=webhook)
        return Listener(sock, app, tls)

    def _webhook(
        self, settings: AlertWebhook, other: str | None
    ) -> tuple[AlertWebhook, Token] | None:
        if not settings.enabled:
            return None
        token = secrets.find(settings.token, settings.token_file, WEBHOOK_TOKEN)
        if token is None or token == other:
            message = (
                "Alertmanager's webhook wants a token of its own: set control.webhook.token, "
                f"control.webhook.token_file or {WEBHOOK_TOKEN}"
            )
            raise ControlError(message)
        return settings, Token(token)


def _context(cert: str | None, key: str | None) -> ssl.SSLContext | None:
    if cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(cert, key)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        message = f"control.tls_cert={cert!r}, control.tls_key={key!r}: {reason}"
        raise ControlError(message) from error
    return context


def _private(path: str) -> socket.socket:
    sock = _OwnersOnly(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # On Linux the file gets the mode that the socket has before bind(); elsewhere the closed
        # directory stands in until the chmod. Nobody can connect before listen().
        with contextlib.suppress(OSError):
            os.fchmod(sock.fileno(), 0o600)
        sock.bind(path)
        os.chmod(path, 0o600)  # noqa: PTH101 - a strange umask may have taken more
        sock.listen(_BACKLOG)
        sock.setblocking(False)
        sock._keep_one()  # noqa: SLF001 - its own
    except BaseException:
        sock.close()
        raise
    return sock


class _OwnersOnly(socket.socket):
    """Hands out connections of the same user, and of root, who could do anything as it is.

    It keeps a file descriptor in reserve, so that an operator can look at a host that has none
    left.
    """

    _reserve = -1

    def accept(self) -> tuple[socket.socket, object]:
        self._keep_one()
        try:
            sock, address = super().accept()
        except OSError as error:
            if error.errno not in {errno.EMFILE, errno.ENFILE}:
                raise
            # the system looks for a descriptor before it looks for a connection
            waiting = select.poll()
            waiting.register(self, select.POLLIN)
            if not waiting.poll(0):
                raise BlockingIOError from None
            if not self._give_one():
                raise  # the loop tries again in a second
            sock, address = super().accept()
        if not trusted(sock):
            sock.close()
            raise ConnectionAbortedError  # which an event loop takes for "nobody there"
        return sock, address

    def close(self) -> None:
        self._give_one()
        super().close()

    def _keep_one(self) -> None:
        if self._reserve < 0:
            with contextlib.suppress(OSError):
                self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def _give_one(self) -> bool:
        number, self._reserve = self._reserve, -1
        if number >= 0:
            os.close(number)
        return number >= 0


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
