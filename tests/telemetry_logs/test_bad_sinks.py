"""A standard output that is closed, full, broken or never read: agents do not notice, we count."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("logging_fleet.py")
ROOT = Path(__file__).parents[2]
LEAST = 3000 + 300  # lines of tasks and of the host's own; events come on top


@contextmanager
def broken_pipe():
    reader, writer = os.pipe()
    os.close(reader)
    try:
        yield writer
    finally:
        os.close(writer)


@contextmanager
def unread_pipe():
    reader, writer = os.pipe()
    try:
        yield writer
    finally:
        os.close(reader)
        os.close(writer)


@contextmanager
def full_disk():
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    with Path("/dev/full").open("wb") as file:
        yield file


@contextmanager
def good_file(path):
    with path.open("wb") as file:
        yield file


def run(stdout, *, closed=False):
    command = [sys.executable, str(SCRIPT)]
    if closed:
        command = ["/bin/sh", "-c", 'exec "$0" "$@" >&-', *command]
    done = subprocess.run(
        command,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stderr.splitlines()  # nothing else was said: no tracebacks at exit
    told = json.loads(line)
    assert told["succeeded"] == 3000
    assert told["close"] < 0.5 + 1.5
    assert told["slowest"] < 1.5
    return told["lost"]


@pytest.mark.parametrize("sink", [broken_pipe, full_disk])
def test_lines_that_a_broken_pipe_or_a_full_disk_refuses_are_counted(sink):
    with sink() as stdout:
        lost = run(stdout)
    assert sum(lost.values()) >= LEAST
    assert lost["sink"] > 0


def test_a_closed_standard_output_loses_every_line_and_counts_it():
    lost = run(None, closed=True)
    assert sum(lost.values()) >= LEAST


def test_a_reader_that_stopped_reading_costs_lines_and_no_time():
    with unread_pipe() as stdout:
        lost = run(stdout)
    assert lost["task"] > 0  # the queue was full
    assert lost["unwritten"] > 0  # and what it held could not be waited for


def test_a_good_one_loses_nothing_but_what_the_bound_says(tmp_path):
    file = tmp_path / "out.jsonl"
    with good_file(file) as stdout:
        lost = run(stdout)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert not lost.keys() - {"task", "line", "event"}
    tasks = [line for line in lines if line["message"] == "task succeeded"]
    own = [line for line in lines if line["message"] == "a line of the host's own"]
    assert own
    assert len(tasks) + len(own) + sum(lost.values()) >= LEAST
    assert {line["agent_id"] for line in own} == {"A"}
    assert {line["task_id"] for line in own} <= set(range(1, 3001))
