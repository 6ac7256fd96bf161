"""The Textual application: one screen, one widget; keys and clicks go to the state."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import TYPE_CHECKING, ClassVar

from textual import events  # noqa: TC002 - Textual looks at the annotations of handlers
from textual.app import App
from textual.screen import Screen

from fleetmon_tui.lines.screen import compose
from fleetmon_tui.state.themes import THEMES
from fleetmon_tui.view.canvas import Canvas
from fleetmon_tui.view.driver import resuming
from fleetmon_tui.view.mouse import clicked
from fleetmon_tui.view.styles import Styles

if TYPE_CHECKING:
    from textual.app import ComposeResult
    from textual.driver import Driver

    from fleetmon_tui.session import Session
    from fleetmon_tui.state.sheets import Effect

_LEAST = 0.15  # seconds between two paints for frames that come
_SHARE = 60  # a paint is followed by this many times its own cost without another one
_MOST = 0.5  # seconds that a frame waits at most
_SECOND = 1.0
_STILL, _SELDOM = 2, 4  # seconds without any change after which only each fourth one is drawn


class Deck(Screen[None], inherit_bindings=False):
    """The screen: hands every key on."""

    DEFAULT_CSS = "Deck { background: ansi_default; layout: vertical; }"

    def on_key(self, event: events.Key) -> None:
        """Take a key."""
        app = self.app
        if isinstance(app, FleetApp):
            event.stop()
            event.prevent_default()
            app.press(event.key, event.character)

    def on_paste(self, event: events.Paste) -> None:
        """Take pasted text."""
        app = self.app
        if isinstance(app, FleetApp):
            app.session.ui.paste(event.text)
            app.paint()


class FleetApp(App[None], inherit_bindings=False):
    """Shows a session.

    Attributes:
        session: what is shown.
        frames: paints so far.
        spent: CPU seconds of the last paint, taking frames included.
    """

    ENABLE_COMMAND_PALETTE = False
    INLINE_PADDING = 0
    CSS: ClassVar[str] = ""

    def __init__(self, session: Session) -> None:
        """Take a session whose source has been started or will be."""
        super().__init__(ansi_color=True)
        self.animation_level = "none"
        self.session = session
        self.canvas = Canvas(Styles(THEMES[session.ui.theme]), self.paint)
        self.frames = 0
        self.spent = 0.0
        self._main: asyncio.AbstractEventLoop | None = None
        self._due: asyncio.TimerHandle | None = None
        self._tick: asyncio.TimerHandle | None = None
        self._painted = 0.0
        self._cost = 0.0
        self._still = 0  # seconds in which nothing happened, and nothing on the screen changed
        self._woken = False

    def get_driver_class(self) -> type[Driver]:
        """Return Textual's choice, or ours for terminals."""
        return resuming(super().get_driver_class())

    def get_default_screen(self) -> Deck:
        """Return the only screen."""
        return Deck(id="_default")

    def compose(self) -> ComposeResult:
        """Put the canvas on it."""
        yield self.canvas

    def on_mount(self) -> None:
        """Begin to listen."""
        self._main = asyncio.get_running_loop()
        self.session.source.start(self._wake)
        self.call_after_refresh(self._settle)

    def _settle(self) -> None:
        self.paint()
        # what is here by now stays: the collector need not look at it again and again
        gc.collect()
        gc.freeze()
        # rows come and go by the thousand and form no cycles; looking for some is dear
        gc.set_threshold(50_000, 20, 100)

    # -- painting --------------------------------------------------------------------------------

    def _wake(self) -> None:
        if not self._woken and self._main is not None:
            self._woken = True
            try:
                self._main.call_soon_threadsafe(self._woke)
            except RuntimeError:  # the program has ended meanwhile
                return

    def _woke(self) -> None:
        wait = min(_MOST, max(_LEAST, _SHARE * self._cost)) - (time.monotonic() - self._painted)
        if wait <= 0:
            self._woken = False
            self.paint()
        elif self._due is None and self._main is not None:
            self._due = self._main.call_later(wait, self._late)

    def _late(self) -> None:
        self._due = None
        self._woken = False
        self.paint()

    def _next(self) -> None:
        # times on the screen count up: a second without a paint is the longest there is
        if self._main is not None:
            if self._tick is not None:
                self._tick.cancel()
            self._tick = self._main.call_later(_SECOND, self._second)

    def _second(self) -> None:
        if not self.is_running:
            return
        # where nothing counts up, drawing the same each second is all that is left to do
        if not self.session.take(time.monotonic()) and self._still >= _STILL:
            self._still += 1
            if self._still % _SELDOM:
                self._next()
                return
        self.paint()

    def paint(self) -> None:
        """Take what has come and show how things stand."""
        if not self.is_running:
            return
        self._next()
        if not self.canvas.size.width:
            return
        began, wall = time.thread_time(), time.monotonic()
        session = self.session
        happened = session.take(wall)
        width, height = self.canvas.size
        painted = self.canvas.draw(compose(session.ui, wall, width, height), width)
        self._still = 0 if happened or painted else self._still + 1
        self.frames += 1
        self.spent = time.thread_time() - began
        self._cost = self.spent
        self._painted = time.monotonic()
        self._keep_up(wall)

    def _keep_up(self, now: float) -> None:
        # a recording that plays has to be drawn between two seconds, too
        timeline = self.session.ui.timeline
        if timeline is None or self._main is None or self._due is not None:
            return
        if timeline.playing and timeline.at(now) < timeline.last:
            self._due = self._main.call_later(0.25, self._late)

    def on_resize(self) -> None:
        """Paint everything: a program that was suspended finds an empty screen of the same size."""
        self.call_after_refresh(self.canvas.refresh)

    # -- keys and clicks -------------------------------------------------------------------------

    def press(self, key: str, character: str | None) -> None:
        """Do what a key does, and show it at once."""
        now = time.monotonic()
        self._act(self.session.ui.key(key, character, now), now)

    def _act(self, effects: list[Effect], now: float) -> None:
        for word, what in self.session.act(effects, now):
            if word == "theme":
                self.canvas.dress(Styles(THEMES[str(what)]))
            elif word == "suspend":
                self.action_suspend_process()
        if self.session.leaving:
            self.exit()
            return
        self.paint()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Move down."""
        event.stop()
        self._act(self.session.ui.do("move 3", time.monotonic()), time.monotonic())

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Move up."""
        event.stop()
        self._act(self.session.ui.do("move -3", time.monotonic()), time.monotonic())

    def on_click(self, event: events.Click) -> None:
        """Do what a click means where it fell."""
        event.stop()
        now = time.monotonic()
        effects = clicked(
            self.session.ui,
            int(event.screen_x),
            int(event.screen_y),
            self.canvas.size.height,
            now,
            double=event.chain > 1,
        )
        self._act(effects, now)
