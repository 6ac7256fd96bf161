"""The roster: which agents a fleet has, and what people may call them.

The forty of the Elite Agent Collective are kept here as data (:data:`ELITE`); any other fleet comes
from a file through :func:`load_roster`. Nothing here assumes a count, a name or a numbering.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from fleetmon.errors import RosterError, UnknownAgentError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["ELITE", "MAX_ID_LENGTH", "Roster", "RosterEntry", "load_roster"]

MAX_ID_LENGTH = 64
"""Longest agent id, alias or task type, in characters: they become label values."""

_MAX_FIELD_LENGTH = 200
_BIDI_CONTROLS = frozenset(
    "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)


def why_bad_name(text: object, what: str = "id") -> str | None:
    """Say why ``text`` cannot name something in a roster, with the fix; None where it can.

    Args:
        text: the candidate: an id, an alias or a task type.
        what: how the message calls it.
    """
    if not isinstance(text, str):
        return f"{what} must be text, not {type(text).__name__} {text!r:.40}; put it in quotes"
    if not text:
        return f"{what} is empty; give it at least one character"
    if len(text) > MAX_ID_LENGTH:
        return f"{what} {text[:20]!r}... has {len(text)} characters; use at most {MAX_ID_LENGTH}"
    if text != text.strip():
        return f"{what} {text!r} begins or ends with a space; remove it"
    if text.startswith("@"):
        return f"{what} {text!r} begins with '@', which is only how people type it; drop the '@'"
    return _why_unprintable(text, what)


def _why_unprintable(text: str, what: str) -> str | None:
    """Refuse what would break a log line, a table cell or a UTF-8 label value."""
    if text.isascii() and text.isprintable():
        return None
    import unicodedata

    for char in text:
        if unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"} or char in _BIDI_CONTROLS:
            return f"{what} {text!r:.80} has the control character {char!a}; remove it"
    return None


def _key(text: str) -> str:
    """Return what two spellings of one name have in common: case, and how accents are composed."""
    if not text.isascii():
        import unicodedata

        text = unicodedata.normalize("NFC", text)
    return text.casefold()


@dataclass(frozen=True, slots=True)
class RosterEntry:
    """One agent as the roster declares it.

    Attributes:
        agent_id: the id, and the value of the label ``agent_id``; at most 64 characters.
        number: its number in a numbered roster, from 1; None elsewhere.
        tier: its tier, from 1; None where the roster has no tiers.
        field: what it is for, in words.
        aliases: other names that :meth:`Roster.normalize` accepts.
        task_types: the kinds of task it is known to do; may be empty.
        spec: raw overrides for the agent's spec, read-only, checked by whoever builds the spec.

    Raises:
        RosterError: at construction, for the first field that is not as described.
    """

    agent_id: str
    number: int | None = None
    tier: int | None = None
    field: str = ""
    aliases: tuple[str, ...] = ()
    task_types: tuple[str, ...] = ()
    spec: Mapping[str, Any] = dataclasses.field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        """Refuse a bad field, and take a read-only copy of the overrides."""
        for reason in self._problems():
            raise RosterError(reason)
        object.__setattr__(self, "aliases", tuple(self.aliases))
        object.__setattr__(self, "task_types", tuple(self.task_types))
        object.__setattr__(self, "spec", MappingProxyType(dict(self.spec)))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by value: a mapping proxy does not pickle by itself."""
        plain = (self.agent_id, self.number, self.tier, self.field, self.aliases, self.task_types)
        return (type(self), (*plain, dict(self.spec)))

    def _problems(self) -> Iterator[str]:
        for what, value in (("id", self.agent_id), *(("alias", a) for a in self.aliases)):
            yield from filter(None, [why_bad_name(value, what)])
        for value in self.task_types:
            yield from filter(None, [why_bad_name(value, "task type")])
        yield from filter(None, [why_bad_rank(self.number, "number")])
        yield from filter(None, [why_bad_rank(self.tier, "tier")])
        yield from filter(None, [why_bad_field(self.field)])


def why_bad_rank(value: object, what: str) -> str | None:
    """Say why ``value`` is not a number or a tier (None, or an integer from 1); None if it is."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        return f"{what} must be a whole number from 1, not {value!r:.40}; correct or drop it"
    return None


def why_bad_field(value: object) -> str | None:
    """Say why ``value`` cannot describe an agent's field; None where it can."""
    if not isinstance(value, str):
        return f"field must be text, not {type(value).__name__} {value!r:.40}; put it in quotes"
    if len(value) > _MAX_FIELD_LENGTH:
        return f"field has {len(value)} characters; use at most {_MAX_FIELD_LENGTH}"
    return _why_unprintable(value, "field")


@dataclass(frozen=True)
class Roster:
    """The agents of one fleet, in order.

    Attributes:
        name: what the fleet is called.
        entries: its agents; never empty, no id, number or alias twice.
        tiers: names of the tiers, read-only.
        admit_unknown: whether :meth:`admit` lets an agent in that the roster does not name.

    Raises:
        RosterError: at construction, where entries clash or there are none.
    """

    name: str
    entries: tuple[RosterEntry, ...]
    tiers: Mapping[int, str] = dataclasses.field(default_factory=dict, hash=False)
    admit_unknown: bool = False
    _names: dict[str, str] = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Build the index of names, refusing what would make one ambiguous."""
        object.__setattr__(self, "entries", tuple(self.entries))
        object.__setattr__(self, "tiers", MappingProxyType(dict(self.tiers)))
        if not self.entries:
            reason = f"the roster {self.name!r:.80} has no agents; declare at least one"
            raise RosterError(reason)
        names: dict[str, str] = {}
        for _, _, reason in find_clashes(self.entries, names):
            raise RosterError(reason)
        object.__setattr__(self, "_names", names)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by value: a mapping proxy does not pickle by itself."""
        return (type(self), (self.name, self.entries, dict(self.tiers), self.admit_unknown))

    def __len__(self) -> int:
        """Return the number of agents."""
        return len(self.entries)

    def __iter__(self) -> Iterator[RosterEntry]:
        """Go through the agents in the roster's order."""
        return iter(self.entries)

    def __contains__(self, agent_id: object) -> bool:
        """Tell whether ``agent_id`` is an id of this roster, exactly as declared."""
        return isinstance(agent_id, str) and self._names.get(_key(agent_id)) == agent_id

    def __getitem__(self, agent_id: str) -> RosterEntry:
        """Return the entry of an agent, by any name that :meth:`normalize` accepts."""
        wanted = self.normalize(agent_id)
        return next(entry for entry in self.entries if entry.agent_id == wanted)

    def ids(self) -> tuple[str, ...]:
        """Return the ids in the roster's order."""
        return tuple(entry.agent_id for entry in self.entries)

    def tier_name(self, tier: int | None) -> str:
        """Return the tier's name, ``tier N`` where it has none, and nothing for no tier."""
        return "" if tier is None else self.tiers.get(tier, f"tier {tier}")

    def normalize(self, text: str) -> str:
        """Return the id that ``text`` means.

        Accepted, whatever the case, and with or without a leading ``@``: an id, an alias and, for
        a numbered agent, its number (``1``, ``01``) and ``APEX-1``, ``APEX-01``, ``APEX-001``.

        Raises:
            UnknownAgentError: it means none; the error carries the nearest ids.
        """
        wanted = _key(text.strip().removeprefix("@"))
        found = self._names.get(wanted)
        if found is None and wanted.isascii() and wanted.isdecimal():
            found = self._names.get(wanted.lstrip("0"))
        if found is None:
            found = self._by_suffix(wanted)
        if found is None:
            raise UnknownAgentError(text[: 2 * MAX_ID_LENGTH], self._nearest(wanted))
        return found

    def admit(self, text: str) -> str:
        """Return the id that ``text`` means, or ``text`` itself where unknown agents may enter.

        Raises:
            UnknownAgentError: it means none, and the roster is closed (``admit_unknown`` is False).
            RosterError: unknown agents may enter, but this is not fit to be an id.
        """
        try:
            return self.normalize(text)
        except UnknownAgentError:
            if not self.admit_unknown:
                raise
        if reason := why_bad_name(text):
            raise RosterError(reason)
        return text

    def _by_suffix(self, wanted: str) -> str | None:
        """Resolve ``name-007``: the name or an alias, followed by the agent's own number."""
        name, dash, digits = wanted.rpartition("-")
        if not (dash and digits.isascii() and digits.isdecimal()):
            return None
        found = self._names.get(name)
        same = found is not None and self._names.get(digits.lstrip("0")) == found
        # "7-7" is a number twice, not a name with its number.
        return found if same and not name.isdecimal() else None

    def _nearest(self, wanted: str) -> tuple[str, ...]:
        from difflib import get_close_matches

        near = get_close_matches(wanted[:MAX_ID_LENGTH], list(self._names), n=6, cutoff=0.6)
        return tuple(dict.fromkeys(self._names[name] for name in near))[:3]


def find_clashes(
    entries: tuple[RosterEntry, ...], names: dict[str, str]
) -> Iterator[tuple[int, str, str]]:
    """Fill ``names`` (spelling to id) and yield each clash: entry's index, its field, the reason.

    Ids that differ only by case clash too: whoever types one may mean the other.
    """
    for index, entry in enumerate(entries):
        key = _key(entry.agent_id)
        if key in names:
            yield (
                index,
                "id",
                f"id {entry.agent_id!r} is already taken by {names[key]!r}; rename it",
            )
        names.setdefault(key, entry.agent_id)
    for index, entry in enumerate(entries):
        spellings = [("aliases", "alias", alias) for alias in entry.aliases]
        if entry.number is not None:
            spellings.append(("number", "number", str(entry.number)))
        for where, what, spelling in spellings:
            owner = names.setdefault(_key(spelling), entry.agent_id)
            if owner != entry.agent_id:
                reason = (
                    f"{what} {spelling!r} of {entry.agent_id!r} already means {owner!r}; change it"
                )
                yield index, where, reason


def load_roster(path: str | Path) -> Roster:
    """Read a roster from a ``.toml``, ``.yaml`` or ``.yml`` file.

    The file holds ``agents``, a list of tables: ``id`` (required), ``number``, ``tier``, ``field``,
    ``aliases``, ``task_types``, ``spec``; and may hold ``name`` (default: the file's stem),
    ``tiers`` (number to name) and ``admit_unknown``.

    Raises:
        RosterError: for the first problem, with ``path``, ``line`` (from 1; None where no line is
            at fault, as for a missing file) and ``reason``, which ends with the fix.
    """
    from fleetmon._roster_file import load

    return load(path)


_TIERS = {
    1: "Foundational",
    2: "Specialists",
    3: "Innovators",
    4: "Meta",
    5: "Domain Specialists",
    6: "Emerging Tech",
    7: "Human-Centric",
    8: "Enterprise",
}

# number, codename, tier | field | task types
_ELITE = """
01 APEX 1|computer science engineering|review_complexity rank_functions
02 CIPHER 1|cryptography and security|encrypt_file verify_digest
03 ARCHITECT 1|systems architecture|map_imports find_cycles
04 AXIOM 1|mathematics and proofs|certify_prime prove_tautology
05 VELOCITY 1|performance|compress_file compare_search
06 QUANTUM 2|quantum computing|simulate_circuit search_amplitudes
07 TENSOR 2|machine learning|train_model generate_tokens fit_classifier
08 FORTRESS 2|defensive security, penetration testing|scan_vulnerabilities scan_secrets
09 NEURAL 2|cognitive computing|store_pattern recall_pattern
10 CRYPTO 2|blockchain|mine_block verify_chain
11 FLUX 2|DevOps|chunk_release plan_rollout
12 PRISM 2|data science|describe_columns correlate_columns
13 SYNAPSE 2|integration and APIs|translate_payload check_contract
14 CORE 2|compilers and low-level systems|compile_module fold_constants
15 HELIX 2|bioinformatics|align_sequences count_kmers
16 VANGUARD 2|research analysis|index_document search_index
17 ECLIPSE 2|testing and formal methods|verify_roundtrip kill_mutants
18 NEXUS 3|cross-domain synthesis|sketch_document find_neighbours
19 GENESIS 3|novel discovery|score_novelty discover_phrases
20 OMNISCIENT 4|orchestration|schedule_batch critical_path
21 ATLAS 5|cloud|store_object retrieve_object snapshot_store
22 FORGE 5|build systems|fingerprint_target plan_build
23 SENTRY 5|observability|sketch_quantiles detect_anomalies
24 VERTEX 5|graph databases|insert_edges shortest_path rank_nodes
25 STREAM 5|event streaming|count_window top_events
26 PHOTON 6|edge and IoT|downsample_signal pack_deltas
27 LATTICE 6|consensus and CRDTs|merge_replicas reach_consensus
28 MORPH 6|code migration|migrate_syntax find_legacy_idioms
29 PHANTOM 6|reverse engineering|recover_strings disassemble_bytecode
30 ORBIT 6|embedded and satellite|frame_telemetry correct_bitflips
31 CANVAS 7|UI/UX|lay_out_text check_contrast
32 LINGUA 7|NLP|tokenize_text learn_merges
33 SCRIBE 7|documentation|measure_docs render_reference
34 MENTOR 7|code review|review_style find_dead_imports
35 BRIDGE 7|cross-platform and mobile|scan_portability normalize_newlines
36 AEGIS 8|compliance|audit_licence find_personal_data
37 LEDGER 8|finance|post_entries close_books
38 PULSE 8|healthcare|detect_rhythm screen_vitals
39 ARBITER 8|conflict resolution|merge_edits elect_condorcet
40 ORACLE 8|forecasting|forecast_series backtest_model
"""


def _build_elite() -> Roster:
    entries = []
    for row in _ELITE.strip().splitlines():
        head, words, task_types = row.split("|")
        number, codename, tier = head.split()
        types = tuple(task_types.split())
        entries.append(RosterEntry(codename, int(number), int(tier), words, (), types))
    return Roster("Elite Agent Collective", tuple(entries), _TIERS)


ELITE = _build_elite()
"""The forty of the Elite Agent Collective, numbered 1 to 40, in eight tiers."""
