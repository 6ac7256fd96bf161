"""The queries of the generated dashboards, with Grafana's variables filled in as Grafana does.

Reads the files in ``dashboards/``, not the code that made them: what is shipped is what is asked.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

DASHBOARDS = Path(__file__).with_name("dashboards")

_ELSE_ZERO = re.compile(r"\s+or\s+vector\(0\)")
# "$1" is no variable but a group of label_replace
_NAME = re.compile(r"\$(?:\{([A-Za-z_]\w*)(?::\w+)?\}|([A-Za-z_]\w*))")
_LABEL_VALUES = re.compile(r"label_values\((?:(.+),\s*)?(\w+)\)")


@dataclass(frozen=True)
class Target:
    """One query of one panel.

    Attributes:
        board: uid of the dashboard.
        panel: its title; "annotation" and "variable" for what is no panel.
        ref: its letter.
        expr: with variables.
        legend: Grafana's legend format.
        instant: asked for one moment instead of the range that is shown.
        loki: it is LogQL.
    """

    board: str
    panel: str
    ref: str
    expr: str
    legend: str = ""
    instant: bool = False
    loki: bool = False

    def __str__(self) -> str:
        """Return where it stands."""
        return f"{self.board} / {self.panel} / {self.ref}"


def read() -> dict[str, dict[str, Any]]:
    """Return the shipped dashboards by uid."""
    found = (json.loads(path.read_text(encoding="utf-8")) for path in _files())
    return {board["uid"]: board for board in found}


def _files() -> list[Path]:
    return sorted(DASHBOARDS.glob("*.json"))


def panels(board: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the panels of a dashboard, rows left out and those within rows included."""
    for panel in board["panels"]:
        yield from panel.get("panels", ())
        if panel["type"] != "row":
            yield panel


def of_panel(uid: str, panel: Mapping[str, Any]) -> list[Target]:
    """Return the queries of one panel."""
    return [
        Target(
            uid,
            panel["title"],
            target["refId"],
            target["expr"],
            target.get("legendFormat", ""),
            bool(target.get("instant")) and not target.get("range"),
            target["datasource"]["type"] == "loki",
        )
        for target in panel.get("targets", ())
    ]


def of_board(board: Mapping[str, Any]) -> Iterator[Target]:
    """Yield every query of a dashboard: of its panels and annotations, not of its variables."""
    uid = board["uid"]
    for panel in panels(board):
        yield from of_panel(uid, panel)
    for annotation in board["annotations"]["list"]:
        if annotation.get("expr"):
            yield Target(uid, "annotation", annotation["name"], annotation["expr"])


def fill(expr: str, values: Mapping[str, str]) -> str:
    """Return an expression with its variables replaced.

    Raises:
        KeyError: it has one that has no value here.
    """
    return _NAME.sub(lambda found: values[found[1] or found[2]], expr)


def bare(expr: str) -> str:
    """Return an expression without any ``or vector(0)``: what it says when all is well."""
    return _ELSE_ZERO.sub("", expr)


def variables(
    board: Mapping[str, Any],
    given: Mapping[str, str],
    label_values: Callable[[str, str], list[str]],
    *,
    everything: bool = False,
) -> dict[str, str]:
    """Return what the variables of a dashboard stand for when it is opened.

    Args:
        board: the dashboard.
        given: values that are Grafana's own, such as ``__rate_interval``.
        label_values: gives the values of a label (second) among the series of a selector (first).
        everything: choose all there is of each variable.

    Returns:
        The values: of a variable that starts with all, every value there is, as Grafana writes
        several into a matcher; of another one, the first. Those of Loki and of datasources are
        left out.
    """
    values = dict(given)
    for variable in board["templating"]["list"]:
        query = variable.get("query")
        if variable["type"] != "query" or not isinstance(query, str):
            continue
        found = _LABEL_VALUES.fullmatch(query)
        if found is None:
            raise ValueError(f"{board['uid']}: {query!r} is no label_values(...)")
        there = label_values(fill(found[1] or "", values), found[2])
        several = len(there) > 1 and (everything or variable.get("includeAll"))
        values[variable["name"]] = f"({'|'.join(there)})" if several else "".join(there[:1])
    return values
