"""Every example runs as its reader would run it, and prints what its docstring promises."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NEEDS = {"neurectomy": ("fastapi", "httpx", "opentelemetry.instrumentation.fastapi")}
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def promised(example: Path) -> str:
    doc = ast.get_docstring(ast.parse(example.read_text("utf-8")))
    assert doc is not None, f"{example.name} has no docstring"
    _, marker, block = doc.partition("\nPrints::\n\n")
    assert marker, f"the docstring of {example.name} does not end with a block 'Prints::'"
    return textwrap.dedent(block).strip()


def run(example: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    # elsewhere than in the checkout: an example finds its own files wherever it is started
    return subprocess.run(
        [sys.executable, "-W", "error", str(example)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("elsewhere")
    pool = ThreadPoolExecutor(2)  # most of an example's time is the interpreter's own start
    yield {example: pool.submit(run, example, folder) for example in EXAMPLES}
    pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_an_example_prints_what_its_docstring_promises(example, runs):
    for name in NEEDS.get(example.stem, ()):
        pytest.importorskip(name, reason="the extra fastapi is not installed")
    done = runs[example].result()
    assert done.stderr == ""
    assert done.stdout.strip() == promised(example)
    assert done.returncode == 0


def test_the_list_of_examples_names_each_file_once():
    text = (ROOT / "examples" / "README.md").read_text("utf-8")
    linked = re.findall(r"\]\(([^)]+)\)", text)
    files = [p.name for p in (ROOT / "examples").iterdir() if p.suffix in {".py", ".toml"}]
    assert sorted(linked) == sorted(files)
