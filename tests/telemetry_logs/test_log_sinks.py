"""Where lines go: slow and broken sinks, files and pipes, threads, forks, the end of a program."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from helpers_logs import Stuck, make_event, make_task

from fleetmon.telemetry.logs import JsonLog


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
