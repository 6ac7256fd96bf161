"""Text in cells, durations, bars, sparklines; every state told apart without styles."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetmon_tui.state import words
from fleetmon_tui.state.edit import Edit
from fleetmon_tui.state.text import (
    ASCII,
    UNICODE,
    age,
    bar,
    cells,
    clean,
    count,
    cut,
    duration,
    fit,
    fit_line,
    plain,
    spark,
    width_of,
    wrapped,
)

LIFECYCLES = (
    "starting", "running", "recovering", "paused", "draining", "stopping", "backing_off",
    "quarantined", "probing", "stopped", "declared",
)  # fmt: skip
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)


@given(TEXT, st.integers(0, 30), st.booleans())
def test_fitted_text_takes_exactly_its_cells(text, width, right):
    text = clean(text)
    assert cells(fit(text, width, "…", right=right)) == width
    assert cells(cut(text, width, "…")) <= width


@given(st.lists(st.tuples(TEXT.map(clean), st.just("")), max_size=6), st.integers(1, 60))
def test_a_fitted_line_takes_exactly_its_cells(line, width):
    assert width_of(fit_line(line, width, "…")) == width


@given(TEXT.map(clean), st.integers(4, 30))
def test_wrapping_loses_no_letter_and_no_line_is_too_long(text, width):
    lines = wrapped(text, width)
    assert all(cells(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


def test_nothing_that_steers_a_terminal_gets_through():
    assert clean("a\x1b[31mb\nc\td\x07") == "a?[31mb c d?"
    assert clean("x\u202ey") == "x?y"


@given(st.floats(0, 1e8))
def test_durations_counts_and_ages_stay_short(seconds):
    assert len(duration(seconds)) <= 5
    assert len(age(seconds)) <= 5
    assert len(count(int(seconds))) <= 6


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0ms"), (0.0123, "12ms"), (0.9999, "1.0s"), (9.96, "10s"), (59.6, "60s"), (185, "3m05"),
     (7800, "2h10"), (90000, "1d01"), (None, "")],
)  # fmt: skip
def test_durations_read_well(seconds, text):
    assert duration(seconds) == text


def test_a_bar_shows_anything_above_nothing():
    assert bar(0, 4, UNICODE) == "░░░░"
    assert bar(0.001, 4, UNICODE) == "█░░░"
    assert bar(2, 4, ASCII) == "####"


@given(st.lists(st.integers(0, 70000), max_size=80), st.integers(1, 60), st.integers(0, 100))
def test_a_sparkline_fills_its_cells(values, width, top):
    assert cells(spark(values, width, UNICODE, top)) == width
    assert spark(values, width, ASCII, top).isascii()


@pytest.mark.parametrize("glyphs", [UNICODE, ASCII], ids=["unicode", "ascii"])
def test_every_state_differs_from_every_other_by_glyph_and_by_word(glyphs):
    told = [words.state(name, 0, glyphs) for name in LIFECYCLES]
    assert len({text[0] for text in told}) == len(LIFECYCLES)
    assert len({text[2:] for text in told}) == len(LIFECYCLES)
    for name in LIFECYCLES:  # health shows beside each of them
        assert len({words.state(name, health, glyphs) for health in range(3)}) == 3


def test_all_glyphs_are_one_cell_and_the_fallback_is_ascii():
    for glyphs in (UNICODE, ASCII):
        singles = [*glyphs.states.values(), *glyphs.sparks, *glyphs[2:8], *glyphs[9:]]
        assert all(cells(glyph) == 1 for glyph in singles)
    assert all(text.isascii() for text in (*ASCII.states.values(), *ASCII[2:]) if text)


@given(st.lists(st.sampled_from(["a", "é", "left", "right", "home", "end", "backspace", "delete",
                                 "ctrl+u", "ctrl+w", "ctrl+a", "space"])))  # fmt: skip
def test_a_line_that_is_typed_keeps_its_cursor_within(names):
    edit = Edit()
    for name in names:
        edit.key(name, name if len(name) == 1 else " " if name == "space" else None)
        assert 0 <= edit.at <= len(edit.text)
        before, under, after = edit.shown()
        assert (before + under + after).rstrip() == edit.text.rstrip()


def test_words_are_deleted_and_pasted_lines_become_one():
    edit = Edit("restart all of")
    edit.key("ctrl+w", None)
    edit.insert("the\nrest")
    assert edit.text == "restart all therest"
    assert plain([(edit.shown()[0], ""), ("|", "")]) == "restart all therest|"
