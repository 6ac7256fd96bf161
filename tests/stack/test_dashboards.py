"""Every query of every dashboard is answered, by a real Prometheus that looks at everything."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections import defaultdict
from functools import cache

import promql
import pytest
import shorten
from running import DEPLOY, eventually, free_port, request
from scene import FACTOR, RATE_INTERVAL, WELL_IN

sys.path.insert(0, str(DEPLOY / "grafana"))
sys.path.insert(0, str(DEPLOY.parent / "tests" / "deploy"))
import queries
from helpers_deploy import rules

BOARDS = queries.read()
TARGETS = [target for board in BOARDS.values() for target in queries.of_board(board)]
GIVEN = {"__rate_interval": RATE_INTERVAL, "datasource": "prometheus"}

# What no query can be answered for here, by name of the metric.
NOT_HERE = {"ryot_gpu_memory_usage_bytes": "asks for memory of GPUs, and this machine has none"}
# Panels that nothing fills where a program is missing: by what they ask for.
NEEDS = {
    "node": ("node_",),
    "stack": ("otelcol_", "traces_span_metrics_"),
    "sigmavault": ("sigmavault_fuse_",),
}


def not_asked(target: queries.Target) -> str:
    if target.loki:
        return "asks Loki: see test_logs"
    return next((why for name, why in NOT_HERE.items() if name in target.expr), "")


@pytest.fixture(scope="module")
def settled(scene):
    """The scene, after every fault of the demonstration has come and gone."""
    scene.wait_until(WELL_IN)
    return scene


@pytest.fixture(scope="module")
def answered(settled, table):
    """How many samples that are numbers each query gave."""
    counts = {}
    patience = time.monotonic() + 70  # the faults come again within a minute
    for uid, board in BOARDS.items():
        asked = [t for t in queries.of_board(board) if not not_asked(t)]
        values = queries.variables(board, GIVEN, settled.label_values, everything=True)
        for target in asked:
            expr = shorten.expression(queries.fill(queries.bare(target.expr), values), FACTOR)
            counts[target] = len(numbers(settled, target, expr, patience))
        table.dashboard(uid, len(asked), sum(bool(counts[t]) for t in asked))
    for target in TARGETS:
        if why := not_asked(target):
            table.fact(f"not asked: {target}, which {why}")
    return counts


def numbers(scene, target, expr, until):
    def look():
        samples = scene.samples(expr, instant=target.instant)
        return [value for value in samples if not math.isnan(value)]

    try:  # what a short fault did between two scrapes nobody has seen
        return eventually(look, max(0.0, until - time.monotonic()))
    except AssertionError:
        return []


@pytest.mark.parametrize("target", [t for t in TARGETS if not not_asked(t)], ids=str)
def test_the_query_gives_a_sample_that_is_a_number(answered, settled, target):
    assert "vector(" not in queries.bare(target.expr), "a constant would answer in its place"
    for job, families in NEEDS.items():
        if job in settled.missing and any(family in target.expr for family in families):
            pytest.skip(settled.missing[job])
    assert answered[target], f"nothing for {target.expr}"


def test_what_is_not_asked_is_named_and_is_there():
    left_out = defaultdict(list)
    for target in TARGETS:
        if not_asked(target):
            left_out[target.board].append(target.panel)
    assert left_out == {
        "fleetmon-logs": [
            "Lines a second, by level",
            "Warnings and errors a second, by agent",
            "Lines",
        ],
        "fleetmon-ryot-load": ["Memory of the GPUs"],
    }


@cache
def recorded():
    return {rule.name for rule in rules() if "record" in rule.body}


def test_every_name_is_exposed_by_a_job_that_its_query_selects(settled):
    names = defaultdict(set)
    for job, addresses in settled.targets.items():
        for address in addresses:
            path = "/metrics/" if job == "neurectomy" else "/metrics"
            names[job] |= promql.sample_names(request(address, path)[1])
    wrong = {}
    for target in TARGETS:
        if not_asked(target):
            continue
        values = queries.variables(BOARDS[target.board], GIVEN, settled.label_values)
        asked = promql.selectors(settled.prometheus, queries.fill(target.expr, values))
        assert asked, target
        if found := promql.unknown(asked, names, recorded()):
            wrong[str(target)] = found
    gone = tuple(family for job in settled.missing for family in NEEDS.get(job, ()))
    assert {k: v for k, v in wrong.items() if not all(n.startswith(gone) for n in v)} == {}


def test_every_variable_has_values(settled):
    for uid, board in BOARDS.items():
        values = queries.variables(board, GIVEN, settled.label_values)
        assert all(values.values()), (uid, values)


def test_each_dashboard_can_be_drawn_with_its_data(settled, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (the extra stack)")
    import preview

    source = preview.Source(
        f"http://{settled.prometheus.address}",
        100,
        rate_interval=RATE_INTERVAL,
        change=lambda expr: shorten.expression(expr, FACTOR),
    )
    # one that has every kind of panel but a table, and one that has a table
    for uid in ("fleetmon-overview", "fleetmon-alerts"):
        assert preview.picture(source, BOARDS[uid], tmp_path / f"{uid}.png") == []
        assert (tmp_path / f"{uid}.png").read_bytes().startswith(b"\x89PNG")


def test_the_preview_says_that_nobody_answers(tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (the extra stack)")
    import preview

    url = f"http://127.0.0.1:{free_port()}"
    assert preview.main(["--prometheus", url, "--out", str(tmp_path)]) == 1
    assert url in capsys.readouterr().err


def test_the_files_are_what_the_code_makes():
    pytest.importorskip("grafana_foundation_sdk", reason="the extra stack is not installed")
    done = subprocess.run(
        [sys.executable, str(DEPLOY / "grafana" / "generate.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
