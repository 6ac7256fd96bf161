"""The API in OpenAPI 3.1, made from the shapes of the protocol and the models of requests."""

from __future__ import annotations

import types
from functools import cache
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    NotRequired,
    Required,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from fleetmon._version import __version__
from fleetmon.control import protocol, shapes
from fleetmon.control.protocol import COMMANDS, HOST, VERSION_HEADER
from fleetmon.control.request import CommandRequest, RetryRequest
from fleetmon.control.webhook import PATH, Delivery

if TYPE_CHECKING:
    from pydantic import BaseModel

_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
_WHERE = "#/components/schemas/"
_SEQ = {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}

# path, summary, shape of the answer, kind of the body, parameters of the query
_READS: tuple[tuple[str, str, Any, str, dict[str, Any]], ...] = (
    ("/v1/hello", "Who answers.", shapes.HelloShape, "application/json", {}),
    ("/v1/snapshot", "The whole fleet as it is now.", shapes.SnapshotShape,
     "application/json", {
         "view": {"enum": ["full", "brief"], "description": "brief: counts, and of more than 200 "
                  "agents those that do not run as usual."},
     }),
    ("/v1/agents/{name}", "All there is to know about one agent, by id or alias.",
     shapes.AgentDetailShape, "application/json", {}),
    ("/v1/stream",
     ("Frames, one JSON object a line: the whole fleet, then what changes. Ends with the fleet. "
     "As server-sent events where Accept asks for text/event-stream."),
     shapes.Frame, "application/x-ndjson", {
         "since": {**_SEQ, "description": "Rows up to this change are known."},
         "epoch": {"type": "string", "description": "The life that since and events belong to."},
         "events": {"anyOf": [_SEQ, {"const": "none"}],
                    "description": "Events after this one; left out: from now on."},
         "rate": {"type": "number", "exclusiveMinimum": 0, "description": "Turns a second."},
         "ticks": {"enum": ["0", "1"], "description":
                   "1: of rows in which nothing else has changed, only what moves all the time."},
     }),
    ("/v1/events", "What happened, and with follow=1 what happens, one JSON object a line.",
     shapes.EventShape | shapes.FrameShape, "application/x-ndjson", {
         "since": {**_SEQ, "description": "Events after this one."},
         "epoch": {"type": "string", "description": "The life that since belongs to."},
         "follow": {"enum": ["0", "1"], "description": "1, the default, goes on."},
         "agent": {"type": "string", "description": "Of this agent only; may be repeated."},
         "kind": {"type": "string", "description": "Of this kind only; may be repeated."},
     }),
    ("/v1/dead-letters", "The tasks that were given up, oldest first.",
     shapes.DeadLettersShape, "application/json", {}),
    ("/v1/config", "Settings and specs, without secrets.", shapes.ConfigShape,
     "application/json", {}),
    ("/v1/metrics", "The metrics, as a scrape gets them.", str, "text/plain", {}),
    ("/v1/openapi.json", "This description.", dict[str, Any], "application/json", {}),
)  # fmt: skip

_WRITES: tuple[tuple[str, str, Any, Any], ...] = (
    ("/v1/command", "Have a command carried out, once for each key.", CommandRequest,
     shapes.AnswerShape),
    ("/v1/dead-letters/retry", "Run a dead letter again, once for each key.", RetryRequest,
     shapes.RetryShape),
    (PATH, "Alertmanager's webhook: on TCP, where it is switched on, with a token of its own.",
     Delivery, shapes.AlertsShape),
)  # fmt: skip

_REFUSED = ("400", "401", "403", "404", "405", "409", "413", "415", "426", "429")


@cache
def describe() -> dict[str, Any]:
    """Return the description."""
    schemas: dict[str, Any] = {}
    problem = {
        "description": "Refused, with a reason.",
        "content": {"application/json": {"schema": schema_of(shapes.ProblemShape, schemas)}},
    }
    refused = dict.fromkeys(_REFUSED, problem)
    paths: dict[str, Any] = {}
    for path, summary, shape, kind, query in _READS:
        parameters = [_parameter(name, "query", told) for name, told in query.items()]
        if "{name}" in path:
            name = {"type": "string", "minLength": 1}
            parameters.append({**_parameter("name", "path", name), "required": True})
        answers = {"200": _content("As asked.", kind, schema_of(shape, schemas)), **refused}
        paths[path] = {"get": {"summary": summary, "parameters": parameters, "responses": answers}}
    for path, summary, model, shape in _WRITES:
        told = schema_of(shape, schemas)
        answers = {
            "200": _content("What became of it.", "application/json", told),
            "202": _content("Not yet; ask again.", "application/json", told),
            **refused,
        }
        content = {"application/json": {"schema": _model(model, schemas)}}
        paths[path] = {
            "post": {
                "summary": summary,
                "requestBody": {"required": True, "content": content},
                "responses": answers,
            }
        }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "fleetmon control plane",
            "version": __version__,
            "description": (
                f"Protocol {protocol.PROTOCOL}; a client names its own in {VERSION_HEADER}. On "
                f"the Unix socket Host is {HOST}; on TCP every request carries a bearer token. "
                "Receivers pass over keys that they do not know."
            ),
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}, {}],
    }


def _model(model: type[BaseModel], schemas: dict[str, Any]) -> dict[str, Any]:
    body = model.model_json_schema(ref_template=_WHERE + "{model}")
    schemas.update(body.pop("$defs", {}))
    if model is CommandRequest:
        body["properties"]["command"]["enum"] = list(COMMANDS)
    schemas[model.__name__] = body
    return {"$ref": _WHERE + model.__name__}


def schema_of(shape: Any, schemas: dict[str, Any]) -> dict[str, Any]:  # noqa: PLR0911 - a table
    """Return the JSON schema of a shape; named ones are put into ``schemas``."""
    if shape is Any:
        return {}
    if shape in _PLAIN:
        return {"type": _PLAIN[shape]}
    if is_typeddict(shape):
        name: str = shape.__name__
        if name not in schemas:
            schemas[name] = {}  # so that a shape within itself finds an end
            schemas[name] = _object(shape, schemas)
        return {"$ref": _WHERE + name}
    origin, inner = get_origin(shape), get_args(shape)
    if origin is Literal:
        return {"enum": list(inner)}
    if origin is list:
        return {"type": "array", "items": schema_of(inner[0], schemas)}
    if origin is dict:
        return {"type": "object", "additionalProperties": schema_of(inner[1], schemas)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [schema_of(one, schemas) for one in inner]}
    if origin in (NotRequired, Required):
        return schema_of(inner[0], schemas)
    message = f"no schema for {shape!r}"
    raise TypeError(message)


def _object(shape: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    hints = get_type_hints(shape, include_extras=True)
    return {
        "type": "object",
        "description": " ".join((shape.__doc__ or "").split()),
        "properties": {name: schema_of(hint, schemas) for name, hint in hints.items()},
        # asked of the hints: the class itself does not know, annotations being text there
        "required": [name for name, hint in hints.items() if get_origin(hint) is not NotRequired],
    }


def _parameter(name: str, where: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": where, "schema": schema}


def _content(description: str, kind: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {kind: {"schema": schema}}}
