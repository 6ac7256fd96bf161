"""Where the ids of tasks come from."""

from __future__ import annotations

import threading

from fleetmon.telemetry import ids as source


def test_who_draws_a_block_has_an_id_though_others_use_up_all_the_rest(monkeypatch):
    class Wanted(list):
        def extend(self, ids):
            del ids[:]  # other threads were at it before the one that drew

    wanted = Wanted()
    monkeypatch.setattr(source, "_drawn", wanted)
    monkeypatch.setattr(source, "take", wanted.pop)
    mine = [source.draw() for _ in range(3)]
    assert len(set(mine)) == 3
    assert {len(each) for each in mine} == {32}


def test_ids_drawn_by_several_threads_are_all_different():
    drawn = [[] for _ in range(4)]

    def draw(mine):
        mine += [source.draw() for _ in range(5_000)]

    threads = [threading.Thread(target=draw, args=(mine,)) for mine in drawn]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len({each for mine in drawn for each in mine}) == 20_000
