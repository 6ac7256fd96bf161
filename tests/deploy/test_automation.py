"""Scaling, restarting and rolling back by script, against a kubectl that only writes down."""

from __future__ import annotations

import contextlib
import http.server
import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

AUTOMATION = Path(__file__).parents[2] / "deploy" / "automation"
KUBECTL = """#!/bin/sh
echo "$*" >>"$(dirname "$0")/log"
case "$*" in *jsonpath*) echo 2 ;; esac
"""

pytestmark = pytest.mark.skipif(
    any(shutil.which(name) is None for name in ("bash", "curl", "awk")),
    reason="bash, curl or awk is not installed",
)


class Shell:
    def __init__(self, path):
        self.path = path
        stub = path / "kubectl"
        stub.write_text(KUBECTL)
        stub.chmod(0o755)

    def run(self, script, *arguments):
        return subprocess.run(
            [str(AUTOMATION / script), *arguments],
            env={**os.environ, "PATH": f"{self.path}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    @property
    def changes(self):
        log = self.path / "log"
        lines = log.read_text().splitlines() if log.exists() else []
        return [line for line in lines if " get " not in line and "rollout status" not in line]


@pytest.fixture
def shell(tmp_path):
    return Shell(tmp_path)


@contextlib.contextmanager
def prometheus(value):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            result = f'{{"metric":{{}},"value":[1,"{value}"]}}' if value else ""
            body = f'{{"status":"success","data":{{"resultType":"vector","result":[{result}]}}}}'
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_scaling_to_what_is_there_already_changes_nothing(shell):
    assert shell.run("fleet.sh", "scale", "2").returncode == 0
    assert shell.changes == []
    shell.run("fleet.sh", "scale", "3")
    assert shell.changes == ["--namespace fleetmon scale deployment/fleet --replicas 3"]


@pytest.mark.parametrize("words", [("scale", "3"), ("restart",), ("rollback",)])
def test_a_dry_run_says_what_it_would_do_and_does_nothing(shell, words):
    done = shell.run("fleet.sh", *words, "--dry-run")
    assert done.returncode == 0
    assert "would run: kubectl --namespace fleetmon" in done.stdout
    assert shell.changes == []


def test_wrong_usage_is_named_and_ends_with_2(shell):
    for script, words, said in (
        ("fleet.sh", ("fly",), "no command fly"),
        ("fleet.sh", ("scale", "many"), "scale wants a number"),
        ("rollout-guard.sh", ("--errors", "much"), "much is not a number"),
        ("rollout-guard.sh", ("--job", 'x"} or vector(1)'), "is no job's name"),
    ):
        done = shell.run(script, *words)
        assert done.returncode == 2
        assert said in done.stderr
    assert shell.changes == []


def watch(shell, url, *more):
    words = ("--prometheus", url, "--every", "0.01", "--for", "1", *more)
    return shell.run("rollout-guard.sh", *words)


def test_a_deployment_that_fails_tasks_is_rolled_back_once(shell):
    with prometheus("0.5") as url:
        done = watch(shell, url, "--for", "60")  # ends with the third strike
    assert done.returncode == 1
    assert done.stdout.count("strike") == 3
    assert shell.changes == ["--namespace fleetmon rollout undo deployment/fleet"]


@pytest.mark.parametrize(
    ("value", "said"), [("0.001", "well"), ("NaN", "no answer"), ("", "no answer")]
)
def test_a_deployment_that_works_or_of_which_nothing_is_known_stays(shell, value, said):
    with prometheus(value) as url:
        done = watch(shell, url)
    assert done.returncode == 0
    assert said in done.stdout
    assert shell.changes == []


def test_a_prometheus_that_is_away_rolls_nothing_back(shell):
    done = watch(shell, "http://127.0.0.1:9")
    assert done.returncode == 0
    assert "no answer from http://127.0.0.1:9" in done.stdout
    assert shell.changes == []


def test_shellcheck_has_nothing_to_say():
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed (Debian: shellcheck)")
    root = AUTOMATION.parent
    scripts = sorted(root.rglob("*.sh"))
    assert scripts
    done = subprocess.run(
        ["shellcheck", *map(str, scripts)], capture_output=True, text=True, check=False
    )
    assert done.stdout == ""
