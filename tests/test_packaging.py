"""What the built distribution holds, and what the project's own settings promise."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import fleetmon_tui
from fleetmon._version import __version__

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    try:
        from hatchling.builders.wheel import WheelBuilder
    except ImportError:
        pytest.skip("hatchling is not installed here")
    target = tmp_path_factory.mktemp("wheel")
    return Path(next(WheelBuilder(str(ROOT)).build(directory=str(target))))


@pytest.fixture(scope="module")
def names(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_the_wheel_installs_exactly_two_top_level_names(names):
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"fleetmon", "fleetmon_tui"}


def test_the_wheel_carries_the_marks_of_typed_packages(names):
    assert {"fleetmon/py.typed", "fleetmon_tui/py.typed"} <= set(names)


def test_every_module_of_both_packages_is_in_the_wheel(names):
    sources = {
        path.relative_to(base).as_posix()
        for base, package in ((ROOT, "fleetmon"), (ROOT / "tui", "fleetmon_tui"))
        for path in (base / package).rglob("*.py")
    }
    assert sources <= set(names)


def test_the_wheel_has_the_one_version_and_the_one_command(wheel):
    with zipfile.ZipFile(wheel) as archive:
        info = f"fleetmon-{__version__}.dist-info"
        metadata = archive.read(f"{info}/METADATA").decode()
        commands = archive.read(f"{info}/entry_points.txt").decode()
    assert f"\nVersion: {__version__}\n" in metadata
    assert commands.split() == ["[console_scripts]", "fleetmon", "=", "fleetmon.cli:main"]


def test_tui_is_a_directory_and_no_package():
    assert not (ROOT / "tui" / "__init__.py").exists()
    assert fleetmon_tui.__version__ == __version__


def test_every_ignored_lint_rule_gives_its_reason_on_its_line():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    section = text.split("[tool.ruff.lint]")[1].split("[tool.ruff.lint.pydocstyle]")[0]
    rules = re.findall(r'^    "[A-Z]+[0-9]*",.*$', section, flags=re.MULTILINE)
    assert len(rules) > 10
    assert [line for line in rules if not re.search(r",\s+# \w", line)] == []


def test_every_exception_from_a_lint_rule_gives_its_reason_on_its_line():
    found = subprocess.run(
        ["git", "grep", "--untracked", "-nE", "noqa: ?[A-Z0-9, ]+$|# noqa *$", "--", "*.py"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if found.returncode > 1:
        pytest.skip(f"git cannot be asked here: {found.stderr.strip()}")
    assert found.stdout == ""


def test_only_textual_is_bounded_from_above():
    """The extra `stack` holds the tools that prove deploy/, whose output one version decides."""
    extras = {k: v for k, v in PROJECT["project"]["optional-dependencies"].items() if k != "stack"}
    wanted = [Requirement(x) for x in chain(PROJECT["project"]["dependencies"], *extras.values())]
    bounded = [str(x) for x in wanted if {y.operator for y in x.specifier} - {">="}]
    assert bounded == ["textual<9,>=8.2"]


def test_the_helpers_load_no_sdk_and_no_dashboard():
    heavy = ["opentelemetry.sdk", "prometheus_client", "structlog", "textual", "uvicorn"]
    code = (
        "import sys, fleetmon.testing, fleetmon_tui; fleetmon.testing.VirtualTimeLoop; "
        f"print(*sorted(set({heavy}) & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == ""


class TestMakefile:
    """The parts of the two commands that need no installation."""

    @staticmethod
    def make(*args):
        # Started by `make test`, this make would take itself for its child and talk differently,
        # and would take over what was given to that one, as in `make test ARGS=-x`.
        given = ("MAKE", "MFLAGS", "ARGS", "PYTHON", "VENV")
        env = {k: v for k, v in os.environ.items() if not k.startswith(given)}
        try:
            return subprocess.run(
                ["make", *args],
                cwd=ROOT,
                env=env,
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
        except FileNotFoundError:
            pytest.skip("make is not installed here")

    @pytest.fixture
    def python(self, tmp_path):
        """A stand-in for Python that reports its version, refuses or logs what it is asked."""

        def build(script):
            path = tmp_path / "python"
            path.write_text("#!/bin/sh\n" + script, encoding="utf-8")
            path.chmod(0o755)
            return path

        return build

    def test_an_older_python_is_refused_in_one_sentence(self, python, tmp_path):
        old = python('case "$1" in --version) echo "Python 3.9.2";; *) exit 1;; esac\n')
        done = self.make("test", f"PYTHON={old}", f"VENV={tmp_path}/venv")
        assert done.returncode == 2
        said = "".join(x for x in done.stderr.splitlines() if not x.startswith("make"))
        assert said == (
            f"fleetmon needs Python 3.11 or newer, and {old} is Python 3.9.2: "
            "name another one, as in `make PYTHON=python3.12 test`."
        )
        assert not (tmp_path / "venv").exists()

    def test_a_python_that_does_not_run_is_refused_in_one_sentence(self, python, tmp_path):
        broken = python('echo "a version manager\'s long advice" >&2; exit 127\n')
        done = self.make("test", f"PYTHON={broken}", f"VENV={tmp_path}/venv")
        said = "".join(x for x in done.stderr.splitlines() if not x.startswith("make"))
        assert said == (
            f"fleetmon needs Python 3.11 or newer, and {broken} does not run: "
            "name another one, as in `make PYTHON=python3.12 test`."
        )

    @pytest.fixture
    def ready(self, tmp_path):
        """An environment that looks installed, whose `fleetmon` is a shell script."""
        bin_ = tmp_path / "venv" / "bin"
        bin_.mkdir(parents=True)
        (bin_ / "fleetmon").write_text('#!/bin/sh\nprintf "%s\\n" "$@"; exit ${CODE:-0}\n')
        (bin_ / "fleetmon").chmod(0o755)
        for stamp in (".made", ".for-demo"):
            (bin_.parent / stamp).touch()
        return f"VENV={bin_.parent}"

    def test_demo_prints_only_what_the_demo_prints(self, ready):
        done = self.make("demo", ready, "ARGS=--json --path 'a b'")
        assert (done.stdout, done.stderr) == ("demo\n--json\n--path\na b\n", "")
        assert done.returncode == 0

    def test_demo_fails_when_the_demo_fails_and_says_its_code(self, ready, monkeypatch):
        monkeypatch.setenv("CODE", "3")
        done = self.make("demo", ready)
        assert done.returncode == 2
        assert done.stdout == "demo\n"
        assert "Error 3" in done.stderr
