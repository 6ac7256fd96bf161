"""Themes: what each role looks like. Colours are hexadecimal, an empty one is the terminal's."""

from __future__ import annotations

from typing import NamedTuple


class Look(NamedTuple):
    """How text of one role looks."""

    color: str = ""
    bold: bool = False
    dim: bool = False
    reverse: bool = False
    underline: bool = False


class Theme(NamedTuple):
    """All roles, and the backgrounds of lines by their state."""

    name: str
    looks: dict[str, Look]
    grounds: dict[str, str]
    plain: bool = False  # no colours at all: states of lines are shown by reverse and dim


def _colored(
    name: str, *, text: str, quiet: str, ok: str, warn: str, bad: str, key: str, use: str,
    title: str, ground: str, bar: str, cursor: str, marked: str, sheet: str, chosen: str,
) -> Theme:  # fmt: skip
    looks = {
        "": Look(text), "quiet": Look(quiet), "old": Look(quiet), "ok": Look(ok),
        "warn": Look(warn), "bad": Look(bad, bold=True), "key": Look(key, bold=True),
        "use": Look(use), "busy": Look(warn), "title": Look(title, bold=True),
        "head": Look(quiet, bold=True), "rule": Look(quiet), "name": Look(title),
        "tab": Look(key, bold=True), "caret": Look(text, reverse=True),
        "chosen": Look(chosen, bold=True, reverse=True),
    }  # fmt: skip
    grounds = {"": ground, "old": ground, "bar": bar, "cursor": cursor, "marked": marked,
               "sheet": sheet}  # fmt: skip
    return Theme(name, looks, grounds)


NIGHT = _colored(
    "night", text="#c9d1d9", quiet="#7d8590", ok="#57c785", warn="#e3b341", bad="#ff6b6b",
    key="#58a6ff", use="#6cb6c8", title="#f0f6fc", ground="#0d1117", bar="#161b22",
    cursor="#1f3a5f", marked="#2d2a4a", sheet="#1c2128", chosen="#58a6ff",
)  # fmt: skip
DAY = _colored(
    "day", text="#24292f", quiet="#6e7781", ok="#116329", warn="#8a4b00", bad="#b3131f",
    key="#0550ae", use="#1b7c83", title="#0b0f14", ground="#ffffff", bar="#eef1f4",
    cursor="#cfe4ff", marked="#e7ddff", sheet="#f6f8fa", chosen="#0550ae",
)  # fmt: skip
# Okabe and Ito's palette: told apart with every common kind of colour blindness.
CLEAR = _colored(
    "colour-blind", text="#e6e6e6", quiet="#9a9a9a", ok="#56b4e9", warn="#f0e442", bad="#e8741e",
    key="#cc79a7", use="#009e73", title="#ffffff", ground="#101010", bar="#202020",
    cursor="#0b4a72", marked="#4a3a00", sheet="#1a1a1a", chosen="#56b4e9",
)  # fmt: skip
MONO = Theme(
    "monochrome",
    {
        "": Look(), "quiet": Look(dim=True), "old": Look(dim=True), "ok": Look(),
        "warn": Look(bold=True), "bad": Look(bold=True, underline=True), "key": Look(bold=True),
        "use": Look(), "busy": Look(bold=True), "title": Look(bold=True), "head": Look(bold=True),
        "rule": Look(dim=True), "name": Look(), "tab": Look(bold=True, underline=True),
        "caret": Look(reverse=True), "chosen": Look(reverse=True),
    },
    {},
    plain=True,
)  # fmt: skip

THEMES = {theme.name: theme for theme in (NIGHT, DAY, CLEAR, MONO)}
"""All themes; the third is safe for colour-blind eyes, the last has no colours."""
