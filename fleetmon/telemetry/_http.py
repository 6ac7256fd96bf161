"""The HTTP side of :class:`~fleetmon.telemetry.server.MetricsServer`: uvicorn, made impatient.

Loaded when a server starts, so that programs that serve nothing do not pay for uvicorn.
"""

from __future__ import annotations

import logging
import socket
from email.utils import formatdate
from functools import partial
from typing import TYPE_CHECKING, Any

import h11
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from fleetmon.telemetry.app import ASGIApp

__all__ = ["ServerState", "protocol_factory"]

_CONNECTIONS = 64  # beyond it: 503, so that idle clients cost a bounded amount
_CROWD = 96  # beyond it they are cut at once: file descriptors are the host's
_HEAD = 16 * 1024  # bytes of a request's head
_UNREAD = 64 * 1024  # bytes of a body that may still come once its request was answered
_KEEP_ALIVE = 10  # seconds

# uvicorn's own loggers belong to the host, which may run a uvicorn itself.
_quiet = logging.Logger("fleetmon.metrics.http", logging.CRITICAL + 1)  # noqa: LOG001 - in no tree


class _Config(Config):
    def configure_logging(self) -> None:
        """Leave the host's logging alone."""


class _Impatient(H11Protocol):
    """Cuts clients that do not finish a request, or do not take an answer.

    h11 and uvicorn know a limit between requests only.

    Attributes:
        patience: seconds for a request.
        answer_patience: seconds for an answer to be taken.
    """

    def __init__(self, patience: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.patience = self.answer_patience = patience
        # for the application: it may give a reader of a stream more time
        self.app_state = {"fleetmon.connection": self}
        self.logger = self.access_logger = _quiet
        self.access_log = False
        self.unread = 0
        self.timers: dict[str, asyncio.TimerHandle] = {}

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > _CROWD:
            transport.abort()
            return
        inner = transport.get_extra_info("socket")
        if inner is not None and inner.family != socket.AF_UNIX:
            # a reader of a stream that has vanished without a word is found out some time
            inner.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._arm("request", self.patience)

    def data_received(self, data: bytes) -> None:
        if self.conn.our_state is h11.DONE and self.conn.their_state is h11.SEND_BODY:
            # answered, and there is still more of what nobody reads: each piece costs to take apart
            self.unread += len(data)
            if self.unread > _UNREAD:
                self.transport.abort()
                return
        else:
            self.unread = 0
        date = formatdate(usegmt=True).encode()
        self.server_state.default_headers = [(b"date", date)]
        super().data_received(data)
        # a request has come when its body has, too
        whole = self.cycle is not None and not self.cycle.more_body
        if whole and not self.cycle.response_complete:
            self._disarm("request")
        elif not self.transport.is_closing():
            self._arm("request", self.patience)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._disarm("request")
        self.answer_patience = self.patience

    def pause_writing(self) -> None:
        super().pause_writing()
        self._arm("answer", self.answer_patience)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._disarm("answer")

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm("request")
        self._disarm("answer")
        super().connection_lost(exc)
        self.app_state = {}
        self._unset_keepalive_if_required()  # which uvicorn leaves armed after an error

    def _arm(self, name: str, seconds: float) -> None:
        if name not in self.timers:
            self.timers[name] = self.loop.call_later(seconds, self.transport.abort)

    def _disarm(self, name: str) -> None:
        timer = self.timers.pop(name, None)
        if timer is not None:
            timer.cancel()


def protocol_factory(
    app: ASGIApp, patience: float, state: ServerState
) -> Callable[[], asyncio.Protocol]:
    """Return what ``loop.create_server`` makes a connection's protocol with."""
    config = _Config(
        app,
        ws="none",
        lifespan="off",
        loop="asyncio",
        interface="asgi3",
        log_config=None,
        proxy_headers=False,
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE,
        h11_max_incomplete_event_size=_HEAD,
    )
    config.load()
    return partial(_Impatient, patience, config=config, server_state=state, app_state={})
