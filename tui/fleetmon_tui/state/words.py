"""States as glyph, word and role: distinct from one another with every style stripped."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from fleetmon_tui.state.text import Glyphs

HEALTH = ("healthy", "degraded", "failed")
"""Words for ``health``."""

HEALTH_ROLES = ("ok", "warn", "bad")

_QUIET = frozenset({"paused", "draining", "stopping", "stopped", "declared", "starting"})


def word(lifecycle: str) -> str:
    """Return the word of a state as it stands on the screen."""
    return lifecycle.replace("_", " ")


def state(lifecycle: str, health: int, glyphs: Glyphs) -> str:
    """Return glyph and word of a state, and the glyph of its health unless it is well."""
    told = f"{glyphs.states.get(lifecycle, '?')} {word(lifecycle)}"
    if health == 1:
        return f"{told} {glyphs.degraded}"
    return told if not health else f"{told} {glyphs.failed}"


def role(lifecycle: str, health: int) -> str:
    """Return the role in which a state is drawn."""
    if health:
        return "warn" if health == 1 else "bad"
    return "quiet" if lifecycle in _QUIET else "ok"


def conditions(told: Sequence[Sequence[Any]]) -> str:
    """Return the names of conditions, hard ones first."""
    names = sorted(told, key=lambda c: (not c[3], c[1]))
    return ", ".join(word(str(c[0])) for c in names)
