"""What was ordered: the question before it, the answers, and what came of them."""

from __future__ import annotations

from helpers_tui import row, stored

from fleetmon_tui.state.orders import Order, Question


def test_an_order_tells_answers_and_what_came_of_them():
    store = stored(row("A", generation=1), row("B", generation=4))
    order = Order("restart", ("A", "B"), store)
    assert order.sentence == "restart 2: 2 without an answer yet"
    order.answered("A", {"result": "accepted", "reason": ""})
    order.answered("B", {"result": "rejected", "reason": "it is draining"})
    order.look(store, 1.0)
    assert order.sentence == (
        "restart 2: 1 accepted, 1 refused, 0 of 1 running again (B: it is draining)"
    )
    assert not order.complete
    store.apply([row("A", generation=2)], more=False)
    assert not order.look(store, 2.0)
    assert order.complete
    assert order.look(store, 30.0)


def test_a_question_has_the_number_and_the_names():
    some = Question("restart", tuple(f"A{n}" for n in range(15)), hidden=2)
    assert some.title == "Restart 15 agents?"
    assert some.names.endswith("A11 and 3 more")
    assert "2 of them are hidden by the filter" in some.effect
    assert Question("pause", ("APEX",)).title == "Pause 1 agent?"
