"""The whole stack, as far as it runs without containers: what dashboards and scripts look at.

The demonstration with chaos, Neurectomy's API, a mounted filesystem like ΣVAULT's, the machine, the
Collector where it is built, an Alertmanager, and a Prometheus with the shipped rules and the
shipped scrape configuration, whose addresses alone are replaced. Durations are shortened as
:mod:`shorten` says.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Self

import programs
import shorten
import yaml
from conftest import need
from drill import Fleet
from pipeline import Collector, Jaeger
from receivers import Receivers
from running import DEPLOY, ROOT, Alertmanager, Prometheus, Server, eventually, free_port

if TYPE_CHECKING:
    from collections.abc import Mapping

HERE = Path(__file__).parent
VAULT = HERE.parent / "exporters" / "vaultfs.py"

FACTOR = 5
"""Durations are divided by it, and not by more: on a busy machine a scrape of forty agents takes a
second, and it is given two then."""

WELL_IN = 65.0
"""Seconds after which the demonstration has gone through all of its faults and recovered."""

RATE_INTERVAL = "1m"
"""What Grafana makes of ``$__rate_interval`` at the shipped scrape interval: four times that."""


class Demo(Server):
    """A demonstration with a socket of its own, so that commands find this one and no other."""

    def __init__(
        self, directory: Path, *options: str, environment: Mapping[str, str] | None = None
    ) -> None:
        directory.mkdir(parents=True)
        address = f"127.0.0.1:{free_port()}"
        super().__init__(
            [sys.executable, "-m", "fleetmon", "demo", "--metrics", address, *options],
            directory,
            address=address,
            environment={"XDG_RUNTIME_DIR": str(directory), **(environment or {})},
        )

    def __enter__(self) -> Self:
        super().__enter__()
        try:
            self.ready("/readyz", 60)
        except BaseException:
            self.stop()
            raise
        return self


class Scene:
    """Everything, running; the demonstration with further options of its own.

    Attributes:
        missing: what could not be had, by name of its job, with the reason.
    """

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory
        self._options = options
        self.missing: dict[str, str] = {}
        self.receivers = Receivers()
        self.targets: dict[str, list[str]] = {}
        self.jaeger: Jaeger | None = None
        self.collector: Collector | None = None
        self.began = 0.0
        self._all = ExitStack()
        self._all.callback(self.receivers.close)

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._all.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._all.close()

    def _start(self) -> None:
        tools = programs.prometheus("current"), programs.alertmanager("current")
        for tool in tools:
            need(tool)
        environment = self._pipeline()
        self.demo = self._all.enter_context(
            Demo(self.directory / "fleet", "--chaos", *self._options, environment=environment)
        )
        self.began = time.monotonic()
        self.targets["fleet"] = [self.demo.address, self._hopeless()]
        self._api()
        self._vault()
        self._node()
        self.alertmanager = self._all.enter_context(
            Alertmanager(tools[1], self.directory / "alertmanager", self.receivers, factor=FACTOR)
        )
        self.targets["alertmanager"] = [self.alertmanager.address]
        self.prometheus = Prometheus(
            tools[0],
            self.directory / "prometheus",
            [],
            alertmanagers=[self.alertmanager.address],
            factor=FACTOR,
        )
        self.targets["prometheus"] = [self.prometheus.address]
        self._scrape()
        self._all.enter_context(self.prometheus)

    def _hopeless(self) -> str:
        """Start a second fleet, with an agent that does not come back; returns its address.

        A fault of the demonstration may be over before anybody has scraped it.
        """
        fleet = Fleet("not-recovering")
        self._all.callback(fleet.kill)
        fleet.start()
        fleet.hear("ready")
        fleet.say("break")
        fleet.hear("broken")
        return f"127.0.0.1:{fleet.port}"

    def _scrape(self) -> None:
        """Write the shipped scrape configuration, at the addresses of here."""
        shipped = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
        file = self.prometheus.directory / "prometheus.yml"
        config = yaml.safe_load(file.read_text())
        for job in shipped["scrape_configs"]:
            job.pop("file_sd_configs", None)
            job["static_configs"] = [{"targets": self.targets.get(job["job_name"], [])}]
            for key in shorten.GLOBAL_KEYS:
                if key in job:
                    job[key] = shorten.shorter(job[key], FACTOR)
        config["scrape_configs"] = shipped["scrape_configs"]
        file.write_text(yaml.safe_dump(config))

    # -- what is looked at -----------------------------------------------------------------------

    def _run(self, name: str, command: list[str], path: str, address: str) -> None:
        directory = self.directory / name
        directory.mkdir()
        server = Server(command, directory, address=address)
        self._all.enter_context(server)
        server.ready(path, 60)
        self.targets[name] = [address]

    def _api(self) -> None:
        port = free_port()
        command = [sys.executable, str(HERE / "api.py"), str(port)]
        self._run("neurectomy", command, "/metrics/", f"127.0.0.1:{port}")

    def _node(self) -> None:
        tool = programs.node_exporter()
        if isinstance(tool, programs.Missing):
            self.missing["node"] = tool.reason
            return
        address = f"127.0.0.1:{free_port()}"
        self._run("node", [tool.path, f"--web.listen-address={address}"], "/metrics", address)

    def _pipeline(self) -> dict[str, str]:
        """Start Collector and Jaeger; returns what a demonstration has to know of them."""
        tool = programs.collector()
        if isinstance(tool, programs.Missing):
            self.missing["stack"] = tool.reason
            return {}
        nowhere = f"127.0.0.1:{free_port()}"
        store = programs.jaeger()
        jaeger: Jaeger | None = None
        if isinstance(store, programs.Tool):
            jaeger = self._all.enter_context(Jaeger(store, self.directory / "jaeger"))
        self.jaeger = jaeger
        self.collector = collector = self._all.enter_context(
            Collector(tool, self.directory / "collector", jaeger.otlp if jaeger else nowhere)
        )
        self.targets["stack"] = [collector.telemetry, collector.prometheus]
        if jaeger:
            self.targets["stack"].append(jaeger.metrics)
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.http}

    def _vault(self) -> None:
        reason = unmountable()
        if reason:
            self.missing["sigmavault"] = reason
            return
        directory = self.directory / "vault"
        for name in ("root", "mnt"):
            (directory / name).mkdir(parents=True)
        mount, truth = directory / "mnt", directory / "truth"
        command = [str(VAULT), str(directory / "root"), str(mount), str(truth), "no"]
        server = Server(
            [sys.executable, *command], directory, environment={"PYTHONPATH": str(ROOT)}
        )
        self._all.enter_context(server)
        self._all.callback(
            subprocess.run, ["fusermount3", "-uz", str(mount)], check=False, capture_output=True
        )
        told = Path(f"{truth}.address")
        eventually(lambda: told.exists() and mount.is_mount())
        url, _ = told.read_text().split()
        self.targets["sigmavault"] = [url.removeprefix("http://").removesuffix("/metrics")]
        user = subprocess.Popen([sys.executable, "-c", _USE, str(mount)])
        self._all.callback(user.wait)
        self._all.callback(user.send_signal, signal.SIGTERM)

    # -- asking ----------------------------------------------------------------------------------

    def wait_until(self, seconds: float) -> None:
        """Wait until the demonstration has run that long."""
        eventually(
            lambda: time.monotonic() - self.began >= seconds,
            max(30.0, self.began + seconds - time.monotonic() + 30.0),
        )

    def label_values(self, selector: str, label: str) -> list[str]:
        """Return the values of a label, as Grafana asks for them."""
        matching = {"match[]": selector} if selector else {}
        return sorted(self.prometheus.api(f"label/{label}/values", **matching))

    def samples(self, expr: str, *, instant: bool, seconds: float = 120.0) -> list[float]:
        """Return the samples of an expression, now or over the last so many seconds."""
        if instant:
            rows = self.prometheus.api("query", query=expr)["result"]
            return [float(row["value"][1]) for row in rows]
        now = time.time()
        rows = self.prometheus.api(
            "query_range", query=expr, start=f"{now - seconds}", end=f"{now}", step="1"
        )["result"]
        return [float(value) for row in rows for _, value in row["values"]]


_USE = """
import pathlib, sys, time
at = 0
while True:
    at += 1
    file = pathlib.Path(sys.argv[1]) / f"object-{at % 20}"
    try:
        file.write_bytes(bytes(4096 * (1 + at % 8)))
        file.read_bytes()
        if at % 3 == 0:
            file.unlink()
    except OSError:
        break
    time.sleep(0.1)
"""


def unmountable() -> str:
    """Return why no filesystem can be mounted here, or nothing."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse is missing or not for us"
    if shutil.which("fusermount3") is None:
        return "fusermount3 is not installed (Debian: fuse3)"
    return ""
