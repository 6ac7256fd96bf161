"""Who may ask: the checks that stand before every request."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from fleetmon.control.problem import ProblemError
from fleetmon.control.protocol import HOST, VERSION_HEADER, mismatch, understood

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from starlette.requests import Request

_DIGITS = 9  # of a version


class Guard:
    """Admits requests of one listener.

    A browser sends ``Origin``, and a rebound name comes with a ``Host`` of its own: neither is a
    client of ours.
    """

    def __init__(
        self, hosts: Callable[[], Collection[str]] | None = None, token: str | None = None
    ) -> None:
        """Prepare.

        Args:
            hosts: what ``Host`` may be, in lower case; by default what clients on the Unix socket
                send. Asked at each request, since a port may be known late.
            token: what has to come as ``Authorization: Bearer``; ``None`` asks for none.
        """
        self._hosts = hosts or (lambda: (HOST,))
        self._token = None if token is None else token.encode()

    def admit(self, request: Request) -> None:
        """Raise :class:`ProblemError` unless the request may be answered."""
        headers = request.headers
        if self._token is not None:
            check_token(headers.getlist("authorization"), self._token)
        told = [host.lower() for host in headers.getlist("host")]
        hosts = self._hosts()
        if len(told) != 1 or told[0] not in hosts:
            known = " or ".join(sorted(hosts))
            raise ProblemError(403, "foreign_host", f"Host must be {known}")
        if "origin" in headers:
            raise ProblemError(403, "foreign_origin", "requests of web pages are refused")
        version = headers.get(VERSION_HEADER)
        if version is not None:
            if not version.isascii() or not version.isdecimal() or len(version) > _DIGITS:
                raise ProblemError(400, "bad_request", f"{VERSION_HEADER} must be a number")
            if not understood(int(version)):
                raise ProblemError(426, "version", mismatch(int(version), who="the client"))


def check_token(told: list[str], token: bytes) -> None:
    """Raise 401 unless the one ``Authorization`` header carries the token.

    The answer is the same whatever is wrong, and the comparison takes the same time.
    """
    given = told[0].encode("utf-8", "surrogateescape") if len(told) == 1 else b""
    scheme, _, word = given.partition(b" ")
    same = hmac.compare_digest(word.strip(), token)
    if not same or scheme.lower() != b"bearer":
        raise ProblemError(
            401, "unauthorized", "unauthorized", headers={"www-authenticate": "Bearer"}
        )
