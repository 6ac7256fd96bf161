"""The command line in odd places: closed streams, other encodings, names that are none."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers_control import QUICK, Echo

from fleetmon.control.aclient import AsyncClient
from fleetmon.control.client import Client
from fleetmon.control.protocol import ControlError

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def hall(reachable):
    async with reachable() as fleet:
        await fleet.add("ΣVAULT", Echo, spec=QUICK)
        yield fleet


async def shell(line, **environment):
    """Run a line of a shell in which `fleetmon` is this one; gives code, output and complaint."""
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", f'fleetmon() {{ "{sys.executable}" -m fleetmon "$@"; }}\n{line}',
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT,
        env={**os.environ, **environment},
    )  # fmt: skip
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    return process.returncode, out, err.decode()


@pytest.mark.parametrize("line", ["status", "agents --names", "metrics agents_health", "events"])
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
async def test_a_name_that_the_terminal_cannot_write_is_spelt_out(hall, line, encoding):
    code, out, err = await shell(f"fleetmon {line}", PYTHONIOENCODING=encoding)
    assert (code, err) == (0, "")
    assert rb"\u03a3VAULT" in out


async def test_a_name_that_came_in_no_encoding_is_nobodys_and_such_a_reason_is_kept(hall):
    code, out, err = await shell(r"fleetmon agent $'\xff\xfe'")
    assert (code, out, err.count("\n"), "no agent" in err) == (4, b"", 1, True)
    code, out, err = await shell(r"fleetmon restart ΣVAULT --yes --reason $'st\xffck'")
    assert (code, err) == (0, "")
    (event,) = (e for e in hall.recent_events() if e.kind == "command")
    assert event.data["reason"] == "st?ck"


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
async def test_a_closed_stream_stops_no_command(hall, closed):
    code, _, err = await shell(f"fleetmon restart ΣVAULT --yes --wait {closed}")
    assert (code, err) == (0, "")
    assert hall.agent("ΣVAULT").generation == 2
    assert (await shell(f"fleetmon status {closed}"))[::2] == (0, "")
    assert (await shell(f"fleetmon stop --all {closed}"))[0] == 2  # nobody can be asked


@pytest.mark.parametrize("line", ["status", "status --json", "events", "metrics", "--help"])
async def test_output_that_cannot_be_written_is_told_in_one_line(hall, line):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    code, _, err = await shell(f"fleetmon {line} >/dev/full")
    assert (code, err.count("\n")) == (1, 1)
    assert err.endswith(": No space left on device\n")


@pytest.fixture
def token(tmp_path):
    return tmp_path / "token"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it is empty"),
        ("\n", "it is empty"),
        ("a token-of-two", "a token is ASCII"),
        ("ключ-от-двери", "a token is ASCII"),
        ("control\ntoken", "a token is ASCII"),
        ("\0" * 9, "a token is ASCII"),
    ],
)
async def test_a_token_that_is_none_is_said_to_be_before_anything_is_sent(
    fleetmon, token, monkeypatch, text, said
):
    token.write_text(text, encoding="utf-8")
    code, out, err = await fleetmon("--url http://127.0.0.1:1 status --token-file", str(token))
    assert (code, out, err.count("\n"), said in err) == (2, "", 1, True), err
    assert "check --token-file" in err
    if text.strip() and "\0" not in text:
        monkeypatch.setenv("FLEETMON_CONTROL_TOKEN", text)
        code, out, err = await fleetmon("--url http://127.0.0.1:1 status")
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "check $FLEETMON_CONTROL_TOKEN" in err
        for client in (Client, AsyncClient):
            with pytest.raises(ControlError, match="ASCII"):
                client("127.0.0.1:1", token=text)


async def test_a_token_is_read_whatever_ends_its_line_and_from_no_directory(
    place, fleetmon, tmp_path
):
    file = tmp_path / "token"
    for text in (b"control-token", b"control-token\n", b"control-token\r\n", b" control-token "):
        file.write_bytes(text)
        code, _, err = await fleetmon("--url http://127.0.0.1:1 status --token-file", str(file))
        assert (code, "Connection refused" in err) == (3, True)
    file.write_bytes(b"\xff\xfe")
    for path, said in ((file, "it is no text"), (tmp_path, "Is a directory")):
        code, _, err = await fleetmon("--url http://127.0.0.1:1 status --token-file", str(path))
        assert (code, err.count("\n"), said in err) == (2, 1, True)


@pytest.mark.parametrize(
    ("url", "code", "said"),
    [
        ("http://..:80", 2, "no address of a fleet"),
        ("http://ö" + "x" * 62 + ":80", 3, "no fleet answers at"),
        ("http://ann:secret@127.0.0.1:80", 2, "no address of a fleet"),
        ("http://127.0.0.1/x:80", 2, "no address of a fleet"),
        ("http://a b:80", 2, "no address of a fleet"),
        ("unix:" + "x" * 200, 3, "path too long"),
    ],
)
async def test_an_address_that_is_none_is_told_in_one_line(place, fleetmon, url, code, said):
    for line in ("status", "restart APEX --yes", "events", "doctor"):
        told, out, err = await fleetmon(line, "--url", url)
        if line == "doctor":
            assert (told, "bad" in out, err) == (1, True, ""), out
        else:
            assert (told, out, err.count("\n"), said in err) == (code, "", 1, True), err


async def test_ctrl_c_while_waiting_says_that_what_was_sent_goes_on(hall):
    never, lives = asyncio.Event(), []

    class Slow(Echo):
        async def start(self):
            lives.append(self)
            if len(lives) > 1:
                await never.wait()

    await hall.add("SLOW", Slow, spec=QUICK)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "fleetmon", "restart", "ΣVAULT", "SLOW", "--wait", "--yes",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT,
        # whoever started the tests in the background has made them ignore Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    async with asyncio.timeout(30):
        while b"SLOW: waits" not in await process.stderr.readline():
            pass
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
    assert process.returncode == 130
    assert err.decode() == (
        "fleetmon restart: interrupted with 1 of 2 answered; what was sent goes on, and "
        "`fleetmon events --kind command` tells of it\n"
    )
    never.set()
