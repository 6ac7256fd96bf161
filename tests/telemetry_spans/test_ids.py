"""Where the ids of tasks come from."""

from __future__ import annotations

import threading

from fleetmon.telemetry import tracing


def test_who_draws_a_block_has_an_id_though_others_use_up_all_the_rest(monkeypatch):
    class Wanted(list):
        def extend(self, ids):
            del ids[:]  # other threads were at it before the one that drew

    wanted = Wanted()
    monkeypatch.setattr(tracing, "_drawn", wanted)
    monkeypatch.setattr(tracing, "_take", wanted.pop)
    ids = [tracing._draw() for _ in range(3)]
    assert len(set(ids)) == 3
    assert {len(each) for each in ids} == {32}


def test_ids_drawn_by_several_threads_are_all_different():
    drawn = [[] for _ in range(4)]

    def draw(mine):
        mine += [tracing._draw() for _ in range(5_000)]

    threads = [threading.Thread(target=draw, args=(mine,)) for mine in drawn]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len({ids for mine in drawn for ids in mine}) == 20_000
