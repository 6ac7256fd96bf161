"""Rows 16 to 18: what the control plane costs the process that is looked at.

Run as ``python -m benchmarks.control [AGENTS ...] [--stopped SECONDS]``. The reader is a process
of its own, at 4 Hz, so that only the observed side is counted; 1,000 tasks a second end meanwhile,
over all agents, so that each of 40 agents changes in every turn.

- 16: CPU of the server's thread while somebody is attached, as a share of one core; and what it
  encodes while nobody is.
- 17: how much later a loop is at worst by a reader. The loop looks at the clock each millisecond.
  Stretches without and with a reader take turns; one with a reader has all that it brings about: it
  attaches to the whole fleet, none of whose rows is ready, and reads on. The worst of a stretch
  less the worst of the one before it is what the reader added, its own use of the machine included,
  and whatever else the machine did to either of them. That may go either way, so the median over
  the pairs counts; the worst of all stretches are beside it. The first begins right after a garbage
  collection, as in a process that has been up for a while: one of ten thousand agents holds a loop
  up for a quarter of a second, and what was made at the start would bring it about.
- 18: a reader is stopped (SIGSTOP) and goes on: how far the process grew meanwhile, and how long
  the reader takes to know all that had happened until it went on. For its first minutes a process
  grows without any reader: each agent's book of its utilization takes so many entries before the
  oldest goes. So these are filled first, with a window of a second. Growth as long before, with the
  reader reading, is beside it. ``--stopped 60`` is the whole minute; 10 s unless told otherwise.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.table import Goal, Row
from fleetmon import Control, Metrics, Supervisor, SupervisorSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from fleetmon import Agent

SIZES = (40, 1_000, 10_000)
RATE = 4.0  # Hz
CHANGES = 1_000  # tasks a second
STOPPED = 10.0  # seconds

_LETTERS = "abc"
_TICK = 0.001  # seconds between two looks of the probed loop
_BEAT = 0.01  # seconds between two bursts of tasks
_WINDOW = 1.0  # seconds, of the agents' utilization
_ENTRIES = 40  # tasks that fill an agent's book of it
_PAGE = os.sysconf("SC_PAGE_SIZE")
_MIB = 1024 * 1024


class Attached(NamedTuple):
    """What a reader costs; seconds, and shares of one core.

    Attributes:
        agents: size of the fleet.
        alone: rows encoded while nobody was attached.
        cpu: of the server's thread, a share of one core.
        whole: of the whole process, with a reader less without.
        complete: from the request until the reader had the whole fleet.
        without: the loop's worst lateness in each stretch without a reader.
        attaching: the same while a reader attached.
        reading: the same while it was attached.
    """

    agents: int
    alone: int
    cpu: float
    whole: float
    complete: float
    without: list[float]
    attaching: list[float]
    reading: list[float]

    @property
    def added(self) -> float:
        """Seconds by which the loop is later at worst, the median over the pairs of stretches."""
        pairs = zip(self.without, self.attaching, self.reading, strict=True)
        return median(max(attaching, reading) - without for without, attaching, reading in pairs)

    @property
    def worst(self) -> float:
        """The worst of all stretches with a reader."""
        return max(*self.attaching, *self.reading)


class Stopped(NamedTuple):
    """What a reader costs that stops; bytes and seconds.

    Attributes:
        agents: size of the fleet.
        seconds: for which it was stopped.
        grown: resident memory of the process meanwhile, whatever it is for.
        apart: the same as long before, with the reader reading.
        right: from when it went on until it knew all that had happened by then.
    """

    agents: int
    seconds: float
    grown: int
    apart: int
    right: float


class Turn(NamedTuple):
    """What the reader knew after one turn: when, whether all agents, and the sum of their tasks."""

    at: float
    complete: bool
    tasks: int


class Reader:
    """A process that reads the stream and says each turn what it knows."""

    def __init__(self, path: str) -> None:
        """Start it."""
        command = [sys.executable, "-m", "benchmarks.control", "--read", path]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._turns: list[Turn] = []
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as told:
            for line in told:
                if line.endswith("\n"):  # or it was killed within it
                    at, complete, tasks = line.split()
                    self._turns.append(Turn(float(at), complete == "1", int(tasks)))

    async def until(self, wanted: Callable[[Turn], bool]) -> Turn:
        """Return the first turn that is as wanted; looks on while it waits."""
        looked = 0
        while True:
            for turn in self._turns[looked:]:
                if wanted(turn):
                    return turn
                looked += 1
            if self._process.poll() is not None:
                raise RuntimeError("the reader has ended")
            await asyncio.sleep(_BEAT)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        self._thread.join()


class Bench:
    """A fleet that is looked at."""

    def __init__(self, fleet: Supervisor, agents: list[Agent]) -> None:
        """Take a fleet that runs."""
        self.fleet = fleet
        self.agents = agents
        self.done = 0
        control = fleet._control
        assert control is not None
        assert control._thread is not None
        self.hub = control._plane.hub
        thread = control._thread._thread.ident
        assert thread is not None
        self._clock = time.pthread_getcpuclockid(thread)

    def cpu(self) -> float:
        """Return the seconds that the server's thread has worked."""
        return time.clock_gettime(self._clock)

    def work(self, tasks: int) -> None:
        """Let agents finish so many tasks, one after the other."""
        agents, count = self.agents, len(self.agents)
        for n in range(self.done, self.done + tasks):
            with agents[n % count].task("work"):
                pass
        self.done += tasks

    async def busy(self, seconds: float) -> None:
        """Work at the rate of the benchmark for so long."""
        began = time.monotonic()
        first = self.done
        while (passed := time.monotonic() - began) < seconds:
            self.work(max(0, first + int(CHANGES * passed) - self.done))
            await asyncio.sleep(_BEAT)


@asynccontextmanager
async def bench(agents: int, *, window: float = 60.0) -> AsyncIterator[Bench]:
    """Run a fleet with its control plane in a directory of its own; ``window`` of utilization."""
    with tempfile.TemporaryDirectory(prefix="fm-") as directory:
        where = Path(directory, "control")
        settings = SupervisorSettings(
            name="bench",
            control=Control(enabled=True, directory=str(where)),
            metrics=Metrics(window=window),
        )
        async with Supervisor(settings) as fleet:
            yield Bench(fleet, [fleet.attach(f"agent-{n:05d}") for n in range(agents)])


async def _lateness(during: asyncio.Future[Any]) -> float:
    longest = 0.0
    while not during.done():
        before = time.perf_counter()
        await asyncio.sleep(_TICK)
        longest = max(longest, time.perf_counter() - before - _TICK)
    await during
    return longest


async def attached(agents: int, *, seconds: float = 20.0, rounds: int = 10) -> Attached:
    """Measure rows 16 and 17 for one size: pairs of stretches, without a reader and with one."""
    part = seconds / rounds
    without, attaching, reading, complete = [], [], [], []
    cpu = whole = 0.0
    async with bench(agents) as b:
        b.work(2 * agents)
        await b.busy(part)
        alone = b.hub.encoded
        gc.collect()
        for _ in range(rounds):
            while b.hub._attached:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(_BEAT)
            late, used, _ = await _stretch(b, part)
            without.append(late)
            whole -= used
            b.hub._clear()  # as after a minute without a reader: no row is ready
            reader = Reader(b.fleet.control_path)
            began = await reader.until(lambda _: True)  # says when it asks
            taken = asyncio.ensure_future(reader.until(_complete))
            attaching.append(await _lateness(taken))
            complete.append(taken.result().at - began.at)
            late, used, served = await _stretch(b, part)
            reading.append(late)
            whole += used
            cpu += served
            reader.close()
    return Attached(
        agents, alone, cpu / seconds, whole / seconds, median(complete), without, attaching, reading
    )


async def _stretch(b: Bench, seconds: float) -> tuple[float, float, float]:
    """Return the worst lateness, and CPU of the process and of the server's thread."""
    process, server = time.process_time(), b.cpu()
    late = await _lateness(asyncio.ensure_future(b.busy(seconds)))
    return late, time.process_time() - process, b.cpu() - server


def _complete(turn: Turn) -> bool:
    return turn.complete


async def stopped(agents: int, *, seconds: float = STOPPED) -> Stopped:
    """Measure row 18 for one size."""
    async with bench(agents, window=_WINDOW) as b:
        b.work(2 * agents)
        reader = Reader(b.fleet.control_path)
        await reader.until(_complete)
        for _ in range(_ENTRIES):  # two a task, a sixtieth of the window apart
            b.work(agents)
            await asyncio.sleep(_WINDOW / 50)
        await b.busy(3.0)
        apart = await _growth(b, seconds)
        reader.signal(signal.SIGSTOP)
        grown = await _growth(b, seconds)
        wanted, began = b.done, time.monotonic()
        reader.signal(signal.SIGCONT)
        working = asyncio.ensure_future(b.busy(3600.0))
        right = await reader.until(lambda turn: turn.tasks >= wanted)
        working.cancel()
        reader.close()
    return Stopped(agents, seconds, grown, apart, right.at - began)


async def _growth(b: Bench, seconds: float) -> int:
    gc.collect()
    before = _resident()
    await b.busy(seconds)
    gc.collect()
    return _resident() - before


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE


def read(path: str) -> None:
    """Be the reader: one line a turn with the time, completeness and the sum of tasks."""
    from fleetmon.control.client import Client
    from fleetmon.control.mirror import Mirror

    mirror = Mirror()
    print(time.monotonic(), 0, 0, flush=True)
    for frame in Client(path).stream(rate=RATE):
        mirror.apply(frame)
        if frame["type"] == "rows" and not frame["more"]:
            tasks = sum(row.succeeded for row in mirror.rows.values())
            print(time.monotonic(), int(mirror.complete), tasks, flush=True)


def rows_of_attached(*, quick: bool) -> list[Row]:
    """Measure rows 16 and 17."""
    cost, late, encoded = [], [], 0
    for letter, agents in zip(_LETTERS, SIZES, strict=True):
        what = f"CPU of serving a reader at 4 Hz, {agents:,} agents, % of a core"
        lag = f"loop later at worst by a reader, attaching too, {agents:,} agents, ms"
        goal = Goal("<=", 1.0) if agents == SIZES[0] else None
        if quick and agents > SIZES[0]:
            reason = "left out by --quick"
            cost.append(Row(f"16{letter}", what, goal=goal, reason=reason))
            late.append(Row(f"17{letter}", lag, goal=Goal("<=", 10), reason=reason))
            continue
        found = asyncio.run(attached(agents, seconds=3.0 if quick else 20.0))
        encoded += found.alone
        cost.append(
            Row(
                f"16{letter}",
                what,
                f"{found.cpu:.2%}",
                f"process {found.whole:.2%}",
                found.cpu * 100,
                goal,
            )
        )
        late.append(
            Row(
                f"17{letter}",
                lag,
                f"{found.added * 1e3:.1f} ms",
                f"worst {found.worst * 1e3:.0f} ms, without {max(found.without) * 1e3:.0f} ms",
                max(0.0, found.added) * 1e3,
                Goal("<=", 10),
            )
        )
    alone = Row(
        "16d", "rows encoded while nobody is attached", str(encoded), "", encoded, Goal("<=", 0)
    )
    return [*cost, alone, *late]


def rows_of_stopped(*, quick: bool, seconds: float = STOPPED) -> list[Row]:
    """Measure row 18."""
    rows = []
    for letter, agents in zip(_LETTERS, SIZES, strict=True):
        grown = f"growth by a reader stopped for {seconds:g} s, {agents:,} agents, MiB"
        right = f"until it is right again, {agents:,} agents, s"
        if quick and agents > SIZES[0]:
            reason = "left out by --quick"
            rows += [
                Row(f"18{letter}", grown, goal=Goal("<=", 1), reason=reason),
                Row(f"18{_after(letter)}", right, goal=Goal("<=", 1), reason=reason),
            ]
            continue
        found = asyncio.run(stopped(agents, seconds=2.0 if quick else seconds))
        said = f"{found.grown / 1024:,.0f} KiB"
        peer = f"reading {found.apart / 1024:,.0f} KiB"
        more = max(0, found.grown) / _MIB
        rows += [
            Row(f"18{letter}", grown, said, peer, more, Goal("<=", 1)),
            Row(
                f"18{_after(letter)}", right, f"{found.right:.2f} s", "", found.right, Goal("<=", 1)
            ),
        ]
    return rows


def _after(letter: str) -> str:
    return chr(ord(letter) + len(SIZES))


def main(argv: Sequence[str] | None = None) -> None:
    """Print the rows for the sizes given."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.control", description=__doc__)
    parser.add_argument("agents", nargs="*", type=int, default=SIZES)
    parser.add_argument("--stopped", type=float, default=STOPPED, metavar="SECONDS")
    parser.add_argument("--read", metavar="PATH", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.read is not None:
        read(options.read)
        return
    for agents in options.agents:
        a = asyncio.run(attached(agents))
        print(
            f"{agents:6d} agents: {a.cpu:.2%} of a core in the server's thread, {a.whole:.2%} in "
            f"the process; whole fleet in {a.complete * 1e3:.0f} ms; {a.alone} rows encoded alone"
        )
        print(
            f"{'':6s} loop later at worst by {a.added * 1e3:.1f} ms (median of pairs); worst of "
            f"all {max(a.without) * 1e3:.1f} ms without a reader, {max(a.attaching) * 1e3:.1f} ms "
            f"while one attaches, {max(a.reading) * 1e3:.1f} ms with one; medians "
            f"{median(a.without) * 1e3:.1f}, {median(a.attaching) * 1e3:.1f}, "
            f"{median(a.reading) * 1e3:.1f} ms"
        )
        s = asyncio.run(stopped(agents, seconds=options.stopped))
        print(
            f"{'':6s} stopped for {s.seconds:g} s: grown by {s.grown / 1024:.0f} KiB "
            f"({s.apart / 1024:.0f} KiB as long before), right {s.right:.2f} s after it went on"
        )


if __name__ == "__main__":
    main()
