"""Real programs for this suite: Debian's, and current ones built once from their Go modules.

``python tests/stack/programs.py`` builds what is missing and says what there is; the tests skip
what could not be had, with the reason. The cache is ``$FLEETMON_STACK_CACHE``, by default
``~/.cache/fleetmon-stack``: a folder for each program and version, which may be deleted.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

CACHE = Path(os.environ.get("FLEETMON_STACK_CACHE") or "~/.cache/fleetmon-stack").expanduser()


@dataclass(frozen=True)
class GoProgram:
    """Commands of one Go module.

    Attributes:
        name: folder in the cache.
        version: as people call it.
        module: its path.
        tag: of the module; it may count differently from the program.
        commands: packages below the module that are programs.
        build_tags: leave out what is not needed here.
        stubs: files, relative to the module, that its releases generate and nothing here needs.
        version_variable: where the linker writes the version.
    """

    name: str
    version: str
    module: str
    tag: str
    commands: tuple[str, ...]
    build_tags: str = ""
    stubs: tuple[str, ...] = ()
    version_variable: str = "github.com/prometheus/common/version.Version"

    @property
    def folder(self) -> Path:
        return CACHE / f"{self.name}-{self.version}"

    def path(self, command: str) -> Path:
        return self.folder / command

    def built(self) -> bool:
        return all(self.path(command.rsplit("/", 1)[-1]).is_file() for command in self.commands)

    def build(self) -> None:
        """Fetch and build; whole or not at all.

        Raises:
            subprocess.CalledProcessError: the module cannot be had or does not build.
        """
        environment = {**os.environ, "GOFLAGS": "-mod=mod", "CGO_ENABLED": "0"}

        def go(*arguments: str, cwd: Path) -> str:
            done = subprocess.run(
                ["nice", "-n", "10", "go", *arguments],
                cwd=cwd,
                env=environment,
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
            return done.stdout

        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE, prefix="building-") as directory:
            scratch = Path(directory)
            go("mod", "init", "fleetmon.invalid/stack", cwd=scratch)
            packages = [f"{self.module}/{command}" for command in self.commands]
            go("get", *(f"{package}@{self.tag}" for package in packages), cwd=scratch)
            if self.stubs:
                # a module in the cache cannot be written to
                source = go("list", "-m", "-f", "{{.Dir}}", self.module, cwd=scratch).strip()
                shutil.copytree(source, scratch / "copy", copy_function=shutil.copyfile)
                for path in (scratch / "copy", *(scratch / "copy").rglob("*")):
                    path.chmod(0o755)
                for stub in self.stubs:
                    file = scratch / "copy" / stub
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_text("left out of this build\n")
            out = scratch / "out"
            go(
                "build",
                "-trimpath",
                *(("-tags", self.build_tags) if self.build_tags else ()),
                "-ldflags",
                f"-s -w -X {self.version_variable}={self.version}",
                "-o",
                f"{out}/",
                *packages if not self.stubs else (f"./{command}" for command in self.commands),
                cwd=scratch / "copy" if self.stubs else scratch,
            )
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(self.folder, ignore_errors=True)
            out.rename(self.folder)


PROMETHEUS = GoProgram(
    name="prometheus",
    version="3.16.0",
    module="github.com/prometheus/prometheus",
    tag="v0.316.0",
    commands=("cmd/prometheus", "cmd/promtool"),
    # of the many ways to discover targets the shipped configuration names one
    build_tags="remove_all_sd,enable_kubernetes_sd",
)
ALERTMANAGER = GoProgram(
    name="alertmanager",
    version="0.35.0",
    module="github.com/prometheus/alertmanager",
    tag="v0.35.0",
    commands=("cmd/alertmanager", "cmd/amtool"),
    stubs=("ui/app/dist/index.html",),
)
BUILT = (PROMETHEUS, ALERTMANAGER)


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
    path = str(program.path(command))
    return Tool(path, version_of(path))


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
    if os.environ.get("FLEETMON_STACK_BUILD") == "never":
        return f"{program.name} {program.version} is not built, and FLEETMON_STACK_BUILD=never"
    if shutil.which("go") is None:
        return f"{program.name} {program.version} is not built, and there is no Go to build it"
    sys.stderr.write(f"building {program.name} {program.version} into {CACHE} (once; minutes)\n")
    try:
        program.build()
    except subprocess.CalledProcessError as error:
        return f"{program.name} {program.version} could not be built: {error}"
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


def main() -> None:
    """Build what is missing and tell what there is."""
    for name, look in (
        ("prometheus", prometheus),
        ("promtool", promtool),
        ("alertmanager", alertmanager),
        ("amtool", amtool),
    ):
        for which in ("debian", "current"):
            found = look(which)
            line = found.reason if isinstance(found, Missing) else f"{found.version} {found.path}"
            sys.stdout.write(f"{name:14} {which:8} {line}\n")
    found = node_exporter()
    line = found.reason if isinstance(found, Missing) else f"{found.version} {found.path}"
    sys.stdout.write(f"{'node-exporter':14} {'debian':8} {line}\n")


if __name__ == "__main__":
    main()
