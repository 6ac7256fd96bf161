"""The table of goals: each measured figure beside its peer, its ratio and its goal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HEADINGS = ("#", "what", "ours", "peer", "ratio", "goal", "stretch", "verdict")
_RIGHT = {2, 3, 4, 5, 6}  # columns of figures


@dataclass(frozen=True)
class Goal:
    """A bound that a figure has to keep; ``<=`` for costs, ``>=`` for gains."""

    sign: Literal["<=", ">="]
    bound: float

    def met(self, value: float) -> bool:
        """Say whether the value keeps the bound."""
        return value <= self.bound if self.sign == "<=" else value >= self.bound

    def __str__(self) -> str:
        """Return the goal as it is printed, such as ``≤ 2.5``."""
        return f"{'≤' if self.sign == '<=' else '≥'} {number(self.bound)}"


@dataclass(frozen=True)
class Row:
    """One goal and what was measured for it.

    Attributes:
        key: number of the goal, such as ``7b``.
        what: what is measured, in one line.
        ours: our own figure as printed, with its unit.
        peer: the figure it is compared with, as printed, with its unit.
        measured: the number that the goals bound (mostly the ratio); `None` if it was not run.
        goal: what we commit to, if anything.
        stretch: what we aim at, if anything.
        reason: why it could not be run here.
    """

    key: str
    what: str
    ours: str = ""
    peer: str = ""
    measured: float | None = None
    goal: Goal | None = None
    stretch: Goal | None = None
    reason: str = ""

    @property
    def verdict(self) -> str:
        """Return ``stretch``, ``met``, ``MISSED``, ``–`` without a goal, or why it was not run."""
        if self.measured is None:
            return f"not run: {self.reason or 'no reason given'}"
        if self.stretch is not None and self.stretch.met(self.measured):
            return "stretch"
        if self.goal is None:
            return "–"
        return "met" if self.goal.met(self.measured) else "MISSED"

    @property
    def missed(self) -> bool:
        """Say whether the row was run and breaks its goal."""
        return self.verdict == "MISSED"

    def cells(self) -> tuple[str, ...]:
        """Return the row as printed, in the order of `HEADINGS`."""
        return (
            self.key,
            self.what,
            self.ours or "–",
            self.peer or "–",
            "–" if self.measured is None else number(self.measured),
            "–" if self.goal is None else str(self.goal),
            "–" if self.stretch is None else str(self.stretch),
            self.verdict,
        )


def number(value: float) -> str:
    """Return a figure with three significant digits, without an exponent, thousands grouped."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    text = f"{value:.3g}"
    if "e" in text:
        text = f"{value:.12f}".rstrip("0").rstrip(".")
    return text


def render_text(rows: Iterable[Row]) -> str:
    """Return the rows as one table aligned with spaces, ending in a newline."""
    lines = [HEADINGS, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    rule = "  ".join("─" * width for width in widths)
    drawn = [_line(line, widths) for line in lines]
    return "\n".join([drawn[0], rule, *drawn[1:]]) + "\n"


def render_markdown(rows: Iterable[Row]) -> str:
    """Return the rows as a table in markdown, ending in a newline."""
    marks = ["---:" if column in _RIGHT else "---" for column in range(len(HEADINGS))]
    lines = [HEADINGS, marks, *(tuple(map(_escape, row.cells())) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    pairs = enumerate(zip(cells, widths, strict=True))
    return "  ".join(
        cell.rjust(width) if column in _RIGHT else cell.ljust(width)
        for column, (cell, width) in pairs
    ).rstrip()


def _escape(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")
