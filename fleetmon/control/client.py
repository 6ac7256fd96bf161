"""A small client for a running fleet: :func:`find` it, then :class:`Client`.

Synchronous, one connection for each request, nothing but the standard library. The command line
stands on it; :mod:`fleetmon.control.aclient` is its asynchronous twin.
"""

from __future__ import annotations

import json
import os
import socket
import time
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from fleetmon.control import address, registry, wire
from fleetmon.control.protocol import PROTOCOL, AmbiguousFleetError, NoFleetError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from fleetmon.control.address import Address
    from fleetmon.control.protocol import (
        AgentDetailShape,
        AnswerShape,
        ConfigShape,
        DeadLetterShape,
        EventShape,
        Frame,
        FrameShape,
        HelloShape,
        RetryShape,
        SnapshotShape,
    )

_A = TypeVar("_A", bound="AnswerShape | RetryShape")

PATIENCE = 10.0
"""Seconds for an answer, and between two lines of a stream."""

CLOSED = "it closed the connection, for it ends, has too many, or is another user's"
"""What is said of a socket whose fleet hangs up before it answers."""

_AGAIN = 0.2  # seconds before a command is sent again over a new connection
_LOST = 5  # connections that a command may lose in a row
_PIECE = 64 * 1024
_FULL = 0.02  # seconds before a socket is tried again whose queue was full


def find(
    name: str | None = None, *, directory: str | None = None, but: Collection[int] = ()
) -> registry.Entry:
    """Return the running fleet of that name (or process id), or the only one there is.

    Args:
        name: or process id.
        directory: where fleets were told to put their sockets (``Control.directory``); the usual
            places by default.
        but: process ids of fleets that are not meant.

    Raises:
        NoFleetError: none answers; the sentence says what was found instead.
        AmbiguousFleetError: several do.
    """
    running, trouble = [], registry.unbelieved(directory)
    for entry in registry.entries(directory):
        if entry.pid in but:
            continue
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
        choice = f"fleetmon --fleet {chosen[0].pid}"
        message = f"{len(chosen)} fleets run here: {there}; choose one: {choice}"
        raise AmbiguousFleetError(message, [(e.name, e.pid, e.started_at) for e in chosen])
    if running:
        there = ", ".join(repr(e.name) for e in running)
        message = f"no fleet {name!r} runs here; there is {there}"
        raise NoFleetError(message)
    looked = " and ".join(registry.directories(directory))
    said = f"{'; '.join(trouble)}; " if trouble else ""
    step = "`fleetmon doctor` tells more" if trouble else "start one: fleetmon demo"
    message = f"{said}no fleet runs for this user (looked in {looked}); {step}"
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

    def body(self, hold: float) -> bytes:
        """Return it as a request; ``hold`` is how long the answer may wait, in seconds."""
        return _json({**self._asdict(), "hold": hold})


class Retry(NamedTuple):
    """A dead letter's second chance before it is sent; the same one sent twice is one."""

    task_id: int
    key: str
    agent_id: str | None = None
    epoch: str | None = None
    actor: str = ""
    reason: str = ""

    def body(self, hold: float) -> bytes:
        """Return it as a request; ``hold`` is how long the answer may wait, in seconds."""
        return _json({**self._asdict(), "hold": hold})


def _json(told: Mapping[str, Any]) -> bytes:
    # a command line's argument that came in no encoding has characters that JSON knows not
    there = {k: v for k, v in told.items() if v is not None}
    return json.dumps(there, ensure_ascii=False).encode("utf-8", "replace")


def retry(task_id: int, **how: Any) -> Retry:
    """Return a new retry with a key of its own."""
    return Retry(task_id, os.urandom(16).hex(), **how)


def order(command: str, agent_id: str, **how: Any) -> Order:
    """Return a new order with a key of its own."""
    return Order(command, agent_id, os.urandom(16).hex(), **how)


class Client:
    """Talks to one fleet.

    All methods raise :class:`NoFleetError` when nothing answers, :class:`RequestError` when the
    fleet refuses, and :class:`ControlError` for an answer that makes no sense.

    Attributes:
        address: where it connects to.
    """

    def __init__(
        self,
        where: str,
        *,
        token: str = "",
        tls: ssl.SSLContext | None = None,
        patience: float = PATIENCE,
    ) -> None:
        """Prepare; nothing is opened.

        Args:
            where: path of the fleet's socket (see :func:`find`), ``HOST:PORT`` or a URL.
            token: for TCP.
            tls: how to check the other side of ``https``; the system's authorities by default.
            patience: seconds for an answer, and between two lines of a stream.

        Raises:
            ControlError: ``where`` is no address, or ``token`` no token.
        """
        self.address = address.parse(where)
        self._token = address.checked(token)
        self._tls = tls
        self._patience = patience

    def hello(self) -> HelloShape:
        """Return who answers."""
        return cast("HelloShape", self._json("GET", "/v1/hello"))

    def snapshot(self, *, brief: bool = False) -> SnapshotShape:
        """Return the fleet as it is now.

        Args:
            brief: of a large fleet only the agents that do not run as usual; ``counts`` has all.
                An older fleet sends them all.
        """
        target = "/v1/snapshot?view=brief" if brief else "/v1/snapshot"
        return cast("SnapshotShape", self._json("GET", target))

    def agent(self, name: str) -> AgentDetailShape:
        """Return all there is to know about one agent, by id or alias."""
        return cast("AgentDetailShape", self._json("GET", agent_target(name)))

    def config(self) -> ConfigShape:
        """Return how the fleet is set up, without secrets."""
        return cast("ConfigShape", self._json("GET", "/v1/config"))

    def metrics(self) -> str:
        """Return the metrics as a scrape gets them."""
        return self._whole("GET", "/v1/metrics", None).decode()

    def dead_letters(self) -> list[DeadLetterShape]:
        """Return the tasks that were given up, oldest first."""
        told = self._json("GET", "/v1/dead-letters")
        return cast("list[DeadLetterShape]", told["dead_letters"])

    def stream(
        self,
        since: int | None = None,
        *,
        epoch: str | None = None,
        events: int | None = None,
        rate: float | None = None,
    ) -> Iterator[Frame]:
        """Yield the frames of ``GET /v1/stream``, ``hello`` first; see :mod:`mirror`.

        Args:
            since: rows up to this change are known; ``None`` asks for the whole fleet.
            epoch: the life of the fleet that ``since`` and ``events`` belong to.
            events: those after this number, 0 for all that are kept; ``None``: from now on,
                -1: none at all.
            rate: turns a second, 0.2 to 10; 4 by default.

        Raises:
            NoFleetError: the connection was lost; the frames end with ``end`` otherwise.
        """
        for line in self._lines(stream_target(since, epoch, events, rate)):
            yield cast("Frame", line)

    def events(
        self,
        since: int = 0,
        *,
        epoch: str | None = None,
        follow: bool = True,
        agents: Sequence[str] = (),
        kinds: Sequence[str] = (),
    ) -> Iterator[EventShape | FrameShape]:
        """Yield the lines of a stream of events, ``hello`` first; it ends with ``end``.

        Args:
            since: events after this one; 0 for all that are kept.
            epoch: the life of the fleet that ``since`` belongs to.
            follow: go on with what happens from now.
            agents: of these only, by id.
            kinds: of these kinds only.
        """
        query = [
            ("since", since),
            ("epoch", epoch),
            ("follow", int(follow)),
            *(("agent", agent) for agent in agents),
            *(("kind", kind) for kind in kinds),
        ]
        for line in self._lines(address.target("/v1/events", query)):
            yield cast("EventShape | FrameShape", line)

    def send(self, wanted: Order, *, hold: float = 1.0) -> AnswerShape:
        """Send a command once; the answer may be ``pending``, then send the same order again."""
        return cast("AnswerShape", self._json("POST", "/v1/command", wanted.body(hold)))

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
        return self._stay(lambda hold: self.send(wanted, hold=hold), limit, waiting)

    def retry(
        self,
        wanted: Retry,
        *,
        limit: float = 30.0,
        waiting: Callable[[RetryShape], object] | None = None,
    ) -> RetryShape:
        """Have a dead letter run again and stay until it has ended; as :meth:`command`."""

        def send(hold: float) -> RetryShape:
            told = self._json("POST", "/v1/dead-letters/retry", wanted.body(hold))
            return cast("RetryShape", told)

        return self._stay(send, limit, waiting)

    def _stay(
        self, send: Callable[[float], _A], limit: float, waiting: Callable[[_A], object] | None
    ) -> _A:
        until = time.monotonic() + limit
        lost = 0
        while True:
            left = until - time.monotonic()
            try:
                answer = send(max(0.0, min(1.0, left)))
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

    def _lines(self, target: str) -> Iterator[dict[str, Any]]:
        lines = wire.Lines(wire.quickest())
        for piece in self._pieces("GET", target, None):
            for line in lines.feed(piece):
                if line.get("type") == "hello":
                    wire.check(line.get("protocol"))
                yield line

    def _json(self, method: str, target: str, body: bytes | None = None) -> dict[str, Any]:
        told = wire.parsed(self._whole(method, target, body))
        wire.check(told.get("protocol", PROTOCOL))
        return told

    def _whole(self, method: str, target: str, body: bytes | None) -> bytes:
        return b"".join(self._pieces(method, target, body))

    def _pieces(self, method: str, target: str, body: bytes | None) -> Iterator[bytes]:
        """Yield the body of an answer as it comes; one that refuses is raised."""
        answer = wire.Answer()
        refused = bytearray()
        try:
            with self._connected() as sock:
                sock.sendall(wire.request(method, target, self.address.headers(self._token), body))
                while not answer.done:
                    data = sock.recv(_PIECE)
                    piece = answer.feed(data)
                    if not data:
                        answer.close()
                    if answer.head is not None and answer.head.status >= 400:  # noqa: PLR2004 - a refusal
                        refused += piece
                    elif piece:
                        yield piece
        except (OSError, UnicodeError) as error:  # of a name that is none
            raise gone(error, self.address, self._patience) from error
        if answer.head is not None and answer.head.status >= 400:  # noqa: PLR2004 - a refusal
            raise wire.refuse(answer.head.status, bytes(refused))

    def _connected(self) -> socket.socket:
        where = self.address
        if not where.path:
            sock = socket.create_connection((where.host, where.port), timeout=self._patience)
            return self._encrypted(sock) if where.tls else sock
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(self._patience)
            self._connect(sock)
        except BaseException:
            sock.close()
            raise
        return sock

    def _connect(self, sock: socket.socket) -> None:
        until = time.monotonic() + self._patience
        while True:
            try:
                sock.connect(self.address.path)
            except BlockingIOError:  # more wait already than the system lets
                if time.monotonic() >= until:
                    raise TimeoutError from None
                time.sleep(_FULL)
            else:
                return

    def _encrypted(self, sock: socket.socket) -> socket.socket:
        import ssl  # a third of the start-up of a command that needs none

        try:
            context = self._tls or ssl.create_default_context()
            return context.wrap_socket(sock, server_hostname=self.address.host)
        except BaseException:
            sock.close()
            raise


def gone(error: Exception, where: Address, patience: float) -> NoFleetError:
    """Return one sentence for a connection that was not there, or was lost."""
    if isinstance(error, TimeoutError):
        return NoFleetError(f"the fleet at {where} does not answer within {patience:g} s")
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    if where.path and isinstance(error, ConnectionResetError | BrokenPipeError):
        reason = CLOSED
    return NoFleetError(f"no fleet answers at {where}: {reason}")


def agent_target(name: str) -> str:
    """Return the target of one agent."""
    return f"/v1/agents/{address.segment(name)}"


def stream_target(
    since: int | None,
    epoch: str | None,
    events: int | None,
    rate: float | None,
    *,
    ticks: bool = False,
) -> str:
    """Return the target of a stream; see :meth:`Client.stream`."""
    told = "none" if events is not None and events < 0 else events
    query = [("since", since), ("epoch", epoch), ("events", told), ("rate", rate)]
    if ticks:
        query.append(("ticks", 1))
    return address.target("/v1/stream", query)
