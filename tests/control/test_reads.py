"""What a client may look at, and retries of dead letters."""

from __future__ import annotations

import asyncio
import json

import pytest
from helpers_control import Echo, read

from fleetmon import AgentSpec, DeadLetteredError, Intensity
from fleetmon.control.aclient import AsyncClient
from fleetmon.control.client import Client, find, retry
from fleetmon.control.describe import describe
from fleetmon.control.mirror import Mirror
from fleetmon.control.protocol import CAPABILITIES, PROTOCOL, RequestError

pytestmark = pytest.mark.anyio


@pytest.fixture
async def hall(reachable):
    async with reachable() as fleet:
        await fleet.add("APEX", Echo)
        yield fleet


@pytest.fixture
def ask(hall):
    client = Client(find().socket)

    async def call(name, *arguments, **how):
        return await asyncio.to_thread(getattr(client, name), *arguments, **how)

    return call


async def test_hello_says_who_answers(hall, ask):
    told = await ask("hello")
    assert (told["protocol"], told["name"]) == (PROTOCOL, "hall")
    assert told["epoch"] == hall.snapshot(agents=False).epoch
    assert tuple(told["capabilities"]) == CAPABILITIES


async def test_an_agents_page_has_its_history_its_log_and_its_policy_in_words(hall, ask):
    await hall.restart("APEX", actor="ann", reason="stuck", wait=True)
    hall.attach("OTHER")
    told = await ask("agent", "APEX")
    kinds = [event["kind"] for event in told["history"]]
    assert kinds[:3] == ["agent_added", "starting", "started"]
    (command,) = (e for e in told["history"] if e["kind"] == "command")
    assert (command["data"]["actor"], command["data"]["reason"]) == ("ann", "stuck")
    assert {event["agent_id"] for event in told["log"]} == {"APEX"}
    assert told["policy"][0].startswith("Restarted after every end")
    assert all(text.endswith(".") for text in told["policy"])
    assert (told["recent_tasks"], told["recent_failures"]) == ([], [])


async def test_recent_tasks_and_failures_are_noted_while_somebody_is_attached(hall, ask):
    agent = hall.agent("APEX")
    await agent.run("before", 1)
    mirror = Mirror()
    async with read(mirror) as until:
        await until(lambda: mirror.complete)
        await agent.run("echo", 1)
        with pytest.raises(ValueError, match="no such luck"):
            await agent.run("fall", ValueError("no such luck"))
        told = await ask("agent", "APEX")
    assert [(t["task_type"], t["outcome"]) for t in told["recent_tasks"]] == [
        ("fall", "failed"), ("echo", "succeeded"),
    ]  # fmt: skip
    (failure,) = told["recent_failures"]
    assert failure["error"] == "ValueError: no such luck"
    assert failure["frames"][0].endswith("in handle")
    assert "helpers_control.py:" in failure["frames"][0]
    assert 0 <= failure["seconds"] < 5
    assert failure["ended"] <= told["clock"]
    while hall._fleet.observers.others:
        await asyncio.sleep(0.01)
    await agent.run("after", 1)
    assert len((await ask("agent", "APEX"))["recent_tasks"]) == 2


async def test_config_has_the_settings_and_what_agents_differ_in(hall, ask):
    await hall.add("WIDE", Echo, spec=AgentSpec(capacity=7))
    told = await ask("config")
    assert told["settings"]["name"] == "hall"
    assert told["settings"]["control"]["enabled"] is True
    assert told["agents"]["APEX"] == {}
    assert told["agents"]["WIDE"]["capacity"] == 7
    json.dumps(told, allow_nan=False)


async def test_metrics_come_over_the_socket(hall, ask):
    await hall.agent("APEX").run("echo", 1)
    text = await ask("metrics")
    assert 'agents_tasks_assigned_total{agent_id="APEX",task_type="echo"} 1' in text


async def test_events_of_one_agent_or_kind_are_picked(hall, ask):
    await hall.pause("APEX")
    hall.attach("OTHER")
    lines = await asyncio.to_thread(
        lambda: list(
            Client(find().socket).events(follow=False, agents=["OTHER"], kinds=["agent_added"])
        )
    )
    assert [line["type"] for line in lines] == ["hello", "event", "end"]
    assert (lines[1]["agent_id"], lines[1]["kind"]) == ("OTHER", "agent_added")


class Mortal:
    """Goes down under its first task."""

    lives = 0

    def __init__(self):
        type(self).lives += 1
        self.life = type(self).lives

    async def handle(self, task):
        if task.payload == "fall":
            raise RuntimeError(task.payload)
        return self.life


@pytest.fixture
async def letter(hall):
    spec = AgentSpec(
        capacity=2, in_flight="dead_letter", max_consecutive_failures=1, intensity=Intensity()
    )
    started = asyncio.Event()

    class Slow(Mortal):
        lives = 0

        async def handle(self, task):
            if task.payload == "slow" and self.life == 1:
                started.set()
                await asyncio.Event().wait()
            return await super().handle(task)

    agent = await hall.add("MORTAL", Slow, spec=spec)
    waiting = asyncio.ensure_future(agent.run("slow", "slow"))
    await started.wait()
    with pytest.raises(RuntimeError):
        await agent.run("fall", "fall")
    with pytest.raises(DeadLetteredError):
        await waiting
    while agent.snapshot().lifecycle != "running":
        await asyncio.sleep(0)
    return hall.dead_letters()[0].task_id


async def test_a_dead_letter_is_retried_once_however_often_it_is_asked(hall, ask, letter):
    (told,) = await ask("dead_letters")
    assert (told["task_id"], told["task_type"], told["payload"]) == (letter, "slow", "'slow'")
    wanted = retry(letter, actor="ann", reason="looked at it")
    answers = await asyncio.gather(*(ask("retry", wanted) for _ in range(4)))
    assert {(a["result"], a["agent_id"], a["reason"]) for a in answers} == {
        ("succeeded", "MORTAL", "")
    }
    assert hall.dead_letters() == ()
    assert hall.agent("MORTAL").snapshot().succeeded == 1
    (audit,) = (e for e in hall.recent_events() if e.data.get("command") == "retry")
    assert (audit.data["actor"], audit.data["reason"]) == ("ann", "looked at it")
    assert str(letter) in audit.data["detail"]
    with pytest.raises(RequestError, match="no dead letter") as refused:
        await ask("retry", retry(letter))
    assert (refused.value.status, refused.value.code) == (404, "unknown_letter")


async def test_a_retry_that_is_refused_keeps_the_letter_and_one_that_fails_says_so(
    hall, ask, letter
):
    await hall.pause("MORTAL")
    with pytest.raises(RequestError, match="paused") as refused:
        await ask("retry", retry(letter))
    assert refused.value.status == 409
    assert len(hall.dead_letters()) == 1
    with pytest.raises(RequestError, match="no agent 'NOBODY'"):
        await ask("retry", retry(letter, agent_id="NOBODY"))

    async def useless(_):
        raise ZeroDivisionError

    await hall.add("USELESS", lambda: useless)
    told = await AsyncClient(find().socket).retry(retry(letter, agent_id="USELESS"))
    assert (told["result"], told["agent_id"]) == ("failed", "USELESS")
    assert "ZeroDivisionError" in told["reason"]
    assert hall.dead_letters() == ()


def test_the_description_names_every_page_and_resolves():
    told = describe()
    text = json.dumps(told)
    for name in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert told["components"]["schemas"][name], name
    assert set(told["paths"]) == {
        "/v1/hello", "/v1/snapshot", "/v1/agents/{name}", "/v1/stream", "/v1/events",
        "/v1/dead-letters", "/v1/dead-letters/retry", "/v1/config", "/v1/metrics", "/v1/command",
        "/v1/openapi.json",
        "/v1/alertmanager",
    }  # fmt: skip
    hello = told["components"]["schemas"]["HelloFrame"]
    assert {"columns", "epoch"} <= set(hello["required"])
    frame = told["components"]["schemas"]["FrameShape"]
    assert "lost" not in frame["required"]
