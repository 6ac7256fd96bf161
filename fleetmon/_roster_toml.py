"""Parses TOML and finds the line of every value, which the standard parser does not tell.

The standard parser decides what the document means and whether it is valid. Only a valid document
reaches the scanner here, so that it may be simple: it follows keys, brackets and quotes, and never
judges.
"""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Any

from fleetmon.errors import RosterError

if TYPE_CHECKING:
    from pathlib import Path

Place = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_BARE_VALUE = re.compile(r"[^,\]}\n#]*")
# In this order: the three-quoted forms first, and their closing run may hold up to five quotes.
_STRING = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*"{3,5}'
    r"|'''(?:[^']|'(?!''))*'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)


def parse_toml(path: Path, text: str) -> tuple[dict[str, Any], dict[Place, int]]:
    """Return the document's values and the line (from 1) on which each begins.

    Raises:
        RosterError: the text is not TOML; the line is the parser's own.
    """
    try:
        values = tomllib.loads(text)
    except RecursionError as error:
        reason = "is nested too deeply to be read; flatten it"
        raise RosterError(reason, path=str(path)) from error
    except ValueError as error:  # TOMLDecodeError, and int() on absurdly long numbers
        line, reason = _blame(text, str(error))
        raise RosterError(reason, path=str(path), line=line) from error
    return values, _Scanner(text.replace("\r\n", "\n")).scan()


def _blame(text: str, message: str) -> tuple[int, str]:
    last = text.count("\n", 0, len(text.rstrip())) + 1
    told = re.search(r" \(at line (\d+), column \d+\)$", message)
    if told:
        return min(int(told[1]), last), f"{message[: told.start()]}; correct the TOML there"
    if message.endswith("(at end of document)"):
        return last, f"{message}; something is not closed"
    number = re.search(r"\d{4000}", text)
    line = text.count("\n", 0, number.start()) + 1 if number else last
    return line, f"{message[:120]}; correct the TOML there"


class _Scanner:
    """Walks a valid document once."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[Place, int] = {}
        self._counts: dict[Place, int] = {}
        self._line = 1
        self._line_at = 0

    def scan(self) -> dict[Place, int]:
        """Return the line of each table, key and array element."""
        table: Place = ()
        self._skip(_BLANK)
        while self.at < len(self.text):
            if self.text.startswith("[", self.at):
                table = self._header()
            else:
                self._pair(table)
            self._skip(_BLANK)
        return self.lines

    def _skip(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.at)
        if found is None:  # pragma: no cover - the parser accepted what this pattern does not
            msg = f"cannot follow the TOML at offset {self.at}"
            raise AssertionError(msg)
        self.at = found.end()
        return found[0]

    def _note(self, place: Place, at: int) -> None:
        self._line += self.text.count("\n", self._line_at, at)
        self._line_at = at
        self.lines.setdefault(place, self._line)

    def _header(self) -> Place:
        start = self.at
        is_array = self.text.startswith("[[", start)
        self.at += 1 + is_array
        *outer, last = self._key()
        self.at += 1 + is_array
        place: Place = ()
        for part in outer:
            place = self._into((*place, part))
            self._note(place, start)
        place = (*place, last)
        self._note(place, start)
        if is_array:
            self._counts[place] = self._counts.get(place, 0) + 1
            place = self._into(place)
            self._note(place, start)
        return place

    def _into(self, place: Place) -> Place:
        """Enter the newest element where ``place`` is an array of tables."""
        count = self._counts.get(place)
        return place if count is None else (*place, count - 1)

    def _key(self) -> list[str]:
        parts = []
        while True:
            self._skip(_SPACE)
            if self.text[self.at] in "\"'":
                raw = self._skip(_STRING)
                parts.append(tomllib.loads(f"k = {raw}")["k"] if "\\" in raw else raw[1:-1])
            else:
                parts.append(self._skip(_BARE_KEY))
            self._skip(_SPACE)
            if not self.text.startswith(".", self.at):
                return parts
            self.at += 1

    def _pair(self, table: Place) -> None:
        start = self.at
        place = table
        for part in self._key():
            place = (*place, part)
            self._note(place, start)
        self.at += 1  # the '='
        self._skip(_SPACE)
        self._value(place)

    def _value(self, place: Place) -> None:
        opening = self.text[self.at]
        if opening in "\"'":
            self._skip(_STRING)
        elif opening == "[":
            self._sequence(place, "]")
        elif opening == "{":
            self._sequence(place, "}")
        else:
            self._skip(_BARE_VALUE)

    def _sequence(self, place: Place, closing: str) -> None:
        self.at += 1
        index = 0
        self._skip(_BLANK)
        while not self.text.startswith(closing, self.at):
            if closing == "]":
                self._note((*place, index), self.at)
                self._value((*place, index))
            else:
                self._pair(place)
            index += 1
            self._skip(_BLANK)
            if self.text.startswith(",", self.at):
                self.at += 1
                self._skip(_BLANK)
        self.at += 1
