"""The roster: its forty, its spellings, and what a bad file is told."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetmon._roster_toml import _Scanner
from fleetmon.errors import RosterError, UnknownAgentError
from fleetmon.roster import ELITE, MAX_ID_LENGTH, Roster, RosterEntry, load_roster

if TYPE_CHECKING:
    from pathlib import Path


def write(tmp_path: Path, name: str, text: str | bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_the_elite_are_forty_numbered_agents_in_eight_tiers() -> None:
    assert len(ELITE) == 40
    assert [entry.number for entry in ELITE] == list(range(1, 41))
    assert [entry.tier for entry in ELITE] == sorted(entry.tier or 0 for entry in ELITE)
    assert set(ELITE.tiers) == {entry.tier for entry in ELITE} == set(range(1, 9))
    assert ELITE.tier_name(ELITE["OMNISCIENT"].tier) == "Meta"
    assert ELITE["27"].field == "consensus and CRDTs"
    assert all(1 <= len(entry.task_types) <= 3 for entry in ELITE)


@pytest.mark.parametrize(
    "text",
    ["APEX", "apex", "@APEX", "@apex", " Apex ", "1", "01", "001", "@01", "APEX-1", "APEX-01",
     "APEX-001", "@apex-01"],
)  # fmt: skip
def test_every_accepted_spelling_means_the_agent(text: str) -> None:
    assert ELITE.normalize(text) == "APEX"


@pytest.mark.parametrize(
    "text",
    ["", "@", "0", "00", "41", "-1", "1-1", "APEX-02", "APEX-", "APEX--1", "APEX 1", "@@APEX", "-",
     "\N{ARABIC-INDIC DIGIT ONE}", "APEX-1-1", "01-APEX", "x" * 10_000],
)  # fmt: skip
def test_what_means_no_agent_is_refused(text: str) -> None:
    with pytest.raises(UnknownAgentError) as caught:
        ELITE.normalize(text)
    assert len(str(caught.value)) < 400


def test_an_unknown_agent_is_told_the_nearest_ids() -> None:
    with pytest.raises(UnknownAgentError) as caught:
        ELITE.normalize("tensr")
    assert caught.value.agent_id == "tensr"
    assert caught.value.suggestions[0] == "TENSOR"


def test_every_id_of_any_roster_normalizes_to_itself_and_pickles() -> None:
    roster = Roster("zoo", (RosterEntry("größe", 7, aliases=("Κύων",)), RosterEntry("node-7")))
    assert [roster.normalize(i) for i in roster.ids()] == ["größe", "node-7"]
    assert roster.normalize("GRÖSSE") == roster.normalize("gro\u0308ße") == "größe"
    assert roster.normalize("κύων") == roster.normalize("ΚΎΩΝ-07") == "größe"
    assert "größe" in roster
    assert "GRÖSSE" not in roster
    again = pickle.loads(pickle.dumps(roster))
    assert again == roster == copy.deepcopy(roster)
    assert hash(again) == hash(roster)
    assert pickle.loads(pickle.dumps(ELITE)).tiers == ELITE.tiers


def test_unknown_agents_enter_an_open_roster_only() -> None:
    shut = Roster("shut", (RosterEntry("a"),))
    wide = Roster("wide", (RosterEntry("a"),), admit_unknown=True)
    assert wide.admit("A") == "a"
    assert wide.admit("newcomer") == "newcomer"
    with pytest.raises(UnknownAgentError):
        shut.admit("newcomer")
    with pytest.raises(UnknownAgentError):
        wide.normalize("newcomer")
    with pytest.raises(RosterError, match="at most 64"):
        wide.admit("x" * 65)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"agent_id": ""}, "empty"),
        ({"agent_id": "x" * (MAX_ID_LENGTH + 1)}, "65 characters"),
        ({"agent_id": "a\nb"}, "control character"),
        ({"agent_id": "a\u202eb"}, "control character"),
        ({"agent_id": "a\ud800"}, "control character"),
        ({"agent_id": "a\u2028b"}, "control character"),
        ({"agent_id": " a"}, "space"),
        ({"agent_id": "@a"}, "'@'"),
        ({"agent_id": 7}, "must be text, not int"),
        ({"agent_id": "a", "number": 0}, "whole number"),
        ({"agent_id": "a", "number": True}, "whole number"),
        ({"agent_id": "a", "tier": "one"}, "whole number"),
        ({"agent_id": "a", "field": None}, "field must be text"),
        ({"agent_id": "a", "aliases": ("\x7f",)}, "alias"),
        ({"agent_id": "a", "task_types": ("",)}, "task type is empty"),
    ],
)
def test_a_bad_entry_is_refused_at_construction(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(RosterError, match=reason):
        RosterEntry(**fields)


def test_ids_at_the_limit_and_in_any_script_are_taken() -> None:
    for text in ("x" * MAX_ID_LENGTH, "ΣVAULT", "代理", "a b", "🤖", "{}%s\\"):
        assert RosterEntry(text).agent_id == text


def test_overrides_cannot_be_changed_through_the_entry() -> None:
    entry = RosterEntry("a", spec={"capacity": 4})
    with pytest.raises(TypeError):
        entry.spec["capacity"] = 5  # type: ignore[index]


GOOD_TOML = """\
# the fleet of the harbour
name = "harbour"
admit_unknown = true
tiers = { 1 = "cranes", 2 = "tugs" }

[[agents]]
id = "crane"
number = 10
tier = 1
aliases = ["hook",
  "jib"]
task_types = ["lift"]
[agents.spec]
capacity = 4
restart = "transient"

[[agents]]
id = "tug-é"
field = "pulling # not a comment"
"""
GOOD_YAML = """\
name: harbour
admit_unknown: yes
tiers: {1: cranes, 2: tugs}
agents:
  - &base
    id: crane
    number: 10
    tier: 1
    aliases: [hook, jib]
    task_types: [lift]
    spec: {capacity: 4, restart: transient}
  - id: tug-é
    field: "pulling # not a comment"
""".replace("yes", "true")


@pytest.mark.parametrize(
    ("name", "text"),
    [("h.toml", GOOD_TOML), ("h.yaml", GOOD_YAML), ("h.YML", GOOD_YAML),
     ("bom.toml", "\ufeff" + GOOD_TOML), ("crlf.toml", GOOD_TOML.replace("\n", "\r\n")),
     ("crlf.yaml", GOOD_YAML.replace("\n", "\r\n"))],
)  # fmt: skip
def test_a_roster_reads_the_same_from_toml_and_yaml(tmp_path: Path, name: str, text: str) -> None:
    if name.lower().endswith(("yaml", "yml")):
        pytest.importorskip("yaml")
    roster = load_roster(str(write(tmp_path, name, text)))
    spec = {"capacity": 4, "restart": "transient"}
    crane = RosterEntry("crane", 10, 1, "", ("hook", "jib"), ("lift",), spec)
    tug = RosterEntry("tug-é", field="pulling # not a comment")
    assert roster == Roster("harbour", (crane, tug), {1: "cranes", 2: "tugs"}, admit_unknown=True)
    assert roster.normalize("JIB") == roster.normalize("010") == roster.normalize("hook-10")


def test_the_file_stem_names_a_nameless_roster_and_merge_keys_share_settings(
    tmp_path: Path,
) -> None:
    pytest.importorskip("yaml")
    text = (
        "agents:\n- &a\n  id: one\n  tier: 2\n  spec: &s {capacity: 2}\n"
        "- <<: *a\n  id: two\n  spec:\n    <<: *s\n    restart: never\n"
    )
    roster = load_roster(write(tmp_path, "pair.yaml", text))
    assert roster.name == "pair"
    assert roster["two"].tier == 2
    assert dict(roster["two"].spec) == {"capacity": 2, "restart": "never"}


BAD_TOML = [
    ('[[agents]]\nid = "a"\n\n[[agents]]\nid = "A"\n', 5, "already taken by 'a'"),
    (
        '[[agents]]\nid = "a"\nnumber = 1\n[[agents]]\nid = "b"\nnumber = 1\n',
        6,
        "already means 'a'",
    ),
    ('[[agents]]\nid = "a"\n[[agents]]\nid = "b"\naliases = [\n "A"]\n', 5, "alias 'A' of 'b'"),
    ('[[agents]]\nid = "a"\nnumber = 7\n[[agents]]\nid = "7"\n', 3, "already means '7'"),
    ('[[agents]]\nid = "a"\naliass = ["b"]\n', 3, "did you mean 'aliases'"),
    ('nmae = "x"\n', 1, "did you mean 'name'"),
    ('\n\n[agent]\nid = "a"\n', 3, "did you mean 'agents'"),
    ("[[agents]]\nid = 7\n", 2, "must be text, not int 7; put it in quotes"),
    ('[[agents]]\nfield = "x"\n', 1, "no id"),
    ('agents = [\n  {id = "a"},\n  {id = "b", number = -1},\n]\n', 3, "number must be"),
    ('agents = [\n  {id = "a"},\n  "b",\n]\n', 3, "must be a table with an id, not text"),
    ('[[agents]]\nid = "a"\naliases = [\n  "ok",\n  "", # empty\n]\n', 5, "alias is empty"),
    ('[[agents]]\nid = "a"\naliases = "b"\n', 3, "must be a list of names, not text"),
    ('[[agents]]\nid = "a"\ntask_types = ["x",\n"x"]\n', 4, "is there twice"),
    ('[[agents]]\nid = "a"\nspec = 3\n', 3, "spec must be a table"),
    ('[agents]\nid = "a"\n', 1, "agents must be a list"),
    ("agents = []\n", 1, "is empty"),
    ('name = "x"\n', 1, "no agents are declared"),
    ("", 1, "declares nothing"),
    ("# only a comment\n", 1, "declares nothing"),
    ('tiers = {one = "x"}\nagents = [{id = "a"}]\n', 1, "tier 'one'"),
    ('agents = [{id = "a"}]\n[tiers]\n1 = "ok"\n2 = 5\n', 4, "the name of tier 2"),
    ('agents = [{id = "a"}]\nadmit_unknown = "no"\n', 2, "must be true or false"),
    ('[[agents]]\nid = "a\n', 2, "TOML"),
    ('[[agents]]\nid = "a"\nid = "b"\n', 3, "overwrite"),
    ("[[agents]\n", 1, "correct the TOML"),
    ('x = """abc\n\n', 1, "not closed"),
    (f"\n\nx = {'9' * 5000}\n", 3, "correct the TOML"),
    (b'name = "x"\n[[agents]]\nid = "\xe9"\n', 3, "byte 0xe9 is not UTF-8"),
]
BAD_YAML = [
    ("agents:\n- id: a\n- id: b\n- id: A\n", 4, "already taken by 'a'"),
    ("agents:\n- id: a\n  aliases:\n  - x\n  - 7\n", 5, "alias must be text, not int 7"),
    ("agents:\n- id: a\n  nuber: 7\n", 3, "did you mean 'number'"),
    ("agents:\n- id: a\n- id: NO\n", 3, "YAML reads NO as true/false; put it in quotes"),
    ("agents:\n- id: a\n  number: 010\n", 3, "octal"),
    ("agents:\n- id: a\n  id: b\n", 3, "there twice"),
    ("agents:\n- id: a\n  when: 2024-99-99\n", 3, "quote it"),
    ("agents:\n- id: [a\n- b\n", 3, "YAML"),
    ("agents:\n\t- id: a\n", 2, "cannot start any token"),
    ("agents: *nobody\n", 1, "undefined alias"),
    ("agents:\n- id: !!python/object:os.system a\n", 2, "could not determine a constructor"),
    ("- id: a\n", 1, "must be a mapping"),
    ("agents: &a\n- *a\n", 1, "deeply"),
    ("a: 1\n---\nb: 2\n", 2, "document"),
    ("agents:\n- id: 'a\x01'\n", 2, "forbids"),
    ("agents:\n- ? [x]\n  : y\n", 2, "plain text"),
    ("", 1, "declares nothing"),
    ("agents:\n", 1, "no agents are declared"),
    ("agents:\n- id: a\n  spec: {1: 2}\n", 3, "must be text"),
    ("x: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{','.join([f'*{chr(97 + i)}'] * 10)}]\n" for i in range(8)
    ), None, "too many"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("suffix", "text", "line", "reason"),
    [("toml", *row) for row in BAD_TOML] + [("yaml", *row) for row in BAD_YAML],
)
def test_a_bad_file_is_refused_with_its_line_and_the_reason(
    tmp_path: Path, suffix: str, text: str | bytes, line: int | None, reason: str
) -> None:
    if suffix == "yaml":
        pytest.importorskip("yaml")
    path = write(tmp_path, f"fleet.{suffix}", text)
    with pytest.raises(RosterError) as caught:
        load_roster(path)
    assert reason in caught.value.reason
    assert caught.value.path == str(path)
    if line is not None:
        assert caught.value.line == line
        assert str(caught.value).startswith(f"{path}:{line}: ")
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for name, reason in (("gone.toml", "no such file"), ("fleet.json", "name it .toml")):
        with pytest.raises(RosterError, match=reason) as caught:
            load_roster(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
    (tmp_path / "dir.toml").mkdir()
    with pytest.raises(RosterError, match="is a directory"):
        load_roster(tmp_path / "dir.toml")
    with pytest.raises(RosterError, match="larger than"):
        load_roster(write(tmp_path, "big.toml", b"#" * (4 * 1024 * 1024 + 1)))
    with pytest.raises(RosterError, match="cannot be read"):
        load_roster("nul\0byte.toml")


def test_yaml_without_pyyaml_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(RosterError, match=r"install fleetmon\[yaml\]"):
        load_roster(write(tmp_path, "h.yaml", GOOD_YAML))


KEYS = st.sampled_from(["a", "b-1", '"x.y"', "'z'", '"\\u00e9"', '"]="'])
SCALARS = st.sampled_from(
    ["1", "-3.5e7", "true", "1979-05-27 07:32:00", '"#\\"]"', "'}'", '""', "''",
     '"""\nx"y\n[[z]]\n"""', "'''\n\n#'''", '""""q"""""', '"""a\\\n  b"""']
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda v: "[ # c ]\n" + ",\n ".join(v) + "\n]")
        | st.dictionaries(KEYS, inner, max_size=3).map(
            lambda d: "{" + ", ".join(f"{k} = {v}" for k, v in d.items()) + "}"
        )
    ),
    max_leaves=6,
)
TABLES = st.dictionaries(KEYS, VALUES, max_size=3).map(
    lambda d: "".join(f"{k} = {v} # }}\n\n" for k, v in d.items())
)
DOCUMENTS = st.tuples(TABLES, st.lists(st.tuples(TABLES, TABLES), max_size=3), TABLES).map(
    lambda t: (
        t[0]
        + "".join(f"[[ list . 'of' ]]\n{a}[list.of.\"sub\"]\n{b}" for a, b in t[1])
        + f"[last.one]\n{t[2]}"
    )
)


def places(value: Any, here: tuple[Any, ...] = ()) -> set[tuple[Any, ...]]:
    found = {here} if here else set()
    if isinstance(value, dict):
        found = found.union(*(places(v, (*here, k)) for k, v in value.items()))
    elif isinstance(value, list):
        found = found.union(*(places(v, (*here, i)) for i, v in enumerate(value)))
    return found


@given(DOCUMENTS)
def test_the_scanner_places_exactly_the_values_that_the_parser_finds(text: str) -> None:
    lines = _Scanner(text).scan()
    assert set(lines) == places(tomllib.loads(text))
    assert all(1 <= line <= text.count("\n") + 1 for line in lines.values())


def test_importing_the_roster_loads_no_parser() -> None:
    code = (
        "import sys, fleetmon.roster as r; r.ELITE.normalize('apex');"
        "print(sorted({'tomllib', 'yaml', 'difflib', 'unicodedata'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
