"""What the whole suite shares: the programs in both versions, and the table at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import programs
import pytest
import shorten
from proof import Table
from receivers import Receivers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scene import Scene

VERSIONS = ("debian", "current")

TABLE = pytest.StashKey[Table]()


def need(found: programs.Tool | programs.Missing) -> programs.Tool:
    """Return the program, or skip with the reason."""
    if isinstance(found, programs.Missing):
        pytest.skip(found.reason)
    return found


@pytest.fixture(scope="session", params=VERSIONS)
def prometheus(request: pytest.FixtureRequest) -> programs.Tool:
    return need(programs.prometheus(request.param))


@pytest.fixture(scope="session", params=VERSIONS)
def promtool(request: pytest.FixtureRequest) -> programs.Tool:
    return need(programs.promtool(request.param))


@pytest.fixture(scope="session", params=VERSIONS)
def alertmanager(request: pytest.FixtureRequest) -> programs.Tool:
    return need(programs.alertmanager(request.param))


@pytest.fixture(scope="session", params=VERSIONS)
def amtool(request: pytest.FixtureRequest) -> programs.Tool:
    return need(programs.amtool(request.param))


@pytest.fixture
def receivers() -> Iterator[Receivers]:
    servers = Receivers()
    try:
        yield servers
    finally:
        servers.close()


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory, table: Table) -> Iterator[Scene]:
    """The whole stack around a demonstration with chaos, once for all who look at it."""
    from scene import Scene

    with Scene(tmp_path_factory.mktemp("scene")) as running:
        for job, reason in running.missing.items():
            table.fact(f"not in the scene: {job}: {reason}")
        yield running


@pytest.fixture(scope="session")
def table(request: pytest.FixtureRequest) -> Table:
    """What is shown when all is done: ``table.dashboard(name, queries, answered)`` and the like."""
    return table_of(request.config)


def table_of(config: pytest.Config) -> Table:
    return config.stash.setdefault(TABLE, Table())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    lines = list(table_of(terminalreporter.config).lines(shorten.FACTOR))
    if lines:
        terminalreporter.section("proven against the real programs")
        for line in lines:
            terminalreporter.write_line(line)
