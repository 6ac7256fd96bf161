"""What an earlier life has left: tasks whose end nobody knows, and restarts that still count.

Every function belongs inside a transaction of the store.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from fleetmon.snapshot import InterruptedTask

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

_TOLD = 100_000  # interrupted tasks that are told one by one
_FIELDS = "task_id, agent_id, task_type, attempt, generation, since, waiting"


class Left(NamedTuple):
    """What was found when a new life began.

    Attributes:
        crashed: ``(epoch, pid, at)`` of lives that ended without a word, ``at`` of their newest
            commit.
        tasks: those that such a life left over, and older ones that wait for their agent.
        lives: number of the life of each of them, in the same order.
        restarts: streak, and wall-clock times of the lapses, by agent.
    """

    crashed: list[tuple[str, int, float]]
    tasks: list[InterruptedTask]
    lives: list[int]
    restarts: dict[str, tuple[int, tuple[float, ...]]]


def adopt(database: sqlite3.Connection, life: int) -> Left:
    """Settle what earlier lives have left; ``life`` is the one that asks."""
    crashed = database.execute(
        "SELECT epoch, pid, last_at FROM lives WHERE ended='' AND life<>? ORDER BY life", (life,)
    ).fetchall()
    leave(database, "life<>?", life)
    database.execute("UPDATE lives SET ended='crashed' WHERE ended='' AND life<>?", (life,))
    database.execute("UPDATE interrupted SET found=? WHERE found=0", (life,))
    found = database.execute(
        f"SELECT i.life, l.epoch, {', '.join('i.' + f for f in _FIELDS.split(', '))}, i.fate "  # noqa: S608 - our own names
        "FROM interrupted i LEFT JOIN lives l ON l.life=i.life "
        "WHERE i.found=? OR i.fate='pending' ORDER BY i.life, i.task_id LIMIT ?",
        (life, _TOLD),
    ).fetchall()
    restarts = {
        agent_id: (streak, tuple(json.loads(lapses)))
        for agent_id, streak, lapses in database.execute(
            "SELECT agent_id, streak, lapses FROM restarts"
        )
    }
    return Left(
        crashed,
        [interrupted_of(row[1:]) for row in found],
        [row[0] for row in found],
        restarts,
    )


def leave(database: sqlite3.Connection, which: str, life: int) -> None:
    """Turn open tasks of the lives that ``which`` means into interrupted ones, yet to be told."""
    database.execute(
        f"INSERT OR REPLACE INTO interrupted(life, {_FIELDS}, payload, fate, found) "  # noqa: S608 - our own names
        f"SELECT life, {_FIELDS}, payload, CASE WHEN payload IS NULL THEN 'uncertain' "
        f"ELSE 'pending' END, 0 FROM open WHERE {which}",
        (life,),
    )
    database.execute(f"DELETE FROM open WHERE {which}", (life,))  # noqa: S608 - our own names


def interrupted_of(row: Sequence[object]) -> InterruptedTask:
    """Return the task of a row: epoch, then the fields of the tables, then its fate."""
    epoch, task_id, agent_id, task_type, attempt, generation, since, waiting, fate = row
    return InterruptedTask(
        task_id,  # type: ignore[arg-type] # as the table has them
        agent_id,  # type: ignore[arg-type]
        task_type,  # type: ignore[arg-type]
        attempt,  # type: ignore[arg-type]
        generation,  # type: ignore[arg-type]
        since,  # type: ignore[arg-type]
        bool(waiting),
        str(epoch or ""),
        fate,  # type: ignore[arg-type]
    )


def claim(
    database: sqlite3.Connection, life: int, task_id: int, *, found: int, again: int, fate: str
) -> bytes | None:
    """Take a pending task over into the life ``found``, as its task number ``again``.

    Returns:
        The payload; ``None`` when the task is not pending any more.
    """
    row = database.execute(
        "SELECT payload FROM interrupted WHERE life=? AND task_id=? AND fate='pending'",
        (life, task_id),
    ).fetchone()
    if row is None:
        return None
    payload: bytes = row[0]
    database.execute(
        "UPDATE interrupted SET fate=?, found=?, again=?, payload=NULL WHERE life=? AND task_id=?",
        (fate, found, again, life, task_id),
    )
    return payload
