"""Real servers beside a test: on free ports of the loopback, with the shipped files, and ended.

Each server gets a directory of its own, laid out as the shipped files expect it. What is changed in
them is said here and in :mod:`shorten`, and nowhere else.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlencode

import shorten
import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import TracebackType

    from programs import Tool
    from receivers import Receivers

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
SECRETS = {
    "pagerduty_routing_key": "the-routing-key",
    "smtp_password": "the-mail-password",
    "recovery_token": "the-recovery-token",
    "watchdog_token": "the-watchdog-token",
}


def free_port() -> int:
    """Return a port of the loopback that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def request(
    address: str,
    path: str,
    *,
    method: str = "GET",
    body: Any = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 10.0,
) -> tuple[int, str, str]:
    """Return status, body and content type; no proxy of the environment is asked."""
    connection = HTTPConnection(address, timeout=timeout)
    try:
        content = None if body is None else json.dumps(body)
        kind = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method, path, body=content, headers={**kind, **(headers or {})})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer.getheader("Content-Type", "")
    finally:
        connection.close()


def eventually(look: Callable[[], Any], within: float = 30.0) -> Any:
    """Return the first answer that is true; the other side is a program with a clock of its own."""
    pause = threading.Event()
    until = time.monotonic() + within
    while not (answer := look()):
        assert time.monotonic() < until, f"still {answer!r} after {within} s"
        pause.wait(0.1)
    return answer


class Server:
    """A program of this test's own, and its log."""

    def __init__(
        self,
        command: Sequence[str],
        directory: Path,
        *,
        address: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.command = list(command)
        self.environment = dict(environment or {})
        self.directory = directory
        self.address = address
        self.log = directory / "log"
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it, anew if it was stopped."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.directory,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "NO_PROXY": "*", "no_proxy": "*", **self.environment},
            )

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it and wait; harmless twice."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(how)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def ready(self, path: str, within: float = 30.0) -> None:
        """Wait until it answers 200."""

        def look() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, self.log.read_text()[-4000:]
            try:
                return request(self.address, path)[0] == 200
            except OSError:
                return False

        eventually(look, within)


class Prometheus(Server):
    """A real Prometheus with the shipped rules, and its HTTP API."""

    def __init__(
        self,
        tool: Tool,
        directory: Path,
        scrape_configs: Iterable[Mapping[str, Any]] | Callable[[str], Iterable[Mapping[str, Any]]],
        *,
        alertmanagers: Sequence[str] = (),
        factor: float = shorten.FACTOR,
    ) -> None:
        """Lay the directory out.

        Args:
            tool: the program.
            directory: of its own, empty.
            scrape_configs: in place of the shipped ones; intervals are theirs, shortened. May be
                asked for them with its own address.
            alertmanagers: addresses.
            factor: durations are divided by it.
        """
        self.factor = factor
        port = free_port()
        shipped = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
        times = {
            key: shorten.shorter(value, factor) if key in shorten.GLOBAL_KEYS else value
            for key, value in shipped["global"].items()
        }
        # a scrape on a busy machine takes as long as ever: it is given all of its interval
        times["scrape_timeout"] = times["scrape_interval"]
        config = {
            "global": times,
            "rule_files": shipped["rule_files"],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": list(alertmanagers)}]}]},
            "scrape_configs": list(
                scrape_configs(f"127.0.0.1:{port}") if callable(scrape_configs) else scrape_configs
            ),
        }
        (directory / "rules").mkdir(parents=True)
        for path in sorted((DEPLOY / "prometheus" / "rules").glob("*.yml")):
            content = shorten.rules(yaml.safe_load(path.read_text()), factor)
            (directory / "rules" / path.name).write_text(yaml.safe_dump(content))
        self._config = yaml.safe_dump(config)
        (directory / "prometheus.yml").write_text(self._config)
        replaced = {
            "--config.file": str(directory / "prometheus.yml"),
            "--storage.tsdb.path": str(directory / "data"),
            "--web.console.templates": str(DEPLOY / "runbooks"),
        }
        flags = []
        for line in (DEPLOY / "prometheus" / "flags").read_text().splitlines():
            name, _, value = line.partition("=")
            flags.append(f"{name}={replaced.get(name, value)}")
        # kingpin reads flags from a file, as the shipped containers have it do
        (directory / "flags").write_text("\n".join(flags) + "\n")
        super().__init__(
            [
                tool.path,
                f"@{directory / 'flags'}",
                f"--web.listen-address=127.0.0.1:{port}",
                f"--web.external-url=http://127.0.0.1:{port}",
                f"--query.lookback-delta={shorten.shorter('5m', factor)}",
                f"--rules.alert.resend-delay={shorten.shorter('1m', factor)}",
            ],
            directory,
            address=f"127.0.0.1:{port}",
        )
        self.tool = tool

    def __enter__(self) -> Self:
        super().__enter__()
        try:
            self.ready("/-/ready", 60)
        except BaseException:
            self.stop()
            raise
        return self

    def api(self, path: str, **parameters: str) -> Any:
        """Return the data of an answer of the API."""
        status, body, _ = request(self.address, f"/api/v1/{path}?{urlencode(parameters)}")
        answer = json.loads(body)
        assert status == 200, answer
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Return labels and value of each sample."""
        rows = self.api("query", query=expression)["result"]
        return [(row["metric"], float(row["value"][1])) for row in rows]

    def add_rule(self, rule: Mapping[str, str]) -> None:
        """Have a further rule evaluated."""
        group = {"name": "added", "interval": "1s", "rules": [dict(rule)]}
        (self.directory / "rules" / "added.yml").write_text(yaml.safe_dump({"groups": [group]}))
        self._reload()
        eventually(lambda: any(g["name"] == "added" for g in self.api("rules")["groups"]))

    def spoil(self) -> None:
        """Have it read a configuration that it has to refuse."""
        (self.directory / "prometheus.yml").write_text("scrape_configs: nothing that it knows\n")
        self._reload()

    def restore(self) -> None:
        """Have it read what it began with."""
        (self.directory / "rules" / "added.yml").unlink(missing_ok=True)
        (self.directory / "prometheus.yml").write_text(self._config)
        self._reload()

    def _reload(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)

    def alerts(self, state: str = "firing") -> list[dict[str, str]]:
        """Return the labels of the alerts in a state."""
        return [a["labels"] for a in self.api("alerts")["alerts"] if a["state"] == state]


class Alertmanager(Server):
    """A real Alertmanager with the shipped routes, sending to local receivers."""

    def __init__(
        self,
        tool: Tool,
        directory: Path,
        receivers: Receivers,
        *,
        factor: float = shorten.FACTOR,
        change: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        """Lay the directory out.

        Args:
            tool: the program.
            directory: of its own, empty.
            receivers: who gets the messages. Slack's address is in a secret's file already; the
                addresses of PagerDuty, mail server, recovery and watchdog are replaced.
            factor: durations are divided by it.
            change: may change the configuration further, in place.
        """
        port = free_port()
        secrets = directory / "secrets"
        secrets.mkdir(parents=True)
        for name, value in {**SECRETS, "slack_api_url": f"{receivers.url}/slack"}.items():
            (secrets / name).write_text(value)
        shutil.copytree(DEPLOY / "alertmanager" / "templates", directory / "templates")
        text = (DEPLOY / "alertmanager" / "alertmanager.yml").read_text()
        text = text.replace("/etc/alertmanager/secrets", str(secrets))
        config = shorten.routes(yaml.safe_load(text), factor)
        config["global"] |= {
            "pagerduty_url": f"{receivers.url}/pagerduty",
            "smtp_smarthost": receivers.smarthost,
            "smtp_require_tls": False,
        }
        for receiver in config["receivers"]:
            for webhook in receiver.get("webhook_configs", ()):
                webhook["url"] = f"{receivers.url}/{receiver['name']}"
        if change is not None:
            change(config)
        (directory / "alertmanager.yml").write_text(yaml.safe_dump(config))
        super().__init__(
            [
                tool.path,
                f"--config.file={directory / 'alertmanager.yml'}",
                f"--storage.path={directory / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--cluster.listen-address=",
            ],
            directory,
            address=f"127.0.0.1:{port}",
        )
        self.tool = tool

    def __enter__(self) -> Self:
        super().__enter__()
        try:
            self.ready("/-/ready", 60)
        except BaseException:
            self.stop()
            raise
        return self

    def post(self, alerts: Sequence[Mapping[str, Any]]) -> None:
        """Hand alerts in, as Prometheus does."""
        status, body, _ = request(self.address, "/api/v2/alerts", method="POST", body=list(alerts))
        assert status == 200, body

    def active(self) -> set[str]:
        """Return the names of the alerts that fire for it."""
        _, body, _ = request(self.address, "/api/v2/alerts")
        return {alert["labels"]["alertname"] for alert in json.loads(body)}
