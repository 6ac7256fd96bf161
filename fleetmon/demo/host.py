"""The host: a program like any other that embeds the supervisor, and ends as it should."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from fleetmon import ELITE, Recorder, Supervisor, load_roster
from fleetmon.demo import books, report
from fleetmon.demo.agents import AsyncAgent, PullingAgent, SyncAgent
from fleetmon.demo.cast import choose_cast, settings
from fleetmon.demo.chaos import Chaos
from fleetmon.demo.checks import is_spoiled
from fleetmon.demo.console import Console
from fleetmon.demo.corpus import find_corpus
from fleetmon.demo.feed import WORKER_REST, Deck, Feeder, Pacer
from fleetmon.demo.observed import ObservedWorker
from fleetmon.demo.outcome import Outcomes
from fleetmon.demo.services import Services
from fleetmon.demo.signals import signals_taken
from fleetmon.demo.telling import STDOUT, telling

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from typing import Any

    from fleetmon.demo.cast import Player

_LOOK_EVERY = 0.25  # seconds between looks at the fleet
_LINE_EVERY = 5.0  # seconds between lines where nothing can be rewritten
_STEER_EVERY = 1.0
_GRACE = 8.0  # seconds that a drain may take
_STOP = 3.0  # seconds that agents have to end after that
_HURRY = 1.0  # the same after a second Ctrl-C
_AT_SCRAPE = 3  # attempts at a picture in which nothing moves


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What was asked for.

    Attributes:
        path: directory to work on; None for the standard library.
        duration: seconds; None until Ctrl-C.
        metrics: ``HOST:PORT``.
        control: ``HOST:PORT`` of the control plane on TCP; ``1``: on its socket alone; ``0``: none.
        record: file that the record of the fleet goes into; None for none.
        seed: decides files and faults.
        agents: file of another roster.
        chaos: inject faults.
        as_json: print one JSON object on standard output, all else on standard error.
        tempo: factor on the durations of faults; 1 for people.
        log: file for JSON lines, ``-`` for standard output (all else then on standard error).
        trace: collector for spans; empty: the default one; None: the one that ``OTEL_*`` name.
    """

    path: str | None = None
    duration: float | None = None
    metrics: str = "127.0.0.1:9003"
    control: str = "1"
    record: str | None = None
    seed: int = 0
    agents: str | None = None
    chaos: bool = False
    as_json: bool = False
    tempo: float = 1.0
    log: str | None = None
    trace: str | None = None


def run_demo(options: DemoOptions) -> int:
    """Run the demonstration to its end; returns 0 when the books balance, 1 when they do not.

    Raises:
        FleetmonError: a roster, a directory or an address that cannot be used; nothing runs then.
        OSError: a file that cannot be read.
    """
    aside = options.as_json or options.log == STDOUT
    console = Console(sys.stderr if aside else sys.stdout)
    results = asyncio.run(perform(options, console))
    for line in results.lines(chaos=options.chaos):
        console.say(line)
    if options.as_json:
        sys.stdout.write(json.dumps(results.as_json()) + "\n")
        sys.stdout.flush()
    return 1 if results.wrong else 0


async def perform(
    options: DemoOptions, console: Console, *, signals: bool = True
) -> report.Results:
    """Run the demonstration in the running loop.

    Args:
        options: what was asked for.
        console: who hears of it.
        signals: take over SIGINT and SIGTERM meanwhile.

    Raises:
        FleetmonError: as :func:`run_demo`.
    """
    roster = ELITE if options.agents is None else load_roster(options.agents)
    corpus = find_corpus(options.path, seed=options.seed)
    with (
        tempfile.TemporaryDirectory(prefix="fleetmon-demo-") as directory,
        telling(options.log, options.trace, console) as told,
    ):
        root = Path(directory)
        players = choose_cast(roster, corpus, options.seed, root, tempo=options.tempo)
        registry = CollectorRegistry()
        fleet = Supervisor(
            settings(
                options.metrics,
                len(players),
                options.seed,
                tempo=options.tempo,
                grace=_GRACE,
                control=options.control,
            ),
            roster=roster,
            registry=registry,
            tracer=told.tracer,
            log=told.log,
            recorder=None if options.record is None else Recorder(options.record, required=True),
        )
        with Services(options.seed, root / "shared", registry) as services:
            demo = _Demo(options, console, fleet, players, services)
            kib = corpus.total_bytes // 1024
            with signals_taken(demo.asked, demo.hurried, console, grace=_GRACE, active=signals):
                async with fleet:
                    console.say(
                        f"fleetmon demo: {len(players)} agents work on {len(corpus.files)} files "
                        f"({kib} KiB) below {corpus.root}"
                    )
                    url = fleet.metrics_url
                    console.say(f"metrics: {url}")
                    if options.record is not None:
                        console.say(f"record:  {options.record}")
                    if options.control not in {"0", "1"}:
                        console.say(f"control: {fleet.control_url}")
                    console.say(f"look:    curl -s {url} | grep agents_health_status")
                    console.say("end:     Ctrl-C drains and stops, a second Ctrl-C stops at once")
                    return await demo.run()


class _Demo:
    """One run."""

    def __init__(
        self,
        options: DemoOptions,
        console: Console,
        fleet: Supervisor,
        players: tuple[Player, ...],
        services: Services,
    ) -> None:
        self.options = options
        self.console = console
        self.fleet = fleet
        self.players = players
        self.services = services
        self.asked = asyncio.Event()
        self.hurried = asyncio.Event()
        self.release = threading.Event()
        self.pacer = Pacer(len(players))
        self.decks = {player.agent_id: Deck(player, options.seed) for player in players}
        self.observed: dict[str, ObservedWorker] = {}
        self.outcomes = Outcomes(console.say)
        self.impossible: dict[str, str] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._workers: list[asyncio.Task[None]] = []
        self._listener: asyncio.Task[None] | None = None
        self._began = 0.0

    # -- a run -----------------------------------------------------------------------------------

    async def run(self) -> report.Results:
        up = asyncio.ensure_future(self._start())
        asked = asyncio.ensure_future(self.asked.wait())
        try:
            await asyncio.wait((up, asked), return_when=asyncio.FIRST_COMPLETED)
            self._began = time.monotonic()
            if up.done():
                await up  # what went wrong at the start goes up from here
                self._go()
                with suppress(TimeoutError):
                    async with asyncio.timeout(self.options.duration):
                        await self.asked.wait()
            else:
                await _end([up])
            for task in self._tasks:
                if task.done():
                    task.result()  # a mistake of our own is not to be passed over
            return await self._finish()
        finally:
            self.release.set()
            self.console.clear()
            await _end([up, asked, *self._tasks, *self._workers])

    async def _start(self) -> None:
        slow = []  # a fresh interpreter each: all at once
        try:
            for player in self.players:
                if player.role == "process":
                    slow.append(asyncio.ensure_future(self._add(player)))
                elif player.role == "observed":
                    self.observed[player.agent_id] = ObservedWorker(
                        self.fleet,
                        player,
                        self.decks[player.agent_id],
                        self.pacer,
                        self.services,
                    )
            waiting = {p.agent_id: p for p in self.players if p.role not in ("process", "observed")}
            while waiting:  # whom others depend on goes first
                ready = [p for p in waiting.values() if not waiting.keys() & {*p.spec.depends_on}]
                for player in ready:
                    await self._add(player)
                    del waiting[player.agent_id]
            await asyncio.gather(*slow)
        finally:
            await _end(slow)

    async def _add(self, player: Player) -> None:
        factory: Callable[[], object]
        if player.role == "process":
            factory = partial(SyncAgent, player.recipe)
        elif player.role == "inline":
            factory = partial(AsyncAgent, player.recipe, self.services, self.release)
        elif player.role == "serve":
            factory = partial(PullingAgent, player.recipe, self.services)
        else:
            factory = partial(SyncAgent, player.recipe, self.services, self.release)
        failed = None if player.role == "serve" else is_spoiled  # a body says so itself
        await self.fleet.add(player.agent_id, factory, spec=player.spec, failed=failed)

    def _go(self) -> None:
        seed = self.options.seed
        self._listener = self._spawn(self._listen())
        self._spawn(self._watch())
        for at, worker in enumerate(self.observed.values()):
            self._workers.append(asyncio.ensure_future(worker.run(in_thread=at % 2 == 1)))
        for player in self.players:
            if player.role == "observed":
                continue
            agent = self.fleet.agent(player.agent_id)
            for lane in range(min(player.spec.capacity, 8)):
                feeder = Feeder(
                    agent,
                    self.decks[player.agent_id],
                    self.pacer,
                    seed + lane,
                    rest=WORKER_REST if player.role == "process" else 1.0,
                )
                self._spawn(feeder.run())
        if self.options.chaos:
            chaos = Chaos(
                self.fleet,
                self.players,
                self.decks,
                self.observed,
                self.outcomes,
                seed=seed,
                clock=time.monotonic,
                tempo=self.options.tempo,
            )
            self.impossible = chaos.impossible
            self._spawn(chaos.run(self.options.duration))

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(coroutine)
        task.add_done_callback(self._ended)
        self._tasks.append(task)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self.asked.set()

    # -- looking ---------------------------------------------------------------------------------

    async def _listen(self) -> None:
        with self.fleet.events(limit=100_000) as stream:
            async for event in stream:
                self.outcomes.see(event)

    async def _watch(self) -> None:
        next_line = self._began + (0.0 if self.console.live else _LINE_EVERY)
        next_steer = self._began + _STEER_EVERY
        before, at, rate = 0, self._began, 0.0
        url = self.fleet.metrics_url
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            snapshot = self.fleet.snapshot()
            self.outcomes.look(snapshot)
            now = time.monotonic()
            if now >= next_steer:
                next_steer = now + _STEER_EVERY
                self.pacer.steer()
                assigned = sum(agent.assigned for agent in snapshot.agents)
                rate, before, at = (assigned - before) / (now - at), assigned, now
            if self.console.live:
                line = report.progress(snapshot, now - self._began, rate, self.pacer.load)
                faults = self._faults_line()
                look = f"curl -s {url}   Ctrl-C: drain and stop, twice: stop at once"
                self.console.show([line, *faults, look])
            elif now >= next_line:
                next_line = now + _LINE_EVERY
                self.console.say(
                    report.progress(snapshot, now - self._began, rate, self.pacer.load)
                )

    def _faults_line(self) -> list[str]:
        if not self.options.chaos:
            return []
        known = [i for i in self.outcomes.injections if i.injected]
        detected = sum(i.detected is not None for i in known)
        recovered = sum(i.recovered is not None for i in known)
        return [f"faults: {len(known)} injected, {detected} detected, {recovered} recovered"]

    # -- the end ---------------------------------------------------------------------------------

    async def _finish(self) -> report.Results:
        seconds = time.monotonic() - self._began
        last = self.fleet.snapshot()
        for worker in self.observed.values():
            worker.stop()
        drained = asyncio.ensure_future(self._drain())  # /readyz says no from here on
        hurried = asyncio.ensure_future(self.hurried.wait())
        await asyncio.wait((drained, hurried), return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        drained.cancel()
        url = self.fleet.metrics_url
        trouble: list[str] = []
        scraped: dict[str, books.Account] | None = None
        quiet = False
        try:
            scraped, quiet = await self._scrape(url)
        except (OSError, ValueError) as error:
            trouble.append(f"/metrics could not be read: {error}")
        self.release.set()
        ended = await self.fleet.shutdown(
            drain=0.0, stop=_HURRY if self.hurried.is_set() else _STOP
        )
        if self._listener is not None:  # the last events
            await asyncio.wait((self._listener,), timeout=_STOP)
        final = self.fleet.snapshot()
        accounts = books.read_snapshot(final)
        shown = accounts if scraped is None else scraped
        wrong = trouble + books.audit(accounts, shown, quiet=quiet)
        return report.Results(
            seconds=seconds,
            metrics_url=url,
            last=last,
            final=final,
            accounts=accounts,
            faults=self.outcomes.totals(),
            impossible=self.impossible,
            quarantines=self.outcomes.quarantines,
            wrong=wrong,
            left_behind=tuple(f"{x.what} {x.agent_id} {x.detail}" for x in ended.left_behind),
        )

    async def _drain(self) -> None:
        await self.fleet.drain(_GRACE)
        if self._workers:
            await asyncio.wait(self._workers, timeout=_GRACE)

    async def _scrape(self, url: str) -> tuple[dict[str, books.Account], bool]:
        """Return the accounts on ``/metrics``, and whether nothing moved meanwhile."""
        scraped: dict[str, books.Account] = {}
        for _ in range(_AT_SCRAPE):
            before = books.read_snapshot(self.fleet.snapshot())
            text = await asyncio.to_thread(books.scrape, url)
            scraped = await asyncio.to_thread(books.read_exposition, text)
            after = books.read_snapshot(self.fleet.snapshot())
            at_rest = not any(account.queued or account.in_flight for account in after.values())
            if before == after and at_rest:
                return scraped, True
            if self.hurried.is_set():
                break
        return scraped, False


async def _end(tasks: Sequence[asyncio.Future[Any]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=_STOP)
