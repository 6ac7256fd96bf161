"""The page of keys says what the keys do."""

from __future__ import annotations

from pathlib import Path

from fleetmon.cli import tui
from fleetmon_tui.state import keys
from fleetmon_tui.state.themes import THEMES

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_lists_every_key_as_the_bindings_have_it():
    page = (DOCS / "dashboard.md").read_text(encoding="utf-8")
    _, _, rest = page.partition("<!-- keys:begin -->\n")
    told, _, _ = rest.partition("<!-- keys:end -->")
    assert told == keys.sheet()


def test_pictures_of_the_page_are_there_and_ask_nobody_for_anything():
    page = (DOCS / "dashboard.md").read_text(encoding="utf-8")
    for name in ("fleet", "question", "agent", "warnings"):
        file = DOCS / f"dashboard-{name}.svg"
        assert file.name in page
        assert "@font-face" not in file.read_text(encoding="utf-8")


def test_the_command_offers_the_themes_that_there_are():
    assert tuple(THEMES) == tui.THEMES


def test_the_dashboard_is_measured_beside_a_data_table():
    from benchmarks.dashboard import refresh

    found = refresh(40, turns=3)
    assert len(found.ours) == 3
    assert 0 < found.p95 < 5
    assert min(found.table) > 0
