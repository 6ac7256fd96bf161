"""The command line: what each command prints, for people and for programs."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
from helpers_control import QUICK, Echo

from fleetmon import DeadLetteredError
from fleetmon.cli import COMMANDS, _out, _words, main

pytestmark = pytest.mark.anyio


class Careful:
    async def handle(self, task):
        if task.payload == "bad":
            error = RuntimeError("no")
            error.fatal = True
            raise error
        if task.payload == "minor":
            raise ValueError(task.payload)
        return task.payload


def test_help_names_every_command_and_every_exit_code(capsys):
    assert main(["--help"]) == 0
    told = capsys.readouterr().out
    assert all(f"  {name} " in told for name in COMMANDS)
    assert "5 refused" in told
    assert max(map(len, told.splitlines())) <= 80
    for name in COMMANDS:
        assert main([name, "--help"]) == 0
        assert f"usage: fleetmon {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("statsu", "no command 'statsu'; did you mean status or start?"),
        ("xyzzy", "no command 'xyzzy'; there are "),
        ("--bogus status", "--bogus"),
        ("--fleet", "name a command"),
        ("status --chek", "--chek"),
        ("status --check --watch", "--check answers once"),
        ("status --watch --every 0", "'0' is no interval"),
        ("status --fleet a --url unix:/x", "give one of them"),
        ("events --last 3 --watch", "give --since with --watch"),
        ("restart --all APEX", "leave out the names"),
        ("restart --tier 1 APEX", "not both"),
        ("dead-letters retry", "retry what?"),
        ("dead-letters retry x", "'x' is no task"),
    ],
)
def test_a_line_that_makes_no_sense_says_so_in_one_line(place, line, said, capsys):
    assert main(line.split()) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert said in err


async def test_which_fleet_is_meant_may_stand_before_the_command_and_options_between_names(
    hall, fleetmon
):
    code, out, _ = await fleetmon("--fleet hall status")
    assert (code, out.partition(":")[0]) == (0, "hall")
    code, out, _ = await fleetmon("pause APEX --yes CIPHER")
    assert (code, out.count("accepted; now paused")) == (0, 2)


async def test_agents_are_selected_by_state_name_and_failure_and_printed_for_programs(
    hall, fleetmon
):
    await hall.pause("APEX")
    assert (await fleetmon("agents --state paused --names"))[1] == "APEX\n"
    assert (await fleetmon("agents --names"))[1] == "APEX\nCIPHER\nSENTRY\n"
    assert (await fleetmon("agents SENTRY --names"))[1] == "SENTRY\n"
    assert (await fleetmon("agents --tier 2 --names"))[1] == ""
    _, out, _ = await fleetmon("agents --jsonl")
    lines = [json.loads(line) for line in out.splitlines()]
    assert [(x["schema"], x["agent_id"]) for x in lines] == [
        (1, "APEX"), (1, "CIPHER"), (1, "SENTRY"),
    ]  # fmt: skip
    code, out, _ = await fleetmon("resume --state paused --yes --jsonl")
    assert (code, json.loads(out)["result"]) == (0, "accepted")


def test_an_event_of_another_day_has_its_date(monkeypatch):
    now = 1_800_000_000.0
    monkeypatch.setattr(_words.time, "localtime", lambda at=now: time.gmtime(at))
    assert _words.clock(now) == "08:00:00"
    assert _words.clock(now - 28_801) == "2027-01-14 23:59:59"


async def test_a_misspelt_state_or_kind_is_told_from_one_that_nobody_has(hall, fleetmon):
    for line in ("agents --state pasued", "restart --state pasued --yes", "stop --state xyz --yes"):
        code, out, err = await fleetmon(line)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert ("did you mean paused?" if "pasued" in line else "there are starting, ") in err
    code, _, err = await fleetmon("restart --state paused --yes")
    assert (code, "nothing to do" in err) == (0, True)
    assert (await fleetmon("events --kind lapsed"))[::2] == (0, "")
    code, _, err = await fleetmon("events --kind lapse --kind added")
    assert (code, err.count("\n"), "did you mean lapsed?" in err) == (0, 2, True)


async def test_one_agent_in_full(hall, fleetmon):
    agent = await hall.add("CAREFUL", Careful, spec=QUICK)
    with pytest.raises(RuntimeError):
        await agent.run("x", "bad")
    while agent.snapshot().lifecycle != "running":
        await asyncio.sleep(0)
    await hall.pause("CAREFUL", reason="look", actor="ann")
    code, out, _ = await fleetmon("agent CAREFUL")
    assert code == 0
    for told in (
        "CAREFUL\n",
        "state         paused, takes no tasks",
        "last lapse",
        "fatal error",
        "policy        Restarted after every end",
        "1 failed",
        "actor=ann reason=look",
    ):
        assert told in out, told


async def test_the_last_lapse_names_its_error_once(hall, fleetmon):
    agent = await hall.add(
        "FLAKY", Careful, spec=QUICK.model_copy(update={"max_consecutive_failures": 2})
    )
    for _ in range(2):
        with pytest.raises(ValueError, match="minor"):
            await agent.run("x", "minor")
    while not agent.snapshot().last_lapse:
        await asyncio.sleep(0)
    _, out, _ = await fleetmon("agent FLAKY")
    (told,) = (line for line in out.splitlines() if "last lapse" in line)
    assert told.endswith("2 failures in a row, last: ValueError: minor")


async def test_events_of_some_agents_and_kinds_and_the_last_ones(hall, fleetmon):
    await hall.pause("APEX")
    await hall.resume("APEX")
    await hall.pause("CIPHER")
    _, out, _ = await fleetmon("events --kind command --agent APEX --jsonl")
    assert [json.loads(x)["data"]["command"] for x in out.splitlines()] == ["pause", "resume"]
    _, out, _ = await fleetmon("events --kind command --last 1 --json")
    (event,) = json.loads(out)["events"]
    assert event["agent_id"] == "CIPHER"
    _, out, _ = await fleetmon("events --last 0")
    assert out == ""


async def test_dead_letters_are_listed_and_tried_again(hall, fleetmon, as_json):
    spec = QUICK.model_copy(update={"in_flight": "dead_letter", "capacity": 2})
    release = asyncio.Event()

    class Body(Careful):
        async def handle(self, task):
            if task.payload == "cargo":
                await release.wait()
            return await super().handle(task)

    agent = await hall.add("LOSER", Body, spec=spec)
    running = asyncio.ensure_future(agent.run("job", "cargo"))
    while not agent.snapshot().tasks:
        await asyncio.sleep(0)
    with pytest.raises(RuntimeError):
        await agent.run("job", "bad")
    with pytest.raises(DeadLetteredError):
        await running
    code, out, _ = await fleetmon("dead-letters")
    assert code == 0
    assert "LOSER        job:" in out
    assert "'cargo'" in out
    (letter,) = (await as_json("dead-letters --json"))[1]["dead_letters"]
    number = letter["task_id"]
    assert (await fleetmon("dead-letters --agent APEX"))[1] == "no dead letters\n"
    code, _, err = await fleetmon("dead-letters retry 999 --yes")
    assert (code, "no dead letter 999" in err) == (1, True)
    code, _, err = await fleetmon("dead-letters retry --all")
    assert (code, "add --yes" in err) == (2, True)
    assert (await as_json("dead-letters retry --all --dry-run --json"))[1]["would_touch"] == [
        number
    ]
    release.set()
    code, out, _ = await fleetmon(f"dead-letters retry {number} --yes --to APEX")
    assert (code, out) == (0, f"{number}: retry by APEX succeeded\n")
    assert hall.dead_letters() == ()


async def test_metrics_are_those_of_a_scrape_and_may_be_chosen(hall, fleetmon, as_json):
    await hall.agent("APEX").run('od"d\\ly', 1)
    _, out, _ = await fleetmon("metrics agents_health_status")
    assert (
        out.splitlines()[-3:]
        == [f'agents_health_status{{agent_id="{name}"}} 0' for name in ("APEX", "CIPHER", "SENTRY")]
        or 'agents_health_status{agent_id="APEX"} 0' in out
    )
    assert "agents_lifecycle" not in out
    _, told = await as_json("metrics agents_tasks_assigned_total --json")
    (sample,) = told["samples"]
    assert sample["labels"] == {"agent_id": "APEX", "task_type": 'od"d\\ly'}
    assert float(sample["value"]) == 1
    assert (await fleetmon("metrics nothing"))[0] == 1


async def test_config_tells_settings_differences_and_all_of_one_agent(hall, fleetmon, as_json):
    await hall.add("WIDE", Echo, spec=QUICK.model_copy(update={"capacity": 7}))
    _, out, _ = await fleetmon("config")
    assert 'name = "hall"' in out.splitlines()
    assert "watchdog.blocked_after = 0.1" in out.splitlines()
    assert "agents.WIDE.capacity = 7" in out.splitlines()
    _, out, _ = await fleetmon("config WIDE")
    assert "capacity = 7" in out.splitlines()
    assert "intensity.max_restarts = 5" in out.splitlines()
    assert (await as_json("config APEX --json"))[1]["spec"]["capacity"] == 1
    assert (await fleetmon("config wid"))[0] == 4


def test_colours_are_for_terminals_alone(monkeypatch):
    class Terminal:
        def isatty(self):
            return True

    monkeypatch.setattr(_out.sys, "stdout", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert _out.Style()("x", "red") == "\x1b[31mx\x1b[0m"
    assert _out.Style(wanted=False)("x", "red") == "x"
    monkeypatch.setenv("NO_COLOR", "1")
    assert _out.Style()("x", "red") == "x"
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert _out.Style()("x", "red") == "x"
