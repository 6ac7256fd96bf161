"""What is on the screen, and what keys do to it: what the program has to do comes out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from fleetmon_tui.state import keys
from fleetmon_tui.state.columns import COLUMNS
from fleetmon_tui.state.listing import Filter
from fleetmon_tui.state.orders import COMMANDS
from fleetmon_tui.state.sheets import Ask, Choice, Palette, Prompt
from fleetmon_tui.state.store import ID
from fleetmon_tui.state.text import clean, stamp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetmon_tui.state.dashboard import Dashboard
    from fleetmon_tui.state.orders import Question
    from fleetmon_tui.state.sheets import Effect
    from fleetmon_tui.state.text import Line
    from fleetmon_tui.state.timeline import Timeline

VIEWS = ("fleet", "events", "warnings", "letters")


class Item(NamedTuple):
    """One line of a view that is not the fleet, and what it is about."""

    line: Line
    agent_id: str = ""
    task_id: int = 0  # of a dead letter


class Page:
    """Where one view is: its lines, the cursor among them, and the first one in sight.

    Attributes:
        items: the lines, as last made.
        at: line of the cursor.
        top: first line in sight.
        follow: stay at the last line.
        sections: lines on which a section begins.
    """

    def __init__(self, *, follow: bool = False) -> None:
        """Begin at the top."""
        self.items: Sequence[Item] = ()
        self.at = 0
        self.top = 0
        self.follow = follow
        self.sections: list[int] = []

    def show(self, items: Sequence[Item], height: int) -> None:
        """Take new lines and keep the cursor in sight."""
        self.items = items
        last = max(0, len(items) - 1)
        self.at = last if self.follow else min(self.at, last)
        self.top = scrolled(self.top, self.at, height, len(items))

    def go(self, line: int) -> None:
        """Put the cursor on a line; leaving the last one ends following."""
        last = max(0, len(self.items) - 1)
        self.at = max(0, min(line, last))
        self.follow = self.follow and self.at == last


class Ui:
    """The screen's own state.

    Attributes:
        dashboard: what is shown.
        view: one of :data:`VIEWS`, ``agent`` or ``help``.
        agent_id: whom the agent view shows.
        details: what the fleet told about that agent, and when (monotonic seconds).
        fleets: those among which one has to be chosen.
        letters: the dead letters as the fleet told them, and when (monotonic seconds).
        sheet: what takes the keys, if anything.
        theme: name of the theme.
        timeline: of a recording.
        height: lines of the body, as last laid out.
    """

    def __init__(
        self,
        dashboard: Dashboard,
        *,
        themes: Sequence[str] = ("night",),
        theme: str = "night",
        timeline: Timeline | None = None,
    ) -> None:
        """Begin with the fleet view."""
        self.dashboard = dashboard
        self.view = "fleet"
        self.agent_id = ""
        self.details: tuple[dict[str, Any], float] | None = None
        self.fleets: list[Choice] = []
        self.letters: tuple[list[dict[str, Any]], float] | None = None
        self.sheet: Prompt | Ask | Palette | None = None
        self.themes = tuple(themes)
        self.theme = theme
        self.timeline = timeline
        self.width = 80
        self.height = 1
        self.top = 0
        self.skipped = 0
        self.pages = {
            "agent": Page(), "events": Page(follow=True), "warnings": Page(), "letters": Page(),
            "help": Page(),
        }  # fmt: skip
        self._came_from: list[str] = []

    # -- keys ------------------------------------------------------------------------------------

    def key(self, name: str, character: str | None, now: float) -> list[Effect]:
        """Take a key, by Textual's name and as the character it types."""
        sheet = self.sheet
        if isinstance(sheet, Prompt):
            return self._prompt_key(sheet, name, character)
        if isinstance(sheet, Ask):
            said = sheet.key(name, character)
            return [] if said is None else self.answer(yes=said, now=now)
        if isinstance(sheet, Palette):
            action = sheet.key(name, character)
            if action is not None:
                self.sheet = None
                return self.do(action, now) if action else []
            return []
        action = keys.action_of(name, self.view, replay=self.timeline is not None)
        return self.do(action, now) if action else []

    def paste(self, text: str) -> None:
        """Take pasted text, where text is typed."""
        sheet = self.sheet
        if isinstance(sheet, Prompt):
            sheet.edit.insert(text)
            sheet.changed(sheet.edit.text)
        elif isinstance(sheet, Palette):
            sheet.paste(text)
        elif isinstance(sheet, Ask) and sheet.chosen == "reason":
            sheet.reason.insert(text)

    def _prompt_key(self, prompt: Prompt, name: str, character: str | None) -> list[Effect]:
        if name == "enter":
            self.sheet = None
            return prompt.done(prompt.edit.text)
        if name in {"escape", "ctrl+c"} or (name == "backspace" and not prompt.edit.text):
            self.sheet = None
            prompt.undone()
        elif name in {"up", "down"}:
            self.move({"up": -1, "down": 1}[name])
        elif prompt.edit.key(name, character):
            prompt.changed(prompt.edit.text)
        return []

    def answer(self, *, yes: bool, now: float) -> list[Effect]:
        """Close the question; with yes the command goes out."""
        ask = self.sheet
        self.sheet = None
        if not isinstance(ask, Ask):
            return []
        question = ask.question
        if not yes:
            self.dashboard.say(f"{question.command}: cancelled, nothing was done", now, "quiet")
            return []
        if refusal := self.dashboard.refusal():  # it may have changed since it was asked
            self.dashboard.say(f"{question.command} refused; {refusal}", now, "bad")
            return []
        return [("order", (question, ask.reason.text.strip()))]

    # -- actions ---------------------------------------------------------------------------------

    def do(self, action: str, now: float) -> list[Effect]:
        """Carry an action out, such as ``move 1``; returns what the program has to do."""
        from fleetmon_tui.state.actions import ACTIONS

        word, _, rest = action.partition(" ")
        return ACTIONS[word](self, rest, now) or []

    def move(self, by: int) -> None:
        """Move the cursor, or the screen where there is nothing to choose."""
        if self.view == "fleet":
            self.dashboard.selection.move(by)
        else:
            page = self.pages[self.view]
            if self.view in {"agent", "help"}:  # nothing to choose there: the cursor is the screen
                page.top = max(0, min(page.top + by, len(page.items) - self.height))
                page.at = page.top
            else:
                page.go(page.at + by)

    def show(self, view: str) -> None:
        """Show a view."""
        if view == self.view:
            return
        if view in VIEWS:
            self._came_from = []
        else:
            self._came_from.append(self.view)
        self.view = view

    def back(self, now: float) -> None:
        """Go one step back: out of a view, a range, marks, a filter."""
        selection, listing = self.dashboard.selection, self.dashboard.listing
        if self.view != "fleet":
            self.view = self._came_from.pop() if self._came_from else "fleet"
        elif selection.anchor is not None:
            selection.end_range()
        elif selection.marks:
            selection.clear()
        elif listing.filter.text:
            listing.filter = Filter()
            listing.touch()
        else:
            self.dashboard.say("q leaves the dashboard", now, "quiet")

    def open(self) -> None:
        """Open the agent at the cursor; fold or unfold a tier."""
        if self.view == "fleet":
            if self.dashboard.listing.group(self.dashboard.selection.line) is not None:
                self.fold()
                return
            agent_id = self.dashboard.selection.agent_id
        else:
            page = self.pages[self.view]
            agent_id = page.items[page.at].agent_id if page.at < len(page.items) else None
        if agent_id:
            self.open_agent(agent_id)

    def open_agent(self, agent_id: str) -> None:
        """Show one agent."""
        if agent_id != self.agent_id:
            self.details = None
        self.agent_id = agent_id
        self.pages["agent"] = Page()
        self.dashboard.selection.go_to(agent_id)
        self.show("agent")

    def other(self, by: int) -> list[Effect]:
        """Show the next agent, or the one before."""
        selection = self.dashboard.selection
        selection.go_to(self.agent_id)
        line = selection.line
        selection.move(by)
        while (agent_id := selection.agent_id) is None and selection.line not in {0, line}:
            line = selection.line
            selection.move(by)
        if agent_id is not None and agent_id != self.agent_id:
            self.agent_id, self.details = agent_id, None
            self.pages["agent"] = Page()
            return [("agent", agent_id)]
        return []

    def section(self, by: int) -> None:
        """Scroll to the next section, or to the one before."""
        page = self.pages["agent"]
        starts = page.sections
        after = [line for line in starts if line > page.top]
        before = [line for line in starts if line < page.top]
        target = (after[0] if after else page.top) if by > 0 else (before[-1] if before else 0)
        page.top = page.at = max(0, min(target, len(page.items) - self.height))

    def fold(self) -> None:
        """Fold or unfold the tier at the cursor."""
        listing, selection = self.dashboard.listing, self.dashboard.selection
        group = listing.group(selection.line)
        if group is None:
            item = listing.lines[selection.line] if listing.lines else -1
            group = next((g for g in listing.groups if item in g.places), None)
        if group is not None:
            listing.folded ^= {group.key}
            listing.touch()
            selection.go_to(f"\0{group.key}")

    def filter(self) -> None:
        """Begin to type a filter; it works while it is typed."""
        listing = self.dashboard.listing
        events = self.view == "events"
        before = self.dashboard.events_filter if events else listing.filter

        def changed(text: str) -> None:
            if events:
                self.dashboard.events_filter = Filter(text)
            else:
                listing.filter = Filter(text)
                listing.touch()

        def undone() -> None:
            if events:
                self.dashboard.events_filter = before
            else:
                listing.filter = before
                listing.touch()

        def done(text: str) -> list[Effect]:
            changed(text)
            return []

        self.sheet = Prompt("/", before.text, changed=changed, done=done, undone=undone)

    def jump(self, now: float) -> None:
        """Begin to type a time to jump to."""
        timeline = self.timeline
        if timeline is None:
            return

        def done(text: str) -> list[Effect]:
            told = timeline.understood(text, now)
            if told is None:
                self.dashboard.say(f"{text!r} is no time; 12:03, 12:03:40, +90, -5m", now, "bad")
                return []
            timeline.seek(told, now)
            return [("sought", None)]

        self.sheet = Prompt("@", "", changed=lambda _: None, done=done, undone=lambda: None)

    def ask(self, command: str, now: float) -> None:
        """Ask before a command, or say why it is refused."""
        whom: tuple[str, ...] | None = (self.agent_id,) if self.view == "agent" else None
        task_id = 0
        if command == "retry":
            page = self.pages["letters"]
            item = page.items[page.at] if page.at < len(page.items) else None
            whom, task_id = ((item.agent_id,), item.task_id) if item and item.task_id else ((), 0)
        question: Question | str = self.dashboard.ask(command, whom, task_id)
        if isinstance(question, str):
            self.dashboard.say(question, now, "bad")
        else:
            self.sheet = Ask(question)

    def dress(self, name: str, now: float) -> list[Effect]:
        """Take a theme, by default the next one."""
        at = self.themes.index(self.theme) + 1
        self.theme = name or self.themes[at % len(self.themes)]
        self.dashboard.say(f"theme {self.theme}", now, "quiet")
        return [("theme", self.theme)]

    # -- the palette -----------------------------------------------------------------------------

    def offer(self, fleets: Sequence[tuple[str, int, float]]) -> None:
        """Let one of several fleets be chosen; without any there is nothing to choose any more."""
        self.fleets = [
            Choice(f"fleet {clean(name)}, process {pid}, since {stamp(at)}", "", f"choose {pid}")
            for name, pid, at in fleets
        ]
        picking = isinstance(self.sheet, Palette) and self.sheet.label == "fleet"
        if self.fleets and (picking or self.sheet is None):
            self.sheet = Palette(self.fleets, "fleet")
        elif picking:
            self.sheet = None

    def commands(self) -> list[Choice]:
        """Return the commands, each with what it does."""
        found = {key.action: key.shown.split()[0] for key in keys.KEYS}
        return [
            Choice(f"{name}  {what}", found.get(f"ask {name}", ""), f"ask {name}")
            for name, what in COMMANDS.items()
        ]

    def choices(self) -> list[Choice]:
        """Return everything that can be chosen by name."""
        replay = self.timeline is not None
        listed: list[Choice] = []
        for key in keys.KEYS:
            if key.action.startswith("ask ") or key.action == "palette":
                continue
            if keys.works(key, self.view, replay=replay):
                listed.append(Choice(key.what, key.shown.split()[0], key.action))
        commands = [] if replay else self.commands()
        sorts = [
            Choice(f"sort by {column.name}", "", f"sort {column.name}")
            for column in COLUMNS
            if column.name != "history"
        ]
        sorts.append(Choice("sort by roster", "", "sort roster"))
        themes = [Choice(f"theme {name}", "", f"theme {name}") for name in self.themes]
        rows = self.dashboard.store.rows
        agents = [
            Choice(f"agent {row[ID]}", "", f"goto {row[ID]}")
            for place in self.dashboard.listing.admitted
            if (row := rows[place]) is not None
        ]
        return [*self.fleets, *commands, *listed, *sorts, *themes, *agents]


def scrolled(top: int, at: int, height: int, total: int) -> int:
    """Return the first line in sight so that a line is, moving as little as possible."""
    height = max(1, height)
    top = min(top, at) if at < top else max(top, at - height + 1)
    return max(0, min(top, total - height))
