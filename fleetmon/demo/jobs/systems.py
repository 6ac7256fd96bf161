"""Jobs that run things: VELOCITY, FLUX, SYNAPSE, ATLAS, VERTEX, STREAM, OMNISCIENT."""

from __future__ import annotations

import csv
import hashlib
import heapq
import io
import itertools
import json
import re
import time
import zlib
from bisect import bisect_right
from collections import Counter, OrderedDict, deque
from typing import TYPE_CHECKING, ClassVar
from xml.etree import ElementTree as ET  # the job reads only what it has just written

from fleetmon.demo.jobs._base import TINY, Facts, Job, read_bytes, read_text

if TYPE_CHECKING:
    from pathlib import Path

    from fleetmon.demo.corpus import Kind


class Velocity(Job):
    """Performance: bytes made fewer, and searches raced."""

    name: ClassVar[str] = "VELOCITY"
    task_types: ClassVar[tuple[str, ...]] = ("compress_file", "compare_search")
    wants: ClassVar[Kind] = "any"

    def compress_file(self, path: Path) -> Facts:
        """Encode the file, decode it, compare."""
        data = read_bytes(path)
        result = self.services.compressor.encode(data)
        return {"original_size": result.original_size, "compressed_size": result.compressed_size,
                "ratio": round(result.compression_ratio, 3),
                "exact": self.services.compressor.decode(result.data) == data}  # fmt: skip

    def compare_search(self, path: Path) -> Facts:
        """Search the file's last bytes by Horspool's method and the built-in one; time both."""
        data = read_bytes(path, 24 * 1024)
        needle = data[-12:]
        began = time.perf_counter()
        mine = horspool(data, needle)
        between = time.perf_counter()
        builtin = data.find(needle)
        ended = time.perf_counter()
        return {"bytes": len(data), "found_at": mine, "agree": mine == builtin,
                "seconds": round(between - began, 7),
                "builtin_seconds": round(ended - between, 7)}  # fmt: skip


def horspool(data: bytes, needle: bytes) -> int:
    """Return where ``needle`` first is in ``data``, or -1 (Horspool, 1980)."""
    size = len(needle)
    skip = {byte: size - 1 - at for at, byte in enumerate(needle[:-1])}
    at = 0
    while at <= len(data) - size:
        if data[at : at + size] == needle:
            return at
        at += skip.get(data[at + size - 1], size)
    return -1


class Flux(Job):
    """DevOps: releases cut into chunks that stay the same, rolled out in waves."""

    name: ClassVar[str] = "FLUX"
    task_types: ClassVar[tuple[str, ...]] = ("chunk_release", "plan_rollout")
    wants: ClassVar[Kind] = "any"

    def prepare(self) -> None:
        """Hold no chunk, and draw the byte values of the rolling hash."""
        self._chunks: OrderedDict[bytes, None] = OrderedDict()
        self._gear = [
            int.from_bytes(hashlib.blake2b(bytes([b]), digest_size=4).digest(), "big")
            for b in range(256)
        ]

    def chunk_release(self, path: Path) -> Facts:
        """Cut the file where its content says; a byte put in front must move few cuts."""
        data = read_bytes(path, 24 * 1024)
        chunks = self._cut(data)
        digests = {hashlib.sha256(chunk).digest() for chunk in chunks}
        shifted = {hashlib.sha256(chunk).digest() for chunk in self._cut(b"#" + data)}
        new = sum(digest not in self._chunks for digest in digests)
        self._chunks.update(dict.fromkeys(digests))
        while len(self._chunks) > 20_000:  # noqa: PLR2004 - bounds memory
            self._chunks.popitem(last=False)
        return {"chunks": len(chunks), "new": new, "kept_after_shift": len(digests & shifted),
                "exact": b"".join(chunks) == data}  # fmt: skip

    def _cut(self, data: bytes) -> list[bytes]:
        chunks = []
        start = rolling = 0
        gear = self._gear
        for at, byte in enumerate(data, 1):
            rolling = (rolling << 1 & 0xFFFFFFFF) + gear[byte]
            if rolling & 0x1FF00000 == 0 and at - start >= 128:  # noqa: PLR2004 - smallest chunk
                chunks.append(data[start:at])
                start = at
        return [*chunks, data[start:]]

    def plan_rollout(self, path: Path) -> Facts:
        """Plan waves of 1, 2, 4, ... chunks; each goes out once, and no wave doubles the risk."""
        waves: list[int] = []
        left = len(self._cut(read_bytes(path, 24 * 1024)))
        total = left
        while left:
            waves.append(min(left, 2 * waves[-1] if waves else 1))
            left -= waves[-1]
        careful = all(wave <= sum(waves[:at]) + 1 for at, wave in enumerate(waves))
        return {"targets": total, "waves": len(waves), "all_once": sum(waves) == total,
                "careful": careful}  # fmt: skip


class Synapse(Job):
    """Integration: one payload in three formats, and contracts between them."""

    name: ClassVar[str] = "SYNAPSE"
    task_types: ClassVar[tuple[str, ...]] = ("translate_payload", "check_contract")

    def prepare(self) -> None:
        """Have no contract yet."""
        self._contract: dict[str, set[str]] = {}

    def translate_payload(self, path: Path) -> Facts:
        """Send the lines through JSON, CSV and XML; each must give back the same."""
        lines = read_text(path, 16 * 1024).split("\n")[:300]
        rows = [[str(at), re.sub(r"[^\t\x20-\ud7ff\ue000-\ufffd]", "?", line)]
                for at, line in enumerate(lines)]  # fmt: skip
        as_json = json.dumps(rows)
        table = io.StringIO(newline="")
        csv.writer(table).writerows(rows)
        root = ET.Element("lines")
        for number, line in rows:
            ET.SubElement(root, "line", number=number).text = line
        as_xml = ET.tostring(root)
        read = ET.fromstring(as_xml)  # noqa: S314 - written just above
        return {"rows": len(rows), "json_bytes": len(as_json), "xml_bytes": len(as_xml),
                "json": json.loads(as_json) == rows,
                "csv": list(csv.reader(io.StringIO(table.getvalue(), newline=""))) == rows,
                "xml": [[e.get("number"), e.text or ""] for e in read] == rows}  # fmt: skip

    def check_contract(self, path: Path) -> Facts:
        """Read ``name = value`` and ``name: value`` lines; find names whose kind changed."""
        fields = re.findall(r"(?m)^\s*(\w{2,40})\s*[:=]\s*(\S.{0,60})$", read_text(path))
        changed = 0
        for name, value in fields:
            kind = (
                "number" if re.match(r"-?\d", value) else "text" if value[0] in "'\"" else "other"
            )
            known = self._contract.setdefault(name, set())
            changed += bool(known) and kind not in known
            known.add(kind)
        while len(self._contract) > 10_000:  # noqa: PLR2004 - bounds memory
            self._contract.pop(next(iter(self._contract)))
        return {"fields": len(fields), "changed": changed, "known": len(self._contract)}


class Atlas(Job):
    """Cloud: objects kept encrypted, placed on a ring of machines, and snapshots."""

    name: ClassVar[str] = "ATLAS"
    task_types: ClassVar[tuple[str, ...]] = ("store_object", "retrieve_object", "snapshot_store")
    wants: ClassVar[Kind] = "any"
    limit = 64
    machines = 8

    def prepare(self) -> None:
        """Hold nothing, and build the ring."""
        self._held: OrderedDict[str, bytes] = OrderedDict()  # SHA-256 by key
        self._ring = sorted(
            (_point(f"{m}/{v}"), m) for m in range(self.machines) for v in range(32)
        )

    def store_object(self, path: Path) -> Facts:
        """Store the file's bytes; the oldest of 64 objects is deleted."""
        data = read_bytes(path, 16 * 1024)
        key = self.label(path)
        stored = self.services.store.store(key, data)
        self._held.pop(key, None)
        self._held[key] = hashlib.sha256(data).digest()
        if len(self._held) > self.limit:
            self.services.store.delete(self._held.popitem(last=False)[0])
        return {"size": stored.size, "stored_size": stored.stored_size, "objects": len(self._held),
                "machine": self._machine(key)}  # fmt: skip

    def retrieve_object(self, path: Path) -> Facts:
        """Fetch and decrypt the file's object, if it is held, and check it byte by byte."""
        key = self.label(path)
        data = self.services.store.retrieve(key)
        if key not in self._held:
            return {"hit": data is not None}
        sound = data is not None and hashlib.sha256(data).digest() == self._held[key]
        return {"hit": data is not None, "size": len(data or b""), "sound": sound}

    def snapshot_store(self, path: Path) -> Facts:
        """Snapshot, overwrite, restore, see the old bytes again; three snapshots stay."""
        store = self.services.store
        self.store_object(path)
        key = self.label(path)
        snapshot = store.create_snapshot()
        store.store(key, b"overwritten")
        store.store(f"{key}\0scratch", b"of no use")
        store.delete(f"{key}\0scratch")
        store.restore_snapshot(snapshot.snapshot_id)
        data = store.retrieve(key)
        for old in store.list_snapshots()[:-3]:
            store.delete_snapshot(old.snapshot_id)
        back = data is not None and hashlib.sha256(data).digest() == self._held[key]
        return {"snapshot": snapshot.snapshot_id, "objects": snapshot.objects, "restored": back}

    def _machine(self, key: str) -> int:
        return self._ring[bisect_right(self._ring, (_point(key), 0)) % len(self._ring)][1]


def _point(text: str) -> int:
    return zlib.crc32(hashlib.sha256(text.encode()).digest())


class Vertex(Job):
    """Graph databases: names that stand together, as a graph."""

    name: ClassVar[str] = "VERTEX"
    task_types: ClassVar[tuple[str, ...]] = ("insert_edges", "shortest_path", "rank_nodes")
    limit = 1_500

    def prepare(self) -> None:
        """Start with an empty graph."""
        self._edges: OrderedDict[str, dict[str, int]] = OrderedDict()

    def insert_edges(self, path: Path) -> Facts:
        """Join the names that share a line, both ways; the oldest nodes leave."""
        inserted = 0
        for line in read_text(path, 16 * 1024).splitlines():
            names = re.findall(r"[A-Za-z_]\w{3,30}", line)[:6]
            for one, two in itertools.pairwise(names):
                if one != two:
                    for a, b in ((one, two), (two, one)):
                        around = self._edges.setdefault(a, {})
                        around[b] = around.get(b, 0) + 1
                    inserted += 1
        while len(self._edges) > self.limit:
            gone, around = self._edges.popitem(last=False)
            for other in around:
                self._edges.get(other, {}).pop(gone, None)
        return {"inserted": inserted, "nodes": len(self._edges),
                "edges": sum(map(len, self._edges.values())) // 2}  # fmt: skip

    def shortest_path(self, path: Path) -> Facts:
        """Find the shortest way between the oldest and the newest name; each step is an edge."""
        self.insert_edges(path)
        if not self._edges:
            return {"nodes": 0, "hops": None}
        start, goal = next(iter(self._edges)), next(reversed(self._edges))
        came: dict[str, str] = {start: start}
        queue = deque([start])
        while queue and goal not in came:
            node = queue.popleft()
            for other in self._edges[node]:
                if other not in came:
                    came[other] = node
                    queue.append(other)
        way = [goal]
        while goal in came and way[-1] != start:
            way.append(came[way[-1]])
        edges = all(b in self._edges[a] for a, b in itertools.pairwise(way))
        return {"nodes": len(self._edges), "hops": len(way) - 1 if goal in came else None,
                "all_edges": edges}  # fmt: skip

    def rank_nodes(self, path: Path) -> Facts:
        """Rank the names by eight steps of PageRank; the ranks must add up to one."""
        self.insert_edges(path)
        if not self._edges:
            return {"nodes": 0}
        count = len(self._edges)
        rank = dict.fromkeys(self._edges, 1 / count)
        for _ in range(8):
            fresh = dict.fromkeys(self._edges, 0.15 / count)
            lost = 0.0
            for node, around in self._edges.items():
                if around:
                    share = 0.85 * rank[node] / sum(around.values())
                    for other, weight in around.items():
                        fresh[other] += share * weight
                else:
                    lost += 0.85 * rank[node] / count
            rank = {node: value + lost for node, value in fresh.items()}
        top = heapq.nlargest(3, rank, key=rank.__getitem__)
        return {"nodes": count, "top": top, "adds_up": abs(sum(rank.values()) - 1) < TINY}


class Stream(Job):
    """Event streaming: words as events, counted in windows and in little memory."""

    name: ClassVar[str] = "STREAM"
    task_types: ClassVar[tuple[str, ...]] = ("count_window", "top_events")
    window = 5_000
    width = 2_048

    def prepare(self) -> None:
        """Open an empty window."""
        self._events: deque[str] = deque()
        self._counts: Counter[str] = Counter()

    def count_window(self, path: Path) -> Facts:
        """Slide the window over the file's words; its counts must match its content."""
        words = re.findall(r"\w{1,40}", read_text(path))[:4_000]
        for word in words:
            self._events.append(word)
            self._counts[word] += 1
            if len(self._events) > self.window:
                gone = self._events.popleft()
                self._counts[gone] -= 1
                if not self._counts[gone]:
                    del self._counts[gone]
        return {"events": len(words), "window": len(self._events), "distinct": len(self._counts),
                "consistent": self._counts == Counter(self._events)}  # fmt: skip

    def top_events(self, path: Path) -> Facts:
        """Count words in a sketch of fixed size (Cormode, Muthukrishnan), never too low."""
        words = re.findall(r"\w{1,40}", read_text(path))[:4_000]
        true = Counter(words)
        rows = [[0] * self.width for _ in range(3)]
        places: dict[str, tuple[int, ...]] = {}
        for word, times in true.items():
            digest = hashlib.blake2b(word.encode(), digest_size=12).digest()
            places[word] = tuple(
                int.from_bytes(digest[at : at + 4], "big") % self.width for at in (0, 4, 8)
            )
            for row, place in zip(rows, places[word], strict=True):
                row[place] += times
        estimate = {
            word: min(row[place] for row, place in zip(rows, at, strict=True))
            for word, at in places.items()
        }
        top = heapq.nlargest(3, estimate, key=lambda word: (estimate[word], word))
        return {"events": len(words), "distinct": len(true), "top": top,
                "never_under": all(estimate[word] >= times for word, times in true.items()),
                "overestimated": sum(estimate[w] > times for w, times in true.items())}  # fmt: skip


class Omniscient(Job):
    """Orchestration: the collective's own next files, shared out and ordered."""

    name: ClassVar[str] = "OMNISCIENT"
    task_types: ClassVar[tuple[str, ...]] = ("schedule_batch", "critical_path")
    wants: ClassVar[Kind] = "any"

    def prepare(self) -> None:
        """Remember the sizes of no files."""
        self._sizes: deque[int] = deque(maxlen=200)

    def schedule_batch(self, path: Path) -> Facts:
        """Share the last files out to eight workers, longest first; check Graham's bound (1969)."""
        self._sizes.append(path.stat().st_size)
        workers = [0] * 8
        for size in sorted(self._sizes, reverse=True):
            heapq.heapreplace(workers, workers[0] + size)
        longest = max(workers)
        ordered = sorted(self._sizes, reverse=True)
        shared = ordered[7] + ordered[8] if len(ordered) > 8 else 0  # noqa: PLR2004 - two on one worker
        least = max(ordered[0], -(-sum(ordered) // 8), shared)
        # Graham proves 4/3 - 1/(3m) of the optimum, and 2 - 1/m of the bounds known here.
        return {"files": len(ordered), "makespan": longest, "lower_bound": least,
                "within_bound": longest <= (2 - 1 / 8) * least}  # fmt: skip

    def critical_path(self, path: Path) -> Facts:
        """Chain the file's parts by a pipeline of three stages; find what decides its length."""
        data = read_bytes(path)
        parts = [data[at : at + 4096] for at in range(0, len(data), 4096)] or [b""]
        costs = [(len(p), len(zlib.compress(p, 1)), 32 + p.count(b"\n")) for p in parts]
        done = [0, 0, 0]
        for cost in costs:
            before = 0
            for stage in range(3):
                done[stage] = max(done[stage], before) + cost[stage]
                before = done[stage]
        whole = sum(map(sum, costs))
        busiest = max(sum(cost[stage] for cost in costs) for stage in range(3))
        return {"parts": len(parts), "length": done[2], "serial": whole,
                "speedup": round(whole / done[2], 3),
                "within_bounds": busiest <= done[2] <= whole}  # fmt: skip
