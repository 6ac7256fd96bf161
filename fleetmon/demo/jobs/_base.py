"""What every job is: a class with one method for each type of task it knows."""

from __future__ import annotations

import ast
import codecs
import threading
import warnings
from importlib.util import decode_source
from typing import TYPE_CHECKING, Any, ClassVar

from fleetmon.demo.corpus import PYTHON_SUFFIXES, Corpus, Kind
from fleetmon.demo.services import Services
from fleetmon.errors import FleetmonError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

READ_CAP = 48 * 1024
"""Bytes of a file that a job looks at, unless it says otherwise."""

_PARSED_AS = "<fleetmon-demo-corpus>"

TINY = 1e-9
"""What rounding may add up to."""

Facts = dict[str, Any]
"""A result: a few numbers, words and verdicts, fit for JSON."""


class UnknownTaskTypeError(FleetmonError, ValueError):
    """A type of task that the job does not know."""

    def __init__(self, job: str, task_type: str, known: tuple[str, ...]) -> None:
        """Name the job, the type and those that it knows."""
        super().__init__(f"{job} knows no task {task_type!r:.60}; ask for {', '.join(known)}")
        self.job = job
        self.task_type = task_type
        self.known = known


class Job:
    """The work of one agent. Keeps what it learns between files, in bounded memory.

    Safe from any thread: files are worked on one after the other.
    """

    name: ClassVar[str]
    task_types: ClassVar[tuple[str, ...]]
    wants: ClassVar[Kind] = "text"

    def __init__(self, corpus: Corpus, seed: int, services: Services | None = None) -> None:
        """Prepare for the files of ``corpus``; equal seeds make equal choices."""
        self.corpus = corpus
        self.seed = seed
        self.services = Services(seed) if services is None else services
        self._lock = threading.Lock()
        self.prepare()

    def prepare(self) -> None:
        """Set up the job's state."""

    def run(self, task_type: str, path: Path) -> Facts:
        """Do one task on one file and return what is true of it.

        Raises:
            UnknownTaskTypeError: ``task_type`` is none of :attr:`task_types`.
            Exception: whatever reading, decoding or parsing the file raises, as it is.
        """
        if task_type not in self.task_types:
            raise UnknownTaskTypeError(self.name, task_type, self.task_types)
        with self._lock:
            _hush_parser()
            return self.perform(task_type, path)

    def perform(self, task_type: str, path: Path) -> Facts:
        """Do the task; one at a time."""
        method: Callable[[Path], Facts] = getattr(self, task_type)
        return method(path)

    def label(self, path: Path) -> str:
        """Return the file's name below the corpus, always fit for UTF-8."""
        if path.is_relative_to(self.corpus.root):
            path = path.relative_to(self.corpus.root)
        return str(path).encode("utf-8", "replace").decode()


def _hush_parser() -> None:
    """Ignore the parser's warnings of dubious escapes in somebody's file: nobody can act on them.

    Looked up each time, since the host may reset its filters; added only where it is missing, since
    the list is everybody's.
    """
    if not any(getattr(row[3], "pattern", None) == _PARSED_AS for row in warnings.filters):
        warnings.filterwarnings("ignore", module=_PARSED_AS)


class PythonJob(Job):
    """A job on Python source; any other text it surveys by its outline instead."""

    wants: ClassVar[Kind] = "python"

    def perform(self, task_type: str, path: Path) -> Facts:
        """Do the task, or the survey where the file is not Python by its name."""
        if path.suffix not in PYTHON_SUFFIXES:
            return survey(read_text(path))
        return super().perform(task_type, path)


def read_bytes(path: Path, cap: int = READ_CAP) -> bytes:
    """Return the first ``cap`` bytes of a file."""
    with path.open("rb") as file:
        return file.read(cap)


def read_text(path: Path, cap: int = READ_CAP) -> str:
    """Return the first ``cap`` bytes of a file as text, strictly UTF-8.

    Raises:
        UnicodeDecodeError: it is not; a character cut by the cap is left out instead.
    """
    data = read_bytes(path, cap)
    return codecs.getincrementaldecoder("utf-8")().decode(data, final=len(data) < cap)


def parse(path: Path) -> ast.Module:
    """Parse a whole file of Python, heeding its declared encoding.

    Raises:
        SyntaxError: it does not parse, or declares an encoding that there is not.
        UnicodeDecodeError: it does not decode as it declares (UTF-8 where it does not).
    """
    # Decoded first: the parser lets wrong bytes pass in comments when it is given bytes.
    return ast.parse(decode_source(read_bytes(path, -1)), filename=_PARSED_AS)


def excerpt(tree: ast.Module, lines: int) -> ast.Module:
    """Return the leading statements that fit into so many lines: work on large files is bounded."""
    body: list[ast.stmt] = []
    left = lines
    for statement in tree.body:
        length = (statement.end_lineno or statement.lineno) - statement.lineno + 1
        if length <= left:
            body.append(statement)
            left -= length
    return ast.Module(body=body, type_ignores=[])


def compile_tree(tree: ast.Module) -> Any:
    """Compile a tree to code, which is never run."""
    return compile(tree, _PARSED_AS, "exec", dont_inherit=True)


def survey(text: str) -> Facts:
    """Describe the outline of any text: its lines, depth of indentation and balance of brackets."""
    lines = text.splitlines()
    indents = [len(line) - len(line.lstrip()) for line in lines if line.strip()]
    closing = {")": "(", "]": "[", "}": "{"}
    stack: list[str] = []
    unmatched = 0
    for char in text:
        if char in "([{":
            stack.append(char)
        elif char in closing:
            if stack and stack[-1] == closing[char]:
                stack.pop()
            else:
                unmatched += 1
    return {
        "kind": "outline",
        "lines": len(lines),
        "blank": len(lines) - len(indents),
        "deepest_indent": max(indents, default=0),
        "unbalanced_brackets": unmatched + len(stack),
    }
