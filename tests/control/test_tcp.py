"""The control plane on TCP: a token, TLS, names, and nothing told to those who have none."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import ssl
import subprocess
from itertools import takewhile

import pytest
from helpers_control import Echo

from fleetmon import (
    FleetmonError,
    ListenError,
    Metrics,
    SpecError,
    Supervisor,
    SupervisorSettings,
)
from fleetmon.control.aclient import AsyncClient
from fleetmon.control.client import Client, order
from fleetmon.control.mirror import Mirror
from fleetmon.settings import AlertWebhook, Control

pytestmark = pytest.mark.anyio

TOKEN = "a-token-of-some-length"
HERE = "127.0.0.1:0"


def listening(**control):
    settings = {"listen": HERE, "token": TOKEN, **control}
    return Supervisor(SupervisorSettings(name="hall", control=Control(**settings)))


@pytest.fixture
async def hall(place):
    async with listening() as fleet:
        await fleet.add("APEX", Echo)
        yield fleet


async def exchange(url, *lines, body=b""):
    host, _, port = url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = [*lines, "Connection: close", f"Content-Length: {len(body)}", "", ""]
    writer.write("\r\n".join(head).encode() + body)
    async with asyncio.timeout(5):
        told = await reader.read()
    writer.close()
    head, _, text = told.partition(b"\r\n\r\n")
    kept = [x for x in head.decode().split("\r\n") if not x.startswith(("date", "Date"))]
    return kept[0].split(" ")[1], kept[1:], text.decode()


def asked(target, token, *more, method="GET", host="localhost"):
    said = [] if token is None else [f"Authorization: {token}"]
    return [f"{method} {target} HTTP/1.1", f"Host: {host}", *said, *more]


async def test_both_clients_work_over_tcp_with_the_token(hall):
    client = Client(hall.control_url, token=TOKEN)
    assert (await asyncio.to_thread(client.snapshot))["name"] == "hall"
    answer = await asyncio.to_thread(client.command, order("pause", "APEX", actor="ann"))
    assert answer["result"] == "accepted"
    mirror = Mirror()
    async for frame in AsyncClient(hall.control_url, token=TOKEN).stream():
        mirror.apply(frame)
        if mirror.complete:
            break
    assert mirror.rows["APEX"].desired == "paused"


@pytest.mark.parametrize(
    "target", ["/v1/snapshot", "/v1/stream", "/v1/nothing", "/", "/v1/command"]
)
async def test_a_wrong_or_missing_token_gets_401_and_no_hint(hall, target):
    whole = f"Bearer {TOKEN}"
    wrong = [None, "", "Bearer", "Bearer ", "Bearer x", whole[:-1], f"{whole}x", f"Basic {TOKEN}",
             TOKEN, "Bearer \xff\xfe", f"Bearer {TOKEN} {TOKEN}"]  # fmt: skip
    answers = [await exchange(hall.control_url, *asked(target, token)) for token in wrong]
    twice = [f"Authorization: {whole}"] * 2
    answers.append(await exchange(hall.control_url, *asked(target, None, *twice)))
    assert {(status, json.loads(text)["message"]) for status, _, text in answers} == {
        ("401", "unauthorized")
    }
    assert len({(tuple(headers), text) for _, headers, text in answers}) == 1


async def test_a_foreign_host_or_origin_is_refused_even_with_the_token(hall):
    whole = f"Bearer {TOKEN}"
    port = hall.control_url.rpartition(":")[2]
    for host in ("localhost", f"localhost:{port}", f"127.0.0.1:{port}", "[::1]:1", "LOCALHOST"):
        status, _, _ = await exchange(hall.control_url, *asked("/v1/hello", whole, host=host))
        assert status == "200", host
    for host in ("evil.example", "localhost.evil.example", "", "localhost:x"):
        status, _, text = await exchange(hall.control_url, *asked("/v1/hello", whole, host=host))
        assert (status, json.loads(text)["code"]) == ("403", "foreign_host"), host
    origin = asked("/v1/hello", whole, "Origin: http://localhost")
    assert (await exchange(hall.control_url, *origin))[0] == "403"


async def test_the_listener_of_the_metrics_carries_no_command_and_shows_no_more(place):
    control = Control(enabled=True, listen=HERE, token=TOKEN)
    settings = SupervisorSettings(name="hall", control=control, metrics=Metrics(listen=HERE))
    async with Supervisor(settings) as fleet:
        await fleet.add("APEX", Echo)
        url = fleet.metrics_url.removesuffix("/metrics")
        whole = f"Bearer {TOKEN}"
        for path in ("/metrics", "/healthz", "/readyz"):
            assert (await exchange(url, *asked(path, None)))[0] == "200"
        body = order("stop", "APEX").body(0.0)
        posted = asked("/v1/command", whole, "Content-Type: application/json", method="POST")
        for path in ("/v1/command", "/metrics", "/healthz", "/readyz", "/"):
            posted[0] = f"POST {path} HTTP/1.1"
            assert (await exchange(url, *posted, body=body))[0] in {"404", "405"}
        for path in ("/v1/snapshot", "/v1/hello", "/v1/config", "/v1/stream"):
            assert (await exchange(url, *asked(path, whole)))[0] == "404"
        assert not [e for e in fleet.recent_events() if e.kind == "command"]


async def test_further_names_are_admitted_where_they_are_set(place):
    async with listening(hosts=("fleet.example",)) as fleet:
        whole = asked("/v1/hello", f"Bearer {TOKEN}", host="fleet.example:9004")
        assert (await exchange(fleet.control_url, *whole))[0] == "200"


async def test_tcp_without_a_token_does_not_start(place, monkeypatch, tmp_path):
    monkeypatch.delenv("FLEETMON_CONTROL_TOKEN", raising=False)
    with pytest.raises(FleetmonError, match=r"wants a token: set control\.token"):
        await listening(token=None).__aenter__()
    monkeypatch.setenv("FLEETMON_CONTROL_TOKEN", "from-the-environment")
    async with listening(token=None) as fleet:
        client = Client(fleet.control_url, token="from-the-environment")
        assert (await asyncio.to_thread(client.hello))["name"] == "hall"
    file = tmp_path / "token"
    file.write_text("from-the-file\n")
    async with listening(token=None, token_file=str(file)) as fleet:
        client = Client(fleet.control_url, token="from-the-file")
        assert (await asyncio.to_thread(client.hello))["name"] == "hall"
    file.write_text("x")
    with pytest.raises(FleetmonError, match="holds no token"):
        await listening(token=None, token_file=str(file)).__aenter__()
    with pytest.raises(FleetmonError, match="No such file"):
        await listening(token=None, token_file=str(tmp_path / "none")).__aenter__()


async def test_a_token_is_shown_nowhere(hall):
    assert TOKEN not in repr(hall.settings)
    client = Client(hall.control_url, token=TOKEN)
    told = await asyncio.to_thread(client.config)
    assert TOKEN not in json.dumps(told)
    assert told["settings"]["control"]["token"].strip("*") == ""
    with pytest.raises(SpecError) as refused:
        Control(token="seven")
    assert "seven" not in str(refused.value)


async def test_a_port_in_use_is_the_callers_error_and_leaves_nothing(place):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        fleet = listening(listen=f"127.0.0.1:{port}", enabled=True)
        with pytest.raises(ListenError, match="choose another port"):
            await fleet.__aenter__()
    assert not place.exists() or list(place.iterdir()) == []


@pytest.mark.parametrize(
    ("control", "said"),
    [
        ({"listen": "nowhere"}, "expected HOST:PORT"),
        ({"token": "short"}, "at least 8"),
        ({"tls_key": "k"}, "tls_key needs tls_cert"),
        ({"webhook": AlertWebhook(enabled=True)}, "webhook.enabled needs listen"),
    ],
)
def test_settings_that_make_no_sense_are_refused(control, said):
    with pytest.raises(SpecError, match=said):
        Control(**control)


@pytest.fixture
def certificate(tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
               "-nodes", "-days", "1", "-keyout", key, "-out", cert, "-subj", "/CN=localhost",
               "-addext", "subjectAltName=DNS:localhost"]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    return cert, key


async def test_tls_is_served_and_checked(place, certificate):
    cert, key = certificate
    async with listening(tls_cert=str(cert), tls_key=str(key)) as fleet:
        assert fleet.control_url.startswith("https://127.0.0.1:")
        url = fleet.control_url.replace("127.0.0.1", "localhost")
        trusting = ssl.create_default_context(cafile=cert)
        client = Client(url, token=TOKEN, tls=trusting)
        assert (await asyncio.to_thread(client.hello))["name"] == "hall"
        async for frame in AsyncClient.of(client).stream():
            assert frame["type"] == "hello"
            break
        with pytest.raises(FleetmonError, match="no fleet answers"):
            await asyncio.to_thread(Client(url, token=TOKEN).hello)
        plain = Client(url.replace("https", "http"), token=TOKEN)
        with pytest.raises(FleetmonError, match="no fleet answers"):
            await asyncio.to_thread(plain.hello)
    with pytest.raises(FleetmonError, match=r"control\.tls_cert="):
        await listening(tls_cert=str(key)).__aenter__()


async def test_both_listeners_share_what_was_commanded(place):
    async with listening(enabled=True) as fleet:
        await fleet.add("APEX", Echo)
        one = order("restart", "APEX", wait=True)
        local, remote = Client(fleet.control_path), Client(fleet.control_url, token=TOKEN)
        answers = await asyncio.gather(
            *(asyncio.to_thread(client.command, one) for client in (local, remote))
        )
        assert {a["result"] for a in answers} == {"accepted"}
        assert fleet.agent("APEX").generation == 2


def is_cut(sock, patience):
    sock.settimeout(patience)
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


async def test_idle_connections_are_cut_off_beyond_a_number_and_the_socket_stays_open(place):
    async with listening(enabled=True) as fleet:
        host, _, port = fleet.control_url.removeprefix("http://").rpartition(":")
        crowd = [socket.create_connection((host, int(port))) for _ in range(120)]
        try:
            assert (await asyncio.to_thread(Client(fleet.control_path).hello))["name"] == "hall"
            # those that were admitted wait; they stand together somewhere in between
            before = sum(1 for _ in takewhile(lambda sock: is_cut(sock, 0.05), crowd))
            after = sum(1 for _ in takewhile(lambda sock: is_cut(sock, 1.0), reversed(crowd)))
            assert before + after >= 20
        finally:
            for sock in crowd:
                sock.close()


async def test_the_control_plane_can_be_mounted_in_the_hosts_own_application():
    from starlette.applications import Starlette
    from starlette.routing import Mount

    async with Supervisor(SupervisorSettings(name="hall")) as fleet:
        await fleet.add("APEX", Echo)
        host = Starlette(routes=[Mount("/fleet", fleet.control_app(token=TOKEN))])
        for path, token, status in (
            ("/fleet/v1/agents/APEX", TOKEN, 200), ("/fleet/v1/metrics", TOKEN, 200),
            ("/fleet/v1/agents/APEX", "other", 401), ("/fleet/v1/nothing", TOKEN, 404),
        ):  # fmt: skip
            told = await ask(host, path, token)
            assert told[0]["status"] == status, path
        body = b"".join(x["body"] for x in (await ask(host, "/fleet/v1/hello", TOKEN))[1:])
        assert json.loads(body)["name"] == "hall"


async def ask(app, path, token):
    told = []
    left = asyncio.Event()

    async def receive():
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        told.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET",
        "path": path, "raw_path": path.encode(), "root_path": "", "query_string": b"",
        "headers": [(b"host", b"any.example"), (b"authorization", f"Bearer {token}".encode())],
        "scheme": "http", "server": ("any.example", 80), "client": ("127.0.0.1", 1),
    }  # fmt: skip
    await app(scope, receive, send)
    return told


def test_the_demo_listens_where_the_environment_or_the_option_says(monkeypatch):
    from fleetmon.demo.cast import settings

    assert settings("127.0.0.1:0", 40, 0).control == Control(enabled=True)
    assert settings("127.0.0.1:0", 40, 0, control="0").control == Control()
    monkeypatch.setenv("FLEETMON_CONTROL_HOSTS", "fleet, fleet.example")
    monkeypatch.setenv("FLEETMON_WEBHOOK_TOKEN", "recovery-token")
    assert settings("127.0.0.1:0", 40, 0, control="0.0.0.0:9004").control == Control(
        enabled=True, listen="0.0.0.0:9004", hosts=("fleet", "fleet.example"),
        webhook=AlertWebhook(enabled=True),
    )  # fmt: skip
