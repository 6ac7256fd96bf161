"""The real files that the demonstration works on: which they are, and of what kind."""

from __future__ import annotations

import os
import random
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fleetmon.errors import FleetmonError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Corpus", "CorpusError", "Kind", "find_corpus"]

Kind = Literal["python", "text", "any"]
"""What a job can read: Python source, text (no NUL byte near its start), or any bytes."""

PYTHON_SUFFIXES = frozenset({".py", ".pyi", ".pyw"})
MAX_FILES = 4_000
MAX_FILE_BYTES = 96 * 1024
_MAX_SCANNED = 30_000
_SNIFFED_BYTES = 1_024
_SKIPPED_DIRS = frozenset({"__pycache__", "site-packages", "dist-packages", "node_modules"})


class CorpusError(FleetmonError, ValueError):
    """A directory with nothing to work on.

    Attributes:
        path: the directory, as given.
        reason: what is wrong with it, and the fix.
    """

    def __init__(self, path: str, reason: str) -> None:
        """Build the message from the place and the reason."""
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


@dataclass(frozen=True)
class Corpus:
    """Files to work on, in an order that the seed decides.

    Attributes:
        root: the directory they lie under, absolute.
        files: all of them; never empty.
        texts: those that are text as far as their first bytes tell.
        sources: those that are Python source by their ending.
        total_bytes: their sizes when they were found, together.
        skipped: files passed over, being empty, too large, or beyond the count that was asked for.
        unreadable: directories that could not be listed.
    """

    root: Path
    files: tuple[Path, ...]
    texts: tuple[Path, ...]
    sources: tuple[Path, ...]
    total_bytes: int
    skipped: int = 0
    unreadable: int = 0

    def paths(self, kind: Kind = "any") -> tuple[Path, ...]:
        """Return the files a job of that kind works on.

        Where there are none of the kind it gets the next wider one: a directory without Python
        still feeds every agent, and text jobs on bytes that do not decode fail, as they should.
        """
        if kind == "python" and self.sources:
            return self.sources
        if kind != "any" and self.texts:
            return self.texts
        return self.files


def find_corpus(
    path: str | os.PathLike[str] | None = None,
    *,
    seed: int = 0,
    max_files: int = MAX_FILES,
    max_file_bytes: int = MAX_FILE_BYTES,
) -> Corpus:
    """Find the files to work on.

    Args:
        path: a directory, every regular file below which is taken; None for the source of this
            interpreter's standard library, its test data included where it is installed.
        seed: decides the order, and which files stay where there are too many.
        max_files: how many files at most.
        max_file_bytes: larger files are passed over, in bytes.

    Hidden files and directories, symbolic links, caches and installed packages are passed over,
    and so is everything after the first 30,000 entries.

    Raises:
        CorpusError: the directory is missing, is no directory, cannot be listed, or holds no file
            that would do.
    """
    root = Path(sysconfig.get_path("stdlib") if path is None else path)
    _check(root)
    scan = _Scan(os.path.abspath(root), only_python=path is None)  # noqa: PTH100 - keeps links as given
    fitting = [(name, size) for name, size in scan.files() if 0 < size <= max_file_bytes]
    if not fitting:
        found = f"{scan.seen} entries, none a non-empty file of at most {max_file_bytes} bytes"
        raise CorpusError(str(root), f"has nothing to work on ({found}); name another directory")
    fitting.sort()
    random.Random(seed).shuffle(fitting)  # noqa: S311 - repeatable, not secret
    kept = fitting[:max_files]
    files = tuple(Path(name) for name, _ in kept)
    return Corpus(
        root=Path(scan.root),
        files=files,
        texts=tuple(file for file in files if file.suffix in PYTHON_SUFFIXES or _is_text(file)),
        sources=tuple(file for file in files if file.suffix in PYTHON_SUFFIXES),
        total_bytes=sum(size for _, size in kept),
        skipped=scan.counted - len(kept),
        unreadable=scan.unreadable,
    )


def _check(root: Path) -> None:
    try:
        with os.scandir(root):
            return
    except FileNotFoundError:
        reason = "no such directory; check the path"
    except NotADirectoryError:
        reason = "is not a directory; name the directory it lies in"
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        reason = f"cannot be listed ({why}); check its permissions"
    raise CorpusError(str(root), reason)


class _Scan:
    """One walk over a tree, with its counts."""

    def __init__(self, root: str, *, only_python: bool) -> None:
        self.root = root
        self.only_python = only_python
        self.seen = 0
        self.counted = 0
        self.unreadable = 0

    def files(self) -> Iterator[tuple[str, int]]:
        """Yield name and size in bytes of each regular file that is asked for."""
        pending = [self.root]
        while pending:
            try:
                # Sorted, so that the bound on entries cuts at the same place every time.
                entries = sorted(os.scandir(pending.pop()), key=lambda entry: entry.name)
            except OSError:
                self.unreadable += 1
                continue
            for entry in entries:
                self.seen += 1
                if self.seen > _MAX_SCANNED:
                    return
                if entry.name.startswith("."):
                    continue
                try:
                    if entry.is_dir(follow_symlinks=False):
                        if entry.name not in _SKIPPED_DIRS:
                            pending.append(entry.path)
                    elif entry.is_file(follow_symlinks=False) and self._asked_for(entry.name):
                        self.counted += 1
                        yield entry.path, entry.stat(follow_symlinks=False).st_size
                except OSError:  # it went away meanwhile
                    continue

    def _asked_for(self, name: str) -> bool:
        return not self.only_python or os.path.splitext(name)[1] in PYTHON_SUFFIXES  # noqa: PTH122 - of a name, not a path


def _is_text(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            return b"\0" not in opened.read(_SNIFFED_BYTES)
    except OSError:
        return True  # reading it is the job's own, ordinary failure
