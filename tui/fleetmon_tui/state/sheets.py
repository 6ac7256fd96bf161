"""What opens above the footer and takes the keys: a prompt, a question, the palette."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fleetmon_tui.state.edit import Edit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fleetmon_tui.state.orders import Question

Effect = tuple[str, object]
"""What the program has to do: a word and what goes with it."""

_LONGEST = 2000  # entries that a palette looks at in one group before it ranks


class Prompt:
    """A line to type: a filter, or a time to jump to.

    Attributes:
        label: what stands before it.
        edit: the line.
        changed: called with the text after each key.
        done: called with the text on enter; returns effects.
        undone: called on escape.
    """

    def __init__(
        self,
        label: str,
        text: str,
        *,
        changed: Callable[[str], None],
        done: Callable[[str], list[Effect]],
        undone: Callable[[], None],
    ) -> None:
        """Begin with a text."""
        self.label = label
        self.edit = Edit(text)
        self.changed = changed
        self.done = done
        self.undone = undone


class Ask:
    """A question before a command; Cancel is chosen until somebody moves.

    Attributes:
        question: what it is about.
        chosen: ``cancel``, ``do`` or ``reason``.
        reason: the line to type a reason in.
    """

    STOPS = ("cancel", "do", "reason")

    def __init__(self, question: Question) -> None:
        """Begin at Cancel."""
        self.question = question
        self.chosen = "cancel"
        self.reason = Edit()

    def move(self, by: int) -> None:
        """Choose the next."""
        at = self.STOPS.index(self.chosen)
        self.chosen = self.STOPS[(at + by) % len(self.STOPS)]

    def key(self, name: str, character: str | None) -> bool | None:
        """Take a key; returns True to do it, False to cancel, nothing to go on."""
        if name in {"escape", "ctrl+c"}:
            return False
        step = {"tab": 1, "down": 1, "shift+tab": -1, "up": -1}.get(name)
        if step is not None:
            self.move(step)
        elif self.chosen == "reason":
            self._type(name, character)
        elif name in {"left", "right", "h", "l"}:
            self.chosen = "cancel" if self.chosen == "do" else "do"
        else:
            return {"y": True, "n": False, "q": False, "enter": self.chosen == "do"}.get(name)
        return None

    def _type(self, name: str, character: str | None) -> None:
        if name == "enter":
            self.chosen = "do"  # to send it takes another enter
        else:
            self.reason.key(name, character)


class Choice(NamedTuple):
    """One line of a palette.

    Attributes:
        text: what it does.
        hint: a key that does it, too.
        action: as :meth:`Ui.do` takes it.
    """

    text: str
    hint: str
    action: str


class Palette:
    """Everything that can be done, narrowed down by typing.

    Attributes:
        edit: what is typed.
        found: choices that match, best first.
        at: which of them is chosen.
    """

    def __init__(self, choices: Sequence[Choice], label: str = ":") -> None:
        """Begin with all choices."""
        self.label = label
        self.edit = Edit()
        self._all = choices
        self.found: list[Choice] = list(choices)
        self.at = 0

    def key(self, name: str, character: str | None) -> str | None:
        """Take a key; returns an action when one was chosen, an empty one to close."""
        if name in {"escape", "ctrl+c"}:
            return ""
        if name == "enter":
            return self.found[self.at].action if self.found else None
        step = {"down": 1, "up": -1, "tab": 1, "shift+tab": -1, "ctrl+n": 1, "ctrl+p": -1,
                "pagedown": 8, "pageup": -8}.get(name)  # fmt: skip
        if step is not None:
            self.at = max(0, min(len(self.found) - 1, self.at + step))
        elif self.edit.key(name, character):
            self.found = rank(self.edit.text, self._all)
            self.at = 0
        return None

    def paste(self, text: str) -> None:
        """Take pasted text."""
        self.edit.insert(text)
        self.found = rank(self.edit.text, self._all)
        self.at = 0


def rank(typed: str, choices: Sequence[Choice]) -> list[Choice]:
    """Return the choices in which all typed words occur, or else the letters in their order."""
    words = typed.lower().split()
    if not words:
        return list(choices)
    found: list[tuple[tuple[int, int], int, Choice]] = []
    for at, choice in enumerate(choices):
        text = choice.text.lower()
        if all(word in text for word in words):
            first = text.find(words[0])
            starts = first == 0 or text[first - 1] in " -_"
            found.append(((0 if starts else 1, first), at, choice))
    if not found:
        letters = "".join(words)
        for at, choice in enumerate(choices):
            if (gaps := _gaps(letters, choice.text.lower())) is not None:
                found.append(((2, gaps), at, choice))
    return [choice for _, _, choice in sorted(found, key=lambda f: f[:2])[:_LONGEST]]


def _gaps(letters: str, text: str) -> int | None:
    at, gaps = -1, 0
    for letter in letters:
        found = text.find(letter, at + 1)
        if found < 0:
            return None
        gaps += found - at - 1
        at = found
    return gaps
