"""The mirror: frames in, a fleet out; pure."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fleetmon.control.mirror import Mirror
from fleetmon.rows import COLUMNS

ROW = dict.fromkeys(COLUMNS, 0)


def hello(*, epoch="one", resumed=False, columns=COLUMNS):
    return {
        "type": "hello", "protocol": 1, "schema": 1, "name": "hall", "epoch": epoch,
        "version": "0", "pid": 1, "capabilities": [], "columns": list(columns),
        "resumed": resumed, "clock": 100.0, "at": 5.0, "rate": 4.0,
    }  # fmt: skip


def rows(seq, *agents, removed=(), more=False, columns=COLUMNS):
    told = [[{**ROW, "mode": "owned", **agent}[name] for name in columns] for agent in agents]
    return {"type": "rows", "seq": seq, "more": more, "removed": list(removed), "rows": told}


def named(*names):
    return [{"agent_id": name} for name in names]


def test_a_whole_fleet_comes_in_chunks_and_is_complete_with_the_last():
    mirror = Mirror()
    mirror.apply(hello(), 10.0)
    mirror.apply(rows(2, *named("A", "B"), more=True))
    assert (list(mirror.rows), mirror.complete, mirror.since) == (["A", "B"], False, None)
    mirror.apply(rows(3, *named("C")))
    assert (list(mirror.rows), mirror.complete, mirror.since) == (["A", "B", "C"], True, 3)
    assert mirror.take_changes() == {"A", "B", "C"}
    assert mirror.take_changes() == set()


def test_old_rows_stay_until_the_new_ones_are_complete_and_then_go():
    mirror = Mirror()
    mirror.apply(hello())
    mirror.apply(rows(2, *named("A", "B")))
    mirror.apply(hello(epoch="two"))
    assert set(mirror.rows) == {"A", "B"}
    mirror.apply(rows(1, *named("B"), more=True))
    assert set(mirror.rows) == {"A", "B"}
    mirror.take_changes()
    mirror.apply(rows(2))
    assert set(mirror.rows) == {"B"}
    assert mirror.take_changes() == {"A"}


def test_removed_agents_go_and_come_back():
    mirror = Mirror()
    mirror.apply(hello())
    mirror.apply(rows(2, *named("A", "B")))
    mirror.apply(rows(4, {"agent_id": "B", "health": 2}, removed=["A"]))
    assert (list(mirror.rows), mirror.health) == (["B"], 2)
    mirror.apply(rows(5, *named("A"), removed=["A", "never"]))
    assert set(mirror.rows) == {"A", "B"}


def test_columns_that_the_other_side_lacks_or_adds_are_matched_by_name():
    mirror = Mirror()
    older = ("lifecycle", "agent_id", "health")
    mirror.apply(hello(columns=older))
    mirror.apply(rows(1, {"agent_id": "A", "lifecycle": "paused", "health": 1}, columns=older))
    row = mirror.rows["A"]
    assert (row.lifecycle, row.health, row.capacity, row.p50) == ("paused", 1, 1, None)
    newer = (*COLUMNS, "later")
    mirror.apply(hello(columns=newer))
    frame = rows(1, *named("A"))
    frame["rows"][0].append("?")
    mirror.apply(frame)
    assert mirror.rows["A"].agent_id == "A"


def test_clock_goes_on_between_heartbeats_and_unknown_frames_change_nothing():
    mirror = Mirror()
    mirror.apply(hello(), 10.0)
    assert mirror.now(12.5) == 102.5
    heartbeat = {"type": "heartbeat", "seq": 0, "event_seq": 0, "clock": 200.0, "at": 6.0}
    mirror.apply(heartbeat, 20.0)
    assert (mirror.now(20.0), mirror.now(19.0), mirror.wall) == (200.0, 200.0, 6.0)
    mirror.apply({"type": "from a later version"}, 21.0)
    assert mirror.now(21.0) == 201.0
    mirror.apply({"type": "end", "reason": "stopped"})
    assert mirror.ended == "stopped"
    mirror.apply(hello())
    assert mirror.ended == ""


def test_events_are_bounded_losses_are_added_up_and_another_life_begins_anew():
    mirror = Mirror(events=2)
    mirror.apply(hello())
    event = {"seq": 0}
    mirror.apply({"type": "events", "lost": 3, "events": [{**event, "seq": n} for n in (4, 5, 6)]})
    mirror.apply({"type": "events", "lost": 1, "events": [{**event, "seq": 8}]})
    assert ([e["seq"] for e in mirror.events], mirror.lost, mirror.event_seq) == ([6, 8], 4, 8)
    mirror.apply(hello(resumed=True))
    assert mirror.event_seq == 8
    mirror.apply(hello(epoch="two"))
    assert (list(mirror.events), mirror.event_seq) == ([], 0)


@given(
    st.lists(
        st.tuples(st.sampled_from("ABCDE"), st.sampled_from(["row", "gone", "hello"])), max_size=40
    )
)
def test_the_mirror_is_what_a_dict_would_be(steps):
    mirror, model = Mirror(), {}
    mirror.apply(hello())
    mirror.apply(rows(0))
    for seq, (name, step) in enumerate(steps, 1):
        if step == "row":
            model[name] = seq
            mirror.apply(rows(seq, {"agent_id": name, "assigned": seq}))
        elif step == "gone":
            model.pop(name, None)
            mirror.apply(rows(seq, removed=[name]))
        else:  # a new connection tells the whole fleet, in two chunks
            mirror.apply(hello())
            whole = [{"agent_id": k, "assigned": v} for k, v in model.items()]
            mirror.apply(rows(seq, *whole[:2], more=True))
            mirror.apply(rows(seq, *whole[2:]))
        assert {k: v.assigned for k, v in mirror.rows.items()} == model
        assert mirror.complete
