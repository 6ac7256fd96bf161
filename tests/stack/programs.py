"""Real programs for this suite: Debian's, and current ones built once from their Go modules.

``python tests/stack/programs.py`` builds what is missing and says what there is; the tests skip
what could not be had, with the reason. The cache is ``$FLEETMON_STACK_CACHE``, by default
``~/.cache/fleetmon-stack``: a folder for each program and version (the table that the command
prints names them), which may be deleted, and into which a program built elsewhere may be put.

No build takes longer than its own limit, and all together no longer than
``$FLEETMON_STACK_BUILD_MINUTES`` (30), the most wanted first. What had no time left is gone on with
by the next such command, with what Go has kept; what failed otherwise is not tried again within the
hour. ``FLEETMON_STACK_BUILD=never`` builds nothing at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

CACHE = Path(os.environ.get("FLEETMON_STACK_CACHE") or "~/.cache/fleetmon-stack").expanduser()
DEPLOY = Path(__file__).parents[2] / "deploy"

ALL_BUILDS = 60 * float(os.environ.get("FLEETMON_STACK_BUILD_MINUTES") or 30)  # seconds
AGAIN_AFTER = 3600.0  # seconds
NO_TIME = "of all builds were spent"
_began = time.monotonic()


class BuildError(Exception):
    """A program cannot be had."""


class Go:
    """The Go command, and what it starts, until a moment on the monotonic clock."""

    def __init__(self, until: float, environment: dict[str, str]) -> None:
        self.until = until
        self.environment = {**os.environ, "CGO_ENABLED": "0", **environment}

    def __call__(self, *arguments: str, cwd: Path) -> str:
        return self.run("go", *arguments, cwd=cwd)

    def run(self, *command: str, cwd: Path) -> str:
        """Return what it says on standard output.

        Raises:
            BuildError: it fails, or does not end in time.
        """
        process = subprocess.Popen(
            ["nice", "-n", "10", *command],
            cwd=cwd,
            env=self.environment,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # so that compilers end with it
        )
        try:
            said, _ = process.communicate(timeout=max(0.0, self.until - time.monotonic()))
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            if isinstance(error, subprocess.TimeoutExpired):
                what = f"{' '.join(command[:3])} took longer than it was given"
                raise BuildError(what) from None
            raise
        if process.returncode:
            what = f"{' '.join(command[:3])} ended with {process.returncode}"
            raise BuildError(what)
        return said


@dataclass(frozen=True)
class GoProgram:
    """Commands of one Go module.

    Attributes:
        name: folder in the cache.
        version: as people call it.
        module: its path.
        tag: of the module; it may count differently from the program.
        commands: packages below the module that are programs.
        minutes: that a build may take.
        build_tags: leave out what is not needed here.
        stubs: files, relative to the module, that its releases generate and nothing here needs.
        unreplaced: modules that it replaces with folders of its own, which it comes without.
        version_variable: where the linker writes the version.
    """

    name: str
    version: str
    module: str
    tag: str
    commands: tuple[str, ...]
    minutes: float
    build_tags: str = ""
    stubs: tuple[str, ...] = ()
    unreplaced: tuple[str, ...] = ()
    version_variable: str = "github.com/prometheus/common/version.Version"

    @property
    def folder(self) -> Path:
        return CACHE / f"{self.name}-{self.version}"

    @property
    def failure(self) -> Path:
        return CACHE / f"{self.folder.name}.failed"

    def path(self, command: str) -> Path:
        return self.folder / command

    def built(self) -> bool:
        return all(self.path(command.rsplit("/", 1)[-1]).is_file() for command in self.commands)

    def build(self, until: float) -> None:
        """Fetch and build; whole or not at all.

        Raises:
            BuildError: the module cannot be had, does not build, or not until then.
        """
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            dir=CACHE, prefix="building-", ignore_cleanup_errors=True
        ) as directory:
            out = self.make(until, Path(directory))
            shutil.rmtree(self.folder, ignore_errors=True)
            out.rename(self.folder)

    def make(self, until: float, scratch: Path) -> Path:
        """Return a folder below ``scratch`` with the programs."""
        go = Go(until, {"GOFLAGS": "-mod=mod"})
        go("mod", "init", "fleetmon.invalid/stack", cwd=scratch)
        if self.stubs or self.unreplaced:
            where, packages = self._copy(go, scratch), [f"./{name}" for name in self.commands]
        else:
            where, packages = scratch, [f"{self.module}/{name}" for name in self.commands]
            go("get", *(f"{package}@{self.tag}" for package in packages), cwd=scratch)
        out = scratch / "out"
        go(
            "build",
            "-trimpath",
            *(("-tags", self.build_tags) if self.build_tags else ()),
            "-ldflags",
            f"-s -w -X {self.version_variable}={self.version}",
            "-o",
            f"{out}/",
            *packages,
            cwd=where,
        )
        return out

    def _copy(self, go: Go, scratch: Path) -> Path:
        """Return a copy of the module: one in Go's cache cannot be written to."""
        found = json.loads(go("mod", "download", "-json", f"{self.module}@{self.tag}", cwd=scratch))
        copy = scratch / "copy"
        shutil.copytree(found["Dir"], copy, copy_function=shutil.copyfile)
        for path in (copy, *copy.rglob("*")):
            path.chmod(0o755)
        for stub in self.stubs:
            file = copy / stub
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("left out of this build\n")
        for module in self.unreplaced:
            go("mod", "edit", f"-dropreplace={module}", cwd=copy)
        return copy


@dataclass(frozen=True)
class CollectorProgram(GoProgram):
    """The OpenTelemetry Collector with the components that a builder's file names."""

    manifest: Path = DEPLOY / "otel-collector" / "builder.yaml"

    @property
    def folder(self) -> Path:
        components = sorted(re.findall(r"gomod: (.+)", self.manifest.read_text()))
        digest = hashlib.sha256("\n".join(components).encode()).hexdigest()[:8]
        return CACHE / f"{self.name}-{self.version}-{digest}"

    def make(self, until: float, scratch: Path) -> Path:
        """Return the folder with the one program."""
        go = Go(until, {"GOBIN": str(scratch / "bin")})
        go("install", f"{self.module}@{self.tag}", cwd=scratch)
        builder = str(scratch / "bin" / "builder")
        # it makes ./out, with the program beside its source
        go.run(builder, "--config", str(self.manifest), "--ldflags", "-s -w", cwd=scratch)
        for path in (scratch / "out").iterdir():
            if path.name not in self.commands:
                path.unlink()
        return scratch / "out"


@dataclass(frozen=True)
class InstalledProgram(GoProgram):
    """A module that is itself one command, as ``go install`` makes it."""

    def make(self, until: float, scratch: Path) -> Path:
        """Return the folder with the one program."""
        out = scratch / "out"
        Go(until, {"GOBIN": str(out)})("install", f"{self.module}@{self.tag}", cwd=scratch)
        return out


@dataclass(frozen=True)
class OwnProgram(GoProgram):
    """A Go file beside this one that uses a module."""

    def make(self, until: float, scratch: Path) -> Path:
        """Return the folder with the one program."""
        go = Go(until, {"GOFLAGS": "-mod=mod"})
        (name,) = self.commands
        go("mod", "init", f"fleetmon.invalid/{name}", cwd=scratch)
        shutil.copyfile(Path(__file__).with_name(f"{name}.go"), scratch / "main.go")
        go("get", f"{self.module}@{self.tag}", cwd=scratch)
        go("build", "-o", f"{scratch / 'out'}/{name}", ".", cwd=scratch)
        return scratch / "out"


PROMETHEUS = GoProgram(
    name="prometheus",
    version="3.16.0",
    module="github.com/prometheus/prometheus",
    tag="v0.316.0",
    commands=("cmd/prometheus", "cmd/promtool"),
    minutes=20,
    # of the many ways to discover targets the shipped configuration names one
    build_tags="remove_all_sd,enable_kubernetes_sd",
)
ALERTMANAGER = GoProgram(
    name="alertmanager",
    version="0.35.0",
    module="github.com/prometheus/alertmanager",
    tag="v0.35.0",
    commands=("cmd/alertmanager", "cmd/amtool"),
    minutes=8,
    stubs=("ui/app/dist/index.html",),
)
COLLECTOR = CollectorProgram(
    name="otelcol",
    version="0.161.0",
    module="go.opentelemetry.io/collector/cmd/builder",
    tag="v0.161.0",
    commands=("otelcol-fleetmon",),
    minutes=12,
)
# The last release whose module path Go can fetch by version: those of v2 carry tags that do not fit
# their path. Its cmd/jaeger is the program of Jaeger 2.
JAEGER = GoProgram(
    name="jaeger",
    version="1.76.0",
    module="github.com/jaegertracing/jaeger",
    tag="v1.76.0",
    commands=("cmd/jaeger",),
    minutes=25,
    version_variable="github.com/jaegertracing/jaeger/internal/version.latestVersion",
)
KUSTOMIZE = InstalledProgram(
    name="kustomize",
    version="5.8.1",
    module="sigs.k8s.io/kustomize/kustomize/v5",
    tag="v5.8.1",
    commands=("kustomize",),
    minutes=5,
)
# Alloy's own parser; all of Alloy is far too much to build here.
ALLOY_SYNTAX = OwnProgram(
    name="alloy-syntax",
    version="0.1.0",
    module="github.com/grafana/alloy/syntax",
    tag="v0.1.0",
    commands=("alloy_syntax",),
    minutes=2,
)
LOKI = GoProgram(
    name="loki",
    version="3.7.8",
    module="github.com/grafana/loki/v3",
    tag="v3.7.8",
    commands=("cmd/loki",),
    minutes=25,
    unreplaced=("github.com/grafana/loki/pkg/push",),
    version_variable="github.com/grafana/loki/v3/pkg/util/build.Version",
)
BUILT = (
    PROMETHEUS,
    ALERTMANAGER,
    KUSTOMIZE,
    ALLOY_SYNTAX,
    COLLECTOR,
    JAEGER,
    LOKI,
)  # the most wanted first


@dataclass(frozen=True)
class Tool:
    """A program that can be run, and its version as it tells it."""

    path: str
    version: str


@dataclass(frozen=True)
class Missing:
    """Why there is none."""

    reason: str


def debian(command: str, package: str) -> Tool | Missing:
    """Return what the system has installed."""
    path = shutil.which(command)
    if path is None:
        return Missing(f"{command} is not installed (Debian: {package}; make system-packages)")
    return Tool(path, version_of(path))


def built(program: GoProgram, command: str) -> Tool | Missing:
    """Return what was built, building it first if it has to be."""
    reason = ensure(program)
    if reason is not None:
        return Missing(reason)
    return Tool(str(program.path(command)), program.version)


@cache
def version_of(path: str) -> str:
    """Return the version that a program tells."""
    done = subprocess.run([path, "--version"], check=True, capture_output=True, text=True)
    found = re.search(r"version v?([\d.]+)", done.stdout + done.stderr)
    return found[1] if found else "?"


@cache
def ensure(program: GoProgram) -> str | None:
    """Build a program unless it is there; returns why it cannot be had, or None."""
    if program.built():
        return None
    called = f"{program.name} {program.version}"
    if os.environ.get("FLEETMON_STACK_BUILD") == "never":
        return f"{called} is not built, and FLEETMON_STACK_BUILD=never"
    if shutil.which("go") is None:
        return f"{called} is not built, and there is no Go to build it"
    failure = program.failure
    if failure.exists() and time.time() - failure.stat().st_mtime < AGAIN_AFTER:
        return failure.read_text()
    limit = min(60 * program.minutes, _began + ALL_BUILDS - time.monotonic())
    sys.stderr.write(
        f"building {called} into {CACHE} (once; {max(0.0, limit) / 60:.0f} min at most)\n"
    )
    began = time.monotonic()
    try:
        if limit > 0:
            program.build(began + limit)
        else:
            raise BuildError  # noqa: TRY301 - told and kept like the other reasons
    except (BuildError, OSError) as error:
        reason = f"{called} could not be built: {error}"
        if time.monotonic() - _began >= ALL_BUILDS:
            reason = f"{called} is not built yet: the {ALL_BUILDS / 60:g} minutes {NO_TIME}"
        failure.write_text(reason)
        return reason
    sys.stderr.write(f"built {called} in {time.monotonic() - began:.0f} s\n")
    failure.unlink(missing_ok=True)
    return None


def prometheus(which: str) -> Tool | Missing:
    """Return a Prometheus: ``debian`` or ``current``."""
    if which == "debian":
        return debian("prometheus", "prometheus")
    return built(PROMETHEUS, "prometheus")


def promtool(which: str) -> Tool | Missing:
    """Return a promtool: ``debian`` or ``current``."""
    return debian("promtool", "prometheus") if which == "debian" else built(PROMETHEUS, "promtool")


def alertmanager(which: str) -> Tool | Missing:
    """Return an Alertmanager: ``debian`` or ``current``."""
    if which == "debian":
        return debian("prometheus-alertmanager", "prometheus-alertmanager")
    return built(ALERTMANAGER, "alertmanager")


def amtool(which: str) -> Tool | Missing:
    """Return an amtool: ``debian`` or ``current``."""
    if which == "debian":
        return debian("amtool", "prometheus-alertmanager")
    return built(ALERTMANAGER, "amtool")


def node_exporter() -> Tool | Missing:
    """Return a node-exporter."""
    return debian("prometheus-node-exporter", "prometheus-node-exporter")


def collector() -> Tool | Missing:
    """Return an OpenTelemetry Collector made of what the shipped configurations name."""
    return built(COLLECTOR, "otelcol-fleetmon")


def jaeger() -> Tool | Missing:
    """Return a Jaeger 2."""
    return built(JAEGER, "jaeger")


def kustomize() -> Tool | Missing:
    """Return a kustomize."""
    return built(KUSTOMIZE, "kustomize")


def alloy_syntax() -> Tool | Missing:
    """Return what parses files for Alloy."""
    return built(ALLOY_SYNTAX, "alloy_syntax")


def loki() -> Tool | Missing:
    """Return a Loki."""
    return built(LOKI, "loki")


def main() -> None:
    """Build what is missing and tell what there is; goes on where an earlier time ran out."""
    for program in BUILT:
        if program.failure.exists() and program.failure.read_text().endswith(NO_TIME):
            program.failure.unlink()
    for name, which, found in (
        *(
            (name, which, look(which))
            for name, look in (
                ("prometheus", prometheus),
                ("promtool", promtool),
                ("alertmanager", alertmanager),
                ("amtool", amtool),
            )
            for which in ("debian", "current")
        ),
        ("node-exporter", "debian", node_exporter()),
        ("kustomize", "current", kustomize()),
        ("alloy-syntax", "current", alloy_syntax()),
        ("otelcol", "current", collector()),
        ("jaeger", "current", jaeger()),
        ("loki", "current", loki()),
    ):
        line = found.reason if isinstance(found, Missing) else f"{found.version} {found.path}"
        sys.stdout.write(f"{name:14} {which:8} {line}\n")


if __name__ == "__main__":
    main()
