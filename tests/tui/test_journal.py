"""Events: each told once and in a sentence, and gaps between them told too."""

from __future__ import annotations

import pytest
from helpers_tui import event

from fleetmon_tui.state.journal import Journal, entry


def test_events_are_told_once_and_gaps_between_them_are_told_too():
    journal = Journal()
    journal.apply([event(4, "started", "A"), event(5, "stopped", "A")])
    journal.apply([event(5, "stopped", "A"), event(9, "started", "A")], 3)
    assert [e.text for e in journal.entries] == ["started", "stopped", "3 events missed here",
                                                 "started"]  # fmt: skip
    assert journal.missed == 3


async def _every_kind():
    from fleetmon.events import EventKind

    return [entry(event(n, kind.value, "A")) for n, kind in enumerate(EventKind, 1)]


@pytest.mark.anyio
async def test_every_kind_of_event_has_a_sentence_even_without_its_facts():
    assert all(e.text and "_" not in e.text for e in await _every_kind())


def test_the_stack_of_a_blocked_loop_is_kept():
    stack = ["serve.py:10 in serve", {"file": "a.py", "line": 3, "function": "grind"}]
    found = entry(event(1, "loop_blocked", "APEX", seconds=2.0, file="a.py", line=3,
                        function="grind", stack=stack))  # fmt: skip
    assert found.text == "blocks the event loop for 2.0s at a.py:3 in grind"
    assert found.stack == ("serve.py:10 in serve", "a.py:3 in grind")
