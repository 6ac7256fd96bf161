"""A small client for a running fleet: :func:`find` it, then :class:`Client`.

Synchronous, one connection for each request, nothing but the standard library. Command line and
dashboard stand on it.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import time
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from fleetmon.control import registry
from fleetmon.control.protocol import (
    HOST,
    PROTOCOL,
    VERSION_HEADER,
    AmbiguousFleetError,
    ControlError,
    NoFleetError,
    RequestError,
    mismatch,
    understood,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fleetmon.control.protocol import (
        AgentShape,
        AnswerShape,
        EventShape,
        FrameShape,
        SnapshotShape,
    )

_PATIENCE = 10.0  # seconds for an answer, and between two lines of a stream
_AGAIN = 0.2  # seconds before a command is sent again over a new connection
_LOST = 5  # connections that a command may lose in a row
_GONE = (OSError, http.client.HTTPException)


def find(name: str | None = None) -> registry.Entry:
    """Return the running fleet of that name (or process id), or the only one there is.

    Raises:
        NoFleetError: none answers; the sentence says what was found instead.
        AmbiguousFleetError: several do.
    """
    running, trouble = [], []
    for entry in registry.entries():
        try:
            if registry.alive(entry):
                running.append(entry)
            else:
                trouble.append(f"fleet {entry.name!r} (process {entry.pid}) died, its files stayed")
        except OSError as error:
            trouble.append(f"fleet {entry.name!r} (process {entry.pid}): {error.strerror}")
    chosen = running if name is None else [e for e in running if name in (e.name, str(e.pid))]
    if len(chosen) == 1:
        return chosen[0]
    if chosen:
        there = ", ".join(f"{e.name} (process {e.pid})" for e in chosen)
        message = f"{len(chosen)} fleets run here: {there}; choose one by name or process id"
        raise AmbiguousFleetError(message)
    if running:
        there = ", ".join(repr(e.name) for e in running)
        message = f"no fleet {name!r} runs here; there is {there}"
        raise NoFleetError(message)
    looked = " and ".join(registry.directories())
    said = f"{'; '.join(trouble)}; " if trouble else ""
    message = f"{said}no fleet runs for this user (looked in {looked}); start one: fleetmon demo"
    raise NoFleetError(message)


class Order(NamedTuple):
    """A command before it is sent; the same order sent twice is carried out once."""

    command: str
    agent_id: str
    key: str
    epoch: str | None = None
    actor: str = ""
    reason: str = ""
    wait: bool = False
    timeout: float | None = None
    generation: int | None = None


def order(command: str, agent_id: str, **how: Any) -> Order:
    """Return a new order with a key of its own."""
    return Order(command, agent_id, os.urandom(16).hex(), **how)


class Client:
    """Talks to one fleet.

    All methods raise :class:`NoFleetError` when nothing answers, :class:`RequestError` when the
    fleet refuses, and :class:`ControlError` for an answer that makes no sense.
    """

    def __init__(self, path: str, *, patience: float = _PATIENCE) -> None:
        """Prepare; nothing is opened.

        Args:
            path: of the fleet's socket; see :func:`find`.
            patience: seconds for an answer, and between two lines of a stream.
        """
        self.path = path
        self._patience = patience

    def snapshot(self) -> SnapshotShape:
        """Return the fleet as it is now."""
        return cast("SnapshotShape", self._json("GET", "/v1/snapshot"))

    def agent(self, name: str) -> AgentShape:
        """Return one agent by id or alias."""
        from urllib.parse import quote

        return cast("AgentShape", self._json("GET", f"/v1/agents/{quote(name, safe='')}"))

    def dead_letters(self) -> list[dict[str, Any]]:
        """Return the tasks that were given up, oldest first."""
        return cast("list[dict[str, Any]]", self._json("GET", "/v1/dead-letters")["dead_letters"])

    def events(
        self, since: int = 0, *, epoch: str | None = None, follow: bool = True
    ) -> Iterator[EventShape | FrameShape]:
        """Yield the lines of a stream, ``hello`` first; it ends with ``end``.

        Args:
            since: events after this one; 0 for all that are kept.
            epoch: the life of the fleet that ``since`` belongs to.
            follow: go on with what happens from now.
        """
        life = "" if epoch is None else f"&epoch={epoch}"
        target = f"/v1/events?since={since}{life}&follow={int(follow)}"
        connection = _Connection(self.path, self._patience)
        try:
            answer = self._send(connection, "GET", target, None)
            for text in answer:
                line = _parsed(text)
                if line.get("type") == "hello":
                    _check(line.get("protocol"))
                yield cast("EventShape | FrameShape", line)
        except _GONE as error:
            raise NoFleetError(self._gone(error)) from error
        finally:
            connection.close()

    def send(self, wanted: Order, *, hold: float = 1.0) -> AnswerShape:
        """Send a command once; the answer may be ``pending``, then send the same order again."""
        body = {k: v for k, v in wanted._asdict().items() if v is not None}
        return cast("AnswerShape", self._json("POST", "/v1/command", {**body, "hold": hold}))

    def command(
        self,
        wanted: Order,
        *,
        limit: float = 30.0,
        waiting: Callable[[AnswerShape], object] | None = None,
    ) -> AnswerShape:
        """Send a command and stay until it is answered, also across lost connections.

        Args:
            wanted: see :func:`order`.
            limit: seconds; what is ``pending`` then is returned so, and still goes on.
            waiting: called with every ``pending`` answer.
        """
        until = time.monotonic() + limit
        lost = 0
        while True:
            left = until - time.monotonic()
            try:
                answer = self.send(wanted, hold=max(0.0, min(1.0, left)))
            except NoFleetError:
                lost += 1
                if lost > _LOST or left <= 0:
                    raise
                time.sleep(_AGAIN)
                continue
            lost = 0
            if answer["result"] != "pending" or time.monotonic() >= until:
                return answer
            if waiting is not None:
                waiting(answer)

    def _json(self, method: str, target: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        connection = _Connection(self.path, self._patience)
        try:
            told = _parsed(self._send(connection, method, target, body).read())
        except _GONE as error:
            raise NoFleetError(self._gone(error)) from error
        finally:
            connection.close()
        _check(told.get("protocol", PROTOCOL))
        return told

    def _send(
        self, connection: _Connection, method: str, target: str, body: dict[str, Any] | None
    ) -> http.client.HTTPResponse:
        headers = {"Host": HOST, VERSION_HEADER: str(PROTOCOL)}
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        connection.request(method, target, data, headers)
        answer = connection.getresponse()
        if answer.status < 400:  # noqa: PLR2004
            return answer
        text = answer.read()
        try:
            told = _parsed(text)
        except ControlError:
            told = {}
        _check(told.get("protocol", PROTOCOL))
        said = told.get("message") or f"the fleet answers with HTTP status {answer.status}"
        raise RequestError(str(said), code=str(told.get("code", "")), status=answer.status)

    def _gone(self, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            return f"the fleet at {self.path} does not answer within {self._patience:g} s"
        reason = getattr(error, "strerror", None) or type(error).__name__
        return f"no fleet answers at {self.path}: {reason}"


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str, patience: float) -> None:
        super().__init__(HOST, timeout=patience)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket instead of a port."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(self.timeout)
            sock.connect(self._path)
        except BaseException:
            sock.close()
            raise
        self.sock = sock


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        told = json.loads(text)
    except ValueError:
        told = None
    if not isinstance(told, dict):
        message = f"the answer is not fleetmon's: {text[:60]!r}"
        raise ControlError(message)
    return told


def _check(version: Any) -> None:
    if not isinstance(version, int) or not understood(version):
        other = version if isinstance(version, int) else 0
        raise RequestError(mismatch(other, who="the fleet"), code="version", status=426)
