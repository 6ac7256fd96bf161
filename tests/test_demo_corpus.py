"""The files that the demonstration works on: which are taken, and in which order."""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path

import pytest

from fleetmon.demo.corpus import CorpusError, find_corpus


def test_the_default_corpus_is_the_standard_library_without_installed_packages() -> None:
    corpus = find_corpus(seed=1)
    assert corpus.root == Path(os.path.abspath(sysconfig.get_path("stdlib")))  # noqa: PTH100 - keeps links as given
    names = {str(path.relative_to(corpus.root)) for path in corpus.files}
    assert {"json/__init__.py", "this.py"} <= names
    assert not any("site-packages" in name for name in names)
    assert corpus.sources == corpus.texts == corpus.files
    assert find_corpus(seed=1).files == corpus.files
    other = find_corpus(seed=2).files
    assert other != corpus.files
    assert set(other) == set(corpus.files)


def test_kinds_bounds_and_passed_over_files(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("a.py", "b.txt", "c.bin", ".hidden", "deep/d.md", "empty", "large"):
        data = {"c.bin": b"\0\1", "empty": b"", "large": b"x" * 200}.get(name, b"text\n")
        (tmp_path / name).write_bytes(data)
    (tmp_path / "link").symlink_to(tmp_path / "a.py")
    (tmp_path / "deep" / "loop").symlink_to(tmp_path)
    corpus = find_corpus(tmp_path, max_file_bytes=100)
    assert {path.name for path in corpus.files} == {"a.py", "b.txt", "c.bin", "d.md"}
    assert {path.name for path in corpus.paths("text")} == {"a.py", "b.txt", "d.md"}
    assert [path.name for path in corpus.paths("python")] == ["a.py"]
    assert (corpus.skipped, corpus.total_bytes) == (2, 17)
    few = find_corpus(tmp_path, max_files=2, max_file_bytes=100)
    assert few.files == corpus.files[:2]
    assert few.skipped == 4
    (tmp_path / "a.py").unlink()
    bare = find_corpus(tmp_path, max_file_bytes=100)
    assert bare.paths("python") == bare.paths("text") == bare.texts


def test_a_directory_with_nothing_to_work_on_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path, reason in (
        (tmp_path / "gone", "no such directory"),
        (tmp_path / "file", "is not a directory"),
        (tmp_path, "nothing to work on"),
        (f"{tmp_path}\0", "cannot be listed"),
    ):
        with pytest.raises(CorpusError, match=reason) as caught:
            find_corpus(path)
        assert str(caught.value).startswith(str(path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_directory_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0)
    with pytest.raises(CorpusError, match="check its permissions"):
        find_corpus(tmp_path)
