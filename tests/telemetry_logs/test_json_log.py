from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import threading
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetmon.events import Event, EventKind
from fleetmon.hooks import Identified
from fleetmon.numbers import CANCELLED, DEAD_LETTERED, FAILED, OUTCOMES, SUCCEEDED, TIMED_OUT
from fleetmon.telemetry.logs import JsonLog
from fleetmon.telemetry.render import Renderer, dumps, plain

SECRET = "PAYLOAD-7f3a"
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=30)  # surrogates and all


class FakeTask(SimpleNamespace, Identified):
    pass


def make_task(task_id=1, **fields):
    base = {
        "id": task_id,
        "agent_id": "APEX",
        "task_type": "review",
        "generation": 3,
        "attempt": 1,
        "started_at": 100.0,
        "ended_at": 100.25,
        "outcome": SUCCEEDED,
        "error_type": "",
        "error": None,
        "ids": f"{0xABC:032x}{0xDEF:016x}",
    }
    return FakeTask(**(base | fields))


def queued(  # noqa: PLR0917 - what the log takes of a task, and that is positional
    ended, started, outcome, agent, kind, number, generation, attempt, ids, *error
):
    """What a log keeps of the end of a task until it is rendered."""
    facts = (ended, started, agent, kind, generation, attempt, number, ids)
    return facts if outcome == SUCCEEDED else (*facts, outcome, *(error or ("", None)))


def make_event(kind=EventKind.LAPSED, **data):
    return Event(7, 1_790_000_000.5, 5.0, kind, "APEX", 3, 9, data)


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


@given(
    st.tuples(ANY_TEXT, ANY_TEXT, ANY_TEXT, ANY_TEXT),
    st.booleans(),
    st.integers(1, 4),
    st.integers(0, 2**63),
)
def test_every_line_is_json_whatever_the_strings_hold(texts, flat, out, no):
    service, agent, kind, error = texts
    renderer = Renderer(service, flatten=flat, messages=True, clock=lambda: 0.0, wall=lambda: 1e9)
    broken = ValueError(error)
    item = queued(2.0, 1.0, out, agent, kind, no, 1, 2, f"{no:032x}", error, broken)
    event = Event(1, 1e9, 0.0, EventKind.COMMAND, agent, 0, 0, {kind: error})
    text = renderer.render([item, (event,)])
    assert text.isascii()
    first, second, rest = text.split("\n")
    assert rest == ""
    line, told = json.loads(first), json.loads(second)
    extra = line if flat else line["extra"]
    assert (line["service"], line["agent_id"], line["task_type"]) == (service, agent, kind)
    assert extra["error_type"] == error if error else "error_type" not in extra
    assert extra["error"]["message"] == error
    assert told.get("agent_id", "") == agent


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT | st.binary(),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(ANY_TEXT | st.integers(), inner, max_size=4)
        ),
        max_leaves=20,
    )
)
def test_any_value_becomes_json(value):
    json.loads(dumps({"value": value}), parse_constant=pytest.fail)


def test_values_that_fight_back_are_named_and_bounded():
    class Hostile:
        def __repr__(self):
            raise RuntimeError

    endless = []
    endless.append(endless)
    assert plain(Hostile()) == "<RuntimeError in __repr__ of Hostile>"
    assert (
        len(dumps({"a": endless, "b": "x" * 10**6, "c": list(range(10**5)), "d": 10**5000}))
        < 20_000
    )


def test_stamps_follow_a_wall_clock_that_was_set():
    wall = [1_000_000_000.0]
    renderer = Renderer("svc", clock=lambda: 50.0, wall=lambda: wall[0])
    item = queued(49.0, 48.0, SUCCEEDED, "A", "t", 1, 1, 1, "")
    before = json.loads(renderer.render([item]))["timestamp"]
    wall[0] += 3600
    after = json.loads(renderer.render([item]))["timestamp"]
    assert (before, after) == ("2001-09-09T01:46:39.000000Z", "2001-09-09T02:46:39.000000Z")


ITEMS = st.tuples(
    st.floats(0, 1e6) | st.sampled_from([5.0, 5.0004, 5.000999999, 5.001, 5.9999999]),
    st.floats(0, 400.0)
    | st.sampled_from([0.0, 0.0005, 0.000999999, 0.0009999999, 0.001, 0.9999999]),
    st.integers(0, 4),
    st.sampled_from("AB"),
    st.sampled_from("tu"),
    st.integers(1, 10**9),
    st.integers(0, 2),
    st.integers(1, 2),
    st.sampled_from(["", "ab" * 16, "ab" * 16 + "cd" * 8]),
).map(lambda i: (i[0], i[0] - i[1], *i[2:]))


@given(st.lists(ITEMS, max_size=12), st.floats(1e9, 2e9))
def test_lines_that_come_together_are_the_same_as_one_by_one_and_tell_times_to_the_microsecond(
    items, wall
):
    renderer = Renderer("svc", clock=lambda: 0.0, wall=lambda: wall)
    lines = [queued(*item) for item in items]
    text = renderer.render(lines)
    assert text == "".join(renderer.render([line]) for line in lines)
    for item, line in zip(items, map(json.loads, text.splitlines()), strict=True):
        at = datetime.fromisoformat(line["timestamp"]).timestamp()
        assert at == pytest.approx(wall + item[0], abs=2.1e-6)
        assert line["extra"]["duration_seconds"] == pytest.approx(item[0] - item[1], abs=1e-6)
        assert (line["agent_id"], line["task_type"]) == item[3:5]
        assert (line.get("trace_id", ""), line.get("span_id", "")) == (
            item[8][:32],
            item[8][32:] or item[8][:16],
        )


def test_many_task_types_do_not_grow_the_memory_of_prepared_lines():
    renderer = Renderer("svc")
    for n in range(20_000):
        renderer.render([queued(2.0, 1.0, SUCCEEDED, "A", f"type-{n}", n, 1, 1, "")])
    assert len(renderer._prepared) <= 4096


class Stuck(io.StringIO):
    def __init__(self):
        super().__init__()
        self.entered, self.gate = threading.Event(), threading.Event()

    def write(self, text):
        self.entered.set()
        self.gate.wait(10)
        return super().write(text)


def test_slow_sink_drops_by_kind_and_never_blocks():
    stream = Stuck()
    log = JsonLog(stream=stream, limit=10, interval=0.001)
    log.ended(make_task())
    assert stream.entered.wait(10)
    for n in range(25):
        log.ended(make_task(n))
    log.event(make_event())
    assert log.dropped == {"task": 15, "event": 1}
    assert not log.flush(0.01)
    assert not log.close(0.01)
    assert log.dropped["unwritten"] >= 10
    log.ended(make_task())
    assert log.dropped["closed"] == 1
    stream.gate.set()


def closed_stream():
    stream = io.StringIO()
    stream.close()
    return stream


def broken_pipe():
    read, write = os.pipe()
    os.close(read)
    return os.fdopen(write, "wb", buffering=0)


class Raising:
    def write(self, text):
        raise RuntimeError(text)


def full_disk():
    return Path("/dev/full").open("w")


@pytest.mark.parametrize("make_stream", [closed_stream, broken_pipe, Raising, full_disk])
def test_broken_sink_loses_lines_counts_them_and_raises_nothing(make_stream):
    stream = make_stream()
    log = JsonLog(stream=stream, interval=0.001)
    for n in range(3):
        log.ended(make_task(n))
    assert log.close(10)
    assert log.dropped == {"sink": 3}
    getattr(stream, "close", int)()


def test_lines_go_to_files_pipes_binary_and_compressed_streams(tmp_path):
    import gzip

    opened = {
        "text": (tmp_path / "text").open("w"),
        "utf16": (tmp_path / "utf16").open("w", encoding="utf-16"),
        "binary": (tmp_path / "binary").open("wb"),
        "gzip": gzip.open(tmp_path / "gzip", "wb"),  # noqa: SIM115 - closed below, as the others
    }
    for name, stream in opened.items():
        log = JsonLog(stream=stream, interval=0.001)
        log.ended(make_task(agent_id="é"))
        assert log.flush(10)
        log.ended(make_task(2))
        assert log.close(10)
        assert log.dropped == {}
        stream.close()
        if name == "gzip":
            text = gzip.decompress((tmp_path / name).read_bytes()).decode()
        else:
            text = (tmp_path / name).read_text(encoding="utf-16" if name == "utf16" else "utf-8")
        assert [json.loads(line)["task_id"] for line in text.splitlines()] == [1, 2]


def test_default_is_whatever_stdout_is_when_the_line_is_written(capsys):
    log = JsonLog(interval=0.001)
    log.ended(make_task())
    assert log.flush(10)
    assert json.loads(capsys.readouterr().out)["task_id"] == 1
    assert log.close(10)


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


def test_lines_from_many_threads_are_all_there_and_whole():
    stream = io.StringIO()
    log = JsonLog(stream=stream, interval=0.001)

    def work(base):
        for n in range(500):
            log.ended(make_task(base + n))

    threads = [threading.Thread(target=work, args=(k * 1000,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log.close(10)
    ids = [json.loads(line)["task_id"] for line in stream.getvalue().splitlines()]
    assert sorted(ids) == sorted(k * 1000 + n for k in range(4) for n in range(500))


PROGRAM = """
import sys, time
sys.path.insert(0, {root!r})
from types import SimpleNamespace
from fleetmon.telemetry.logs import JsonLog
log = JsonLog()
for n in range({count}):
    log.ended(SimpleNamespace(id=n, agent_id="A", task_type="t", generation=1, attempt=1,
        started_at=1.0, ended_at=2.0, outcome=0, error_type="", error=None, ids="1" * 32))
{after}
"""
ROOT = str(Path(__file__).resolve().parents[2])


def test_lines_are_written_at_exit_without_a_close():
    program = PROGRAM.format(root=ROOT, count=100, after="")
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, timeout=30
    )
    assert len(done.stdout.splitlines()) == 100
    assert done.stderr == b""


def test_exit_with_a_reader_that_stopped_reading_neither_hangs_nor_aborts():
    program = PROGRAM.format(root=ROOT, count=5000, after="log.close(0.1); import atexit")
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.wait(30) == 0
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_forked_child_writes_its_own_lines_only(tmp_path):
    path = tmp_path / "log"
    with path.open("ab", buffering=0) as stream:
        log = JsonLog(stream=stream, interval=0.001)
        log.ended(make_task(1))
        child = os.fork()
        if child == 0:
            log.ended(make_task(2))
            os._exit(0 if log.close(5) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert log.close(10)
    ids = [json.loads(line)["task_id"] for line in path.read_text().splitlines()]
    assert sorted(ids) == [1, 2]
