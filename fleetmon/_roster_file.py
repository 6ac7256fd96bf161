"""Reads a roster from TOML or YAML, and says on which line it is wrong."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from fleetmon.errors import RosterError
from fleetmon.roster import (
    Roster,
    RosterEntry,
    find_clashes,
    why_bad_field,
    why_bad_name,
    why_bad_rank,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_BYTES = 4 * 1024 * 1024
"""Largest roster file that is read, in bytes."""

_TOP_KEYS = ("name", "agents", "tiers", "admit_unknown")
_AGENT_KEYS = ("id", "number", "tier", "field", "aliases", "task_types", "spec")

Place = tuple[str | int, ...]
"""Where a value sits in the document: ``("agents", 3, "id")``."""


@dataclass(frozen=True)
class _Document:
    """A parsed file: its values, and the line on which each begins."""

    path: Path
    values: Mapping[str, Any]
    lines: Mapping[Place, int]

    def fail(self, place: Place, reason: str) -> NoReturn:
        """Raise for the value at ``place``, on the line of its nearest known ancestor."""
        while place and place not in self.lines:
            place = place[:-1]
        raise RosterError(reason, path=str(self.path), line=self.lines.get(place, 1))


def load(path: str | Path) -> Roster:
    """Read, parse and check a roster file; see :func:`fleetmon.roster.load_roster`."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in {".toml", ".yaml", ".yml"}:
        reason = f"the ending {path.suffix!r} is not known; name it .toml, .yaml or .yml"
        raise RosterError(reason, path=str(path))
    text = _read(path)
    if suffix == ".toml":
        from fleetmon._roster_toml import parse_toml

        values, lines = parse_toml(path, text)
    else:
        from fleetmon._roster_yaml import parse_yaml

        values, lines = parse_yaml(path, text)
    return _roster(_Document(path, values, lines))


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        reason = "no such file; check the path"
    except IsADirectoryError:
        reason = "is a directory; name a file in it"
    except (OSError, ValueError) as error:
        reason = (
            f"cannot be read ({getattr(error, 'strerror', None) or error}); check its permissions"
        )
    else:
        return _decode(path, data)
    raise RosterError(reason, path=str(path))


def _decode(path: Path, data: bytes) -> str:
    if len(data) > MAX_BYTES:
        reason = f"is larger than {MAX_BYTES} bytes; a roster is not that long"
        raise RosterError(reason, path=str(path))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = data[error.start]
        reason = f"the byte 0x{byte:02x} is not UTF-8 ({error.reason}); save the file as UTF-8"
        raise RosterError(reason, path=str(path), line=line) from error


def _roster(doc: _Document) -> Roster:
    if not doc.values:
        doc.fail((), "the file declares nothing; add at least one agent with an id")
    _check_keys(doc, (), doc.values, _TOP_KEYS)
    name = doc.values.get("name", doc.path.stem)
    if not isinstance(name, str) or not name or (why_bad_field(name) is not None):
        doc.fail(("name",), f"name must be short plain text, not {name!r:.40}; correct or drop it")
    admit = doc.values.get("admit_unknown", False)
    if not isinstance(admit, bool):
        doc.fail(("admit_unknown",), f"admit_unknown must be true or false, not {admit!r:.40}")
    agents = doc.values.get("agents")
    if agents is None:
        doc.fail((), "no agents are declared; add a list called 'agents', each with an id")
    if not isinstance(agents, list):
        doc.fail(("agents",), f"agents must be a list of tables, not {_kind(agents)}; see the docs")
    if not agents:
        doc.fail(("agents",), "the list of agents is empty; declare at least one")
    entries = tuple(_entry(doc, index, agent) for index, agent in enumerate(agents))
    for index, key, reason in find_clashes(entries, {}):
        doc.fail(("agents", index, key), reason)
    return Roster(name, entries, _tiers(doc), admit)


def _tiers(doc: _Document) -> dict[int, str]:
    tiers = doc.values.get("tiers", {})
    if not isinstance(tiers, dict):
        doc.fail(("tiers",), f"tiers must be a table of number to name, not {_kind(tiers)}")
    named: dict[int, str] = {}
    for key, value in tiers.items():
        place = ("tiers", key)
        number = int(key) if re.fullmatch(r"[1-9][0-9]{0,8}", str(key)) else None
        if number is None:
            doc.fail(place, f"tier {key!r:.40} is not a whole number from 1; correct it")
        if not value or why_bad_field(value):
            doc.fail(place, f"the name of tier {key} must be short text, not {value!r:.40}")
        named[number] = value
    return named


def _entry(doc: _Document, index: int, agent: object) -> RosterEntry:
    here: Place = ("agents", index)
    if not isinstance(agent, dict):
        doc.fail(here, f"an agent must be a table with an id, not {_kind(agent)}")
    _check_keys(doc, here, agent, _AGENT_KEYS)
    if "id" not in agent:
        doc.fail(here, "this agent has no id; add one")
    checks = (
        ("id", why_bad_name(agent["id"])),
        ("number", why_bad_rank(agent.get("number"), "number")),
        ("tier", why_bad_rank(agent.get("tier"), "tier")),
        ("field", why_bad_field(agent.get("field", ""))),
    )
    for key, reason in checks:
        if reason is not None:
            doc.fail((*here, key), reason)
    spec = agent.get("spec", {})
    if not isinstance(spec, dict):
        doc.fail((*here, "spec"), f"spec must be a table of settings, not {_kind(spec)}")
    for key in spec:
        if not isinstance(key, str):
            doc.fail((*here, "spec", key), f"the key {key!r:.40} of spec must be text; quote it")
    return RosterEntry(
        agent["id"],
        agent.get("number"),
        agent.get("tier"),
        agent.get("field", ""),
        _names(doc, (*here, "aliases"), agent.get("aliases", []), "alias"),
        _names(doc, (*here, "task_types"), agent.get("task_types", []), "task type"),
        spec,
    )


def _names(doc: _Document, place: Place, values: object, what: str) -> tuple[str, ...]:
    if not isinstance(values, list):
        doc.fail(place, f"{place[-1]} must be a list of names, not {_kind(values)}")
    for index, value in enumerate(values):
        reason = why_bad_name(value, what)
        if reason is None and value in values[:index]:
            reason = f"{what} {value!r} is there twice; drop one"
        if reason is not None:
            doc.fail((*place, index), reason)
    return tuple(values)


def _check_keys(
    doc: _Document, place: Place, table: Mapping[Any, Any], known: tuple[str, ...]
) -> None:
    for key in table:
        if key not in known:
            from difflib import get_close_matches

            near = get_close_matches(str(key), known, n=1)
            fix = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            doc.fail((*place, key), f"unknown key {key!r:.60}; {fix}")


def _kind(value: object) -> str:
    """Name a value's type as the author of the file would."""
    words = {dict: "a table", list: "a list", str: "text", bool: "true/false", int: "a number"}
    return "nothing" if value is None else words.get(type(value), f"a {type(value).__name__}")
