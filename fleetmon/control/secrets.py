"""Tokens: from the settings, a file or the environment, and whether one was given."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from typing import TYPE_CHECKING

from fleetmon.control.problem import ProblemError
from fleetmon.control.protocol import ControlError

if TYPE_CHECKING:
    from pydantic import SecretStr
    from starlette.requests import Request

CONTROL_TOKEN = "FLEETMON_CONTROL_TOKEN"  # noqa: S105 - the variable's name
"""Environment variable with the token of the control plane on TCP."""

WEBHOOK_TOKEN = "FLEETMON_WEBHOOK_TOKEN"  # noqa: S105 - the variable's name
"""Environment variable with the token of Alertmanager's webhook."""

_SHORTEST = 8  # characters


class Token:
    """A token that is asked for; compared in constant time, whatever is given."""

    def __init__(self, text: str | None) -> None:
        """Take the token; with ``None`` nobody is admitted."""
        self._digest = _digest(text.encode() if text is not None else secrets.token_bytes(32))

    def check(self, request: Request) -> None:
        """Raise 401, the same whatever is wrong, unless the request carries the token."""
        told = request.headers.getlist("authorization")
        given = told[0].encode("latin-1", "replace") if len(told) == 1 else b""
        scheme, _, word = given.partition(b" ")
        same = hmac.compare_digest(_digest(word.strip()), self._digest)
        if not same or scheme.lower() != b"bearer":
            raise ProblemError(
                401, "unauthorized", "unauthorized", headers={"www-authenticate": "Bearer"}
            )


def find(given: SecretStr | None, file: str | None, variable: str) -> str | None:
    """Return a token out of the settings, a file or the environment, in this order.

    Raises:
        ControlError: the file cannot be read, or what is there is too short to be one.
    """
    if given is not None:
        return given.get_secret_value()
    if file is not None:
        try:
            with open(file, encoding="utf-8") as opened:  # noqa: PTH123 - pathlib would cost start-up
                text = opened.read(4096).strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
            raise ControlError(f"token file {file!r}: {reason}") from error
        where = f"token file {file!r}"
    else:
        text = os.environ.get(variable, "").strip()
        if not text:
            return None
        where = variable
    if len(text) < _SHORTEST or not text.isascii() or not text.isprintable() or " " in text:
        message = f"{where} holds no token: {_SHORTEST} ASCII characters at least, without a space"
        raise ControlError(message)
    return text


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()
