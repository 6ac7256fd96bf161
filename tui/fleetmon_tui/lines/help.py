"""The lines of the help."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetmon_tui.state import keys
from fleetmon_tui.state.text import fit
from fleetmon_tui.state.words import word

if TYPE_CHECKING:
    from fleetmon_tui.state.text import Glyphs, Line

_KEYS = 14


def lines(glyphs: Glyphs, *, replay: bool) -> list[Line]:
    """Return every key by heading, then what the glyphs mean."""
    found: list[Line] = []
    plain = glyphs.name == "ascii"
    for group, members in keys.groups(replay=replay).items():
        found.append([(f" {group}", "title")])
        for key in members:
            told = fit(keys.shown(key, ascii_only=plain), _KEYS, glyphs.cut)
            what = key.what.replace("→", "right").replace("←", "left") if plain else key.what
            found.append([("   ", ""), (told, "key"), (f" {what}", "")])
        found.append([])
    found.append([(" States", "title")])
    found.extend(
        [("   ", ""), (f"{glyph} {word(state)}", "")] for state, glyph in glyphs.states.items()
    )
    found.append([("   ", ""), (f"{glyphs.degraded} degraded", "warn"),
                  ("  beside a state: it serves, but look at it", "")])  # fmt: skip
    found.append([("   ", ""), (f"{glyphs.failed} failed", "bad"),
                  ("  beside a state: it does not serve, for reasons of fault", "")])  # fmt: skip
    return found
