"""Jobs that calculate: AXIOM, QUANTUM, TENSOR, NEURAL, HELIX."""

from __future__ import annotations

import ast
import cmath
import hashlib
import itertools
import math
import random
import re
from collections import Counter
from typing import TYPE_CHECKING, ClassVar

from fleetmon.demo.corpus import PYTHON_SUFFIXES
from fleetmon.demo.jobs._base import TINY, Facts, Job, parse, read_bytes, read_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fleetmon.demo.corpus import Kind

_WITNESSES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)


def is_prime(number: int) -> bool:
    """Decide primality below 3.3e24 for certain (Miller and Rabin; bases by Sorenson, Webster)."""
    if number < 2 or any(number % p == 0 for p in _WITNESSES):  # noqa: PLR2004 - the first prime
        return number in _WITNESSES
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in _WITNESSES:
        x = pow(base, odd, number)
        if x in (1, number - 1):
            continue
        for _ in range(twos - 1):
            x = x * x % number
            if x == number - 1:
                break
        else:
            return False
    return True


class Axiom(Job):
    """Mathematics: statements about a file's number, and about its conditions, with proof."""

    name: ClassVar[str] = "AXIOM"
    task_types: ClassVar[tuple[str, ...]] = ("certify_prime", "prove_tautology")

    def certify_prime(self, path: Path) -> Facts:
        """Find the next prime after the file's 64-bit digest, and prove Bezout's identity there."""
        digest = hashlib.blake2b(read_bytes(path, -1), digest_size=8).digest()
        start = int.from_bytes(digest, "big") | 1
        prime = next(n for n in itertools.count(start, 2) if is_prime(n))
        size = path.stat().st_size or 1
        # s*size + t*prime == 1 exists, since the size is smaller than the prime.
        s = pow(size, -1, prime)
        t = (1 - s * size) // prime
        return {"prime": prime, "gap": prime - start, "bezout": s * size + t * prime == 1}

    def prove_tautology(self, path: Path) -> Facts:
        """Decide each boolean expression by its truth table; its parts are its variables."""
        if path.suffix not in PYTHON_SUFFIXES:
            return self.certify_prime(path)
        verdicts: Counter[str] = Counter()
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.BoolOp) and verdicts.total() < 60:  # noqa: PLR2004 - bounds the work
                atoms: dict[str, int] = {}
                shape = _propositional(node, atoms)
                if len(atoms) <= 8:  # noqa: PLR2004 - 256 rows
                    rows = itertools.product((False, True), repeat=len(atoms))
                    values = {_decide(shape, row) for row in rows}
                    kind = (
                        "contingent" if len(values) > 1 else "valid" if True in values else "void"
                    )
                    verdicts[kind] += 1
        return {"expressions": verdicts.total(), **verdicts}


_Shape = tuple[str, tuple["_Shape", ...], int]


def _propositional(node: ast.expr, atoms: dict[str, int]) -> _Shape:
    if isinstance(node, ast.BoolOp):
        parts = tuple(_propositional(part, atoms) for part in node.values)
        return ("and" if isinstance(node.op, ast.And) else "or", parts, 0)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return ("not", (_propositional(node.operand, atoms),), 0)
    return ("atom", (), atoms.setdefault(ast.dump(node), len(atoms)))


def _decide(shape: _Shape, row: Sequence[bool]) -> bool:
    kind, parts, atom = shape
    if kind == "atom":
        return row[atom]
    if kind == "not":
        return not _decide(parts[0], row)
    return (all if kind == "and" else any)(_decide(part, row) for part in parts)


class Quantum(Job):
    """Quantum computing: a register of six qubits, simulated exactly."""

    name: ClassVar[str] = "QUANTUM"
    task_types: ClassVar[tuple[str, ...]] = ("simulate_circuit", "search_amplitudes")
    wants: ClassVar[Kind] = "any"
    qubits = 6

    def simulate_circuit(self, path: Path) -> Facts:
        """Take gates from the file's bytes, run them and their inverses; the start must return."""
        state = [0j] * (1 << self.qubits)
        state[0] = 1 + 0j
        data = read_bytes(path, 96)
        for byte in data:
            self._gate(state, byte, 1)
        probabilities = [abs(a) ** 2 for a in state]
        spread = -sum(p * math.log2(p) for p in probabilities if p > 0)
        for byte in reversed(data):
            self._gate(state, byte, -1)
        return {"gates": len(data), "norm": round(sum(probabilities), 9),
                "entropy_bits": round(spread, 3),
                "returned": abs(abs(state[0]) - 1) < TINY}  # fmt: skip

    def search_amplitudes(self, path: Path) -> Facts:
        """Search the register for the state that the file's digest marks (Grover, 1996)."""
        size = 1 << self.qubits
        marked = hashlib.sha256(read_bytes(path)).digest()[0] % size
        state = [1 / math.sqrt(size)] * size
        rounds = math.floor(math.pi / 4 * math.sqrt(size))
        for _ in range(rounds):
            state[marked] = -state[marked]
            mean = sum(state) / size
            state = [2 * mean - amplitude for amplitude in state]
        probability = state[marked] ** 2
        expected = math.sin((2 * rounds + 1) * math.asin(1 / math.sqrt(size))) ** 2
        return {"rounds": rounds, "probability": round(probability, 6),
                "as_theory_says": abs(probability - expected) < TINY}  # fmt: skip

    def _gate(self, state: list[complex], byte: int, direction: int) -> None:
        kind, target = byte % 3, byte // 3 % self.qubits
        bit = 1 << target
        control = 1 << (target + 1) % self.qubits
        turn = cmath.exp(1j * direction * math.pi / 4)
        root = math.sqrt(0.5)
        for low in range(len(state)):
            if low & bit:
                continue
            high = low | bit
            a, b = state[low], state[high]
            if kind == 0:  # Hadamard
                state[low], state[high] = (a + b) * root, (a - b) * root
            elif kind == 1:  # T
                state[high] = b * turn
            elif low & control:  # controlled not
                state[low], state[high] = b, a


class Tensor(Job):
    """Machine learning: the language model trained and asked, and a classifier of lines."""

    name: ClassVar[str] = "TENSOR"
    task_types: ClassVar[tuple[str, ...]] = ("train_model", "generate_tokens", "fit_classifier")
    features = 256

    def prepare(self) -> None:
        """Start with no weights."""
        self._weights = [0.0] * self.features
        self._seen = 0
        self._saved = False

    def train_model(self, path: Path) -> Facts:
        """Teach the language model this file; the first time, save it and load it again."""
        model = self.services.model
        tokens = model.train(read_text(path, 12 * 1024))
        if not self._saved:
            self.services.reload_model()
            self._saved = True
        return {"tokens": tokens, "contexts": len(model), "tokens_ever": model.trained_tokens}

    def generate_tokens(self, path: Path) -> Facts:
        """Continue the file's first line by up to 40 tokens, and what follows by a stream of 8."""
        text = read_text(path, 12 * 1024)
        model = self.services.model
        if not len(model):
            model.train(text)
        (result,) = model.generate_batch([text[:80].partition("\n")[0]], max_tokens=40)
        for _ in model.stream(text[80:120], max_tokens=8):
            pass
        return {"prompt_tokens": result.prompt_tokens,
                "completion_tokens": result.completion_tokens,
                "stop_reason": result.stop_reason, "text": result.text[:60]}  # fmt: skip

    def fit_classifier(self, path: Path) -> Facts:
        """Learn to tell comments from code by hashed words: one pass of logistic regression."""
        losses = []
        right = 0
        for line in read_text(path).splitlines()[:400]:
            words = re.findall(r"\w+", line)
            if not words:
                continue
            label = float(line.lstrip().startswith(("#", "//", "*", '"""')))
            at = [hashlib.blake2b(w.encode(), digest_size=1).digest()[0] for w in words[:12]]
            score = max(-30.0, min(30.0, sum(self._weights[i] for i in at)))
            guess = 1 / (1 + math.exp(-score))
            losses.append(-math.log(guess if label else 1 - guess))
            right += (guess > 0.5) == bool(label)  # noqa: PLR2004 - the even chance
            for i in at:
                self._weights[i] += 0.1 * (label - guess)
        self._seen += len(losses)
        half = len(losses) // 2 or 1
        return {"lines": len(losses), "lines_ever": self._seen,
                "accuracy": round(right / len(losses), 3) if losses else None,
                "loss_first_half": round(sum(losses[:half]) / half, 4),
                "loss_second_half": round(sum(losses[half:]) / max(1, len(losses) - half), 4),
        }  # fmt: skip


class Neural(Job):
    """Cognitive computing: an associative memory that completes what it half remembers."""

    name: ClassVar[str] = "NEURAL"
    task_types: ClassVar[tuple[str, ...]] = ("store_pattern", "recall_pattern")
    wants: ClassVar[Kind] = "any"
    neurons = 96
    capacity = 6  # well under Hopfield's limit of 0.14 a neuron

    def prepare(self) -> None:
        """Start with an empty memory."""
        self._patterns: dict[Path, list[int]] = {}

    def store_pattern(self, path: Path) -> Facts:
        """Remember the file's fingerprint; the oldest of six is forgotten."""
        digest = hashlib.sha384(read_bytes(path)).digest()
        bits = int.from_bytes(digest, "big")
        self._patterns.pop(path, None)
        self._patterns[path] = [1 if bits >> at & 1 else -1 for at in range(self.neurons)]
        if len(self._patterns) > self.capacity:
            self._patterns.pop(next(iter(self._patterns)))
        return {"patterns": len(self._patterns), "neurons": self.neurons}

    def recall_pattern(self, path: Path) -> Facts:
        """Spoil a tenth of the file's fingerprint, let the net settle, count what came back."""
        if path not in self._patterns:
            self.store_pattern(path)
        wanted = self._patterns[path]
        patterns = list(self._patterns.values())
        choose = random.Random(f"{self.seed}{wanted}")  # noqa: S311 - repeatable, not secret
        state = list(wanted)
        for at in choose.sample(range(self.neurons), self.neurons // 10):
            state[at] = -state[at]
        energy = self._energy(state, patterns)
        sweeps = 0
        for sweeps in range(1, 9):  # noqa: B007 - reported
            changed = False
            for at in range(self.neurons):
                field = sum(p[at] * self._overlap(p, state) for p in patterns)
                field -= len(patterns) * state[at]  # no neuron feeds itself
                fired = 1 if field > 0 else -1 if field < 0 else state[at]
                changed |= fired != state[at]
                state[at] = fired
            if not changed:
                break
        settled = self._energy(state, patterns)
        errors = sum(a != b for a, b in zip(state, wanted, strict=True))
        return {"patterns": len(patterns), "sweeps": sweeps, "errors_left": errors,
                "energy_fell": settled <= energy}  # fmt: skip

    @staticmethod
    def _overlap(pattern: list[int], state: list[int]) -> int:
        return sum(map(int.__mul__, pattern, state))

    def _energy(self, state: list[int], patterns: list[list[int]]) -> int:
        return -sum(self._overlap(pattern, state) ** 2 for pattern in patterns)


_BASES = "ACGT"


class Helix(Job):
    """Bioinformatics: bytes read as nucleotides, two bits each."""

    name: ClassVar[str] = "HELIX"
    task_types: ClassVar[tuple[str, ...]] = ("align_sequences", "count_kmers")
    wants: ClassVar[Kind] = "any"

    def prepare(self) -> None:
        """Remember no sequence yet."""
        self._last = "ACGT" * 20

    def align_sequences(self, path: Path) -> Facts:
        """Align with the previous file's sequence (Smith and Waterman, 1981), symmetrically."""
        mine = nucleotides(read_bytes(path, 30))
        other, self._last = self._last, mine or self._last
        score = align(mine, other)
        return {"length": len(mine), "score": score, "symmetric": score == align(other, mine),
                "self_score": align(mine, mine) == 2 * len(mine)}  # fmt: skip

    def count_kmers(self, path: Path) -> Facts:
        """Count words of six bases on both strands; the strands must mirror each other."""
        forward = nucleotides(read_bytes(path, 4 * 1024))
        backward = forward[::-1].translate(str.maketrans("ACGT", "TGCA"))
        k = 6
        one = Counter(forward[at : at + k] for at in range(len(forward) - k + 1))
        two = Counter(backward[at : at + k] for at in range(len(backward) - k + 1))
        commonest, times = (one.most_common(1) or [("", 0)])[0]
        gc = (forward.count("G") + forward.count("C")) / (len(forward) or 1)
        return {"bases": len(forward), "distinct": len(one), "commonest": commonest, "times": times,
                "gc_ratio": round(gc, 4), "mirrored": len(one) == len(two)}  # fmt: skip


def nucleotides(data: bytes) -> str:
    """Return four bases a byte, the high bits first."""
    return "".join(_BASES[byte >> shift & 3] for byte in data for shift in (6, 4, 2, 0))


def align(one: str, two: str) -> int:
    """Return the best local alignment's score: match 2, mismatch -1, gap -2."""
    row = [0] * (len(two) + 1)
    best = 0
    for a in one:
        diagonal = 0
        for at, b in enumerate(two, 1):
            score = max(0, diagonal + (2 if a == b else -1), row[at] - 2, row[at - 1] - 2)
            diagonal, row[at] = row[at], score
            best = max(best, score)
    return best
