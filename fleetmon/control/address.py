"""Where a fleet is reached: a socket of this machine, or a host and port with a token."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fleetmon.control.protocol import HOST, PROTOCOL, VERSION_HEADER, ControlError

if TYPE_CHECKING:
    from collections.abc import Iterable

_LAST_PORT = 65535
_LABEL = 63  # characters between two dots of a name


class Address(NamedTuple):
    """A place to connect to.

    Attributes:
        path: of a Unix socket; empty for TCP.
        host: for TCP.
        port: for TCP.
        tls: whether TCP is encrypted.
    """

    path: str
    host: str = ""
    port: int = 0
    tls: bool = False

    def __str__(self) -> str:
        """Return it as one would write it."""
        if self.path:
            return self.path
        return f"{'https' if self.tls else 'http'}://{self.authority}"

    @property
    def authority(self) -> str:
        """What goes into the ``Host`` header."""
        if self.path:
            return HOST
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def headers(self, token: str) -> dict[str, str]:
        """Return what every request carries."""
        told = {"Host": self.authority, VERSION_HEADER: str(PROTOCOL)}
        if token:
            told["Authorization"] = f"Bearer {token}"
        return told


def parse(where: str) -> Address:
    """Return the address of ``unix:PATH``, an absolute path, ``HOST:PORT`` or a URL.

    Raises:
        ControlError: it is none of these.
    """
    if where.startswith(("unix:", "/")):
        path = where.removeprefix("unix:").removeprefix("//")
        if path:
            return Address(path)
    scheme, mark, rest = where.partition("://")
    if not mark:
        scheme, rest = "http", where
    host, colon, port = rest.rstrip("/").rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    strange = any(c in "/@?#" or c.isspace() for c in bare) or not all(
        0 < len(label) <= _LABEL for label in bare.removesuffix(".").split(".")
    )
    if scheme not in {"http", "https"} or strange or not colon or not _port(port):
        message = (
            f"{where!r} is no address of a fleet; give unix:PATH, HOST:PORT or https://HOST:PORT"
        )
        raise ControlError(message)
    return Address("", bare, int(port), scheme == "https")


def checked(token: str) -> str:
    """Return a token, stripped; raises :class:`ControlError` if it cannot be one."""
    token = token.strip()
    if not token.isascii() or not token.isprintable() or " " in token:
        message = "a token is ASCII characters without a space; this one is not"
        raise ControlError(message)
    return token


def target(path: str, query: Iterable[tuple[str, object]]) -> str:
    """Return a request's target; values that are ``None`` are left out."""
    told = "&".join(f"{k}={segment(str(v))}" for k, v in query if v is not None)
    return f"{path}?{told}" if told else path


def segment(text: str) -> str:
    """Return text as one segment of a target's path."""
    from urllib.parse import quote  # only for who names an agent

    # what a command line got in no encoding is passed on as it came, and found to be nobody's name
    return quote(text, safe="", errors="surrogateescape")


def _port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and 0 < int(text) <= _LAST_PORT
