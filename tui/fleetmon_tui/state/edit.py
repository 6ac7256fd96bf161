"""A line that is being typed: text and a cursor in it."""

from __future__ import annotations

_LONGEST = 500


class Edit:
    """Takes keys by Textual's names; what it does not know it leaves to others.

    Attributes:
        text: as typed so far.
        at: where the next character goes.
    """

    def __init__(self, text: str = "") -> None:
        """Begin with the cursor behind the text."""
        self.text = text
        self.at = len(text)

    def insert(self, text: str) -> None:
        """Put text where the cursor is; what is not printable is left out."""
        told = "".join(c for c in text if c.isprintable())[: _LONGEST - len(self.text)]
        self.text = self.text[: self.at] + told + self.text[self.at :]
        self.at += len(told)

    def key(self, name: str, character: str | None) -> bool:
        """Take a key; returns whether it was one for a line of text."""
        text, at = self.text, self.at
        match name:
            case "backspace" | "ctrl+h":
                self.text, self.at = text[: max(0, at - 1)] + text[at:], max(0, at - 1)
            case "delete":
                self.text = text[:at] + text[at + 1 :]
            case "left" | "ctrl+b":
                self.at = max(0, at - 1)
            case "right" | "ctrl+f":
                self.at = min(len(text), at + 1)
            case "home" | "ctrl+a":
                self.at = 0
            case "end" | "ctrl+e":
                self.at = len(text)
            case "ctrl+u":
                self.text, self.at = text[at:], 0
            case "ctrl+w":
                kept = text[:at].rstrip()
                kept = kept[: kept.rfind(" ") + 1]
                self.text, self.at = kept + text[at:], len(kept)
            case _:
                if character is None or not character.isprintable():
                    return False
                self.insert(character)
        return True

    def shown(self) -> tuple[str, str, str]:
        """Return the text before the cursor, under it, and behind it."""
        return (
            self.text[: self.at],
            self.text[self.at : self.at + 1] or " ",
            self.text[self.at + 1 :],
        )
