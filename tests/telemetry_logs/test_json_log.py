"""What a line tells of a task or an event: its fields, its level, its error."""

from __future__ import annotations

import io
import json
import re

import pytest
from helpers_logs import Stuck, make_event, make_task

from fleetmon.events import EventKind
from fleetmon.numbers import CANCELLED, DEAD_LETTERED, FAILED, OUTCOMES, SUCCEEDED, TIMED_OUT
from fleetmon.telemetry.logs import JsonLog

SECRET = "PAYLOAD-7f3a"


def failure(message):
    try:
        raise ValueError(message)  # noqa: TRY301 - to have a traceback
    except ValueError as error:
        return error


def lines_of(*tasks, events=(), **options):
    stream = io.StringIO()
    log = JsonLog("svc", stream=stream, interval=0.001, **options)
    for task in tasks:
        log.ended(task)
    for event in events:
        log.event(event)
    assert log.close(10)
    assert log.dropped == {}
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_line_has_the_agreed_fields_in_the_agreed_order():
    clock, wall = (lambda: 101.0), (lambda: 1_790_000_001.0)
    (line,) = lines_of(make_task(), clock=clock, wall=wall)
    assert list(line.items()) == [
        ("timestamp", "2026-09-21T14:13:20.250000Z"),
        ("level", "info"),
        ("service", "svc"),
        ("trace_id", f"{0xABC:032x}"),
        ("span_id", f"{0xDEF:016x}"),
        ("message", "task succeeded"),
        ("agent_id", "APEX"),
        ("task_type", "review"),
        ("task_id", 1),
        ("generation", 3),
        ("extra", {"duration_seconds": 0.25, "outcome": "succeeded", "attempt": 1}),
    ]
    (flat,) = lines_of(make_task(), flatten=True)
    assert flat["outcome"] == "succeeded"
    assert "extra" not in flat
    (untraced,) = lines_of(make_task(ids=""))
    assert "trace_id" not in untraced


@pytest.mark.parametrize(
    ("outcome", "level"),
    [
        (SUCCEEDED, "info"),
        (CANCELLED, "info"),
        (FAILED, "warning"),
        (TIMED_OUT, "warning"),
        (DEAD_LETTERED, "warning"),
    ],
)
def test_level_says_how_a_task_ended(outcome, level):
    (line,) = lines_of(make_task(outcome=outcome, error_type="x" if level == "warning" else ""))
    assert line["level"] == level
    assert line["extra"]["outcome"] == OUTCOMES[outcome]
    assert line["message"] == "task " + OUTCOMES[outcome].replace("_", " ")


def test_error_is_structured_bounded_and_quotes_nothing_unless_switched_on():
    task = make_task(
        outcome=FAILED, error_type="exception", error=failure(SECRET), payload=SECRET, result=SECRET
    )
    event = make_event(error=SECRET, error_type="crash", trace_id="ab" * 16, span_id="cd" * 8)
    line, told = lines_of(task, events=[event])
    assert SECRET not in json.dumps([line, told])
    error = line["extra"]["error"]
    assert error["type"] == "ValueError"
    assert re.search(r"test_json_log.py:\d+ in failure$", error["where"])
    assert line["extra"]["error_type"] == "exception"
    assert (told["level"], told["message"], told["trace_id"]) == ("error", "lapsed", "ab" * 16)
    assert told["extra"] == {"event": "lapsed", "seq": 7, "error_type": "crash"}

    task.error = failure("x" * 100_000)
    line, told = lines_of(task, events=[event], messages=True)
    assert len(line["extra"]["error"]["message"]) == 500
    assert told["extra"]["error"] == SECRET

    def deep(n):
        if not n:
            raise KeyError(SECRET) from task.error
        deep(n - 1)

    try:
        deep(200)
    except KeyError as error:
        task.error = error
    (line,) = lines_of(task)
    assert len(line["extra"]["error"]["traceback"]) == 20
    assert line["extra"]["error"]["cause"] == "ValueError"


def test_tracebacks_are_rate_limited_while_type_and_place_stay():
    tasks = [make_task(n, outcome=FAILED, error=failure("x")) for n in range(50)]
    lines = lines_of(*tasks, tracebacks=5.0, clock=lambda: 1.0)
    assert sum("traceback" in line["extra"]["error"] for line in lines) == 5
    assert all(line["extra"]["error"]["where"] for line in lines)


def test_pending_exceptions_are_kept_whole_only_up_to_a_bound(monkeypatch):
    monkeypatch.setattr("fleetmon.telemetry.logs._ERRORS", 2)
    stream = Stuck()
    log = JsonLog(stream=stream, interval=0.001)
    log.ended(make_task())
    assert stream.entered.wait(10)
    for n in range(4):
        log.ended(make_task(n, outcome=FAILED, error=failure("x")))
    kept = [type(item[-1]) for item in log.writer.queue]
    assert kept == [ValueError, ValueError, str, str]
    stream.gate.set()
    assert log.close(10)
    errors = [json.loads(x)["extra"]["error"] for x in stream.getvalue().splitlines()[1:]]
    assert {error["type"] for error in errors} == {"ValueError"}


def test_failed_task_has_one_line_and_not_a_second_from_its_event():
    assert lines_of(events=[make_event(EventKind.TASK_FAILED)]) == []
