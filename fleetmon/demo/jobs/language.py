"""Jobs on words: LINGUA, NEXUS, GENESIS, VANGUARD, CANVAS."""

from __future__ import annotations

import hashlib
import heapq
import itertools
import math
import re
import textwrap
import zlib
from collections import Counter, OrderedDict
from typing import TYPE_CHECKING, ClassVar

from fleetmon.demo.jobs._base import Facts, Job, read_bytes, read_text

if TYPE_CHECKING:
    from pathlib import Path

_WORD = re.compile(r"[^\W\d_]{2,40}")


def words_of(path: Path) -> list[str]:
    """Return a text's words, in lower case."""
    return [word.lower() for word in _WORD.findall(read_text(path))]


class Lingua(Job):
    """NLP: text into tokens, by learned pieces."""

    name: ClassVar[str] = "LINGUA"
    task_types: ClassVar[tuple[str, ...]] = ("tokenize_text", "learn_merges")

    def prepare(self) -> None:
        """Know no pieces but the characters."""
        self._merges: OrderedDict[tuple[str, str], None] = OrderedDict()

    def tokenize_text(self, path: Path) -> Facts:
        """Cut the words into learned pieces; put together they are the words again."""
        words = Counter(words_of(path)[:1_500])
        pieces = {word: self._cut(word) for word in list(words)[:400]}
        total = sum(len(cut) * words[word] for word, cut in pieces.items())
        letters = sum(len(word) * words[word] for word in pieces)
        exact = all("".join(cut) == word for word, cut in pieces.items())
        return {"words": words.total(), "pieces": total, "merges": len(self._merges),
                "letters_a_piece": round(letters / total, 3) if total else 0.0,
                "exact": exact}  # fmt: skip

    def learn_merges(self, path: Path) -> Facts:
        """Learn up to eight more pieces from the commonest pairs (byte-pair encoding)."""
        words = {tuple(self._cut(w)): n for w, n in Counter(words_of(path)).most_common(150)}
        learned = 0
        while learned < 8 and len(self._merges) < 600:  # noqa: PLR2004 - bounds work and memory
            pairs: Counter[tuple[str, str]] = Counter()
            for cut, times in words.items():
                for pair in itertools.pairwise(cut):
                    pairs[pair] += times
            if not pairs:
                break
            best = max(pairs, key=lambda pair: (pairs[pair], pair))
            self._merges[best] = None
            learned += 1
            merged: Counter[tuple[str, ...]] = Counter()
            for cut, times in words.items():
                merged[tuple(_join(list(cut), best))] += times
            words = dict(merged)
        return {"learned": learned, "merges": len(self._merges)}

    def _cut(self, word: str) -> list[str]:
        cut = list(word)
        ranks = {pair: rank for rank, pair in enumerate(self._merges)} if len(cut) > 1 else {}
        while len(cut) > 1:
            pairs = [pair for pair in itertools.pairwise(cut) if pair in ranks]
            if not pairs:
                break
            cut = _join(cut, min(pairs, key=ranks.__getitem__))
        return cut


def _join(cut: list[str], pair: tuple[str, str]) -> list[str]:
    joined: list[str] = []
    at = 0
    while at < len(cut):
        if tuple(cut[at : at + 2]) == pair:
            joined.append(cut[at] + cut[at + 1])
            at += 2
        else:
            joined.append(cut[at])
            at += 1
    return joined


_PRIME = (1 << 61) - 1


class Nexus(Job):
    """Cross-domain synthesis: which files say nearly the same."""

    name: ClassVar[str] = "NEXUS"
    task_types: ClassVar[tuple[str, ...]] = ("sketch_document", "find_neighbours")
    hashes = 48
    limit = 1_000

    def prepare(self) -> None:
        """Draw the hash functions."""
        digests = [
            hashlib.sha256(f"{self.seed}/{at}".encode()).digest() for at in range(self.hashes)
        ]
        self._functions = [
            (int.from_bytes(d[:7], "big") | 1, int.from_bytes(d[8:15], "big")) for d in digests
        ]
        self._sketches: OrderedDict[str, tuple[list[int], frozenset[int]]] = OrderedDict()

    def sketch_document(self, path: Path) -> Facts:
        """Keep a MinHash sketch (Broder, 1997) of the file's runs of three words."""
        words = words_of(path)
        runs = {hash_of(" ".join(words[at : at + 3])) for at in range(max(1, len(words) - 2))}
        shingles = frozenset(sorted(runs)[:500])
        sketch = [min((a * s + b) % _PRIME for s in shingles) for a, b in self._functions]
        label = self.label(path)
        self._sketches[label] = (sketch, shingles)
        self._sketches.move_to_end(label)
        if len(self._sketches) > self.limit:
            self._sketches.popitem(last=False)
        return {"runs": len(runs), "sketched": len(self._sketches)}

    def find_neighbours(self, path: Path) -> Facts:
        """Take the five most alike by sketch; of them, name the one that truly is (Jaccard's)."""
        self.sketch_document(path)
        label = self.label(path)
        sketch, shingles = self._sketches[label]
        alike = {
            other: sum(map(int.__eq__, sketch, theirs))
            for other, (theirs, _) in self._sketches.items()
            if other != label
        }
        if not alike:
            return {"neighbour": None, "compared": 0}
        true: dict[str, float] = {}
        for other in heapq.nlargest(5, alike, key=alike.__getitem__):
            theirs = self._sketches[other][1]
            true[other] = len(shingles & theirs) / len(shingles | theirs)
        best = max(true, key=true.__getitem__)
        return {"neighbour": best, "resemblance": round(true[best], 3),
                "estimate": round(alike[best] / self.hashes, 3),
                "compared": len(alike)}  # fmt: skip


def hash_of(text: str) -> int:
    """Return a hash of 56 bits that is the same in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big")


class Genesis(Job):
    """Novel discovery: what has not been seen before."""

    name: ClassVar[str] = "GENESIS"
    task_types: ClassVar[tuple[str, ...]] = ("score_novelty", "discover_phrases")

    def prepare(self) -> None:
        """Have seen nothing."""
        self._recent = b""
        self._pairs: Counter[tuple[str, str]] = Counter()

    def score_novelty(self, path: Path) -> Facts:
        """Measure how little of a file compresses against the last files (0 known, 1 all new)."""
        data = read_bytes(path, 16 * 1024)
        alone = _deflated(data, b"")
        known = _deflated(data, self._recent)
        self._recent = (self._recent + data)[-32 * 1024 :]
        return {"bytes": len(data), "compressed": alone, "novelty": round(known / alone, 4)}

    def discover_phrases(self, path: Path) -> Facts:
        """Enter the file's pairs of words; report how many were new, and the newest oddity."""
        words = words_of(path)[:2_500]
        pairs = Counter(itertools.pairwise(words))
        new = [pair for pair in pairs if pair not in self._pairs]
        self._pairs.update(pairs)
        if len(self._pairs) > 60_000:  # noqa: PLR2004 - bounds memory
            self._pairs = Counter(dict(self._pairs.most_common(30_000)))
        telling = max(new, key=lambda pair: (pairs[pair], pair), default=())
        return {"pairs": len(pairs), "new": len(new), "phrase": " ".join(telling)[:60],
                "known": len(self._pairs)}  # fmt: skip


def _deflated(data: bytes, dictionary: bytes) -> int:
    deflate = zlib.compressobj(6, zdict=dictionary)
    return len(deflate.compress(data) + deflate.flush())


class Vanguard(Job):
    """Research analysis: an index of documents, searched by relevance."""

    name: ClassVar[str] = "VANGUARD"
    task_types: ClassVar[tuple[str, ...]] = ("index_document", "search_index")
    limit = 600

    def prepare(self) -> None:
        """Start with an empty index."""
        self._documents: OrderedDict[str, tuple[Counter[str], int]] = OrderedDict()
        self._postings: dict[str, set[str]] = {}

    def index_document(self, path: Path) -> Facts:
        """Put the file's 200 commonest words into the index; the oldest document may leave."""
        words = words_of(path)
        label = self.label(path)
        self._drop(label)
        counts = Counter(dict(Counter(words).most_common(200)))
        self._documents[label] = (counts, len(words))
        for word in counts:
            self._postings.setdefault(word, set()).add(label)
        if len(self._documents) > self.limit:
            self._drop(next(iter(self._documents)))
        return {"words": len(words), "documents": len(self._documents),
                "vocabulary": len(self._postings)}  # fmt: skip

    def search_index(self, path: Path) -> Facts:
        """Search by the file's own most telling words (BM25); it should come out first."""
        self.index_document(path)
        label = self.label(path)
        counts, _ = self._documents[label]
        query = sorted(counts, key=lambda w: (-counts[w] * self._rarity(w), w))[:5]
        average = sum(length for _, length in self._documents.values()) / len(self._documents)
        ranked: dict[str, float] = {}
        for word in query:
            for document in self._postings[word]:
                held, length = self._documents[document]
                weight = held[word] * 2.2 / (held[word] + 1.2 * (0.25 + 0.75 * length / average))
                ranked[document] = ranked.get(document, 0.0) + self._rarity(word) * weight
        order = sorted(ranked, key=lambda d: (-ranked[d], d))
        rank = order.index(label) + 1 if label in ranked else None
        return {"query": query, "hits": len(ranked), "own_rank": rank,
                "first": order[0] if order else None}  # fmt: skip

    def _rarity(self, word: str) -> float:
        having = len(self._postings[word])
        return math.log(1 + (len(self._documents) - having + 0.5) / (having + 0.5))

    def _drop(self, label: str) -> None:
        counts, _ = self._documents.pop(label, (Counter(), 0))
        for word in counts:
            holders = self._postings[word]
            holders.discard(label)
            if not holders:
                del self._postings[word]


class Canvas(Job):
    """UI/UX: text laid out, colours that can be read."""

    name: ClassVar[str] = "CANVAS"
    task_types: ClassVar[tuple[str, ...]] = ("lay_out_text", "check_contrast")

    def lay_out_text(self, path: Path) -> Facts:
        """Break the words into lines of 60 by least raggedness; never worse than greedily."""
        words = [word[:60] for word in read_text(path).split()[:400]]
        costs, lines = least_ragged([len(word) for word in words], 60)
        greedy = textwrap.wrap(" ".join(words), 60, break_on_hyphens=False, break_long_words=False)
        ragged = sum((60 - len(line)) ** 2 for line in greedy[:-1])
        return {"words": len(words), "lines": lines, "raggedness": costs, "greedy": ragged,
                "no_worse": costs <= ragged}  # fmt: skip

    def check_contrast(self, path: Path) -> Facts:
        """Check the file's colours, its own or three from its digest, on white and black (WCAG)."""
        text = read_text(path)
        found = re.findall(r"#([0-9a-fA-F]{6})\b", text)[:64]
        digest = hashlib.sha256(text.encode()).hexdigest()
        colours = found or [digest[at : at + 6] for at in (0, 6, 12)]
        ratios = [
            max(contrast(colour, ground) for ground in ("ffffff", "000000")) for colour in colours
        ]
        # Some ground always gives 4.58: the square root of 21.
        return {
            "own_colours": len(found),
            "checked": len(colours),
            "lowest": round(min(ratios), 2),
            "all_readable": all(ratio >= 4.5 for ratio in ratios),  # noqa: PLR2004 - the AA of WCAG
        }


def least_ragged(widths: list[int], width: int) -> tuple[int, int]:
    """Return the least sum of squared blanks (the last line is free), and the number of lines."""
    best: list[tuple[int, int]] = [(0, 0)]  # for the first n words
    for end in range(1, len(widths) + 1):
        options = []
        used = -1
        for start in range(end - 1, -1, -1):
            used += widths[start] + 1
            if used > width:
                break
            blank = 0 if end == len(widths) else (width - used) ** 2
            options.append((best[start][0] + blank, best[start][1] + 1))
        best.append(min(options))
    return best[-1]


def contrast(one: str, two: str) -> float:
    """Return the contrast ratio of two colours (1 to 21; WCAG 2.1)."""
    light, dark = sorted((_luminance(one), _luminance(two)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)  # noqa: PLR2004 - WCAG's own figures
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
