"""Draw each dashboard from a Prometheus, one picture each: for review where no Grafana runs.

    python deploy/grafana/preview.py --prometheus http://localhost:9090 --loki http://localhost:3100

The panels lie as in Grafana and ask the queries that it would ask, for the last ``--minutes``;
those that ask Loki are left empty without ``--loki``.
Needs matplotlib (the extra ``stack`` of fleetmon). Colours and fonts are not Grafana's; data,
units, legends, thresholds and what a panel says when it has nothing are.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import queries
from draw import Draw, Line, Series

if TYPE_CHECKING:
    from collections.abc import Callable

_POINTS = 240
_LINES = 100  # as Grafana asks for by default


@dataclass
class Source:
    """A Prometheus that answers what Grafana would ask.

    Attributes:
        url: without a path.
        seconds: how much is shown.
        rate_interval: what ``$__rate_interval`` stands for.
        change: applied to each expression before it is asked; durations of a shortened world.
        loki: a Loki's, without a path; empty: there is none.
    """

    url: str
    seconds: float
    rate_interval: str = "1m"
    change: Callable[[str], str] = str
    loki: str = ""
    at: float = field(default_factory=time.time)

    def api(self, path: str, **parameters: str) -> Any:
        """Return the data of an answer of Prometheus.

        Raises:
            OSError: no answer, or an error.
        """
        return self._get(f"{self.url.rstrip('/')}/api/v1/{path}", parameters)

    @staticmethod
    def _get(url: str, parameters: dict[str, str]) -> Any:
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(f"{url}?{urllib.parse.urlencode(parameters)}", timeout=30) as answer:
            return json.load(answer)["data"]

    def label_values(self, selector: str, label: str) -> list[str]:
        """Return the values of a label among the series of a selector."""
        matching = {"match[]": selector} if selector else {}
        return sorted(self.api(f"label/{label}/values", **matching))

    def variables(self, board: dict[str, Any]) -> dict[str, str]:
        """Return what the variables of a dashboard stand for."""
        given = {"__rate_interval": self.rate_interval, "datasource": "prometheus"}
        of_loki = {
            variable["name"]: variable["allValue"]
            for variable in board["templating"]["list"]
            if isinstance(variable.get("query"), dict)
        }
        step = {"__auto": f"{self._step:.0f}s"}
        return queries.variables(board, {**given, **of_loki, **step}, self.label_values)

    @property
    def _step(self) -> float:
        """What Grafana makes of ``$__auto``, and the step that goes with it."""
        return max(1.0, self.seconds / _POINTS)

    def ask_loki(
        self, target: queries.Target, variables: dict[str, str]
    ) -> tuple[list[Series], list[Line]]:
        """Return the series of a query, or the lines, the newest first."""
        result = self._get(
            f"{self.loki.rstrip('/')}/loki/api/v1/query_range",
            {
                "query": queries.fill(target.expr, variables),
                "start": f"{self.at - self.seconds:.0f}",
                "end": f"{self.at:.0f}",
                "step": f"{self._step:.0f}",
                "limit": f"{_LINES}",
            },
        )
        rows = result["result"]
        if result["resultType"] == "matrix":
            return [
                Series(
                    name(target.legend, row["metric"]),
                    row["metric"],
                    [float(at) for at, _ in row["values"]],
                    [float(value) for _, value in row["values"]],
                )
                for row in rows
            ], []
        found = [
            Line(int(at) / 1e9, row["stream"].get("level", ""), said)
            for row in rows
            for at, said in row["values"]
        ]
        return [], sorted(found, key=lambda line: line.at, reverse=True)

    def ask(self, target: queries.Target, variables: dict[str, str]) -> list[Series]:
        """Return the series of a query; samples that are not a number are kept."""
        expr = self.change(queries.fill(target.expr, variables))
        if target.instant:
            rows = self.api("query", query=expr, time=f"{self.at}")["result"]
            found = [(row["metric"], [row["value"]]) for row in rows]
        else:
            rows = self.api(
                "query_range",
                query=expr,
                start=f"{self.at - self.seconds}",
                end=f"{self.at}",
                step=f"{self.seconds / _POINTS:.3f}",
            )["result"]
            found = [(row["metric"], row["values"]) for row in rows]
        return [
            Series(
                name(target.legend, labels),
                labels,
                [float(at) for at, _ in samples],
                [float(value) for _, value in samples],
            )
            for labels, samples in found
        ]


def name(legend: str, labels: dict[str, str]) -> str:
    """Return a series' name as Grafana writes it."""
    if legend in {"", "__auto"}:
        told = {k: v for k, v in labels.items() if k != "__name__"}
        inner = ", ".join(f'{k}="{v}"' for k, v in told.items())
        return labels.get("__name__", "") + (f"{{{inner}}}" if inner else "")
    for label, value in {**dict.fromkeys(_labels(legend), ""), **labels}.items():
        legend = legend.replace(f"{{{{{label}}}}}", value)
    return legend


def _labels(legend: str) -> list[str]:
    return [part.split("}}")[0] for part in legend.split("{{")[1:]]


def picture(source: Source, board: dict[str, Any], to: Path) -> list[str]:
    """Draw one dashboard; returns the titles of panels that showed nothing."""
    variables = source.variables(board)
    shown = {k: v for k, v in variables.items() if not k.startswith("__") and k != "datasource"}
    drawn = Draw(board, shown)
    empty = []
    for panel in board["panels"]:
        if panel["type"] == "row":
            drawn.row(panel)
            continue
        found: list[Series] = []
        said: list[Line] = []
        for target in queries.of_panel(board["uid"], panel):
            if not target.loki:
                found += source.ask(target, variables)
            elif source.loki:
                series, lines = source.ask_loki(target, variables)
                found += series
                said += lines
        numbers = any(not math.isnan(v) for s in found for v in s.values)
        if panel.get("targets") and not numbers and not said:
            empty.append(panel["title"])
        drawn.panel(panel, found, said)
    drawn.save(to)
    return empty


def draw_all(source: Source, out: Path) -> dict[str, list[str]]:
    """Draw every dashboard; returns by uid the panels that showed nothing."""
    out.mkdir(parents=True, exist_ok=True)
    return {
        uid: picture(source, board, out / f"{uid}.png") for uid, board in queries.read().items()
    }


def main(arguments: list[str]) -> int:
    """Return 0, or 1 where no Prometheus answers; panels without data are said, and no failure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prometheus", default="http://localhost:9090", metavar="URL")
    parser.add_argument("--loki", default="", metavar="URL")
    parser.add_argument("--out", type=Path, default=Path("previews"), metavar="DIR")
    parser.add_argument("--minutes", type=float, default=60.0, metavar="N")
    given = parser.parse_args(arguments)
    source = Source(given.prometheus, given.minutes * 60, loki=given.loki)
    try:
        drawn = draw_all(source, given.out)
    except OSError as error:
        asked = " or ".join(filter(None, (given.prometheus, given.loki)))
        sys.stderr.write(f"preview.py: no answer from {asked}: {error}\n")
        return 1
    for uid, empty in drawn.items():
        told = f"; nothing in: {', '.join(empty)}" if empty else ""
        sys.stdout.write(f"{given.out / uid}.png{told}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
