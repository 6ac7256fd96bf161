"""What every answer is made of: JSON, and one plain sentence for whatever is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError
from starlette.responses import Response

from fleetmon.control.encoding import encode
from fleetmon.control.protocol import PROTOCOL, SCHEMA

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import TypeVar

    from starlette.datastructures import QueryParams
    from starlette.requests import Request

    Model = TypeVar("Model", bound=BaseModel)

BODY_LIMIT = 64 * 1024
"""Bytes of a request's body."""

_LATEST = 2**63  # sequence numbers from here on make no sense
_DIGITS = 19
_SHOWN = 40  # characters of what a client sent, in an answer


class ProblemError(Exception):
    """A request that is refused."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        suggestions: Sequence[str] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Keep what the answer is made of."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.suggestions = suggestions
        self.headers = headers


def answer(status: int, body: Any, headers: Mapping[str, str] | None = None) -> Response:
    """Return a JSON answer."""
    text = encode(body) + "\n"
    told = {"cache-control": "no-store", **(headers or {})}
    return Response(text, status, told, media_type="application/json")


def problem(error: ProblemError) -> Response:
    """Return the answer to a request that is refused."""
    body = {
        "schema": SCHEMA,
        "protocol": PROTOCOL,
        "code": error.code,
        "message": str(error),
        "suggestions": list(error.suggestions),
    }
    return answer(error.status, body, error.headers)


def number(query: QueryParams, name: str) -> int:
    """Return a sequence number out of a query, 0 if it is not there."""
    told = query.get(name, "0")
    right = told.isascii() and told.isdecimal() and len(told) <= _DIGITS
    if not right or int(told) >= _LATEST:
        message = f"{name}={told[:_SHOWN]!r} is no sequence number"
        raise ProblemError(400, "bad_request", message)
    return int(told)


async def posted(request: Request, model: type[Model], limit: int = BODY_LIMIT) -> Model:
    """Return the body of a request, checked."""
    text = await body_of(request, limit)
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "body"
        message = f"{where[:80]}: {first['msg']}"
        raise ProblemError(400, "bad_request", message) from None


async def body_of(request: Request, limit: int) -> bytes:
    """Return the body of a request, which has to be JSON by its own word and within its limit."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ProblemError(415, "not_json", "send the body as application/json")
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > limit:
            raise ProblemError(413, "too_large", f"a body has {limit} bytes at most")
    return bytes(body)
