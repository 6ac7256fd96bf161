"""Alertmanager's webhook: one command for one alert, within a budget, and never a 5xx."""

from __future__ import annotations

import asyncio
import http.client
import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers_control import Echo, fallen
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetmon import Supervisor, SupervisorSettings
from fleetmon.control.client import Client, order
from fleetmon.settings import AlertWebhook, Control

pytestmark = pytest.mark.anyio

TOKEN, CONTROL = "recovery-token", "control-token"


def listening(**webhook):
    how = AlertWebhook(**{"enabled": True, "token": TOKEN, **webhook})
    control = Control(listen="127.0.0.1:0", token=CONTROL, webhook=how)
    return Supervisor(SupervisorSettings(name="hall", control=control))


@pytest.fixture
async def hall(place):
    async with listening() as fleet:
        await fleet.add("APEX", Echo)
        yield fleet


def alert(
    agent="APEX", command="reset", *, fingerprint="f1", started="2026-01-01T00:00:00Z", **more
):
    labels = {"alertname": "AgentQuarantined", "severity": "warning"}
    labels |= {} if agent is None else {"agent_id": agent}
    labels |= {} if command is None else {"fleetmon_command": command}
    return {
        "status": "firing", "labels": labels, "annotations": {"summary": "it is out"},
        "startsAt": started, "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus/graph", "fingerprint": fingerprint, **more,
    }  # fmt: skip


def delivery(*alerts):
    # as Alertmanager 0.28 sends it
    return {
        "receiver": "recovery", "status": "firing", "alerts": list(alerts), "groupLabels": {},
        "commonLabels": {}, "commonAnnotations": {}, "externalURL": "http://alertmanager:9093",
        "version": "4", "groupKey": "{}:{}", "truncatedAlerts": 0,
    }  # fmt: skip


def post(url, body, token=TOKEN):
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=8)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        connection.request("POST", "/v1/alertmanager", text, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


async def deliver(fleet, *alerts, token=TOKEN):
    status, told = await asyncio.to_thread(post, fleet.control_url, delivery(*alerts), token)
    return status, told.get("alerts", told)


def audited(fleet):
    return [e for e in fleet.recent_events() if e.kind == "command"]


async def test_a_firing_alert_brings_an_agent_back_through_the_audited_path(place):
    async with listening() as hall:
        await fallen(hall, "APEX")
        await _brought_back(hall)


async def _brought_back(hall):
    status, (told,) = await deliver(hall, alert())
    assert (status, told["result"], told["agent_id"]) == (200, "accepted", "APEX")
    event = audited(hall)[-1]
    assert {k: event.data[k] for k in ("command", "actor", "reason", "result")} == {
        "command": "reset", "actor": "alertmanager", "reason": "AgentQuarantined",
        "result": "accepted",
    }  # fmt: skip
    while hall.agent("APEX").snapshot().lifecycle != "running":
        await asyncio.sleep(0)


@pytest.mark.parametrize("command", ["start", "restart", "reset"])
@pytest.mark.parametrize("wish", ["quarantine", "stop", "pause", "drain_agent"])
async def test_an_alert_does_not_undo_what_an_operator_has_decided(hall, wish, command):
    await getattr(hall, wish)("APEX", actor="ann", wait=True)
    before = hall.agent("APEX").snapshot()
    _, (told,) = await deliver(hall, alert(command=command))
    assert told["result"] == "refused"
    assert f"an operator wants APEX {before.desired}" in told["reason"]
    after = hall.agent("APEX").snapshot()
    assert (after.desired, after.lifecycle) == (before.desired, before.lifecycle)
    assert [e.data["actor"] for e in audited(hall)] == ["ann"]


async def test_what_an_operator_decides_while_the_alert_waits_for_the_loop_stands(hall):
    # the loop is busy while both arrive, the operator's command first
    operator = Client(hall.control_url, token=CONTROL)
    url = hall.control_url
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(operator.command, order("quarantine", "APEX", actor="ann"))
        while not hall._control._plane._orders._ledger._kept:  # it has arrived
            time.sleep(0.001)
        second = threads.submit(post, url, delivery(alert(command="reset")))
        while len(hall._control._plane._orders._ledger._kept) < 2:
            time.sleep(0.001)
        await asyncio.sleep(0)
        quarantined, (_, told) = await asyncio.gather(*map(asyncio.wrap_future, (first, second)))
    assert quarantined["result"] == "accepted"
    (answer,) = told["alerts"]
    assert answer["result"] == "rejected"
    assert "it is wanted quarantined, not run" in answer["reason"]
    assert hall.agent("APEX").snapshot().desired == "quarantined"
    assert [(e.data["actor"], e.data["result"]) for e in audited(hall)] == [
        ("ann", "accepted"), ("alertmanager", "rejected"),
    ]  # fmt: skip


async def test_an_alert_is_heeded_once_the_operator_has_let_go(hall):
    await hall.pause("APEX")
    assert (await deliver(hall, alert()))[1][0]["result"] == "refused"
    await hall.resume("APEX")
    assert (await deliver(hall, alert()))[1][0]["result"] == "accepted"


async def test_one_alert_is_one_command_however_often_it_is_delivered(hall):
    answers = await asyncio.gather(*(deliver(hall, alert(), alert()) for _ in range(5)))
    results = [told["result"] for _, alerts in answers for told in alerts]
    assert len(audited(hall)) == 1
    assert results.count("known") == 9
    _, (again,) = await deliver(hall, alert(started="2026-01-02T00:00:00Z"))
    assert again["result"] == "accepted"
    _, (other,) = await deliver(hall, alert(fingerprint="f2"))
    assert other["result"] == "accepted"
    assert len(audited(hall)) == 3


async def test_each_agent_has_a_budget(place):
    async with listening(per_agent=2, period=60) as fleet:
        for name in ("APEX", "CIPHER"):
            await fleet.add(name, Echo)
        results = []
        for n in range(4):
            _, (told,) = await deliver(fleet, alert(fingerprint=f"f{n}"))
            results.append(told["result"])
        assert results == ["accepted", "accepted", "over_budget", "over_budget"]
        _, (told,) = await deliver(fleet, alert(fingerprint="f3"))
        assert "waits for an operator" in told["reason"]
        _, (told,) = await deliver(fleet, alert("CIPHER", fingerprint="c"))
        assert told["result"] == "accepted"
        assert len(audited(fleet)) == 3


async def test_what_asks_for_nothing_or_too_much_is_said_and_not_done(hall):
    by_note = alert(command=None, fingerprint="n", annotations={"fleetmon_command": "restart"})
    status, told = await deliver(
        hall,
        alert(agent=None),
        alert(command=None),
        alert(command="stop"),
        alert("NOBODY"),
        alert(status="resolved"),
        by_note,
    )
    assert status == 200
    assert [t["result"] for t in told] == [
        "ignored", "ignored", "ignored", "refused", "ignored", "accepted",
    ]  # fmt: skip
    assert [e.data["command"] for e in audited(hall)] == ["restart"]


async def test_the_webhook_has_a_token_of_its_own_and_opens_nothing_else(hall):
    assert (await deliver(hall, alert(), token=CONTROL))[0] == 401
    assert (await deliver(hall, alert(), token="nothing"))[0] == 401
    assert audited(hall) == []
    from fleetmon.control.protocol import RequestError

    with pytest.raises(RequestError, match="unauthorized"):
        await asyncio.to_thread(Client(hall.control_url, token=TOKEN).snapshot)


async def test_its_path_tells_nothing_to_those_who_have_no_token(hall):
    told = set()
    host, _, port = hall.control_url.removeprefix("http://").rpartition(":")
    for method in ("GET", "HEAD", "PUT", "OPTIONS", "POST"):
        for path in ("/v1/alertmanager", "/v1/%61lertmanager", "/v1/alertmanager/", "/v1/nothing"):
            for more in ("", "Origin: null\r\n", "Fleetmon-Protocol: 99\r\n"):
                for name in ("localhost", "evil.example", "localhost/v1/alertmanager?"):
                    reader, writer = await asyncio.open_connection(host, int(port))
                    head = f"{method} {path} HTTP/1.1\r\nHost: {name}\r\n{more}"
                    writer.write(f"{head}Connection: close\r\n\r\n".encode())
                    told.add((await reader.read()).split(b"\r\n")[0])
                    writer.close()
    assert told == {b"HTTP/1.1 401 Unauthorized"}


async def test_it_is_off_unless_switched_on_and_wants_its_token(place, monkeypatch):
    from fleetmon import FleetmonError

    async with listening(enabled=False) as fleet:
        status, _ = await asyncio.to_thread(post, fleet.control_url, delivery(), CONTROL)
        assert status == 404
        assert (await asyncio.to_thread(post, fleet.control_url, delivery(), TOKEN))[0] == 401
    monkeypatch.delenv("FLEETMON_WEBHOOK_TOKEN", raising=False)
    for bad in (None, CONTROL):
        with pytest.raises(FleetmonError, match="wants a token of its own"):
            await listening(token=bad).__aenter__()


async def test_with_its_token_alone_everything_else_is_closed(place, monkeypatch):
    monkeypatch.delenv("FLEETMON_CONTROL_TOKEN", raising=False)
    monkeypatch.setenv("FLEETMON_WEBHOOK_TOKEN", TOKEN)
    control = Control(listen="127.0.0.1:0", webhook=AlertWebhook(enabled=True))
    async with Supervisor(SupervisorSettings(control=control)) as fleet:
        await fleet.add("APEX", Echo)
        assert (await deliver(fleet, alert()))[1][0]["result"] == "accepted"
        for token in (TOKEN, "", "None"):
            with pytest.raises(Exception, match="unauthorized"):
                await asyncio.to_thread(Client(fleet.control_url, token=token).hello)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
FIELDS = st.sampled_from([*alert(), "other"])


def test_no_content_makes_it_fail(place):
    with Supervisor.start_in_thread(listening().settings) as fleet:
        fleet.add("APEX", Echo)
        url = fleet.supervisor.control_url

        @settings(max_examples=50, deadline=None, database=None)
        @given(st.dictionaries(FIELDS, JSON, max_size=4), JSON, st.binary(max_size=50))
        def send(changes, whole, raw):
            assert post(url, delivery({**alert(), **changes}))[0] in {200, 400}
            assert post(url, whole)[0] in {200, 400}
            assert post(url, raw)[0] in {200, 400}

        send()
        assert post(url, delivery(alert(fingerprint="last")))[0] == 200
        assert post(url, b" " * 2_000_000)[0] == 413
