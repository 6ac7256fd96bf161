"""Reads what HTTP clients hang on their exceptions: a status and a Retry-After.

RFC 9110, section 10.2.3: Retry-After is a number of seconds or an HTTP date. Some services send
``retry-after-ms`` beside it; that one is finer and goes first.
"""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

MOST = 86_400.0  # seconds; no header may put an agent away for longer than a day

_LONGEST = 64  # characters of a value worth reading
_LOWEST_STATUS, _HIGHEST_STATUS, _DIGITS = 100, 599, 3


def attribute(source: object, name: str) -> Any:
    """Return an attribute of a foreign object, ``None`` when it is missing or raises."""
    try:
        return getattr(source, name, None)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - properties of foreign classes may raise
        return None


def http_status(error: BaseException) -> int:
    """Return the HTTP status that an exception carries, 0 for none; never raises.

    Looked for in ``status_code``, ``status``, ``code`` and ``response.status_code``.
    """
    for name in ("status_code", "status", "code"):
        status = _status(attribute(error, name))
        if status and not issubclass(type(error), SystemExit):
            return status
    response = attribute(error, "response")
    return 0 if response is None else _status(attribute(response, "status_code"))


def retry_after_of(error: BaseException, wall: float = 0.0) -> float:
    """Return the seconds that an exception asks to wait, 0.0 for none; never raises.

    Looked for in ``retry_after`` and in the headers of the exception or of its ``response``.

    Args:
        error: whatever was raised.
        wall: seconds since the epoch, for dates; 0.0: dates are ignored.

    Returns:
        A finite number from 0.0 to :data:`MOST`.
    """
    delay = _seconds(attribute(error, "retry_after"), wall)
    if delay:
        return delay
    for holder in (error, attribute(error, "response")):
        headers = None if holder is None else attribute(holder, "headers")
        if headers is None:
            continue
        delay = _seconds(_header(headers, "retry-after-ms"), wall) / 1000.0
        delay = delay or _seconds(_header(headers, "retry-after"), wall)
        if delay:
            return delay
    return 0.0


def _seconds(value: object, wall: float) -> float:
    try:
        if value is None or isinstance(value, bool):
            return 0.0
        if isinstance(value, timedelta):
            seconds = value.total_seconds()
        elif isinstance(value, (int, float)):
            seconds = float(value)
        elif isinstance(value, str):
            seconds = _parse(str.__str__(value)[:_LONGEST].strip(), wall)
        else:
            return 0.0
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - the value is foreign code
        return 0.0
    return min(seconds, MOST) if math.isfinite(seconds) and seconds > 0.0 else 0.0


def _parse(text: str, wall: float) -> float:
    try:
        return float(text)
    except ValueError:
        if wall <= 0.0:
            return 0.0
    from email.utils import parsedate_to_datetime  # seldom needed, and it loads a good deal

    return parsedate_to_datetime(text).timestamp() - wall


def _header(headers: object, name: str) -> Any:
    get = attribute(headers, "get")
    if not callable(get):
        return None
    try:
        found = get(name)
        return get(name.title()) if found is None else found
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - foreign code
        return None


def _status(value: object) -> int:
    try:
        if isinstance(value, str):
            value = str.__str__(value)
            value = value if len(value) == _DIGITS and value.isdecimal() else None
        elif not isinstance(value, int) or isinstance(value, bool):
            return 0
        status = int(value or 0)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - foreign code
        return 0
    return status if _LOWEST_STATUS <= status <= _HIGHEST_STATUS else 0
