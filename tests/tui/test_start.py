"""What the dashboard takes from its environment before it draws anything."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

ASK = "from fleetmon_tui.start import shows_unicode; print(shows_unicode())"


@pytest.mark.parametrize(
    ("said", "shows"),
    [
        ({}, True),  # as in a container: nothing is said against it
        ({"LANG": "en_US.UTF-8"}, True),
        ({"LANG": "C"}, False),
        ({"LC_ALL": "C", "LANG": "C.UTF-8"}, False),
        ({"LC_ALL": "C.UTF-8", "LANG": "C"}, True),
        ({"LC_CTYPE": "C.UTF-8", "LANG": "C"}, True),
        ({"LANG": "C.UTF-8", "PYTHONIOENCODING": "latin-1"}, False),
        ({"LANG": "C.UTF-8", "TERM": "linux"}, False),
    ],
)
def test_unicode_is_drawn_where_locale_and_terminal_have_it(said, shows):
    left_out = {"LANG", "LC_ALL", "LC_CTYPE", "PYTHONUTF8", "PYTHONIOENCODING"}
    environment = {k: v for k, v in os.environ.items() if k not in left_out}
    told = subprocess.run(
        [sys.executable, "-c", ASK],
        env={**environment, "TERM": "xterm", **said},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == str(shows), told.stderr
