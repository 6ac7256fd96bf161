"""The columns of the fleet view: what a cell says, how wide it is, and how it sorts."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from fleetmon_tui.state import words
from fleetmon_tui.state.history import TOP
from fleetmon_tui.state.store import (
    ASSIGNED,
    CAPACITY,
    CONDITIONS,
    EXECUTOR,
    FAILURES,
    FIELD,
    GENERATION,
    HEALTH,
    ID,
    IN_FLIGHT,
    LAPSE,
    LIFECYCLE,
    MODE,
    NUMBER,
    P50,
    P95,
    QUEUE_LIMIT,
    QUEUED,
    RESTARTS,
    RETRY_AT,
    STREAK,
    TASK,
    TASK_SINCE,
    TIER,
    UTILIZATION,
)
from fleetmon_tui.state.text import age, bar, clean, count, cut, duration, spark

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fleetmon_tui.state.store import Row
    from fleetmon_tui.state.text import Glyphs, Piece

BAR = 4
"""Cells of the utilization bar."""

SPARK = 12
"""Cells of the sparkline."""

_FULL = 0.9  # share of a queue from which it is drawn as a warning
_BUSY = 0.95  # utilization from which it stands out


class Moment(NamedTuple):
    """What a cell may need beside its row."""

    clock: float
    glyphs: Glyphs
    use: Callable[[int, int], Sequence[int]]


class Column(NamedTuple):
    """One column.

    Attributes:
        name: for the palette and the status line.
        head: heading.
        width: cells.
        right: numbers stand on the right.
        cell: text and role of one agent's cell, given its row, its place and the moment.
        key: what to sort by; empty values come last either way.
        down: sorts from large to small unless reversed.
        moves: the order changes while agents work.
        passes: the cell changes with time alone, while the row stays as it is.
    """

    name: str
    head: str
    width: int
    right: bool
    cell: Callable[[Row, int, Moment], Piece]
    key: Callable[[Row], Any]
    down: bool = False
    moves: bool = True
    passes: bool = False


def lifecycle(row: Row) -> str:
    """Return the state as shown: one that was only declared has none yet."""
    return "declared" if row[MODE] == "declared" else str(row[LIFECYCLE])


def doing(row: Row, glyphs: Glyphs) -> Piece:
    """Return what an agent is at, or what is the matter with it."""
    if row[CONDITIONS]:
        return f"{glyphs.warning} {words.conditions(row[CONDITIONS])}", words.HEALTH_ROLES[
            row[HEALTH] or 1
        ]
    if row[TASK]:
        more = f" +{row[IN_FLIGHT] - 1}" if row[IN_FLIGHT] > 1 else ""
        return clean(row[TASK]) + more, ""
    if row[LIFECYCLE] in {"backing_off", "quarantined", "probing", "recovering"} and row[LAPSE]:
        return clean(row[LAPSE][3] or row[LAPSE][2]), "quiet"
    return glyphs.dash, "quiet"


def clock_cell(row: Row, moment: Moment) -> Piece:
    """Return how long the task has run, or how long until the next try."""
    if row[TASK]:
        return age(moment.clock - row[TASK_SINCE]), ""
    if row[RETRY_AT] is not None:
        return f"in {age(row[RETRY_AT] - moment.clock)}", "warn"
    return "", ""


def _agent(row: Row, _: int, __: Moment) -> Piece:
    return clean(row[ID]), "name"


def _state(row: Row, _: int, moment: Moment) -> Piece:
    told = lifecycle(row)
    health = 0 if told == "declared" else row[HEALTH]
    return words.state(told, health, moment.glyphs), words.role(told, health)


def _use(row: Row, _: int, moment: Moment) -> Piece:
    use = row[UTILIZATION]
    told = f"{bar(use, BAR, moment.glyphs)}{min(999, round(use * 100)):>4}%"
    return told, "busy" if use >= _BUSY else "use"


def _spark(_: Row, place: int, moment: Moment) -> Piece:
    return spark(moment.use(place, SPARK), SPARK, moment.glyphs, TOP), "use"


def _queue(row: Row, _: int, __: Moment) -> Piece:
    queued, limit = row[QUEUED], row[QUEUE_LIMIT]
    return count(queued), "warn" if limit and queued >= _FULL * limit else "" if queued else "quiet"


def _retry(row: Row, _: int, moment: Moment) -> Piece:
    at = row[RETRY_AT]
    return ("", "") if at is None else (age(at - moment.clock), "warn")


def _failures(row: Row, _: int, __: Moment) -> Piece:
    return count(row[FAILURES]), "warn" if row[FAILURES] else "quiet"


def ended(row: Row) -> int:
    """Return how many tasks came to an end."""
    return int(row[ASSIGNED] - row[QUEUED] - row[IN_FLIGHT])


def _number(at: int) -> Callable[[Row, int, Moment], Piece]:
    def cell(row: Row, _: int, __: Moment) -> Piece:
        return count(row[at]), "" if row[at] else "quiet"

    return cell


def _seconds(at: int) -> Callable[[Row, int, Moment], Piece]:
    def cell(row: Row, _: int, __: Moment) -> Piece:
        return duration(row[at]), ""

    return cell


def _words(at: int) -> Callable[[Row, int, Moment], Piece]:
    def cell(row: Row, _: int, __: Moment) -> Piece:
        return "" if row[at] is None else clean(row[at]), "quiet"

    return cell


def _by(at: int) -> Callable[[Row], Any]:
    return lambda row: row[at]


COLUMNS = (
    Column("agent", "AGENT", 11, False, _agent, _by(ID), moves=False),
    Column("state", "STATE", 15, False, _state, lambda r: (r[HEALTH], r[LIFECYCLE]), down=True),
    Column("doing", "DOING", 13, False, lambda r, _, m: doing(r, m.glyphs),
           lambda r: r[TASK] or None),
    Column("for", "FOR", 6, True, lambda r, _, m: clock_cell(r, m),
           lambda r: r[TASK_SINCE] if r[TASK] else None, passes=True),
    Column("queue", "QUEUE", 5, True, _queue, _by(QUEUED), down=True),
    Column("use", "USE", BAR + 5, True, _use, _by(UTILIZATION), down=True),
    Column("tasks", "TASKS", 6, True, lambda r, _, __: (count(ended(r)), ""), ended, down=True),
    Column("failures", "FAIL", 4, True, _failures, _by(FAILURES), down=True),
    Column("p95", "P95", 6, True, _seconds(P95), _by(P95), down=True),
    Column("restarts", "RST", 4, True, _number(RESTARTS), _by(RESTARTS), down=True),
    Column("history", "LAST MINUTE", SPARK, False, _spark, _by(UTILIZATION), down=True,
           passes=True),
    Column("p50", "P50", 6, True, _seconds(P50), _by(P50), down=True),
    Column("retry", "RETRY", 6, True, _retry, _by(RETRY_AT), passes=True),
    Column("streak", "STREAK", 6, True, _number(STREAK), _by(STREAK), down=True),
    Column("tier", "TIER", 4, True, _words(TIER), _by(TIER), moves=False),
    Column("number", "NO", 5, True, _words(NUMBER), _by(NUMBER), moves=False),
    Column("life", "LIFE", 5, True, _number(GENERATION), _by(GENERATION), down=True),
    Column("capacity", "CAP", 4, True, _number(CAPACITY), _by(CAPACITY), down=True, moves=False),
    Column("executor", "EXECUTOR", 8, False, _words(EXECUTOR), _by(EXECUTOR), moves=False),
    Column("field", "FIELD", 28, False, _words(FIELD), _by(FIELD), moves=False),
)  # fmt: skip
"""All columns, the most telling first: as many are shown as there is room for."""

BY_NAME = {column.name: column for column in COLUMNS}

GUTTER = 2
"""Cells on the left for cursor and mark."""

_LONGEST_NAME = 24


Layout = tuple[tuple[Column, int], ...]
"""Columns and their widths."""


@lru_cache(maxsize=16)
def layout(width: int, *, names: int = 0, skipped: int = 0) -> Layout:
    """Return the columns that fit, each with its width; the same object for the same screen.

    Args:
        width: cells of the screen.
        names: cells of the longest agent's name.
        skipped: columns after the first that were moved out of sight on the left.
    """
    first = COLUMNS[0]
    name = min(_LONGEST_NAME, max(first.width, names))
    if width - GUTTER < 60:  # noqa: PLR2004 - narrow screens keep the state in sight
        name = min(name, first.width)
    found = [(first, name)]
    left = width - GUTTER - name
    for column in COLUMNS[1 + skipped :]:
        if left < column.width + 1:
            break
        found.append((column, column.width))
        left -= column.width + 1
    spread = next((i for i, (column, _) in enumerate(found) if column.name == "doing"), None)
    if spread is not None and left > 0:  # what is left over goes where sentences stand
        column, had = found[spread]
        found[spread] = (column, had + min(left, 24))
    return tuple(found)


def heading(column: Column, width: int, glyphs: Glyphs, sort: str, *, reverse: bool) -> str:
    """Return a column's heading, with an arrow where the rows are sorted by it."""
    head = column.head
    if column.name == sort:
        arrow = glyphs.down if column.down != reverse else glyphs.up
        head = cut(head, width - 1, "") + arrow
    return head.rjust(width) if column.right else head.ljust(width)
