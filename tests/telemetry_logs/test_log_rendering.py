"""Lines are JSON whatever they hold, bounded, and right about the time."""

from __future__ import annotations

import json
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetmon.events import Event, EventKind
from fleetmon.numbers import SUCCEEDED
from fleetmon.telemetry.render import Renderer, dumps, plain

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=30)  # surrogates and all


def queued(  # noqa: PLR0917 - what the log takes of a task, and that is positional
    ended, started, outcome, agent, kind, number, generation, attempt, ids, *error
):
    """What a log keeps of the end of a task until it is rendered."""
    facts = (ended, started, agent, kind, generation, attempt, number, ids)
    return facts if outcome == SUCCEEDED else (*facts, outcome, *(error or ("", None)))


@given(
    st.tuples(ANY_TEXT, ANY_TEXT, ANY_TEXT, ANY_TEXT),
    st.booleans(),
    st.integers(1, 4),
    st.integers(0, 2**63),
)
def test_every_line_is_json_whatever_the_strings_hold(texts, flat, out, no):
    service, agent, kind, error = texts
    renderer = Renderer(service, flatten=flat, messages=True, clock=lambda: 0.0, wall=lambda: 1e9)
    broken = ValueError(error)
    item = queued(2.0, 1.0, out, agent, kind, no, 1, 2, f"{no:032x}", error, broken)
    event = Event(1, 1e9, 0.0, EventKind.COMMAND, agent, 0, 0, {kind: error})
    text = renderer.render([item, (event,)])
    assert text.isascii()
    first, second, rest = text.split("\n")
    assert rest == ""
    line, told = json.loads(first), json.loads(second)
    extra = line if flat else line["extra"]
    assert (line["service"], line["agent_id"], line["task_type"]) == (service, agent, kind)
    assert extra["error_type"] == error if error else "error_type" not in extra
    assert extra["error"]["message"] == error
    assert told.get("agent_id", "") == agent


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT | st.binary(),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(ANY_TEXT | st.integers(), inner, max_size=4)
        ),
        max_leaves=20,
    )
)
def test_any_value_becomes_json(value):
    json.loads(dumps({"value": value}), parse_constant=pytest.fail)


def test_values_that_fight_back_are_named_and_bounded():
    class Hostile:
        def __repr__(self):
            raise RuntimeError

    endless = []
    endless.append(endless)
    assert plain(Hostile()) == "<RuntimeError in __repr__ of Hostile>"
    assert (
        len(dumps({"a": endless, "b": "x" * 10**6, "c": list(range(10**5)), "d": 10**5000}))
        < 20_000
    )


def test_stamps_follow_a_wall_clock_that_was_set():
    wall = [1_000_000_000.0]
    renderer = Renderer("svc", clock=lambda: 50.0, wall=lambda: wall[0])
    item = queued(49.0, 48.0, SUCCEEDED, "A", "t", 1, 1, 1, "")
    before = json.loads(renderer.render([item]))["timestamp"]
    wall[0] += 3600
    after = json.loads(renderer.render([item]))["timestamp"]
    assert (before, after) == ("2001-09-09T01:46:39.000000Z", "2001-09-09T02:46:39.000000Z")


ITEMS = st.tuples(
    st.floats(0, 1e6) | st.sampled_from([5.0, 5.0004, 5.000999999, 5.001, 5.9999999]),
    st.floats(0, 400.0)
    | st.sampled_from([0.0, 0.0005, 0.000999999, 0.0009999999, 0.001, 0.9999999]),
    st.integers(0, 4),
    st.sampled_from("AB"),
    st.sampled_from("tu"),
    st.integers(1, 10**9),
    st.integers(0, 2),
    st.integers(1, 2),
    st.sampled_from(["", "ab" * 16, "ab" * 16 + "cd" * 8]),
).map(lambda i: (i[0], i[0] - i[1], *i[2:]))


@given(st.lists(ITEMS, max_size=12), st.floats(1e9, 2e9))
def test_lines_that_come_together_are_the_same_as_one_by_one_and_tell_times_to_the_microsecond(
    items, wall
):
    renderer = Renderer("svc", clock=lambda: 0.0, wall=lambda: wall)
    lines = [queued(*item) for item in items]
    text = renderer.render(lines)
    assert text == "".join(renderer.render([line]) for line in lines)
    for item, line in zip(items, map(json.loads, text.splitlines()), strict=True):
        at = datetime.fromisoformat(line["timestamp"]).timestamp()
        assert at == pytest.approx(wall + item[0], abs=2.1e-6)
        assert line["extra"]["duration_seconds"] == pytest.approx(item[0] - item[1], abs=1e-6)
        assert (line["agent_id"], line["task_type"]) == item[3:5]
        assert (line.get("trace_id", ""), line.get("span_id", "")) == (
            item[8][:32],
            item[8][32:] or item[8][:16],
        )


def test_many_task_types_do_not_grow_the_memory_of_prepared_lines():
    renderer = Renderer("svc")
    for n in range(20_000):
        renderer.render([queued(2.0, 1.0, SUCCEEDED, "A", f"type-{n}", n, 1, 1, "")])
    assert len(renderer._prepared) <= 4096
