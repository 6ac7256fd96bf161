"""How ends of tasks and pictures of a fleet are put into bytes, and taken out again.

Ends of tasks come in thousands a second, so a batch of them is stored by column: at most 39
bytes a task and a third of a microsecond, where a row of its own would cost three. Pictures are
JSON, the full ones with every row, those between with the values that changed.
"""

from __future__ import annotations

import json
import struct
import sys
import zlib
from array import array
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_HEAD = struct.Struct("<cI")  # how the rest is stored, and the length of its JSON part
_PLAIN, _SMALL = b"p", b"z"
_SQUEEZED = 2048  # ends; a larger batch comes at a rate at which compressing would cost more
_LEVEL = 1
_LARGE = 100_000  # bytes of a picture from which on the quickest compression has to do

Row = list[Any]
"""Values of one agent, in the order of the life's columns."""


class End(NamedTuple):
    """The end of one task; the hot path appends these values, in this order, to a flat list.

    Attributes:
        task_id: unique within a life of the supervisor.
        agent_id: whose work it was.
        task_type: bounded label.
        attempt: 1 for the first delivery.
        generation: incarnation that worked on it; 0 when it ended while it waited.
        began: supervisor's clock, seconds.
        ended: the same.
        outcome: index into :data:`fleetmon.numbers.OUTCOMES`.
        error_type: of a failure, empty otherwise.
    """

    task_id: int
    agent_id: str
    task_type: str
    attempt: int
    generation: int
    began: float
    ended: float
    outcome: int
    error_type: str


WIDTH = len(End._fields)
"""Values of one end in a flat list."""

_CODES = "qIIHIddBI"  # of the columns, in the order of End; 39 bytes
_WORDS = frozenset((1, 2, 8))  # columns of words, each stored once
_VARYING = frozenset((0, 5, 6))  # columns that need not be looked at


def pack_ends(ends: list[Any]) -> bytes:
    """Return a batch of ends as bytes; not for none.

    A column in which all values are the same is stored as one, since most are.

    Args:
        ends: the values of one :class:`End` after those of another.
    """
    columns = [ends[at::WIDTH] for at in range(WIDTH)]
    count = len(columns[0])
    words: list[list[str]] = []
    same: dict[str, Any] = {}
    stored: list[bytes] = []
    for at, (code, column) in enumerate(zip(_CODES, columns, strict=True)):
        values: Iterable[Any] = column
        first = column[0]
        alike = at not in _VARYING and column.count(first) == count
        if at in _WORDS:
            index = {first: 0} if alike else {w: n for n, w in enumerate(dict.fromkeys(column))}
            words.append(list(index))
            first = 0
            values = map(index.__getitem__, column)
        if alike:
            same[str(at)] = first
            continue
        packed = array(code, values)
        if sys.byteorder == "big":
            packed.byteswap()
        stored.append(packed.tobytes())
    head = json.dumps([count, words, same], separators=(",", ":")).encode()
    body = b"".join((head, *stored))
    how = _PLAIN
    if count <= _SQUEEZED:
        how, body = _SMALL, zlib.compress(body, _LEVEL)
    return _HEAD.pack(how, len(head)) + body


def unpack_ends(data: bytes) -> list[End]:
    """Return what :func:`pack_ends` was given; raises :class:`ValueError` for anything else."""
    try:
        how, length = _HEAD.unpack_from(data)
        body = data[_HEAD.size :]
        if how == _SMALL:
            body = zlib.decompress(body)
        count, words, same = json.loads(body[:length])
        offset = length
        columns: list[Sequence[Any]] = []
        for at, code in enumerate(_CODES):
            if str(at) in same:
                columns.append([same[str(at)]] * count)
                continue
            packed = array(code)
            size = packed.itemsize * count
            packed.frombytes(body[offset : offset + size])
            if sys.byteorder == "big":
                packed.byteswap()
            columns.append(packed)
            offset += size
        for at, names in zip(sorted(_WORDS), words, strict=True):
            columns[at] = [names[place] for place in columns[at]]
        return [End(*values) for values in zip(*columns, strict=True)]
    except (struct.error, zlib.error, LookupError, TypeError, ValueError) as error:
        msg = f"a batch of task ends cannot be read: {error}"
        raise ValueError(msg) from error


class Frame(NamedTuple):
    """What is new about a fleet.

    Attributes:
        rows: whole rows by agent: all of them in a full frame, new agents in the others.
        changes: ``[place, value, place, value, ...]`` by agent.
        gone: agents that have gone.
        facts: about the whole fleet; ``None`` when the last ones still hold.
    """

    rows: dict[str, Row]
    changes: dict[str, list[Any]]
    gone: list[str]
    facts: dict[str, Any] | None


def pack_frame(frame: Frame) -> bytes:
    """Return a frame as bytes."""
    return squeeze(json.dumps(frame, separators=(",", ":"), default=str).encode())


def squeeze(text: bytes) -> bytes:
    """Return the JSON of a frame as it is stored."""
    return zlib.compress(text, _LEVEL if len(text) > _LARGE else 6)


def unpack_frame(data: bytes) -> Frame:
    """Return what :func:`pack_frame` was given; raises :class:`ValueError` for anything else."""
    try:
        return Frame(*json.loads(zlib.decompress(data)))
    except (zlib.error, TypeError, ValueError) as error:
        msg = f"a picture cannot be read: {error}"
        raise ValueError(msg) from error


def difference(before: Sequence[Any], after: Sequence[Any]) -> list[Any]:
    """Return the places and values at which ``after`` differs; both have the same length."""
    found: list[Any] = []
    for place, (old, new) in enumerate(zip(before, after, strict=True)):
        if old != new:
            found += (place, new)
    return found


def apply(rows: dict[str, Row], frame: Frame) -> None:
    """Bring ``rows`` up to date with a frame that followed them."""
    for agent_id in frame.gone:
        rows.pop(agent_id, None)
    rows |= frame.rows
    for agent_id, change in frame.changes.items():
        old = rows.get(agent_id)
        if old is not None:
            new = list(old)  # whoever was given the old row keeps it
            for place, value in zip(change[::2], change[1::2], strict=True):
                new[place] = value
            rows[agent_id] = new


def select(columns: Sequence[str], wanted: Sequence[str]) -> Sequence[int | None]:
    """Return where each wanted column lies in rows of another version; ``None``: nowhere."""
    places: Mapping[str, int] = {name: at for at, name in enumerate(columns)}
    return [places.get(name) for name in wanted]


def plain(row: Iterable[Any]) -> Row:
    """Return a row as JSON gives it back, so that rows can be compared: tuples become lists."""
    return [_plain(value) if type(value) is tuple else value for value in row]


def _plain(value: Any) -> Any:
    return [_plain(x) for x in value] if isinstance(value, tuple | list) else value
