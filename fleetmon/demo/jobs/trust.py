"""Jobs about keeping and proving: CIPHER, CRYPTO, AEGIS, LEDGER, ARBITER, LATTICE."""

from __future__ import annotations

import difflib
import hashlib
import hmac
import random
import re
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, ClassVar

from fleetmon.demo.jobs._base import Facts, Job, read_bytes, read_text
from fleetmon.demo.jobs._chacha import chacha20

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fleetmon.demo.corpus import Kind

_REMEMBERED = 4_096


class Cipher(Job):
    """Cryptography: files encrypted with ChaCha20 and HMAC-SHA-256, and digests kept."""

    name: ClassVar[str] = "CIPHER"
    task_types: ClassVar[tuple[str, ...]] = ("encrypt_file", "verify_digest")
    wants: ClassVar[Kind] = "any"

    def prepare(self) -> None:
        """Derive the keys of this run; they protect nothing but the demonstration."""
        secret = hashlib.scrypt(b"fleetmon", salt=str(self.seed).encode(), n=1024, r=8, p=1)
        self._cipher_key, self._tag_key = secret[:32], secret[32:]
        self._digests: OrderedDict[Path, bytes] = OrderedDict()
        self._messages = 0

    def encrypt_file(self, path: Path) -> Facts:
        """Encrypt then authenticate, check the tag, decrypt, compare; the first 3 KiB."""
        plain = read_bytes(path, 3 * 1024)
        self._messages += 1
        nonce = self._messages.to_bytes(12, "big")  # a counter: never twice under one key
        sealed = chacha20(self._cipher_key, nonce, plain)
        tag = hmac.digest(self._tag_key, nonce + sealed, "sha256")
        authentic = hmac.compare_digest(tag, hmac.digest(self._tag_key, nonce + sealed, "sha256"))
        opened = chacha20(self._cipher_key, nonce, sealed)
        return {"bytes": len(plain), "tag": tag.hex()[:16], "authentic": authentic,
                "decrypted": opened == plain}  # fmt: skip

    def verify_digest(self, path: Path) -> Facts:
        """Compare the file's SHA-256 with the one of last time."""
        digest = hashlib.sha256(read_bytes(path, -1)).digest()
        before = self._digests.pop(path, None)
        self._digests[path] = digest
        if len(self._digests) > _REMEMBERED:
            self._digests.popitem(last=False)
        state = "new" if before is None else "unchanged" if before == digest else "changed"
        return {"sha256": digest.hex()[:16], "state": state, "remembered": len(self._digests)}


@dataclass(frozen=True, slots=True)
class Block:
    """A link of CRYPTO's chain."""

    previous: bytes
    root: bytes
    nonce: int

    def digest(self) -> bytes:
        """Return the hash that the next block names and that the work is about."""
        return hashlib.sha256(self.previous + self.root + self.nonce.to_bytes(8, "big")).digest()


def merkle_levels(leaves: Sequence[bytes]) -> list[list[bytes]]:
    """Return the levels of a Merkle tree, leaves first; leaves and nodes hash apart (RFC 6962)."""
    levels = [[hashlib.sha256(b"\0" + leaf).digest() for leaf in leaves or [b""]]]
    while len(levels[-1]) > 1:
        below = levels[-1]
        pairs = [below[at : at + 2] for at in range(0, len(below), 2)]
        levels.append([
            hashlib.sha256(b"\1" + pair[0] + pair[1]).digest() if len(pair) > 1 else pair[0]
            for pair in pairs
        ])  # fmt: skip
    return levels


class Crypto(Job):
    """Blockchain: each file a block, mined, chained, and verified."""

    name: ClassVar[str] = "CRYPTO"
    task_types: ClassVar[tuple[str, ...]] = ("mine_block", "verify_chain")
    wants: ClassVar[Kind] = "any"
    difficulty = 11  # leading zero bits: some 2,000 hashes a block

    def prepare(self) -> None:
        """Begin the chain."""
        genesis = Block(bytes(32), hashlib.sha256(str(self.seed).encode()).digest(), 0)
        self._chain: deque[Block] = deque([genesis], maxlen=128)

    def mine_block(self, path: Path) -> Facts:
        """Put the file's chunks under a Merkle root, and find a nonce for the block."""
        data = read_bytes(path)
        chunks = [data[at : at + 1024] for at in range(0, len(data), 1024)]
        root = merkle_levels(chunks)[-1][0]
        head = hashlib.sha256(self._chain[-1].digest() + root)
        previous = self._chain[-1].digest()
        bound = 1 << (256 - self.difficulty)
        for nonce in range(1 << 20):
            attempt = head.copy()
            attempt.update(nonce.to_bytes(8, "big"))
            if int.from_bytes(attempt.digest(), "big") < bound:
                break
        else:  # one in e**512
            return {"mined": False, "tried": 1 << 20}
        self._chain.append(Block(previous, root, nonce))
        return {"mined": True, "tried": nonce + 1, "leaves": len(chunks), "root": root.hex()[:16]}

    def verify_chain(self, path: Path) -> Facts:
        """Check links and work of the kept chain, and prove one chunk of the file from its root."""
        blocks = list(self._chain)
        pairs = list(pairwise(blocks))
        linked = all(block.previous == before.digest() for before, block in pairs)
        bound = 1 << (256 - self.difficulty)
        worked = all(int.from_bytes(block.digest(), "big") < bound for _, block in pairs)
        data = read_bytes(path)
        chunks = [data[at : at + 1024] for at in range(0, len(data), 1024)] or [b""]
        levels = merkle_levels(chunks)
        at = len(data) % len(chunks)
        node = hashlib.sha256(b"\0" + chunks[at]).digest()
        steps = 0
        for level in levels[:-1]:
            sibling = at ^ 1
            if sibling < len(level):
                pair = (node, level[sibling]) if at % 2 == 0 else (level[sibling], node)
                node = hashlib.sha256(b"\1" + pair[0] + pair[1]).digest()
                steps += 1
            at //= 2
        return {"blocks": len(blocks), "linked": linked, "worked": worked, "proof_steps": steps,
                "proven": node == levels[-1][0]}  # fmt: skip


_LICENCES = {
    "MIT": r"permission is hereby granted, free of charge|\bMIT License\b",
    "Apache-2.0": r"apache license,? version 2",
    "GPL": r"gnu (?:lesser |affero )?general public license",
    "BSD": r"redistribution and use in source and binary forms",
    "PSF": r"python software foundation|licensed to psf",
    "Unicode": r"unicode,? inc",
}
_CARD = re.compile(r"\b\d(?:[ -]?\d){12,18}\b")
_MAIL = re.compile(r"\b[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{2,63}){1,4}\b")
_ADDRESS = re.compile(r"\b(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)\b")


def passes_luhn(number: str) -> bool:
    """Tell whether the digits in ``number`` carry a right check digit (ISO/IEC 7812-1)."""
    digits = [int(char) for char in number if char.isdigit()][::-1]
    return (
        sum(d if at % 2 == 0 else sum(divmod(2 * d, 10)) for at, d in enumerate(digits)) % 10 == 0
    )


class Aegis(Job):
    """Compliance: under which licence, and whose data."""

    name: ClassVar[str] = "AEGIS"
    task_types: ClassVar[tuple[str, ...]] = ("audit_licence", "find_personal_data")

    def prepare(self) -> None:
        """Compile the licences' marks."""
        self._licences = {name: re.compile(mark, re.IGNORECASE) for name, mark in _LICENCES.items()}
        self._tally: Counter[str] = Counter()

    def audit_licence(self, path: Path) -> Facts:
        """Name the licence that the file shows, and keep the tally."""
        text = re.sub(r"[\s#*]+", " ", read_text(path, 16 * 1024))
        spdx = re.search(r"SPDX-License-Identifier: ([\w.+-]+)", text)
        found = (
            [spdx[1]] if spdx else [n for n, mark in self._licences.items() if mark.search(text)]
        )
        verdict = found[0] if found else "undeclared"
        self._tally[verdict if verdict in _LICENCES else "other"] += 1
        return {"licence": verdict, "all": found, "copyright": "copyright" in text.lower(),
                "audited": self._tally.total()}  # fmt: skip

    def find_personal_data(self, path: Path) -> Facts:
        """Count mail addresses, network addresses and card numbers whose check digit is right."""
        text = read_text(path)
        cards = [found for found in _CARD.findall(text) if passes_luhn(found)]
        return {"mail_addresses": len(set(_MAIL.findall(text))), "cards": len(cards),
                "network_addresses": len(set(_ADDRESS.findall(text)))}  # fmt: skip


class Ledger(Job):
    """Finance: each file books its bytes between accounts, in cents, twice."""

    name: ClassVar[str] = "LEDGER"
    task_types: ClassVar[tuple[str, ...]] = ("post_entries", "close_books")
    wants: ClassVar[Kind] = "any"

    def prepare(self) -> None:
        """Open the books."""
        self._journal: deque[tuple[str, str, int]] = deque()
        self._balances: Counter[str] = Counter()
        self._carried: Counter[str] = Counter()  # of entries that left the journal

    def post_entries(self, path: Path) -> Facts:
        """Charge the file's bytes to its kind, shared out by class of byte to the last cent."""
        data = read_bytes(path)
        weights = [sum(map(data.count, b" \t\n\r")), sum(map(data.count, b"0123456789"))]
        weights.append(len(data) - sum(weights))
        parts = allocate(len(data), weights)
        debtor = f"files{path.suffix[:8]}"
        for account, cents in zip(("spaces", "digits", "other"), parts, strict=True):
            self._journal.append((debtor, account, cents))
            self._balances[debtor] -= cents
            self._balances[account] += cents
        while len(self._journal) > _REMEMBERED:
            giver, taker, cents = self._journal.popleft()
            self._carried[giver] -= cents
            self._carried[taker] += cents
        return {"cents": len(data), "parts": parts, "exact": sum(parts) == len(data),
                "balanced": sum(self._balances.values()) == 0}  # fmt: skip

    def close_books(self, path: Path) -> Facts:
        """Book the file, then recompute every balance from the journal and compare."""
        self.post_entries(path)
        recomputed = Counter(self._carried)
        for debtor, creditor, cents in self._journal:
            recomputed[debtor] -= cents
            recomputed[creditor] += cents
        agree = all(recomputed[account] == held for account, held in self._balances.items())
        return {"accounts": len(self._balances), "entries": len(self._journal), "agree": agree,
                "trial_balance": sum(self._balances.values())}  # fmt: skip


def allocate(total: int, weights: Sequence[int]) -> list[int]:
    """Share ``total`` out by weights, to the last unit: the largest remainders get the rest."""
    whole = sum(weights)
    if whole == 0:
        return [total, *[0] * (len(weights) - 1)]
    shares = [divmod(total * weight, whole) for weight in weights]
    parts = [share for share, _ in shares]
    by_remainder = sorted(range(len(shares)), key=lambda at: -shares[at][1])
    for at in by_remainder[: total - sum(parts)]:
        parts[at] += 1
    return parts


class Arbiter(Job):
    """Conflict resolution: edits merged, elections decided."""

    name: ClassVar[str] = "ARBITER"
    task_types: ClassVar[tuple[str, ...]] = ("merge_edits", "elect_condorcet")

    def merge_edits(self, path: Path) -> Facts:
        """Edit the text in two places at once, merge three ways, check that order is no matter."""
        base = read_text(path).splitlines()[:150]
        choose = random.Random(f"{self.seed}{len(base)}")  # noqa: S311 - repeatable, not secret
        mine, yours = list(base), list(base)
        for side, mark in ((mine, "mine"), (yours, "yours")):
            for at in sorted(choose.sample(range(len(base)), min(4, len(base))), reverse=True):
                side[at : at + choose.randrange(2)] = [f"# {mark} {at}"]
        merged, conflicts = merge_three(base, mine, yours)
        other, _ = merge_three(base, yours, mine)
        return {"lines": len(base), "merged_lines": len(merged), "conflicts": conflicts,
                "commutes": bool(conflicts) or merged == other}  # fmt: skip

    def elect_condorcet(self, path: Path) -> Facts:
        """Let each line rank the five commonest letters by first appearance; find who beats all."""
        text = read_text(path).lower()
        field = [c for c, _ in Counter(filter(str.isalpha, text)).most_common(5)]
        wins: Counter[tuple[str, str]] = Counter()
        ballots = [line for line in text.splitlines()[:800] if line.strip()]
        for ballot in ballots:
            place = {c: at if (at := ballot.find(c)) >= 0 else len(ballot) for c in field}
            for one, two in combinations(field, 2):
                wins[one, two] += place[one] < place[two]
                wins[two, one] += place[two] < place[one]
        winners = [c for c in field if all(wins[c, d] > wins[d, c] for d in field if d != c)]
        return {"ballots": len(ballots), "candidates": len(field),
                "winner": winners[0] if winners else None, "paradox": not winners}  # fmt: skip


def merge_three(
    base: Sequence[str], mine: Sequence[str], yours: Sequence[str]
) -> tuple[list[str], int]:
    """Merge two edits of ``base``; return the lines and how many places both sides changed.

    Where both changed one place alike it is no conflict; in a conflict the base stays.
    """
    changes: list[tuple[int, int, tuple[str, ...]]] = []
    for side in (mine, yours):
        codes = difflib.SequenceMatcher(None, base, side, autojunk=False).get_opcodes()
        changes += [(a, b, tuple(side[c:d])) for tag, a, b, c, d in codes if tag != "equal"]
    ordered = sorted(set(changes))
    spoiled = {at for at, (one, two) in enumerate(pairwise(ordered)) if two[0] <= one[1]}
    spoiled |= {at + 1 for at in spoiled}
    merged: list[str] = []
    done = 0
    for at, (start, end, lines) in enumerate(ordered):
        if at not in spoiled:
            merged += [*base[done:start], *lines]
            done = end
    return [*merged, *base[done:]], len(spoiled)


class Lattice(Job):
    """Consensus and CRDTs: replicas that meet, and a value agreed on by a lossy quorum."""

    name: ClassVar[str] = "LATTICE"
    task_types: ClassVar[tuple[str, ...]] = ("merge_replicas", "reach_consensus")

    def merge_replicas(self, path: Path) -> Facts:
        """Spread a file's words over three add-wins sets, merge in all orders, compare."""
        words = re.findall(r"\w+", read_text(path))[:1_500]
        replicas: list[tuple[set[tuple[str, int]], set[tuple[str, int]]]] = [
            (set(), set()) for _ in range(3)
        ]
        for clock, word in enumerate(words):
            added, removed = replicas[clock % 3]
            if clock % 7 == 6:  # noqa: PLR2004 - every seventh word is taken out
                removed.update(tag for tag in added if tag[0] == word)
            else:
                added.add((word, clock))
        states = []
        for order in ((0, 1, 2), (2, 0, 1), (1, 2, 0), (0, 0, 2, 1, 2)):
            added = set().union(*(replicas[at][0] for at in order))
            removed = set().union(*(replicas[at][1] for at in order))
            states.append({word for word, _ in added - removed})
        return {"operations": len(words), "words": len(states[0]),
                "converged": all(state == states[0] for state in states)}  # fmt: skip

    def reach_consensus(self, path: Path) -> Facts:
        """Let two proposers push digests through five acceptors that lose messages (Paxos)."""
        digest = hashlib.sha256(read_bytes(path)).hexdigest()
        lossy = random.Random(f"{self.seed}{digest}")  # noqa: S311 - repeatable, not secret
        acceptors = [Acceptor() for _ in range(5)]
        chosen: set[str] = set()
        rounds = 0
        while len(chosen) < 1 or rounds < 4:  # noqa: PLR2004 - they go on after the first choice
            rounds += 1
            value = propose(acceptors, rounds, digest[(rounds % 2) * 8 :][:8], lossy)
            if value is not None:
                chosen.add(value)
        return {"rounds": rounds, "value": next(iter(chosen)), "agreed": len(chosen) == 1}


@dataclass
class Acceptor:
    """One member of a Paxos quorum."""

    promised: int = 0
    accepted: tuple[int, str] = (0, "")


def propose(
    acceptors: Sequence[Acceptor], ballot: int, value: str, lossy: random.Random
) -> str | None:
    """Run one ballot of single-decree Paxos (Lamport, 1998); return the value if it was chosen."""
    majority = len(acceptors) // 2 + 1
    arrived = [a for a in acceptors if lossy.random() > 0.2]  # noqa: PLR2004 - one message in five is lost
    promises = [a for a in arrived if ballot > a.promised]
    if len(promises) < majority:
        return None
    for acceptor in promises:
        acceptor.promised = ballot
    newest = max(acceptor.accepted for acceptor in promises)
    value = newest[1] if newest[0] else value
    reached = [a for a in acceptors if lossy.random() > 0.2 and ballot >= a.promised]  # noqa: PLR2004 - one message in five is lost
    for acceptor in reached:
        acceptor.promised, acceptor.accepted = ballot, (ballot, value)
    return value if len(reached) >= majority else None
