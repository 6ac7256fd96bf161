"""The command line: usage, one clear line for whatever is wrong, and nothing half-started."""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import fleetmon
from fleetmon.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def taken() -> Iterator[str]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield f"127.0.0.1:{sock.getsockname()[1]}"


def said(capsys: pytest.CaptureFixture[str]) -> str:
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("", "demo"),
        ("dmeo", "'dmeo'"),
        ("demo --bogus", "--bogus"),
        ("demo --duration 0", "'0'"),
        ("demo --duration -3", "'-3'"),
        ("demo --duration inf", "'inf'"),
        ("demo --duration nan", "'nan'"),
        ("demo --duration soon", "'soon'"),
        ("demo --seed x", "'x'"),
        ("demo --metrics nowhere", "'nowhere'"),
        ("demo --metrics :9003", "':9003'"),
        ("demo --metrics 127.0.0.1:70000", "'127.0.0.1:70000'"),
    ],
)
def test_a_line_that_makes_no_sense_is_answered_by_one_line_and_code_2(
    line: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line.split()) == 2
    assert value in said(capsys)


def test_what_cannot_be_carried_out_is_answered_by_one_line_and_code_1(
    tmp_path: Path, taken: str, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    roster = tmp_path / "roster.toml"
    roster.write_text('[[agents]]\nid = "a"\nspec = { capacity = 0 }\n')
    cases = (
        (["--path", str(tmp_path / "gone")], "gone: no such directory; check"),
        (["--path", str(roster)], "roster.toml: is not a directory; name"),
        (["--path", str(empty)], "name another directory"),
        (["--agents", str(tmp_path / "gone.toml")], "gone.toml: no such file; check"),
        (["--agents", str(roster), "--metrics", "0"], "capacity=0"),
        (["--metrics", taken], f"cannot listen on {taken}"),
    )
    for options, reason in cases:
        assert main(["demo", "--duration", "1", *options]) == 1, options
        assert reason in said(capsys)


def test_the_address_may_come_from_the_environment_and_the_option_wins(
    taken: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FLEETMON_METRICS", taken)
    assert main(["demo", "--duration", "1"]) == 1
    assert taken in said(capsys)
    monkeypatch.setenv("FLEETMON_METRICS", "rubbish")
    assert main(["demo", "--duration", "1"]) == 2
    assert "FLEETMON_METRICS: 'rubbish'" in said(capsys)
    assert main(["demo", "--duration", "1", "--metrics", taken]) == 1
    assert taken in said(capsys)


def test_version_and_help_answer_without_loading_what_they_do_not_need() -> None:
    probe = (
        "import sys; from fleetmon.cli import main; code = main(sys.argv[1:]); "
        "heavy = {'asyncio', 'pydantic', 'prometheus_client', 'uvicorn', 'fleetmon.errors'}; "
        "sys.exit(code or (heavy & set(sys.modules) and 9) or 0)"
    )
    for option, answer in (
        (["--version"], f"fleetmon {fleetmon.__version__}"),
        (["--help"], "demo"),
        (["demo", "--help"], "--chaos"),
    ):
        ran = subprocess.run(
            [sys.executable, "-c", probe, *option], capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran
        assert answer in ran.stdout
        assert ran.stderr == ""
