"""Local stand-ins for PagerDuty, Slack, mail and webhooks, for a real Alertmanager to send to."""

from __future__ import annotations

import base64
import json
import re
import socketserver
import threading
import time
from dataclasses import dataclass, field
from email import message_from_bytes
from email.policy import default as modern
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WAYS = ("pagerduty", "slack", "email", "recovery", "watchdog")


@dataclass(frozen=True)
class Message:
    """What arrived.

    Attributes:
        at: monotonic clock, seconds.
        way: one of :data:`WAYS`.
        firing: or resolved.
        alert: its name.
        text: all of it, for a look at labels and links.
        body: as data.
        authorization: what the sender showed.
    """

    at: float
    way: str
    firing: bool
    alert: str
    text: str
    body: Any = field(repr=False, default=None)
    authorization: str = ""


class Receivers:
    """Both servers, on free ports of the loopback; what came, in order."""

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._messages: list[Message] = []
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self._smtp = socketserver.ThreadingTCPServer(("127.0.0.1", 0), self._mail_handler())
        self._smtp.daemon_threads = True
        self.refuse: set[str] = set()
        """Ways that answer with an error for now."""
        self._threads = [
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
            for server in (self._http, self._smtp)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    @property
    def smarthost(self) -> str:
        return f"127.0.0.1:{self._smtp.server_address[1]}"

    def close(self) -> None:
        for server in (self._http, self._smtp):
            server.shutdown()
            server.server_close()
        for thread in self._threads:
            thread.join(5)

    def all(self) -> list[Message]:
        with self._lock:
            return list(self._messages)

    def put(self, message: Message) -> None:
        with self._lock:
            self._messages.append(message)
            self._lock.notify_all()

    def wait(self, look: Any, within: float) -> Any:
        """Return ``look(messages)`` as soon as it is true, or its last answer."""
        until = time.monotonic() + within
        with self._lock:
            while not (found := look(self._messages)):
                left = until - time.monotonic()
                if left <= 0 or not self._lock.wait(left):
                    return look(self._messages)
            return found

    # -- HTTP ------------------------------------------------------------------------------------

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receivers = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the one it stands for
                """Say nothing."""

            def do_POST(self) -> None:
                at = time.monotonic()
                raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                way = self.path.strip("/").split("/")[0]
                if way in receivers.refuse:
                    self._answer(403, b"{}")
                    return
                for message in parse(
                    way, json.loads(raw), at, self.headers.get("Authorization", "")
                ):
                    receivers.put(message)
                if way == "pagerduty":
                    self._answer(202, b'{"status":"success","message":"Event processed"}')
                else:
                    self._answer(200, b"ok")

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        return Handler

    # -- SMTP ------------------------------------------------------------------------------------

    def _mail_handler(self) -> type[socketserver.StreamRequestHandler]:
        receivers = self

        class Handler(socketserver.StreamRequestHandler):
            def say(self, line: str) -> None:
                self.wfile.write(line.encode() + b"\r\n")

            def handle(self) -> None:
                login = ""
                self.say("220 localhost ready")
                while line := self.rfile.readline():
                    word = line.strip().decode()
                    verb = word[:4].upper()
                    if verb == "EHLO":
                        self.say("250-localhost")
                        self.say("250 AUTH PLAIN")
                    elif verb == "AUTH":
                        login = base64.b64decode(word.split()[-1]).decode()
                        self.say("235 in")
                    elif verb == "DATA":
                        self.say("354 go on")
                        data = b""
                        while (part := self.rfile.readline()) not in {b".\r\n", b""}:
                            data += part.removeprefix(b".")
                        receivers.put(mail(data, login))
                        self.say("250 taken")
                    elif verb == "QUIT":
                        self.say("221 bye")
                        return
                    else:
                        self.say("250 well")

        return Handler


def parse(way: str, body: dict[str, Any], at: float, authorization: str) -> list[Message]:
    """Return the messages of one request."""
    text = json.dumps(body, ensure_ascii=False)
    if way == "pagerduty":
        firing = body["event_action"] == "trigger"
        return [Message(at, way, firing, body["payload"]["class"], text, body, authorization)]
    if way == "slack":
        title = body["attachments"][0]["title"]
        status, alert = title_of(title)
        return [Message(at, way, status == "FIRING", alert, text, body, authorization)]
    return [
        Message(
            at,
            way,
            alert["status"] == "firing",
            alert["labels"]["alertname"],
            json.dumps(alert, ensure_ascii=False),
            body,
            authorization,
        )
        for alert in body["alerts"]
    ]


def mail(data: bytes, login: str) -> Message:
    """Return one mail as a message."""
    parsed = message_from_bytes(data, policy=modern)
    status, alert = title_of(str(parsed["Subject"]))
    content = parsed.get_body(("plain",))
    text = f"{parsed['Subject']}\n{content.get_content() if content else ''}"
    return Message(time.monotonic(), "email", status == "FIRING", alert, text, None, login)


def title_of(title: str) -> tuple[str, str]:
    """Return status and name of an alert out of the shipped template's title."""
    found = re.match(r"\[(FIRING|RESOLVED)(?::\d+)?\] (\w+)", title)
    assert found, title
    return found[1], found[2]
