"""Brings the dashboard up: the stream first, then rows on the screen, then everything else."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from fleetmon_tui import overture
from fleetmon_tui.lines.screen import compose
from fleetmon_tui.session import Session
from fleetmon_tui.state.dashboard import Dashboard
from fleetmon_tui.state.text import ASCII, UNICODE
from fleetmon_tui.state.themes import MONO, NIGHT, THEMES
from fleetmon_tui.state.ui import Ui

if TYPE_CHECKING:
    from pathlib import Path

    from fleetmon_tui.source import Locate, Source

_FIRST = 0.3  # seconds that the first rows may take before the program is loaded meanwhile
_LAST = 10.0  # seconds after which the program is there for certain
_SWITCH = 0.001  # seconds after which who reads frames lets who paints have the interpreter
_ESCAPE = "50"  # milliseconds after which an escape is the key and not the head of a sequence


class Options(NamedTuple):
    """What the command line says.

    Attributes:
        read_only: refuse commands.
        theme: name of a theme; empty takes the one that fits the environment.
        ascii: draw with ASCII alone.
        mouse: take the mouse.
        rate: frames a second.
        replay: a recording to show in place of a running fleet.
    """

    read_only: bool = False
    theme: str = ""
    ascii: bool = False
    mouse: bool = True
    rate: float = 4.0
    replay: Path | None = None


def run(options: Options, locate: Locate) -> int:
    """Show the dashboard until its user leaves.

    Args:
        options: see there.
        locate: finds the fleet; see :class:`~fleetmon_tui.source.Locate`.

    Returns:
        The exit code.

    Raises:
        FleetmonError: the recording cannot be read.
    """
    session = session_of(options, locate)
    os.environ.setdefault("ESCDELAY", _ESCAPE)
    sys.setswitchinterval(_SWITCH)
    session.source.start(lambda: None)
    try:
        with overture.stage() as drawing:
            curtain = _Curtain(session)
            if drawing:
                for name in ("COLUMNS", "LINES"):  # Textual would believe them, and no resize
                    os.environ.pop(name, None)
                curtain.rise()
            from fleetmon_tui.view.app import FleetApp

            curtain.away()
            app = FleetApp(session)
            app.run(mouse=options.mouse)
            return app.return_code or 0
    finally:
        session.source.close()


def session_of(options: Options, locate: Locate) -> Session:
    """Return everything that the screen stands on, not started yet."""
    glyphs = ASCII if options.ascii or not shows_unicode() else UNICODE
    fallback = NIGHT.name if _colors() else MONO.name
    theme = options.theme or fallback
    now = time.monotonic()
    replay = options.replay is not None
    dashboard = Dashboard(glyphs=glyphs, read_only=options.read_only, replay=replay)
    ui = Ui(dashboard, themes=tuple(THEMES), theme=theme)
    source: Source
    if options.replay is not None:
        from fleetmon_tui.replay import Replay

        replayed = Replay(options.replay, now)
        ui.timeline = replayed.timeline
        source = replayed
    else:
        from fleetmon_tui.source import Live

        source = Live(locate, rate=options.rate, actor=_actor())
    return Session(dashboard, ui, source)


class _Curtain:
    """Draws the first screen before the program is loaded, or while it is."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._lock = threading.Lock()
        self._away = False

    def rise(self) -> None:
        """Draw what there is, and the first rows as soon as they come."""
        here = self._session.source.first.wait(_FIRST)
        self._draw()
        if not here:
            threading.Thread(target=self._late, name="fleetmon-first", daemon=True).start()

    def _late(self) -> None:
        self._session.source.first.wait(_LAST)
        with self._lock:
            if not self._away:
                self._draw()

    def away(self) -> None:
        """Leave the screen, and the session, to the program."""
        with self._lock:
            self._away = True

    def _draw(self) -> None:
        session, now = self._session, time.monotonic()
        session.take(now)
        width, height = overture.size()
        overture.draw(compose(session.ui, now, width, height), THEMES[session.ui.theme])


def shows_unicode() -> bool:
    """Return whether the terminal shows more than ASCII, as far as its environment says.

    Python writes UTF-8 also where the locale is C, and then says so in ``LC_CTYPE`` itself.
    """
    said = os.environ
    coerced = said.get("LC_CTYPE", "") if sys.flags.utf8_mode else ""
    own = "" if coerced in {"C.UTF-8", "C.utf8", "UTF-8"} else said.get("LC_CTYPE", "")
    locale = said.get("LC_ALL") or own or said.get("LANG") or coerced
    encoding = (getattr(sys.stdout, "encoding", "") or "").lower().replace("-", "")
    return (
        encoding in {"utf8", "utf16", "utf32"}
        and locale not in {"C", "POSIX"}
        and said.get("TERM") not in {"linux", "dumb"}
    )


def _colors() -> bool:
    terminal = os.environ.get("TERM", "")
    plain = terminal == "dumb" or terminal.endswith(("-m", "-mono")) or terminal.startswith("vt")
    return not plain and os.environ.get("NO_COLOR") is None


def _actor() -> str:
    import getpass

    try:
        return f"{getpass.getuser()} (dashboard)"
    except (KeyError, OSError):
        return "dashboard"
