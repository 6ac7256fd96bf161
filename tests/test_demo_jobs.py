"""The demonstration's work: real files in, true facts out, and real failures."""

from __future__ import annotations

import ast
import json
import os
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetmon.demo.corpus import Corpus, find_corpus
from fleetmon.demo.jobs import JOBS, UnknownTaskTypeError, fallback_job
from fleetmon.demo.jobs._chacha import chacha20
from fleetmon.demo.jobs._graphs import components
from fleetmon.demo.jobs.code import complexities
from fleetmon.demo.jobs.language import contrast, least_ragged
from fleetmon.demo.jobs.mathematics import align, is_prime
from fleetmon.demo.jobs.signals import holt, pack, unpack
from fleetmon.demo.jobs.systems import horspool
from fleetmon.demo.jobs.trust import allocate, merge_three, merkle_levels, passes_luhn
from fleetmon.demo.services import Services
from fleetmon.roster import ELITE

# What a job claims to have checked of its own result. All other facts may be false.
CHECKS = frozenset(
    [
        "agree",
        "agreed",
        "all_edges",
        "all_once",
        "adds_up",
        "as_promised",
        "as_theory_says",
        "authentic",
        "balanced",
        "bezout",
        "careful",
        "commutes",
        "complete",
        "condensation_acyclic",
        "consistent",
        "converged",
        "csv",
        "decrypted",
        "ends_kept",
        "energy_fell",
        "exact",
        "intact",
        "json",
        "linked",
        "mined",
        "mirrored",
        "never_under",
        "no_worse",
        "ordered",
        "proven",
        "restored",
        "returned",
        "self_score",
        "sound",
        "spoiling_noticed",
        "survives",
        "symmetric",
        "trial_balance",
        "within_bound",
        "within_bounds",
        "within_error",
        "worked",
        "xml",
    ]
)
AWKWARD = {
    "one.py": b"x",
    "newline.py": b"\n",
    "comment.py": b"# only a comment",
    "cr.py": b"a = 1\rb = 2\r\nc = 3\n",
    "form.py": b"def f():\n    '\\d'\n    return 1 is 1, \x0c not (1 in (2,)), set([1, 2])\n",
    "wide.txt": "ß\u2028漢字 🤖\n\n\t{[(\n".encode() * 40,
    "long.txt": b"a" * 70_000,
    "nul.bin": bytes(range(256)) * 9,
    "spaces.txt": b" \n" * 50,
}


@pytest.fixture(scope="module")
def library() -> Corpus:
    return find_corpus(seed=3, max_files=6, max_file_bytes=12_000)


@pytest.fixture
def awkward(tmp_path: Path) -> Corpus:
    for name, data in AWKWARD.items():
        (tmp_path / name).write_bytes(data)
    return find_corpus(tmp_path)


def test_every_agent_of_the_collective_has_a_job_with_its_task_types() -> None:
    assert list(JOBS) == list(ELITE.ids())
    for entry in ELITE:
        assert JOBS[entry.agent_id].task_types == entry.task_types


def check(job_name: str, corpus: Corpus) -> int:
    done = 0
    with Services(seed=1) as services:
        job = JOBS[job_name](corpus, 1, services)
        for task_type in job.task_types * 2:
            for path in corpus.paths(job.wants):
                try:
                    facts = job.run(task_type, path)
                except (UnicodeDecodeError, SyntaxError):
                    continue
                assert json.loads(json.dumps(facts)) == facts
                assert len(json.dumps(facts)) < 1_000
                wrong = {key for key, value in facts.items() if key in CHECKS and value is False}
                assert not wrong, (task_type, path, facts)
                done += 1
    return done


@pytest.mark.parametrize("name", JOBS)
def test_a_job_finds_its_own_results_true_on_the_standard_library(
    name: str, library: Corpus
) -> None:
    assert check(name, library) >= 2 * len(library.files) - 2


@pytest.mark.parametrize("name", JOBS)
def test_a_job_bears_awkward_files(name: str, awkward: Corpus) -> None:
    assert check(name, awkward) > 0


@pytest.mark.parametrize("name", JOBS)
def test_equal_seeds_and_files_give_equal_facts(name: str, library: Corpus) -> None:
    def facts() -> list[object]:
        with Services(seed=2) as services:
            job = JOBS[name](library, 2, services)
            found = [job.run(job.task_types[0], path) for path in library.paths(job.wants)[:2]]
        return [{k: v for k, v in f.items() if "seconds" not in k} for f in found]

    assert facts() == facts()


def test_files_that_do_not_decode_or_parse_fail_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "latin.py").write_bytes(b"x = 1\n\n\n# caf\xe9\n")
    (tmp_path / "broken.py").write_bytes(b"def f(:\n")
    (tmp_path / "declared.py").write_bytes(b"# -*- coding: latin-1 -*-\nx = 'caf\xe9'\n")
    corpus = find_corpus(tmp_path)
    apex, prism = JOBS["APEX"](corpus, 0), JOBS["PRISM"](corpus, 0)
    with pytest.raises(SyntaxError):
        apex.run("review_complexity", tmp_path / "broken.py")
    with pytest.raises(UnicodeDecodeError):
        apex.run("review_complexity", tmp_path / "latin.py")
    assert apex.run("review_complexity", tmp_path / "declared.py")["functions"] == 0
    with pytest.raises(UnicodeDecodeError):
        prism.run("describe_columns", tmp_path / "declared.py")
    with pytest.raises(FileNotFoundError):
        prism.run("describe_columns", tmp_path / "gone.py")
    assert JOBS["CIPHER"](corpus, 0).run("verify_digest", tmp_path / "latin.py")["state"] == "new"


def test_an_unknown_task_type_is_refused_even_if_it_is_a_method(library: Corpus) -> None:
    job = JOBS["APEX"](library, 0)
    for task_type in ("prepare", "run", "nonsense"):
        with pytest.raises(UnknownTaskTypeError, match="review_complexity"):
            job.run(task_type, library.files[0])


def test_other_rosters_get_a_job_that_depends_on_the_id_only() -> None:
    chosen = {agent_id: fallback_job(agent_id) for agent_id in map(str, range(300))}
    assert fallback_job("17") is chosen["17"]
    assert len(set(chosen.values())) > 35
    assert fallback_job("\ud800") in JOBS.values()


def test_jobs_that_share_a_thread_pool_keep_their_books(library: Corpus) -> None:
    job = JOBS["LEDGER"](library, 0)
    threads = [
        threading.Thread(target=job.run, args=("post_entries", path)) for path in library.files * 4
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    facts = job.run("close_books", library.files[0])
    assert (facts["agree"], facts["entries"]) == (True, 3 * (4 * len(library.files) + 1))


def test_a_python_job_surveys_text_that_is_not_python(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("# Title\n\n- [a](b)\n  ((\n")
    corpus = find_corpus(tmp_path)
    (path,) = corpus.paths("python")
    facts = JOBS["MORPH"](corpus, 0).run("migrate_syntax", path)
    assert facts == {
        "kind": "outline", "lines": 4, "blank": 1, "deepest_indent": 2, "unbalanced_brackets": 2,
    }  # fmt: skip


def test_file_names_that_are_not_utf8_are_worked_on(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.py")
    try:
        (tmp_path / name).write_text("import os\n")
    except OSError:
        pytest.skip("this filesystem takes UTF-8 names only")
    corpus = find_corpus(tmp_path)
    for job_name in ("APEX", "ARCHITECT", "ATLAS", "FORGE", "NEXUS", "VANGUARD", "SCRIBE"):
        assert check(job_name, corpus)


# What the jobs are made of


def test_chacha20_gives_the_published_ciphertext() -> None:
    # RFC 8439, section 2.4.2.
    plain = (
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the "
        b"future, sunscreen would be it."
    )
    sealed = chacha20(bytes(range(32)), bytes.fromhex("000000000000004a00000000"), plain)
    assert sealed[:32].hex() == "6e2e359a2568f98041ba0728dd0d6981e97e7aec1d4360c20a27afccfd9fae0b"
    assert chacha20(bytes(range(32)), bytes.fromhex("000000000000004a00000000"), sealed) == plain


def test_complexity_is_mccabes() -> None:
    source = """
def f(a, b):
    if a and b or not a:
        for x in [y for y in a if y]:
            def inner(): return 1 if x else 2
        else: pass
    while a: pass
    try: pass
    except ValueError: pass
"""
    # f: 1 + if + 2 boolean operators... one 'or' (1) and one 'and' (1) + for + comprehension with
    # its condition (2) + while + except = 9; inner: 1 + the conditional expression.
    assert sorted(complexities(ast.parse(source))) == [(2, "inner"), (9, "f")]


def test_primes_are_told_from_pseudoprimes() -> None:
    sieve = [n for n in range(2, 2_000) if all(n % d for d in range(2, int(n**0.5) + 1))]
    assert [n for n in range(2_000) if is_prime(n)] == sieve
    assert not is_prime(3_215_031_751)  # a strong pseudoprime to the bases 2, 3, 5 and 7
    assert is_prime(2**61 - 1)


def test_components_are_tarjans() -> None:
    graph = {"a": ["b"], "b": ["c"], "c": ["a", "d"], "d": ["e", "gone"], "e": ["d"], "f": ["f"]}
    found = [sorted(group) for group in components(graph)]
    assert found == [["d", "e"], ["a", "b", "c"], ["f"]]
    chain = {str(n): [str(n + 1)] for n in range(5_000)}
    assert len(components(chain)) == 5_000


def test_published_figures_come_out() -> None:
    assert passes_luhn("4539 1488 0343 6467")
    assert not passes_luhn("4539 1488 0343 6466")
    assert contrast("ffffff", "000000") == pytest.approx(21)
    assert contrast("777777", "ffffff") == pytest.approx(4.48, abs=0.005)
    assert align("TGTTACGG", "GGTTGACTA") == 5 * 2 - 2  # GTT-AC with GTTGAC
    assert least_ragged([3, 2, 2, 5], 6) == (9 + 1, 3)
    assert holt([2, 4, 6, 8], 1, 1)[-1] == 10
    assert len(merkle_levels([b"a", b"b", b"c"])) == 3


@given(st.lists(st.integers(-(2**40), 2**40)))
def test_packed_numbers_come_back(values: list[int]) -> None:
    assert unpack(pack(values)) == values


@given(st.integers(0, 10**9), st.lists(st.integers(0, 10**6), min_size=1))
def test_shares_add_up_and_are_fair_to_the_unit(total: int, weights: list[int]) -> None:
    parts = allocate(total, weights)
    assert sum(parts) == total
    if whole := sum(weights):
        assert all(abs(p * whole - total * w) < whole for p, w in zip(parts, weights, strict=True))


@given(st.binary(max_size=60), st.binary(max_size=4))
def test_horspool_finds_what_find_finds(data: bytes, needle: bytes) -> None:
    assert horspool(data, needle) == data.find(needle)


LINES = st.lists(st.sampled_from("abcd"), max_size=8)


@given(LINES, LINES, LINES)
def test_merging_with_an_untouched_side_takes_the_other(
    base: list[str], mine: list[str], yours: list[str]
) -> None:
    assert merge_three(base, mine, base) == (mine, 0)
    assert merge_three(base, mine, mine) == (mine, 0)
    assert merge_three(base, mine, yours) == merge_three(base, yours, mine)


def test_the_demo_imports_nothing_but_the_public_face() -> None:
    allowed = {"fleetmon.errors", "fleetmon.roster"}
    for path in Path(sys.modules["fleetmon.demo.jobs"].__file__ or "").parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fleetmon"):
                assert (node.module or "").startswith("fleetmon.demo") or node.module in allowed
