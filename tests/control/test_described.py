"""The API does what its description says, whatever is sent: driven from the description itself."""

from __future__ import annotations

import http.client
import json
import socket

import pytest
from helpers_control import Echo
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetmon import Supervisor, SupervisorSettings
from fleetmon.control.address import segment
from fleetmon.control.client import find
from fleetmon.control.describe import describe
from fleetmon.settings import Control

API = describe()
SCHEMAS = API["components"]["schemas"]


class Local(http.client.HTTPConnection):
    path = ""

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(8)
        self.sock.connect(self.path)


@pytest.fixture
def path(place):
    switched_on = SupervisorSettings(name="described", control=Control(enabled=True))
    with Supervisor.start_in_thread(switched_on) as fleet:
        fleet.add("APEX", Echo)
        fleet.command("pause", "APEX", reason="so that there is something to tell")
        yield find().socket


def resolve(schema):
    while "$ref" in schema:
        schema = SCHEMAS[schema["$ref"].rpartition("/")[2]]
    return schema


NAMES = {
    "string": str, "integer": int, "number": (int, float), "boolean": bool, "null": type(None),
    "array": list, "object": dict,
}  # fmt: skip


def misfit(value, schema, where="$"):  # noqa: PLR0911 - a table
    """Return where a value does not fit its schema, or nothing."""
    schema = resolve(schema)
    if "anyOf" in schema:
        found = [misfit(value, one, where) for one in schema["anyOf"]]
        return "" if "" in found else f"{where}: none of {found}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{where}: {value!r} not in {schema['enum']}"
    kind = schema.get("type")
    if kind is not None and not isinstance(value, NAMES[kind]):
        return f"{where}: {value!r} is no {kind}"
    if isinstance(value, bool) and kind in {"integer", "number"}:
        return f"{where}: a boolean"
    if kind == "array" and "items" in schema:
        return next(
            filter(
                None, (misfit(v, schema["items"], f"{where}[{n}]") for n, v in enumerate(value))
            ),
            "",
        )
    if kind == "object":
        missing = set(schema.get("required", ())) - set(value)
        if missing:
            return f"{where}: lacks {missing}"
        known, others = schema.get("properties", {}), schema.get("additionalProperties")
        for name, inner in value.items():
            inside = known.get(name, others if isinstance(others, dict) else {})
            if told := misfit(inner, inside, f"{where}.{name}"):
                return told
    return ""


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


def valid(schema):  # noqa: C901, PLR0911 - a table
    """Draw what a schema allows, roughly; the server knows better."""
    schema = resolve(schema)
    if "anyOf" in schema:
        return st.one_of(*map(valid, schema["anyOf"]))
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "const" in schema:
        return st.just(schema["const"])
    kind = schema.get("type")
    if kind == "string":
        least, most = schema.get("minLength", 0), schema.get("maxLength", 20)
        return st.just("APEX") | st.text(min_size=least, max_size=min(most, 30))
    if kind == "integer":
        return st.integers(schema.get("minimum", -5), schema.get("maximum", 100))
    if kind == "number":
        return st.floats(0, 0.01)
    if kind == "boolean":
        return st.booleans()
    if kind == "array":
        return st.lists(valid(schema.get("items", {})), max_size=3)
    if kind == "object" and "properties" in schema:
        known = {n: valid(s) for n, s in schema["properties"].items()}
        needed = {n: known.pop(n) for n in schema.get("required", ())}
        return st.fixed_dictionaries(needed, optional=known)
    if kind == "object":
        return st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2)
    return JSON


@st.composite
def requests(draw):
    target = draw(st.sampled_from(sorted(API["paths"])))
    (method, operation) = next(iter(API["paths"][target].items()))
    query = []
    name = "APEX"
    for parameter in operation.get("parameters", ()):
        value = draw(valid(parameter["schema"]) | st.text(max_size=12))
        if parameter["in"] == "path":
            name = str(value)
        elif draw(st.booleans()):
            query.append(f"{parameter['name']}={segment(_encodable(str(value)))}")
    if "since" in [p["name"] for p in operation.get("parameters", ())]:
        query.append("follow=0")  # the one that ends
    body = None
    if method == "post":
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        body = draw(valid(schema))
        if isinstance(body, dict) and draw(st.booleans()):
            body |= draw(st.dictionaries(st.sampled_from([*body, "other"]), JSON, max_size=2))
    where = target.replace("{name}", segment(_encodable(name)) or "APEX")
    return method.upper(), target, where + ("?" + "&".join(query) if query else ""), body


def _encodable(text):
    return text.encode("utf-8", "replace").decode()


def test_every_answer_is_one_that_the_description_knows(path):
    @settings(max_examples=50, deadline=None, database=None)
    @given(requests())
    def ask(request):
        method, target, where, body = request
        connection = Local("localhost")
        connection.path = path
        try:
            text = None if body is None else json.dumps(body).encode()
            connection.request(method, where, text, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            kind = answer.headers["content-type"].partition(";")[0]
            told = b"" if target == "/v1/stream" and answer.status == 200 else answer.read()
        finally:
            connection.close()
        assert answer.status < 500, request
        if target == "/v1/alertmanager":  # on TCP only
            assert answer.status == 404
            return
        known = API["paths"][target][method.lower()]["responses"]
        assert str(answer.status) in known, (request, told)
        contents = known[str(answer.status)]["content"]
        if answer.status == 200 and target == "/v1/stream":
            assert kind == "application/x-ndjson"
            return
        assert kind in contents, request
        if kind == "application/json":
            assert misfit(json.loads(told), contents[kind]["schema"]) == "", request
        elif kind == "application/x-ndjson":
            for line in told.splitlines():
                assert misfit(json.loads(line), contents[kind]["schema"]) == "", request

    ask()
