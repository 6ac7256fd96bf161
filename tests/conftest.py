"""Fixtures for the whole suite: which loop an async test runs on, and the virtual clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from fleetmon.testing import VIRTUAL_ASYNCIO, current_clock

if TYPE_CHECKING:
    from fleetmon.testing import VirtualClock

# A deadline for each example would make timed tests, which fail on a busy machine.
settings.register_profile("fleetmon", deadline=None)
settings.load_profile("fleetmon")

# Whose assertions show what they compared, as those of test files do.
pytest.register_assert_rewrite("helpers_exposition", "helpers_recorder", "helpers_trouble")

# Begun first, since no worker shall be left alone with one of them in the end.
LONGEST = (
    "test_tmux.py", "test_demo.py", "test_examples.py", "test_prometheus.py", "test_crash.py",
    "test_books.py", "test_next_life.py", "test_mutated.py", "test_process.py",
    "test_two_services.py", "test_benchmarks_run.py", "test_operate_demo.py", "test_replay.py",
    "test_instrument.py", "test_outside.py", "test_hosts.py", "test_schemathesis.py",
    "test_state_machine.py", "test_recorder.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest before the others."""
    place = {name: at for at, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Stock asyncio, or what the markers `virtual_time` and `uvloop` ask for."""
    if request.node.get_closest_marker("virtual_time"):
        return VIRTUAL_ASYNCIO
    if request.node.get_closest_marker("uvloop"):
        uvloop = pytest.importorskip("uvloop", reason="the extra uvloop is not installed")
        return "asyncio", {"loop_factory": uvloop.new_event_loop}
    return "asyncio", {}


@pytest.fixture
async def clock() -> VirtualClock:
    """The virtual clock of the test's loop; needs the marker `virtual_time`."""
    return current_clock()
