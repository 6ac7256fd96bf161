"""What the words of actions do: one small function each, in one table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetmon_tui.state.columns import COLUMNS
from fleetmon_tui.state.sheets import Palette
from fleetmon_tui.state.ui import VIEWS

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetmon_tui.state.sheets import Effect
    from fleetmon_tui.state.ui import Ui

_END = 10**9  # lines; beyond every list
_MORE = 3  # columns that stay whatever is moved out of sight


def _bottom(ui: Ui, _: str, __: float) -> None:
    ui.move(_END)
    if ui.view == "events":
        ui.pages["events"].follow = True


def _next(ui: Ui, _: str, __: float) -> None:
    at = VIEWS.index(ui.view) if ui.view in VIEWS else -1
    ui.show(VIEWS[(at + 1) % len(VIEWS)])


def _palette(ui: Ui, _: str, __: float) -> None:
    ui.sheet = Palette(ui.choices())


def _commands(ui: Ui, _: str, __: float) -> None:
    ui.sheet = Palette(ui.commands(), "command")


def _follow(ui: Ui, _: str, __: float) -> None:
    ui.pages["events"].follow = not ui.pages["events"].follow


def _mark(ui: Ui, _: str, __: float) -> None:
    selection = ui.dashboard.selection
    selection.toggle()
    if ui.dashboard.listing.group(selection.line) is None:
        ui.move(1)


def _mark_all(ui: Ui, _: str, now: float) -> None:
    ui.dashboard.say(f"{ui.dashboard.selection.mark_all()} marked", now)


def _unmark(ui: Ui, _: str, __: float) -> None:
    ui.dashboard.selection.clear()


def _trouble(ui: Ui, by: str, now: float) -> None:
    if not ui.dashboard.next_trouble(int(by)):
        ui.dashboard.say("no agent in trouble", now, "ok")


def _sort(ui: Ui, what: str, now: float) -> None:
    listing = ui.dashboard.listing
    if what in {"1", "-1"}:
        listing.step_sort(int(what))
    else:
        listing.sort_by("" if what == "roster" else what)
    ui.dashboard.say(f"sorted by {listing.sort or 'roster'}", now, "quiet")


def _reverse(ui: Ui, _: str, __: float) -> None:
    ui.dashboard.listing.reverse = not ui.dashboard.listing.reverse
    ui.dashboard.listing.touch()


def _tiers(ui: Ui, _: str, __: float) -> None:
    ui.dashboard.listing.grouped = not ui.dashboard.listing.grouped
    ui.dashboard.listing.touch()


def _fold_all(ui: Ui, _: str, __: float) -> None:
    listing = ui.dashboard.listing
    every = {group.key for group in listing.groups}
    listing.folded = set() if listing.folded >= every else every
    listing.touch()


def _columns(ui: Ui, by: str, __: float) -> None:
    ui.skipped = max(0, min(len(COLUMNS) - _MORE, ui.skipped + int(by)))


def _timed(act: Callable[[Ui, str, float], None]) -> Callable[[Ui, str, float], list[Effect]]:
    def timed(ui: Ui, rest: str, now: float) -> list[Effect]:
        if ui.timeline is None:
            return []
        act(ui, rest, now)
        return [("sought", None)]

    return timed


def _play(ui: Ui, _: str, now: float) -> None:
    if ui.timeline is not None:
        ui.timeline.toggle(now)


def _seek(ui: Ui, by: str, now: float) -> None:
    if ui.timeline is not None:
        ui.timeline.seek(ui.timeline.at(now) + float(by), now)


def _speed(ui: Ui, by: str, now: float) -> None:
    if ui.timeline is not None:
        ui.timeline.faster(int(by), now)


def _end_of_time(ui: Ui, which: str, now: float) -> None:
    if ui.timeline is not None:
        ui.timeline.seek(ui.timeline.first if which == "first" else ui.timeline.last, now)


ACTIONS: dict[str, Callable[[Ui, str, float], list[Effect] | None]] = {
    "move": lambda ui, by, _: ui.move(int(by)),
    "page": lambda ui, by, _: ui.move(int(by) * max(1, ui.height - 1)),
    "half": lambda ui, by, _: ui.move(int(by) * max(1, ui.height // 2)),
    "top": lambda ui, _, __: ui.move(-_END),
    "bottom": _bottom,
    "back": lambda ui, _, now: ui.back(now),
    "view": lambda ui, view, _: ui.show(view),
    "next": _next,
    "help": lambda ui, _, __: ui.show("help"),
    "open": lambda ui, _, __: ui.open(),
    "choose": lambda _, fleet, __: [("choose", fleet)],
    "goto": lambda ui, agent_id, _: ui.open_agent(agent_id),
    "filter": lambda ui, _, __: ui.filter(),
    "palette": _palette,
    "commands": _commands,
    "ask": lambda ui, command, now: ui.ask(command, now),
    "theme": lambda ui, name, now: ui.dress(name, now),
    "quit": lambda _, __, ___: [("quit", None)],
    "suspend": lambda _, __, ___: [("suspend", None)],
    "follow": _follow,
    "section": lambda ui, by, _: ui.section(int(by)),
    "agent": lambda ui, by, _: ui.other(int(by)),
    "mark": _mark,
    "range": lambda ui, _, __: ui.dashboard.selection.begin_range(),
    "mark-all": _mark_all,
    "invert": lambda ui, _, __: ui.dashboard.selection.invert(),
    "unmark": _unmark,
    "trouble": _trouble,
    "sort": _sort,
    "reverse": _reverse,
    "tiers": _tiers,
    "fold": lambda ui, _, __: ui.fold(),
    "fold-all": _fold_all,
    "columns": _columns,
    "play": _timed(_play),
    "seek": _timed(_seek),
    "speed": _timed(_speed),
    "edge": _timed(_end_of_time),
    "warning": lambda ui, by, _: [("warning", int(by))] if ui.timeline is not None else [],
    "jump": lambda ui, _, now: ui.jump(now),
}
"""What each word does; the keys' table and the palette speak in these words."""
