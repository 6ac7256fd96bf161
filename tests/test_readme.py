"""README.md is true: its blocks run and print what they say, its tables match the code."""

from __future__ import annotations

import ast
import asyncio
import builtins
import inspect
import re
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

import fleetmon
import fleetmon.exporters
import fleetmon.testing
from fleetmon import AgentSpec, Supervisor, SupervisorSettings, load_roster
from fleetmon.numbers import LIFECYCLES
from fleetmon.policy.transitions import Command
from fleetmon.spec import Part
from fleetmon.telemetry.families import FAMILIES

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
TEXT = README.read_text("utf-8")


class Block(NamedTuple):
    line: int
    code: str
    prints: str | None

    @property
    def alone(self) -> bool:
        """Whether it is a whole program; the others go on in one session with a `fleet`."""
        return "run(" in self.code.splitlines()[-1] or "start_in_thread" in self.code


def python_blocks() -> list[Block]:
    found = re.finditer(
        r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```)?", TEXT, re.MULTILINE | re.DOTALL
    )
    return [Block(TEXT.count("\n", 0, m.start()) + 2, m[1], m[2]) for m in found]


BLOCKS = python_blocks()


def compiled(block: Block, flags: int = 0):
    padding = "\n" * (block.line - 1)  # a traceback then shows the line of README.md
    return compile(padding + block.code, str(README), "exec", flags=flags, dont_inherit=True)


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.alone], ids=lambda b: f"line {b.line}")
def test_a_program_prints_what_stands_below_it(block, capsys):
    exec(compiled(block), {"__name__": "__main__"})
    assert capsys.readouterr().out == (block.prints or "")


def test_the_other_blocks_run_in_one_session_and_print_what_stands_below_them(capsys):
    async def session() -> None:
        async with Supervisor() as fleet:
            names = {"__name__": "__main__", "fleet": fleet}
            for block in (b for b in BLOCKS if not b.alone):
                ran = eval(compiled(block, ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
                if inspect.iscoroutine(ran):
                    async with asyncio.timeout(20):
                        await ran
                assert (block.line, capsys.readouterr().out) == (block.line, block.prints or "")

    pytest.importorskip("opentelemetry.instrumentation.fastapi", reason="no extra fastapi here")
    asyncio.run(session())


def rows(header: str) -> list[list[str]]:
    """The cells of the one table whose first column is headed so."""
    (table,) = re.findall(
        rf"^\| {re.escape(header)} \|.*\n\|[-|]+\n((?:\|.*\n)+)", TEXT, re.MULTILINE
    )
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in table.splitlines()]


def code(cell: str) -> str:
    assert cell[0] == cell[-1] == "`", f"{cell} should stand in backticks"
    return cell[1:-1]


def defaults(model: type[Part], prefix: str = ""):
    for name, field in model.model_fields.items():
        value = field.get_default(call_default_factory=True)
        if isinstance(value, AgentSpec):
            yield prefix + name, "AgentSpec()"
        elif isinstance(value, Part):
            yield from defaults(type(value), f"{prefix}{name}.")
        else:
            yield prefix + name, repr(value)


@pytest.mark.parametrize("model", [AgentSpec, SupervisorSettings])
def test_the_tables_of_configuration_have_every_field_and_its_default(model):
    told = [(code(name), code(default)) for name, default, _ in rows(f"`{model.__name__}`")]
    assert told == list(defaults(model))
    assert all(meaning for _, _, meaning in rows(f"`{model.__name__}`"))


def test_the_table_of_metrics_has_every_family_with_type_and_labels():
    told = [(code(name), kind, labels.strip(" |")) for name, kind, labels in rows("family")]
    assert told == [(family.name, family.kind, ", ".join(family.labels)) for family in FAMILIES]


def test_the_tables_of_states_and_commands_are_complete():
    assert {code(row[0]) for row in rows("lifecycle")} == set(LIFECYCLES)
    assert [code(row[0]) for row in rows("command")] == [command.value for command in Command]
    assert [row[0][0] for row in rows("`agents_health_status`")] == ["0", "1", "2"]
    executors = AgentSpec.model_fields["executor"].annotation
    assert [code(row[0]) for row in rows("`executor`")] == list(executors.__args__)


def test_the_default_settings_are_as_the_words_say():
    spec, settings = AgentSpec(), SupervisorSettings()
    words = " ".join(TEXT.partition("## What happens when something fails")[2].split())
    for phrase, value in (
        ("five failures in a row", spec.max_consecutive_failures == 5),
        ("0.05 to 0.5 s", (spec.backoff.floor, spec.backoff.base) == (0.05, 0.5)),
        ("doubles with each lapse up to 30 s", (spec.backoff.factor, spec.backoff.cap) == (2, 30)),
        ("30 s of verified running", spec.verify.stable_for == 30),
        ("sixth lapse within ten minutes", tuple(dict(spec.intensity).values()) == (5, 600)),
        ("tries the agent once a minute", spec.quarantine.probe_interval == 60),
        ("At most eight agents recover", settings.restarts.max_concurrent == 8),
        ("When half of the fleet, and at least five agents, lapse within ten seconds",
         (settings.shared_cause.fraction, settings.shared_cause.min_agents,
          settings.shared_cause.window) == (0.5, 5, 10)),
        ("without progress for a minute", spec.hang.soft == 60),
        ("after ten minutes it is cancelled", spec.hang.hard == 600),
        ("does not answer for 0.3 s", settings.watchdog.blocked_after == 0.3),
        ("Tasks in flight when their agent lapses fail", spec.in_flight == "fail"),
        ("three times at most", spec.max_deliveries == 3),
    ):  # fmt: skip
        assert phrase in words
        assert value, phrase


def test_the_toml_block_is_a_roster(tmp_path):
    (text,) = re.findall(r"^```toml\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    assert tomllib.loads(text)
    path = tmp_path / "fleet.toml"
    path.write_text(text)
    fleet = Supervisor(roster=load_roster(path))
    assert fleet.agent("chief").spec.capacity == 2


def test_every_class_named_in_prose_exists_and_every_link_leads_somewhere():
    named = set(re.findall(r"`([A-Z][A-Za-z]+(?:Error)?)`", TEXT))
    homes = (fleetmon, fleetmon.exporters, fleetmon.testing)
    assert named - set(dir(builtins)) <= {name for home in homes for name in home.__all__}
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", TEXT):
        assert (ROOT / target).exists(), target


def test_the_two_commands_are_targets_of_the_makefile_and_the_bench_markers_are_there():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in ("demo", "test"):
        assert f"make {target}" in TEXT
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    assert TEXT.count("<!-- bench:begin -->") == TEXT.count("<!-- bench:end -->") == 1
