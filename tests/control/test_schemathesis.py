"""The described API under schemathesis, against a fleet that runs: as described, and never a 5xx.

A modest number of cases in the ordinary run; ``make fuzz`` has thousands.
"""

from __future__ import annotations

import json
from collections import Counter

import pytest
from fuzz_host import KEEPER, NAMES
from helpers_fuzz import ALERTS, FUZZ, GROWTH, HEADERS, report
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
requests = pytest.importorskip("requests")

CASES = 12  # of an operation, in the ordinary run
ENDLESS = ("/v1/stream", "/v1/events")
WEBHOOK = "/v1/alertmanager"


def operations(schema):
    return [found.ok() for found in schema.get_all_operations()]


def cases(operation, letters):
    """Draw what the description allows, and what it does not."""
    positive = operation.as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE)
    if not (operation.path_parameters or operation.query or operation.body):
        return positive
    negative = operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE)
    real = st.builds(
        made_real, positive, st.sampled_from(NAMES),
        st.sampled_from(["pause", "resume", "restart", "reset", "start", "stop"]),
        st.sampled_from(letters), st.uuids(),
    )  # fmt: skip
    return st.one_of(real, positive, negative)


def made_real(case, name, command, letter, key):
    """Name an agent and a command that there are, else hardly anything but 404 is seen."""
    if case.path_parameters and "name" in case.path_parameters:
        case.path_parameters["name"] = name
    body = case.body
    if isinstance(body, dict):
        if "agent_id" in body and "command" in body:
            body |= {"agent_id": name, "command": command, "key": str(key), "epoch": None,
                     "generation": None, "desired": None, "hold": 0.0}  # fmt: skip
        elif "task_id" in body:
            body |= {"task_id": letter, "agent_id": KEEPER, "key": str(key), "epoch": None,
                     "hold": 0.0}  # fmt: skip
        for alert in body.get("alerts") or ():
            if isinstance(alert, dict):
                alert["labels"] = {"agent_id": name, "fleetmon_command": command}
    return case


def sent(case, session, url):
    """Send a case; the streams that do not end are left after their first piece."""
    told = ALERTS if case.path == WEBHOOK else HEADERS
    kwargs = case.as_transport_kwargs(base_url=url)
    kwargs["headers"] = {**kwargs.get("headers", {}), **told}
    if case.path not in ENDLESS:
        return case.call(base_url=url, session=session, headers=told, timeout=10)
    response = requests.request(**kwargs, stream=True, timeout=10)
    try:
        if response.status_code == 200:
            assert json.loads(next(response.iter_lines()))["type"] == "hello"
        else:
            assert set(response.json()) >= {"code", "message"}
        assert response.status_code in {200, 400, 405}
    finally:
        response.close()
    return response


def test_the_described_api_keeps_its_word_whatever_is_sent(fuzzed):
    seen = {}
    with requests.Session() as session:
        described = session.get(f"{fuzzed.url}/v1/openapi.json", headers=HEADERS, timeout=10)
        letters = [x["task_id"] for x in fuzzed.client().dead_letters()]
        schema = schemathesis.openapi.from_dict(described.json())
        schema.config.update(base_url=fuzzed.url)
        found = operations(schema)
        assert len(found) == len(described.json()["paths"])

        def drive(operation, number):
            tally = seen.setdefault(operation.label, Counter())

            @settings(
                max_examples=number, deadline=None, database=None, derandomize=not FUZZ,
                suppress_health_check=list(HealthCheck),
            )  # fmt: skip
            @given(cases(operation, letters))
            def send(case):
                response = sent(case, session, fuzzed.url)
                tally[response.status_code] += 1
                assert response.status_code < 500
                if case.path not in ENDLESS:
                    case.validate_response(response)

            send()

        share = CASES * max(1, FUZZ) // 2
        for operation in found:
            drive(operation, share)
        before = fuzzed.resident()
        for operation in found:
            drive(operation, share)
        grown = fuzzed.resident() - before

    report(f"{sum(sum(x.values()) for x in seen.values())} cases", seen, grown)
    assert grown < GROWTH
    for label, tally in seen.items():
        assert tally[200] + tally[202] > 0, (label, tally)
