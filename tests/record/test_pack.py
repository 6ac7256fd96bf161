"""What is put into bytes comes out again, whatever it was."""

from __future__ import annotations

import contextlib
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetmon.record.pack import (
    End,
    Frame,
    apply,
    difference,
    pack_ends,
    pack_frame,
    plain,
    select,
    unpack_ends,
    unpack_frame,
)

WORDS = st.text(max_size=8).filter(lambda s: s.encode("utf-8", "ignore").decode() == s)
TIMES = st.floats(allow_nan=False)
ENDS = st.builds(
    End,
    st.integers(1, 2**63 - 1),
    WORDS,
    WORDS,
    st.integers(1, 1000),
    st.integers(0, 2**32 - 1),
    TIMES,
    TIMES,
    st.integers(0, 4),
    WORDS,
)
VALUES = st.none() | st.booleans() | st.integers() | TIMES | WORDS
ROWS = st.dictionaries(WORDS, st.lists(VALUES, min_size=3, max_size=3), max_size=5)


def packed(ends):
    return pack_ends(list(chain.from_iterable(ends)))


@given(st.lists(ENDS, min_size=1, max_size=50))
def test_ends_of_tasks_come_out_as_they_went_in(ends):
    assert unpack_ends(packed(ends)) == ends


def test_a_large_batch_takes_fewer_than_forty_bytes_a_task_and_a_small_one_is_squeezed():
    ends = [
        End(n, f"agent-{n % 40}", "review", 1, 1 + n % 3, n * 1e-3, n * 1e-3 + 1e-4, n % 2, "")
        for n in range(8192)
    ]
    large, small = packed(ends), packed(ends[:1000])
    assert unpack_ends(large) == ends
    assert len(large) / 8192 < 40
    assert len(small) / 1000 < 25


@given(st.binary(max_size=200))
def test_bytes_that_are_no_batch_are_refused_with_a_value_error(data):
    for read in (unpack_ends, unpack_frame):
        with contextlib.suppress(ValueError):  # whatever else it raises has not been foreseen
            read(data)  # by chance it may be one


def test_a_batch_that_was_cut_off_is_refused():
    whole = packed([End(n, "A", "t", 1, 1, 0.5, 1.5, 0, "") for n in range(5000)])
    for length in (0, 3, 40, len(whole) - 1):
        with pytest.raises(ValueError, match="cannot be read"):
            unpack_ends(whole[:length])


@given(ROWS, ROWS)
def test_a_picture_and_the_difference_to_the_next_give_the_next(before, after):
    whole = unpack_frame(pack_frame(Frame(before, {}, [], {"phase": "running"})))
    rows = {}
    apply(rows, whole)
    assert rows == before
    assert whole.facts == {"phase": "running"}
    frame = Frame(
        {a: row for a, row in after.items() if a not in before},
        {a: difference(before[a], row) for a, row in after.items() if a in before},
        [a for a in before if a not in after],
        None,
    )
    kept = dict(rows)
    apply(rows, unpack_frame(pack_frame(frame)))
    assert rows == after
    assert kept == before, "a row that was given away has changed"


def test_rows_of_another_version_are_read_by_the_names_of_their_columns():
    assert select(["b", "new", "a"], ["a", "b", "c"]) == [2, 0, None]
    assert plain(("x", (("c", 1.0, ("d",)),), [1])) == ["x", [["c", 1.0, ["d"]]], [1]]
