"""Completion: scripts that three shells take, made from the parsers, and the names of a fleet."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers_control import Echo

from fleetmon.cli import COMMANDS, main

pytestmark = pytest.mark.anyio


@pytest.fixture
async def hall(reachable):
    async with reachable() as fleet:
        for name in ("APEX", "ARCHITECT", "CIPHER"):
            await fleet.add(name, Echo)
        yield fleet


@pytest.fixture
def shell(tmp_path):
    """Run a script in a shell in which `fleetmon` is this one."""
    program = tmp_path / "fleetmon"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m fleetmon "$@"\n')
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)}

    async def run(name, script):
        path = shutil.which(name)
        if path is None:
            pytest.skip(f"{name} is not installed")
        ran = await asyncio.to_thread(
            subprocess.run,
            [path, "-c", script],
            env=environment,
            cwd=Path(__file__).parent.parent.parent,
            capture_output=True,
            text=True,
            check=False,
            timeout=50,
        )
        assert (ran.returncode, ran.stderr) == (0, ""), ran
        return ran.stdout

    return run


BASH = """
eval "$(fleetmon completion bash)"
try() {{
  COMP_WORDS=(fleetmon "$@"); COMP_CWORD=$#; COMPREPLY=(); _fleetmon
  echo "${{COMPREPLY[@]}}"
}}
{tries}
"""


async def test_bash_completes_commands_options_agents_and_values(hall, shell):
    tries = {
        "sta": "status start",
        "restart A": "APEX ARCHITECT",
        "restart APEX C": "CIPHER",
        "restart --ti": "--tier --timeout",
        "--fleet hall agent AR": "ARCHITECT",
        "--fleet nowhere agent AR": "",
        "--fleet ''": "hall",
        "status --fleet ''": "hall",
        "dead-letters r": "retry",
        "completion f": "fish fleets",
        "dead-letters --to CI": "CIPHER",
        "status --ch": "--check",
    }
    told = await shell("bash", BASH.format(tries="\n".join(f"try {line}" for line in tries)))
    assert dict(zip(tries, told.split("\n"), strict=False)) == tries


async def test_fish_completes_commands_agents_and_options(hall, shell):
    script = (
        "fleetmon completion fish | source; "
        "complete -C 'fleetmon sta'; echo ++; complete -C 'fleetmon pause A'; echo ++; "
        "complete -C 'fleetmon pause --ti'"
    )
    commands, agents, options = (await shell("fish", script)).split("++\n", 2)
    assert [line.split("\t")[0] for line in commands.splitlines()] == ["start", "status"]
    assert agents.split() == ["APEX", "ARCHITECT"]
    assert {line.split("\t")[0] for line in options.splitlines()} == {"--tier", "--timeout"}


async def test_zsh_takes_the_script_and_lists_the_agents(hall, shell):
    script = (
        'autoload -U compinit; compinit -u -D; eval "$(fleetmon completion zsh)"; '
        "compadd() { print -l -- ${(P)2} }; _fleetmon_agents; whence -w _fleetmon"
    )
    assert await shell("zsh", script) == "APEX\nARCHITECT\nCIPHER\n_fleetmon: function\n"


@pytest.mark.parametrize("shell_name", ["bash", "zsh", "fish"])
def test_the_scripts_name_every_command(shell_name, capsys):
    assert main(["completion", shell_name]) == 0
    told = capsys.readouterr().out
    assert all(name in told for name in COMMANDS)
    assert "--dry-run" in told or "dry-run" in told


async def test_names_are_listed_silently_even_where_there_is_no_fleet(place, fleetmon):
    assert await fleetmon("completion agents") == (0, "", "")
    assert await fleetmon("completion fleets") == (0, "", "")
