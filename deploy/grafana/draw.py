"""Panels as pictures: one figure a dashboard, panels where Grafana puts them."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.colors import to_rgba
from matplotlib.patches import Rectangle

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_COLUMNS = 24
_INCH = 0.36  # height of a row of Grafana's grid
_LEGEND = 12  # lines of a legend that fit
_COLOURS = {
    "blue": "#1f60c4",
    "green": "#3a9d5d",
    "yellow": "#d9a514",
    "orange": "#e0762c",
    "red": "#c4314b",
    "dark-red": "#7a1425",
    "text": "#8a929b",
}
_DARK, _PANEL, _TEXT, _DIM = "#f4f5f7", "#ffffff", "#24292e", "#6a737d"


@dataclass
class Series:
    """What a query gave: a name, labels, times and values."""

    name: str
    labels: dict[str, str]
    times: list[float]
    values: list[float]

    @property
    def last(self) -> float:
        """The last value that is a number."""
        return next((v for v in reversed(self.values) if not math.isnan(v)), math.nan)


@dataclass
class Line:
    """A line of a log: when, how grave, what it says."""

    at: float
    level: str
    said: str


def unit(kind: str) -> Callable[[float], str]:
    """Return how values of a unit are written, as Grafana does."""

    def scaled(value: float, base: float, signs: list[str], after: str) -> str:
        at = 0
        while abs(value) >= base and at < len(signs) - 1:
            value, at = value / base, at + 1
        return f"{value:.3g}{signs[at]}{after}"

    def write(value: float) -> str:
        if math.isnan(value):
            return "NaN"
        match kind:
            case "percentunit":
                return f"{value * 100:.3g}%"
            case "s":
                for factor, sign in ((1, "s"), (1e-3, "ms"), (1e-6, "µs")):
                    if abs(value) >= factor or sign == "µs":
                        return f"{value / factor:.3g} {sign}" if value else "0 s"
                return ""
            case "bytes":
                return scaled(value, 1024, [" B", " KiB", " MiB", " GiB", " TiB"], "")
            case "Bps":
                return scaled(value, 1000, [" B", " kB", " MB", " GB"], "/s")
            case "ops" | "reqps" | "cps":
                what = {"ops": " ops/s", "reqps": " req/s", "cps": " c/s"}[kind]
                return scaled(value, 1000, ["", "K", "M"], what)
            case _:
                return scaled(value, 1000, ["", " K", " Mil", " Bil"], "")

    return write


class Draw:
    """One figure, filled panel by panel."""

    def __init__(self, board: dict[str, Any], variables: dict[str, str]) -> None:
        """Size the figure after the dashboard."""
        self._bottom = max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in board["panels"])
        self._figure = plt.figure(figsize=(19, self._bottom * _INCH + 0.7), facecolor=_DARK)
        self._height = self._bottom * _INCH + 0.7
        told = "   ".join(f"{k} = {v[:60]}" for k, v in variables.items())
        self._figure.text(
            0.008, 1 - 0.3 / self._height, board["title"], size=15, weight="bold", color=_TEXT
        )
        self._figure.text(0.3, 1 - 0.3 / self._height, f"{told}   {board['description']}",
                          size=8, color=_DIM)  # fmt: skip

    def _box(self, panel: dict[str, Any]) -> tuple[float, float, float, float]:
        grid = panel["gridPos"]
        top = 0.5 + grid["y"] * _INCH
        height = grid["h"] * _INCH
        return (
            grid["x"] / _COLUMNS,
            1 - (top + height) / self._height,
            grid["w"] / _COLUMNS,
            height / self._height,
        )

    def row(self, panel: dict[str, Any]) -> None:
        """Write the title of a row."""
        left, bottom, _, height = self._box(panel)
        self._figure.text(left + 0.006, bottom + height / 3, panel["title"], size=11, color=_DIM)

    def panel(
        self, panel: dict[str, Any], series: list[Series], lines: Sequence[Line] = ()
    ) -> None:
        """Draw one panel with its data."""
        left, bottom, width, height = self._box(panel)
        pad = 0.003
        self._figure.add_artist(
            Rectangle((left + pad, bottom + pad), width - 2 * pad, height - 2 * pad, zorder=-5,
                      facecolor=_PANEL, edgecolor="#d0d4d9", transform=self._figure.transFigure)
        )  # fmt: skip
        kind = panel["type"]
        told = panel.get("fieldConfig", {}).get("defaults", {})
        title = (
            f"{panel['title']}  [{told.get('unit', '')}]" if told.get("unit") else panel["title"]
        )
        self._figure.text(left + 0.008, bottom + height - 0.2 / self._height, title, size=9.5,
                          color=_TEXT, weight="bold")  # fmt: skip
        few = [s for s in series if not math.isnan(s.last)]
        if lines:
            self._log((left + 0.008, bottom + height - 0.45 / self._height), panel, lines)
            return
        if kind in {"logs", "text"} or not few:
            why = "not drawn" if kind in {"logs", "text"} else "No data"
            if any(t["datasource"]["type"] == "loki" for t in panel.get("targets", ())):
                why = "asks Loki: not drawn"
            self._figure.text(left + width / 2, bottom + height / 2, why, ha="center", color=_DIM)
            return
        options = panel.get("options", {}).get("legend", {})
        right = 0.09 if kind == "timeseries" and options.get("placement") == "right" else 0.0
        under = min(len(few), _LEGEND) if kind == "timeseries" and not right else 0
        foot = (0.12 + 0.125 * under) / self._height
        side = {"state-timeline": 0.06, "bargauge": 0.06}.get(kind, 0.03)
        axes = self._figure.add_axes(
            (left + side, bottom + foot + 0.26 / self._height, width - side - right - 0.012,
             height - foot - 0.68 / self._height)
        )  # fmt: skip
        axes.tick_params(labelsize=7, colors=_DIM)
        for spine in axes.spines.values():
            spine.set_visible(False)
        paint = {"timeseries": self._lines, "stat": self._stat, "bargauge": self._bars,
                 "state-timeline": self._timeline, "table": self._table}[kind]  # fmt: skip
        paint(axes, panel, few)
        if kind == "timeseries":
            at = (left + 0.012, bottom + foot)
            if right:
                at = (left + width - right, bottom + height - 0.5 / self._height)
            self._legend(panel, few, at, short=bool(right))

    def _log(self, at: tuple[float, float], panel: dict[str, Any], lines: Sequence[Line]) -> None:
        """Write the lines that fit."""
        colours = {"error": "red", "critical": "dark-red", "warning": "orange", "info": "green"}
        for n, line in enumerate(lines[: int((panel["gridPos"]["h"] * _INCH - 0.5) / 0.16)]):
            when = time.strftime("%H:%M:%S", time.localtime(line.at))
            self._figure.text(at[0], at[1] - 0.16 * n / self._height, f"{when}  {line.said[:200]}",
                              size=7, color=_COLOURS[colours.get(line.level, "text")],
                              parse_math=False)  # fmt: skip

    def _legend(
        self, panel: dict[str, Any], few: list[Series], at: tuple[float, float], *, short: bool
    ) -> None:
        write = unit(panel["fieldConfig"]["defaults"].get("unit", "short"))
        fitting = _LEGEND * (2 if short else 1)
        for n, one in enumerate(few[:fitting]):
            y = at[1] - (0.02 + 0.125 * n) / self._height
            more = f"   ... {len(few) - fitting} more" if n == fitting - 1 < len(few) - 1 else ""
            high = max(v for v in one.values if not math.isnan(v))
            told = f"{one.name[:14]}  {write(high)}" if short else (
                f"{one.name}   last {write(one.last)}  max {write(high)}")  # fmt: skip
            self._figure.text(at[0], y, told + more, size=6.5, color=self._hue(panel, one, n))

    @staticmethod
    def _hue(panel: dict[str, Any], one: Series, at: int) -> str:
        """Return the colour of a line: a fixed one by its name, else the palette's next."""
        for override in panel["fieldConfig"].get("overrides", ()):
            if override["matcher"] == {"id": "byName", "options": one.name}:
                for told in override["properties"]:
                    if told["id"] == "color":
                        return _COLOURS[told["value"]["fixedColor"]]
        return f"C{at % 10}"

    def _lines(self, axes: Any, panel: dict[str, Any], few: list[Series]) -> None:
        defaults = panel["fieldConfig"]["defaults"]
        custom = defaults.get("custom", {})
        write = unit(defaults.get("unit", "short"))
        if custom.get("stacking", {}).get("mode") == "normal":
            times = sorted({t for s in few for t in s.times})
            rows = []
            for one in few:
                known = dict(zip(one.times, one.values, strict=True))
                rows.append([known.get(t, 0.0) if known.get(t, 0.0) == known.get(t, 0.0) else 0.0
                             for t in times])  # fmt: skip
            hues = [self._hue(panel, one, n) for n, one in enumerate(few)]
            axes.stackplot(times, rows, alpha=0.7, colors=hues)
        else:
            for n, one in enumerate(few):
                axes.plot(one.times, one.values, linewidth=0.9, color=self._hue(panel, one, n))
        if "min" in defaults:
            axes.set_ylim(bottom=defaults["min"])
        if "max" in defaults:
            axes.set_ylim(top=defaults["max"] * 1.02)
        low, high = axes.get_ylim()
        for step in defaults.get("thresholds", {}).get("steps", ()):
            if step.get("value") is not None and custom.get("thresholdsStyle", {}).get("mode"):
                axes.axhline(step["value"], color=_COLOURS.get(step["color"]), linestyle="--")
        axes.set_ylim(low, high)
        axes.yaxis.set_major_formatter(lambda value, _: write(value))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value - few[0].times[-1]:.0f} s")
        axes.grid(color="#e8eaed", linewidth=0.5)

    @staticmethod
    def _colour(panel: dict[str, Any], value: float) -> str:
        defaults = panel["fieldConfig"]["defaults"]
        for mapping in defaults.get("mappings", ()):
            found = mapping["options"].get(f"{value:g}")
            if found:
                return _COLOURS.get(found.get("color"), _TEXT)
        colour = _TEXT
        for step in defaults.get("thresholds", {}).get("steps", ()):
            if step.get("value") is None or value >= step["value"]:
                colour = _COLOURS.get(step["color"], _TEXT)
        return colour

    @classmethod
    def _told(cls, panel: dict[str, Any], value: float) -> str:
        defaults = panel["fieldConfig"]["defaults"]
        for mapping in defaults.get("mappings", ()):
            found = mapping["options"].get(f"{value:g}")
            if found:
                return str(found["text"])
        return unit(defaults.get("unit", "short"))(value)

    def _stat(self, axes: Any, panel: dict[str, Any], few: list[Series]) -> None:
        axes.axis("off")
        for at, one in enumerate(few[:6]):
            axes.text((at + 0.5) / min(6, len(few)), 0.45, self._told(panel, one.last),
                      size=22 if len(few) == 1 else 11, ha="center", va="center",
                      color=self._colour(panel, one.last))  # fmt: skip

    def _bars(self, axes: Any, panel: dict[str, Any], few: list[Series]) -> None:
        few = [*reversed(few)]
        for at, one in enumerate(few):
            axes.barh(at, one.last, color=self._colour(panel, one.last), alpha=0.7)
            axes.text(one.last, at, " " + self._told(panel, one.last), size=7, va="center")
        axes.set_yticks(range(len(few)), [one.name[:24] for one in few])

    def _timeline(self, axes: Any, panel: dict[str, Any], few: list[Series]) -> None:
        few = [*reversed(few)]
        times = sorted({t for s in few for t in s.times})
        at = {t: n for n, t in enumerate(times)}
        # rows of colours, clear where there is nothing
        cells = [[(0.0, 0.0, 0.0, 0.0)] * len(times) for _ in few]
        for row, one in zip(cells, few, strict=True):
            for t, value in zip(one.times, one.values, strict=True):
                if not math.isnan(value):
                    row[at[t]] = to_rgba(self._colour(panel, value))
        step = min((b - a for a, b in pairwise(times)), default=1.0)
        edges = (times[0], times[-1] + step, -0.5, len(few) - 0.5)
        axes.imshow(cells, aspect="auto", origin="lower", extent=edges, interpolation="none")
        axes.set_yticks(range(len(few)), [one.name[:28] for one in few], size=5.5)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value - few[0].times[-1]:.0f} s")

    @staticmethod
    def _table(axes: Any, panel: dict[str, Any], few: list[Series]) -> None:
        axes.axis("off")
        write = unit(panel["fieldConfig"]["defaults"].get("unit", "short"))
        hidden: set[str] = set()
        for change in panel.get("transformations", ()):
            if change["id"] == "organize":
                hidden = {k for k, v in change["options"].get("excludeByName", {}).items() if v}
        heads = sorted({k for s in few for k in s.labels if k not in hidden})
        more = [] if "Value" in hidden else ["Value"]
        grid = panel["gridPos"]
        fitting = max(1, int((grid["h"] * _INCH - 0.7) / 0.17))
        rows = [[*(s.labels.get(h, "") for h in heads), *(write(s.last) for _ in more)]
                for s in few[:fitting]]  # fmt: skip
        table = axes.table(rows, colLabels=[*heads, *more], loc="upper center", cellLoc="left")
        table.auto_set_font_size(False)
        table.set_fontsize(6.5)
        if len(few) > fitting:
            axes.text(0.99, -0.05, f"... {len(few) - fitting} more", size=7, ha="right")

    def save(self, to: Path) -> None:
        """Write the picture."""
        self._figure.savefig(to, dpi=75, facecolor=_DARK)
        plt.close(self._figure)
