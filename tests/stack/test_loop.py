"""The loop closes: from an agent in quarantine, over an alert, to the command that recovers it.

The fleet is the demonstration with its own webhook on TCP; its fault is that somebody keeps killing
the worker process of one agent, until its restarts are spent.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import programs
import pytest
from conftest import VERSIONS, need
from receivers import Receivers
from running import SECRETS, Alertmanager, Prometheus, Server, eventually, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proof import Table

# The demonstration has the second work in a process of its own.
VICTIM = "TWO"
ROSTER = """
name = "Loop"

[tiers]
1 = "All"
""" + "".join(
    f"""
[[agents]]
id = "{name}"
number = {number}
tier = 1
field = "whatever there is"
[agents.spec]
intensity = {{ max_restarts = 2, period = 600 }}
quarantine = {{ probe_interval = 3600 }}
"""
    for number, name in enumerate(("ONE", VICTIM, "THREE", "FOUR"), 1)
)
DELIVERIES = 3


class Demo(Server):
    """``fleetmon demo`` with its control plane on TCP, and the commands that ask it."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        (directory / "roster.toml").write_text(ROSTER)
        self.metrics = f"127.0.0.1:{free_port()}"
        self.control = f"127.0.0.1:{free_port()}"
        super().__init__(
            [
                *(sys.executable, "-m", "fleetmon", "demo", "--agents", "roster.toml"),
                *("--metrics", self.metrics),
            ],
            directory,
            address=self.metrics,
            environment={
                "FLEETMON_CONTROL": self.control,
                "FLEETMON_CONTROL_HOSTS": "fleet.example",
                "FLEETMON_CONTROL_TOKEN": "the-token-of-the-operators",
                "FLEETMON_WEBHOOK_TOKEN": SECRETS["recovery_token"],
            },
        )

    def __enter__(self) -> Self:
        super().__enter__()
        self.ready("/readyz", 90)
        return self

    def ask(self, *arguments: str) -> str:
        """Return what ``fleetmon`` says about it, over its control plane."""
        done = subprocess.run(
            [sys.executable, "-m", "fleetmon", "--url", f"http://{self.control}", *arguments],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def state(self, agent: str) -> str:
        """Return the state that an agent is in."""
        agents = json.loads(self.ask("agents", "--json"))["agents"]
        return next(row["lifecycle"] for row in agents if row["agent_id"] == agent)

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Return all events of a kind."""
        lines = self.ask("events", "--jsonl", "--kind", kind).splitlines()
        return [event for line in lines if (event := json.loads(line))["kind"] == kind]

    def workers(self) -> list[int]:
        """Return the ids of its worker processes."""
        assert self.process is not None
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
        children = [int(c) for task in tasks for c in (task / "children").read_text().split()]
        command = "fleetmon.runtime.executors.worker"
        return [
            child for child in children if command in Path(f"/proc/{child}/cmdline").read_text()
        ]


class Relay:
    """Between Alertmanager and the fleet's webhook: passes everything on and writes it down."""

    def __init__(self, to: str) -> None:
        self.answers: list[tuple[int, dict[str, Any]]] = []
        relay = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the one it stands for
                """Say nothing."""

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                names = ("Authorization", "Content-Type")
                headers = {name: self.headers[name] for name in names if self.headers[name]}
                connection = HTTPConnection(to, timeout=30)
                connection.request("POST", self.path, body=body, headers=headers)
                answer = connection.getresponse()
                said = answer.read()
                connection.close()
                relay.answers.append((answer.status, json.loads(said)))
                self.send_response(answer.status)
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True
        )
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1/alertmanager"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


@pytest.fixture
def receivers() -> Iterator[Receivers]:
    servers = Receivers()
    yield servers
    servers.close()


def test_an_alert_delivered_three_times_recovers_exactly_that_agent_with_one_command(
    tmp_path: Path, receivers: Receivers, table: Table
):
    if not Path("/proc/self/task").is_dir():
        pytest.skip("finds the worker by /proc")
    tool = need(programs.prometheus(VERSIONS[-1]))
    managers = [
        found
        for which in (*VERSIONS, VERSIONS[-1])
        if not isinstance(found := programs.alertmanager(which), programs.Missing)
    ]
    if not managers:
        need(programs.alertmanager(VERSIONS[0]))
    # Three of them that do not know of each other, as when the network between them is cut.
    managers = (managers * DELIVERIES)[:DELIVERIES]
    with Demo(tmp_path / "demo") as demo:
        relay = Relay(demo.control)

        def to_the_fleet(config: dict[str, Any]) -> None:
            (recovery,) = (r for r in config["receivers"] if r["name"] == "recovery")
            (webhook,) = recovery["webhook_configs"]
            webhook["url"] = relay.url

        running: list[Server] = []
        try:
            alertmanagers = [
                Alertmanager(manager, tmp_path / f"am{n}", receivers, change=to_the_fleet)
                for n, manager in enumerate(managers)
            ]
            job = {"job_name": "fleet", "static_configs": [{"targets": [demo.metrics]}]}
            addresses = [alertmanager.address for alertmanager in alertmanagers]
            prometheus = Prometheus(tool, tmp_path / "prometheus", [job], alertmanagers=addresses)
            for server in (*alertmanagers, prometheus):
                running.append(server)
                server.__enter__()
            eventually(lambda: demo.state(VICTIM) == "running", 60)

            def spent() -> bool:
                for worker in demo.workers():
                    os.kill(worker, signal.SIGKILL)
                return demo.state(VICTIM) == "quarantined"

            eventually(spent, 120)
            eventually(lambda: len(relay.answers) >= DELIVERIES, 60)
            eventually(lambda: demo.state(VICTIM) == "running", 60)

            def told(firing: bool) -> int:
                messages = ((m.way, m.alert, m.firing) for m in receivers.all())
                return sum(m == ("slack", "AgentQuarantined", firing) for m in messages)

            def over() -> bool:
                # It may be over before Slack's group_wait is, and then people hear nothing of it;
                # whoever has heard that it fires hears that it does so no more.
                return all("AgentQuarantined" not in am.active() for am in alertmanagers) and (
                    told(False) >= told(True)
                )

            eventually(over, 90)
        finally:
            for server in reversed(running):
                server.stop()
            relay.close()
        commands = demo.events("command")

    assert {status for status, _ in relay.answers} == {200}
    taken = [alert for _, answer in relay.answers for alert in answer["alerts"]]
    assert {alert["agent_id"] for alert in taken} == {VICTIM}
    assert {alert["alertname"] for alert in taken} == {"AgentQuarantined"}
    assert sorted(alert["result"] for alert in taken[:DELIVERIES]) == ["accepted", "known", "known"]
    assert {alert["result"] for alert in taken[DELIVERIES:]} <= {"known"}
    (command,) = commands
    assert command["agent_id"] == VICTIM
    assert command["data"]["command"] == "reset"
    assert command["data"]["actor"] == "alertmanager"
    assert command["data"]["reason"] == "AgentQuarantined"
    table.fact(
        f"{VICTIM} spent its restarts; the alert was delivered {len(relay.answers)} times to the "
        f"fleet's webhook, led to one command, and was over; people heard {told(True)} times that "
        f"it fires and {told(False)} times that it does so no more."
    )
