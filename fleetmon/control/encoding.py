"""Values as JSON text, as quickly as this interpreter can: rows are encoded by the thousand."""

from __future__ import annotations

import json
import json.encoder
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from fleetmon.control.protocol import TICKS
from fleetmon.rows import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def _quick_encoder() -> Callable[[Any], str]:
    plain = json.JSONEncoder(separators=(",", ":"))
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return plain.encode
    # JSONEncoder.encode() makes this anew with every call, which takes as long as a small row
    made = make(
        {}, plain.default, json.encoder.encode_basestring_ascii, None, ":", ",", False, False, True
    )
    return lambda value: "".join(made(value, 0))


encode = _quick_encoder()
"""Return a value as JSON text without blanks."""


def _row_encoder() -> Callable[[Sequence[Any]], bytes]:
    try:
        from orjson import dumps
    except ImportError:
        return lambda row: encode(row).encode()

    def quickest(row: Sequence[Any]) -> bytes:
        try:
            # what it gives keeps the room in which it was made, some 8 KiB for 200 bytes
            return bytes(memoryview(dumps(tuple(row))))
        except TypeError:  # a number or a text that it does not take
            return encode(row).encode()

    return quickest


encode_row = _row_encoder()
"""Return a row as JSON text."""

tick_of = itemgetter(0, *(COLUMNS.index(name) for name in TICKS))
"""Return what a tick tells of a row: the agent's id, and the values of :data:`TICKS`."""

rest_of = itemgetter(*(at for at, name in enumerate(COLUMNS) if name not in TICKS))
"""Return what a tick does not tell of a row."""
