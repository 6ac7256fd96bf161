"""How a measured call ended: from what it raised, or from what it returned."""

from __future__ import annotations

import asyncio
import concurrent.futures
from typing import Any, Final

from fleetmon.errors import TaskCancelledError

SUCCESS: Final = "success"
ERROR: Final = "error"
CANCELLED: Final = "cancelled"
TIMED_OUT: Final = "timed_out"
MISS: Final = "miss"
"""A retrieval that found nothing."""

STATUSES: Final = (SUCCESS, ERROR, CANCELLED, TIMED_OUT)

_CANCELS = (
    asyncio.CancelledError,
    concurrent.futures.CancelledError,
    GeneratorExit,
    KeyboardInterrupt,
    TaskCancelledError,
)
# Reasons for stopping, and names of statuses, that say how a result came about.
_SPOKEN = {
    "error": ERROR,
    "failed": ERROR,
    "failure": ERROR,
    "cancelled": CANCELLED,
    "canceled": CANCELLED,
    "aborted": CANCELLED,
    "timeout": TIMED_OUT,
    "timed_out": TIMED_OUT,
}


def of_error(error: BaseException) -> str:
    """Return the status of a call that raised: a cancel is a cancel, not an error."""
    if isinstance(error, _CANCELS):
        return CANCELLED
    return TIMED_OUT if isinstance(error, TimeoutError) else ERROR


def of_result(result: object) -> str:
    """Return the status of a call that returned.

    Runtimes report failure without raising: ``success`` that is False, or a ``status`` or
    ``stop_reason`` that says so, as attributes or keys. Anything else is a success.
    """
    if field(result, "success") is False:
        return ERROR
    for name in ("stop_reason", "status"):
        said = field(result, name)
        said = getattr(said, "name", said)  # enumerations
        if isinstance(said, str) and (status := _SPOKEN.get(said.lower())):
            return status
    return SUCCESS


def field(result: object, name: str) -> Any:
    """Return an attribute or, of a dictionary, an entry; None where there is none."""
    if isinstance(result, dict):
        return result.get(name)
    return getattr(result, name, None)


def number(result: object, *names: str) -> float | None:
    """Return the first of these fields that holds a number; None where none does."""
    for name in names:
        value = field(result, name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return value
    return None


def size_of(data: object) -> int | None:
    """Return the size in bytes of bytes-like objects and text (as UTF-8), None of others."""
    if isinstance(data, memoryview):
        return data.nbytes
    if isinstance(data, (bytes, bytearray)):
        return len(data)
    if isinstance(data, str):
        return len(data) if data.isascii() else len(data.encode("utf-8", "surrogatepass"))
    return None
