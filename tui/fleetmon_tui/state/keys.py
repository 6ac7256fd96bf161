"""Every key, in one table: bindings, help, footer and ``docs/dashboard.md`` are made from it."""

from __future__ import annotations

from typing import NamedTuple


class Key(NamedTuple):
    """One thing that keys do.

    Attributes:
        action: what is done, as :meth:`Deck.action_do` takes it.
        keys: names of the keys, as Textual calls them.
        shown: the keys as people write them.
        what: what it does.
        where: views in which it works; empty for all of them.
        group: heading under which help lists it.
        hint: a word or two for the footer; empty when it does not stand there.
    """

    action: str
    keys: tuple[str, ...]
    shown: str
    what: str
    where: tuple[str, ...] = ()
    group: str = "Everywhere"
    hint: str = ""


_FLEET = ("fleet",)
_LISTS = ("fleet", "events", "warnings", "letters")
_AGENTS = ("fleet", "agent")
_TOUCH = "Commands"
_MARK = "Choosing agents"
_ORDER = "Order and columns"
_REPLAY = ("replay",)
_TIME = "Time line of a recording"

KEYS = (
    Key("move 1", ("j", "down"), "j ↓", "one line down"),
    Key("move -1", ("k", "up"), "k ↑", "one line up"),
    Key("page 1", ("ctrl+f", "pagedown"), "ctrl-f PgDn", "one page down"),
    Key("page -1", ("ctrl+b", "pageup"), "ctrl-b PgUp", "one page up"),
    Key("half 1", ("ctrl+d",), "ctrl-d", "half a page down"),
    Key("half -1", ("ctrl+u",), "ctrl-u", "half a page up"),
    Key("top", ("g", "home"), "g Home", "to the first line"),
    Key("bottom", ("G", "end"), "G End", "to the last line"),
    Key("open", ("enter",), "enter", "open the agent; on a tier: fold or unfold it", _LISTS,
        hint="open"),
    Key("back", ("escape",), "esc", "one step back: range, marks, filter, view"),
    Key("view fleet", ("1",), "1", "the fleet"),
    Key("view events", ("2",), "2", "events"),
    Key("view warnings", ("3",), "3", "warnings"),
    Key("view letters", ("4",), "4", "dead letters: tasks that were given up"),
    Key("next", ("tab",), "tab", "the next of these views"),
    Key("filter", ("slash",), "/", "filter by a regular expression; ! in front leaves out",
        ("fleet", "events"), hint="filter"),
    Key("palette", ("colon",), ":", "palette: every command, column, theme and agent by name",
        hint="palette"),
    Key("help", ("question_mark", "f1"), "? F1", "this help", hint="help"),
    Key("theme", ("T",), "T", "the next theme"),
    Key("suspend", ("ctrl+z",), "ctrl-z", "to the shell; fg comes back"),
    Key("quit", ("q", "ctrl+c", "ctrl+q"), "q ctrl-c", "leave; the fleet goes on", hint="quit"),
    Key("mark", ("space",), "space", "mark the agent, or take its mark away; on a tier: all of it",
        _FLEET, _MARK, "mark"),
    Key("range", ("v",), "v", "begin a range, move, end it with v or space", _FLEET, _MARK),
    Key("mark-all", ("asterisk", "A"), "* A", "mark all that the filter shows", _FLEET, _MARK),
    Key("invert", ("i",), "i", "mark what is not marked, and the other way round", _FLEET, _MARK),
    Key("unmark", ("u",), "u", "take all marks away", _FLEET, _MARK),
    Key("trouble 1", ("n",), "n", "to the next agent in trouble", _FLEET, _MARK),
    Key("trouble -1", ("N",), "N", "to the one before", _FLEET, _MARK),
    Key("sort 1", ("greater_than_sign",), ">", "sort by the next column", _FLEET, _ORDER),
    Key("sort -1", ("less_than_sign",), "<", "sort by the column before", _FLEET, _ORDER),
    Key("reverse", ("R",), "R", "the other way round", _FLEET, _ORDER),
    Key("tiers", ("t",), "t", "group by tier, or not", _FLEET, _ORDER),
    Key("fold", ("z",), "z", "fold or unfold the tier", _FLEET, _ORDER),
    Key("fold-all", ("Z",), "Z", "fold or unfold all tiers", _FLEET, _ORDER),
    Key("columns 1", ("l", "right"), "l →", "columns further right (→ not in a recording)", _FLEET,
        _ORDER),
    Key("columns -1", ("h", "left"), "h ←", "columns further left (← not in a recording)", _FLEET,
        _ORDER),
    Key("ask restart", ("r",), "r", "restart", _AGENTS, _TOUCH, "restart"),
    Key("ask pause", ("p",), "p", "pause", _AGENTS, _TOUCH),
    Key("ask resume", ("c",), "c", "resume (continue)", _AGENTS, _TOUCH),
    Key("ask drain", ("d",), "d", "drain", _AGENTS, _TOUCH),
    Key("ask start", ("s",), "s", "start", _AGENTS, _TOUCH),
    Key("ask stop", ("x",), "x", "stop", _AGENTS, _TOUCH),
    Key("ask quarantine", ("Q",), "Q", "quarantine", _AGENTS, _TOUCH),
    Key("ask reset", ("X",), "X", "reset", _AGENTS, _TOUCH),
    Key("ask retry", ("r",), "r", "try the dead letter again", ("letters",), _TOUCH, "retry"),
    Key("commands", ("a",), "a", "all commands with what they do", _AGENTS, _TOUCH, "commands"),
    Key("section 1", ("right_square_bracket",), "]", "to the next section", ("agent",), "Agent"),
    Key("section -1", ("left_square_bracket",), "[", "to the section before", ("agent",), "Agent"),
    Key("agent 1", ("J", "n"), "J n", "the next agent", ("agent",), "Agent", "next"),
    Key("agent -1", ("K", "N"), "K N", "the agent before", ("agent",), "Agent"),
    Key("follow", ("f",), "f", "stay at the newest event, or not", ("events",), "Events", "follow"),
    Key("play", ("P",), "P", "play or pause", _REPLAY, _TIME, "play"),
    Key("seek 10", ("right",), "→", "ten seconds on", _REPLAY, _TIME),
    Key("seek -10", ("left",), "←", "ten seconds back", _REPLAY, _TIME),
    Key("seek 60", ("shift+right", "L"), "shift-→ L", "a minute on", _REPLAY, _TIME),
    Key("seek -60", ("shift+left", "H"), "shift-← H", "a minute back", _REPLAY, _TIME),
    Key("speed 1", ("plus",), "+", "faster", _REPLAY, _TIME),
    Key("speed -1", ("minus",), "-", "slower", _REPLAY, _TIME),
    Key("warning 1", ("w",), "w", "to the next warning", _REPLAY, _TIME, "next warning"),
    Key("warning -1", ("W",), "W", "to the warning before", _REPLAY, _TIME),
    Key("jump", ("at",), "@", "jump to a time, such as 12:03:40 or +5m", _REPLAY, _TIME, "jump"),
    Key("edge first", ("left_curly_bracket",), "{", "to the beginning", _REPLAY, _TIME),
    Key("edge last", ("right_curly_bracket",), "}", "to the end", _REPLAY, _TIME),
)  # fmt: skip

QUESTION = (
    Key("", ("y",), "y", "do it", (), "In a question"),
    Key("", ("n", "escape"), "n esc", "cancel", (), "In a question"),
    Key("", ("tab", "left", "right"), "tab ← →", "between Cancel, the command and the reason", (),
        "In a question"),
    Key("", ("enter",), "enter", "what is chosen; Cancel unless you moved", (), "In a question"),
)  # fmt: skip
"""Keys of the question before a command."""

_ASCII = str.maketrans({"↓": "down", "↑": "up", "→": "right", "←": "left"})


def groups(*, replay: bool) -> dict[str, list[Key]]:
    """Return all keys by heading; those of the time line only where there is one."""
    found: dict[str, list[Key]] = {}
    for key in (*KEYS, *QUESTION):
        if replay or key.where != _REPLAY:
            found.setdefault(key.group, []).append(key)
    return found


def shown(key: Key, *, ascii_only: bool) -> str:
    """Return the keys as people write them."""
    return key.shown.translate(_ASCII) if ascii_only else key.shown


def works(key: Key, view: str, *, replay: bool) -> bool:
    """Return whether a key does something in a view."""
    if key.where == _REPLAY:
        return replay
    return not key.where or view in key.where


def action_of(name: str, view: str, *, replay: bool) -> str:
    """Return what a key, by Textual's name, does in a view; empty when nothing."""
    found = [key for key in KEYS if name in key.keys and works(key, view, replay=replay)]
    if not found:
        return ""
    timed = [key for key in found if key.where == _REPLAY]
    return (timed or found)[0].action


def hints(view: str, *, replay: bool) -> list[tuple[str, str]]:
    """Return key and word for the footer of a view."""
    return [
        (key.shown.split()[0], key.hint)
        for key in KEYS
        if key.hint and works(key, view, replay=replay) and not (replay and key.group == _TOUCH)
    ]


def sheet() -> str:
    """Return every key as tables in markdown, for ``docs/dashboard.md``."""
    parts = []
    for group, members in groups(replay=True).items():
        parts += [f"### {group}", "", "| key | does | where |", "|---|---|---|"]
        for key in members:
            told = " ".join(f"`{part}`" for part in key.shown.split())
            where = "the question" if key in QUESTION else ", ".join(key.where) or "everywhere"
            parts.append(f"| {told} | {key.what} | {where} |")
        parts.append("")
    return "\n".join(parts).strip() + "\n"
