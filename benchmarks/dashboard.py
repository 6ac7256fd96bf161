"""Goal 13 and the bars of the dashboard: CPU of a refresh beside ``DataTable``, and the rest.

Refreshes are measured in one process without a terminal, ours and Textual's ``DataTable`` in turn.
Everything else is measured from outside: the real program on a pseudo-terminal.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import sys
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks import dashboard_fleet as wire
from benchmarks.dashboard_terminal import Fleet, Terminal, fleet
from benchmarks.table import Goal, Row

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetmon_tui.source import Told
    from fleetmon_tui.state.orders import Question

SIZES = (40, 1_000, 10_000)
_SIZE = (120, 40)
_STRETCH = (15, 13, 11)
_WIRE = "unix:{}/wire.sock"


class _Fed:
    """A source that is given its frames, already parsed."""

    def __init__(self) -> None:
        self.first = threading.Event()
        self.told: list[Told] = []

    def start(self, wake: Callable[[], None]) -> None:
        """Do nothing."""

    def take(self) -> list[Told]:
        """Return what was fed."""
        told, self.told = self.told, []
        return told

    def feed(self, frames: list[dict[str, Any]]) -> None:
        """Have frames taken at the next paint."""
        self.told += [(frame, time.monotonic(), time.time()) for frame in frames]

    def details(self, agent_id: str) -> Future[dict[str, Any]]:
        """Never answer."""
        del agent_id
        return Future()

    def letters(self) -> Future[list[dict[str, Any]]]:
        """Never answer."""
        return Future()

    def send(self, number: int, question: Question, reason: str) -> None:
        """Do nothing."""

    def choose(self, fleet: str) -> None:
        """Do nothing."""

    def seek(self, word: str, what: object, now: float) -> bool:
        """Do nothing."""
        del word, what, now
        return True

    def close(self) -> None:
        """Do nothing."""


class Refresh(NamedTuple):
    """CPU seconds of refreshes in which everything changed."""

    ours: list[float]
    table: list[float]

    @property
    def p95(self) -> float:
        """The 95th percentile of ours."""
        return sorted(self.ours)[max(0, round(0.95 * len(self.ours)) - 1)]


async def _ours(agents: int, turns: int) -> list[float]:
    from fleetmon_tui.session import Session
    from fleetmon_tui.state.dashboard import Dashboard
    from fleetmon_tui.state.ui import Ui
    from fleetmon_tui.view.app import FleetApp

    source = _Fed()
    state = Dashboard()
    app = FleetApp(Session(state, Ui(state), source))
    spent = []
    async with app.run_test(size=_SIZE) as pilot:
        source.feed([wire.hello(0.0), wire.FACTS, *wire.frames(agents, 0, seq=0)])
        app.paint()
        await pilot.pause()
        gc.collect()
        for turn in range(1, turns + 1):
            told = list(wire.frames(agents, turn, seq=turn * agents, ticks=True))
            source.feed([*told, wire.beat(float(turn))])
            await asyncio.sleep(0)
            began = time.process_time()
            app.paint()
            await pilot.pause()  # until it is on the terminal
            spent.append(time.process_time() - began)
    return spent


async def _table(agents: int, turns: int) -> list[float]:
    from textual.app import App, ComposeResult
    from textual.widgets import DataTable

    heads = ("agent", "state", "doing", "for", "queue", "use", "tasks", "failures")

    class Peer(App[None]):
        def compose(self) -> ComposeResult:
            yield DataTable[str]()

    app = Peer()
    spent = []
    async with app.run_test(size=_SIZE) as pilot:
        table = app.query_one(DataTable)
        columns = [table.add_column(head, width=12, key=head) for head in heads]
        for at in range(agents):
            table.add_row(*(f"{head} {at}" for head in heads), key=wire.name(at))
        await pilot.pause()
        gc.collect()
        for turn in range(1, turns + 1):
            began = time.process_time()
            for at in range(agents):
                table.update_cell(wire.name(at), columns[6], str(at + turn))
            await pilot.pause()
            spent.append(time.process_time() - began)
    return spent


def refresh(agents: int, *, turns: int) -> Refresh:
    """Measure refreshes; of the table one cell a row changes, of ours nine."""
    peers = max(2, min(turns, 20_000 // agents))
    return Refresh(asyncio.run(_ours(agents, turns)), asyncio.run(_table(agents, peers)))


def rows_of_refresh(*, quick: bool) -> list[Row]:
    """Return the rows of goal 13 and of bar 2."""
    found = []
    bars = []
    for letter, bar, agents, stretch, limit in zip(
        "abc", "def", SIZES, _STRETCH, (10, 10, 20), strict=True
    ):
        measured = refresh(agents, turns=20 if quick else 60)
        ours, table = statistics.median(measured.ours), statistics.median(measured.table)
        found.append(
            Row(f"13{letter}", f"CPU of a refresh of the dashboard, {agents:,} agents",
                f"{ours * 1e3:.2f} ms", f"DataTable {table * 1e3:,.1f} ms", ours / table,
                Goal("<=", 1 / 6), Goal("<=", 1 / stretch))
        )  # fmt: skip
        bars.append(_bar(bar, f"CPU a frame, all of {agents:,} change, p95, ms",
                         measured.p95 * 1e3, limit))  # fmt: skip
    return found + bars


def _bar(letter: str, what: str, measured: float, limit: float, ours: str = "") -> Row:
    return Row(f"13{letter}", what, ours, measured=measured, goal=Goal("<=", limit))


def first_rows(agents: int, *, turns: int) -> list[float]:
    """Return the seconds from exec to real rows of a real fleet."""
    found = []
    with fleet("real", agents) as (_, directory):
        for _turn in range(turns):
            with Terminal(directory=directory) as terminal:
                seen = terminal.until(rf"{wire.name(0)} +.{{1,3}} running")
                found.append(seen - terminal.started)
    return found


def cost(agents: int, rate: float, *, seconds: float, kind: str = "wire") -> tuple[float, int]:
    """Return the share of a core, and the resident bytes, while every row changes at a rate."""
    with fleet(kind, agents, str(rate), "{}/wire.sock") as (_, directory):
        url = _WIRE.replace("{}", directory)
        with Terminal("--url", url, directory=directory) as terminal:
            terminal.until(wire.name(3))
            time.sleep(3)  # the start is over
            before, began = terminal.cpu(), time.monotonic()
            time.sleep(seconds)
            share = (terminal.cpu() - before) / (time.monotonic() - began)
            return share, terminal.resident()


def keys(agents: int, *, turns: int) -> tuple[list[float], list[float]]:
    """Return the seconds from a key to its paint, and from a filter's keystroke, under load."""
    moved, filtered = [], []
    with fleet("wire", agents, "1", "{}/wire.sock") as (_, directory):
        url = _WIRE.replace("{}", directory)
        with Terminal("--url", url, directory=directory) as terminal:
            terminal.until(f"{agents:,}|{agents}")
            time.sleep(2.5)
            for turn in range(1, turns + 1):
                began = time.monotonic()
                since = terminal.press("j")
                moved.append(terminal.until(f"▶ {wire.name(turn)}", since=since) - began)
                time.sleep(0.17)  # at another moment of the stream's period each time
            for _turn in range(turns):
                terminal.press("/")
                time.sleep(0.3)
                began = time.monotonic()
                since = terminal.press("7")
                filtered.append(terminal.until("agent-00107", since=since) - began)
                terminal.press("\x1b")
                time.sleep(0.4)
    return moved, filtered


def deaths(*, turns: int) -> tuple[list[float], list[float]]:
    """Return the seconds until a killed fleet was seen to be gone, and until it was back."""
    gone, back = [], []
    with fleet("real", 40) as (first, directory), Terminal(directory=directory) as terminal:
        terminal.until("live")
        current = first
        for _turn in range(turns):
            since = terminal.written
            current.kill()
            began = time.monotonic()
            gone.append(terminal.until("disconnected", since=since) - began)
            since = terminal.written
            current = Fleet("real", 40, directory=directory)
            began = time.monotonic()
            back.append(terminal.until("reconnected", since=since) - began)
            time.sleep(0.3)
        current.kill()
    return gone, back


def blocked() -> float:
    """Return the seconds until a blocked loop was named with its line."""
    with fleet("blocker", 40) as (host, directory), Terminal(directory=directory) as terminal:
        terminal.until("live")
        host.line()  # it says so as it begins to block
        began = time.monotonic()
        return terminal.until(r"blocked .*agent-00000.*dashboard_fleet.py:\d+") - began


def rows_of_bars(*, quick: bool) -> list[Row]:
    """Return the rows of the other bars, measured on a pseudo-terminal."""
    turns = 3 if quick else 10
    found = []
    for letter, agents, limit in (("g", 40, 0.5), ("h", 10_000, 0.8)):
        taken = first_rows(agents, turns=turns)
        found.append(_bar(letter, f"exec to real rows, {agents:,} agents, median s",
                          statistics.median(taken), limit))  # fmt: skip
    seconds = 5 if quick else 20
    share, resident = cost(10_000, 1.0, seconds=seconds)
    found += [
        _bar("i", "CPU with 10,000 agents that all change at 1 Hz, %", share * 100, 3),
        _bar("j", "memory with them, MB", resident / 1e6, 100),
        _bar("k", "CPU when nothing happens, 40 agents, %",
             cost(40, 0.0, seconds=2 * seconds, kind="rest")[0] * 100, 0.5),
        Row("13k'", "the same while each is at a task, whose time counts up, %",
            measured=cost(40, 0.0, seconds=2 * seconds)[0] * 100),
    ]  # fmt: skip
    moved, filtered = keys(10_000, turns=2 * turns)
    return [
        *found,
        _bar("l", "key to paint with 10,000 agents at 1 Hz, worst, ms", max(moved) * 1e3, 50),
        _bar("m", "keystroke of a filter among them, worst, ms", max(filtered) * 1e3, 100),
        *rows_of_deaths(turns if quick else 100),
        _bar("p", "blocked loop named with its line, s", blocked(), 2),
    ]


def rows_of_deaths(turns: int) -> list[Row]:
    """Return bar 7."""
    gone, back = deaths(turns=turns)
    return [
        _bar("n", f"kill -9 seen, worst of {turns}, s", max(gone), 1,
             f"median {statistics.median(gone):.2f}"),
        _bar("o", f"attached again after it, worst of {turns}, s", max(back), 2,
             f"median {statistics.median(back):.2f}"),
    ]  # fmt: skip


def rows(*, quick: bool) -> list[Row]:
    """Return all of it."""
    return [*rows_of_refresh(quick=quick), *rows_of_bars(quick=quick)]


def main() -> int:
    """Print the rows of the dashboard, or see it through a number of deaths alone."""
    import argparse

    from benchmarks.table import render_text

    parser = argparse.ArgumentParser(prog="python -m benchmarks.dashboard", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under a minute, noisier")
    parser.add_argument("--deaths", metavar="N", type=int, help="kill -9 of the fleet, N times")
    arguments = parser.parse_args()
    if arguments.deaths is None:
        found = rows(quick=arguments.quick)
    else:
        found = rows_of_deaths(arguments.deaths)
    print(render_text(found), end="")
    return 1 if any(row.missed for row in found) else 0


if __name__ == "__main__":
    sys.exit(main())
