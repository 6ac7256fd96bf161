"""The fast renderer: what ``prometheus_client`` would print, from blocks that are kept.

A scrape first brings the blocks of all agents up to date, each agent read once under its own
lock, then puts the blocks together family by family. Blocks of agents whose revision did not
move are used again; utilization and busy seconds, which move by time alone, are kept apart.
Entries are immutable tuples, so any number of scrapes may hold the same ones.

Rendering runs in a thread beside the host's loop. CPython hands the interpreter lock over after
5 ms only, so the renderer gives way by itself every millisecond or two.
"""

from __future__ import annotations

import logging
import time
from threading import Lock
from typing import TYPE_CHECKING, Any

from prometheus_client.exposition import generate_latest as _stock_text
from prometheus_client.openmetrics.exposition import generate_latest as _stock_openmetrics

from fleetmon.telemetry import families as f
from fleetmon.telemetry._template import BLOCKS, Templates, moved
from fleetmon.telemetry.collector import others

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from fleetmon.numbers import AgentNumbers
    from fleetmon.telemetry.families import Family, NumbersSource

CHUNK = 128 * 1024
"""Bytes that a chunk has about; none has more than twice that, unless one agent's block does."""

_SLICE = 0.0015  # seconds of work between two pauses
_PAUSE = 0.00002  # sleep(0) takes the lock back before a waiting thread is awake
_MANY = 256  # unchanged agents between two looks at the clock

# An entry: revision, active, exemplars, then a block for each of BLOCKS
_ACTIVE, _EXEMPLARS, _FIRST = 1, 2, 3
_WHERE = {family.name: _FIRST + i for i, family in enumerate(BLOCKS)}
_Entry = tuple[Any, ...]
# What moves by time alone: settled, the line of utilization, the line of busy seconds
_MOVING = {f.UTILIZATION.name: 1, f.BUSY.name: 2}
_Moving = tuple[bool, bytes, bytes]

_HEADERS = {
    openmetrics: {family.name: family.header(openmetrics=openmetrics) for family in f.FAMILIES}
    for openmetrics in (False, True)
}

_log = logging.getLogger(__name__)


class Renderer:
    """Renders the families of one fleet.

    Any number of threads may render at once.
    """

    def __init__(self, source: NumbersSource, *, cache: bool = True, registry: Any = None) -> None:
        """Render what ``source`` has.

        Args:
            source: where the numbers come from.
            cache: keep the text of unchanged agents (about 11 kB an agent with five task types);
                without it nothing is kept per agent.
            registry: a ``CollectorRegistry`` whose other families are printed behind ours by
                stock code. A collector there that raises costs those families, not ours.
        """
        self._source = source
        self._cache = cache
        self._registry = registry
        self._lock = Lock()  # one refresh at a time: the second finds its work done
        self._templates = Templates()
        self._agents: list[AgentNumbers] = []
        self._entries: list[_Entry] = []
        self._moving: list[_Moving] = []
        self._complained = False

    def render(
        self,
        openmetrics: bool = False,
        *,
        names: Collection[str] | None = None,
        encode: Callable[[Any], bytes] | None = None,
    ) -> Iterator[bytes]:
        """Yield the exposition in chunks of about :data:`CHUNK` bytes.

        The numbers are those of the moment at which the first chunk is asked for; most of the
        work is done there.

        Args:
            openmetrics: OpenMetrics 1.0.0, or else text 0.0.4.
            names: sample names to restrict the output to, or ``None`` for all.
            encode: stock encoder for the other families of the registry; by default that of the
                format.
        """
        return _gathered(self._chunks(openmetrics, names, encode))

    def _chunks(
        self,
        openmetrics: bool,
        names: Collection[str] | None,
        encode: Callable[[Any], bytes] | None,
    ) -> Iterator[tuple[int, list[bytes]]]:
        pace = _Pace()
        headers = _HEADERS[openmetrics]
        entries, moving = self._refresh(pace)
        behind = self._others(openmetrics, names, encode, pace)
        for family in f.AGENT_FAMILIES:
            wanted = _wanted(family, names)
            if not wanted:
                continue
            head = headers[family.name]
            if family is f.ACTIVE_TOTAL:
                active = sum([entry[_ACTIVE] for entry in entries])
                yield _part(b"%b%b %b\n" % (head, family.name.encode(), f.number(active)))
                continue
            if family.name in _MOVING:
                blocks = _blocks(moving, _MOVING[family.name], with_exemplars=False, pace=pace)
            else:
                where = _WHERE[family.name]
                blocks = _blocks(entries, where, with_exemplars=openmetrics, pace=pace)
            if names is not None:
                yield from _restricted(head, blocks, wanted)
                continue
            yield _part(head)
            for block in blocks:
                yield block
                pace()
        yield _part(_fleet(self._source, names, openmetrics=openmetrics))
        for text in behind:
            yield _part(text)
        if openmetrics:
            yield _part(b"# EOF\n")

    def _refresh(self, pace: _Pace) -> tuple[Sequence[_Entry], Sequence[_Moving]]:
        if not self._cache:
            now = self._source.now()
            templates = Templates()
            fresh = []
            for numbers in list(self._source.agents()):
                fresh.append(templates.read(numbers, now))
                pace()
            return [entry for entry, _ in fresh], [moving for _, moving in fresh]
        with self._lock:
            now = self._source.now()  # with the lock: busy seconds never run backwards
            current = list(self._source.agents())
            agents, entries, movings = self._agents, self._entries, self._moving
            del agents[len(current) :], entries[len(current) :], movings[len(current) :]
            for i, numbers in enumerate(current):
                if i == len(agents):
                    entry, moving = self._templates.read(numbers, now)
                    agents.append(numbers)
                    entries.append(entry)
                    movings.append(moving)
                elif agents[i] is not numbers or entries[i][0] != numbers.revision:
                    entries[i], movings[i] = self._templates.read(numbers, now)
                    agents[i] = numbers
                elif not movings[i][0]:
                    movings[i] = moved(numbers, now)
                    if numbers.revision != entries[i][0]:  # under our hands: one agent, one reading
                        entries[i], movings[i] = self._templates.read(numbers, now)
                elif i % _MANY:
                    continue
                pace()
            return entries.copy(), movings.copy()

    def _others(
        self,
        openmetrics: bool,
        names: Collection[str] | None,
        encode: Callable[[Any], bytes] | None,
        pace: _Pace,
    ) -> list[bytes]:
        registry = self._registry
        if registry is None:
            return []
        if names is not None:
            registry = registry.restricted_registry(names)
        if encode is None:
            encode = _stock_openmetrics if openmetrics else _stock_text
        try:
            return others(registry, encode, pace.give_way)
        except Exception:  # noqa: BLE001 - the host's code: it may raise anything
            if not self._complained:
                self._complained = True
                _log.exception(
                    "a collector on the host's registry raised: its families are left out"
                )
            return []


class _Pace:
    """Lets other threads have the interpreter after each slice of work."""

    def __init__(self) -> None:
        self._since = time.perf_counter()

    def __call__(self) -> None:
        if time.perf_counter() - self._since > _SLICE:
            self.give_way()

    def give_way(self) -> None:
        time.sleep(_PAUSE)
        self._since = time.perf_counter()


def _blocks(
    entries: Sequence[tuple[Any, ...]], where: int, *, with_exemplars: bool, pace: _Pace
) -> Iterator[tuple[int, list[bytes]]]:
    at, step = 0, _MANY
    while at < len(entries):
        part = entries[at : at + step]
        group = [entry[where] for entry in part]
        size = sum(map(len, group))
        if size > 2 * CHUNK and step > 1:
            step = max(1, step * CHUNK // size)
            continue
        at += step
        if size < CHUNK // 2:
            step *= 2
        if with_exemplars:
            for i, entry in enumerate(part):
                for marks in entry[_EXEMPLARS] or ():
                    if marks.block + _FIRST == where:
                        group[i] = marks.onto(group[i])
                        pace()
            size = sum(map(len, group))
        yield size, group


def _part(text: bytes) -> tuple[int, list[bytes]]:
    return len(text), [text]


def _wanted(family: Family, names: Collection[str] | None) -> tuple[str, ...]:
    if names is None:
        return family.samples
    return tuple(name for name in family.samples if name in names)


def _restricted(
    head: bytes, blocks: Iterator[tuple[int, list[bytes]]], wanted: tuple[str, ...]
) -> Iterator[tuple[int, list[bytes]]]:
    prefixes = tuple(name.encode() + b"{" for name in wanted)
    for _, group in blocks:
        # split at newlines and nothing else: a label value may hold any other separator
        lines = b"".join(group).split(b"\n")
        body = b"".join([line + b"\n" for line in lines if line.startswith(prefixes)])
        if body:  # stock leaves a restricted family without samples out
            yield _part(head + body)
            head = b""


def _fleet(source: NumbersSource, names: Collection[str] | None, *, openmetrics: bool) -> bytes:
    parts = []
    for family, rows in f.fleet_rows(source.fleet()):
        if names is not None and (family.name not in names or not rows):
            continue
        parts.append(_HEADERS[openmetrics][family.name])
        for labels, value in rows:
            inside = b",".join(
                [
                    b'%b="%b"' % (label.encode(), f.escaped(text))
                    for label, text in zip(family.labels, labels, strict=True)
                ]
            )
            braces = b"{%b}" % inside if inside else b""
            parts.append(b"%b%b %b\n" % (family.name.encode(), braces, f.number(value)))
    return b"".join(parts)


def _gathered(parts: Iterator[tuple[int, list[bytes]]]) -> Iterator[bytes]:
    # small families travel together: a chunk costs its taker a hop between threads
    waiting: list[bytes] = []
    total = 0
    for size, group in parts:
        if waiting and total + size > 2 * CHUNK:
            yield b"".join(waiting)
            waiting, total = [], 0
        waiting += group
        total += size
        if total >= CHUNK:
            yield b"".join(waiting)
            waiting, total = [], 0
    if waiting:
        yield b"".join(waiting)
