"""Who may ask: the checks that stand before every request of one listener."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request

from fleetmon.control.problem import ProblemError, problem
from fleetmon.control.protocol import HOST, VERSION_HEADER, mismatch, understood

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from starlette.types import ASGIApp, Receive, Scope, Send

    from fleetmon.control.secrets import Token

_DIGITS = 9  # of a version


class Guard:
    """Stands before an application, and before what it says of pages that are not there.

    A browser sends ``Origin``, and a rebound name comes with a ``Host`` of its own: neither is a
    client of ours.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: Collection[str] | None = (HOST,),
        token: Token | None = None,
        own: Mapping[str, Token] | None = None,
    ) -> None:
        """Prepare.

        Args:
            app: what to guard.
            hosts: names that ``Host`` may have, whatever the port; ``None`` for any.
            token: what has to come along; ``None`` asks for none.
            own: tokens of paths that take another one for what is posted there.
        """
        self._app = app
        self._hosts = None if hosts is None else frozenset(host.lower() for host in hosts)
        self._token = token
        self._own = own or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "http":
            try:
                self._admit(Request(scope))
            except ProblemError as error:
                await problem(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _admit(self, request: Request) -> None:
        token = self._token
        if request.method == "POST":
            # the path as it is routed; that of request.url is what a Host header makes of it
            token = self._own.get(request.scope["path"], token)
        if token is not None:
            token.check(request)
        told = request.headers.getlist("host")
        if self._hosts is not None and (len(told) != 1 or _name(told[0]) not in self._hosts):
            known = " or ".join(sorted(self._hosts))
            raise ProblemError(403, "foreign_host", f"Host must be {known}")
        if "origin" in request.headers:
            raise ProblemError(403, "foreign_origin", "requests of web pages are refused")
        version = request.headers.get(VERSION_HEADER)
        if version is not None:
            if not version.isascii() or not version.isdecimal() or len(version) > _DIGITS:
                raise ProblemError(400, "bad_request", f"{VERSION_HEADER} must be a number")
            if not understood(int(version)):
                raise ProblemError(426, "version", mismatch(int(version), who="the client"))


def _name(host: str) -> str:
    name, colon, port = host.strip().lower().rpartition(":")
    if not colon or not port.isdecimal():
        name = host.strip().lower()
    return name.removeprefix("[").removesuffix("]")
