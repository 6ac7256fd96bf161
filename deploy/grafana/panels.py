"""Dashboards as plain data, and how they become Grafana's classic JSON.

A board is a title, variables and rows of panels; a panel is a title, a kind and queries. What all
dashboards share (the tag, the variable for the datasource, exemplars) stands here once.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from string import ascii_uppercase
from typing import Any, Literal

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    logs,
    loki,
    prometheus,
    stat,
    statetimeline,
    table,
    text,
    timeseries,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models

Kind = Literal["lines", "bars", "stat", "table", "timeline", "gauge", "logs", "text"]

TAG = "fleetmon"
_HEIGHTS = {"stat": 4, "text": 3, "logs": 14, "table": 9, "timeline": 12}

# What a series means is the same colour everywhere; the order of a palette would say otherwise.
_MEANING = {
    "succeeded": "green",
    "success": "green",
    "verified": "green",
    "running": "green",
    "failed": "red",
    "error": "red",
    "quarantined": "red",
    "dead_lettered": "dark-red",
    "timed_out": "orange",
    "backing_off": "orange",
    "recovering": "yellow",
    "probing": "yellow",
    "cancelled": "text",
    "critical": "dark-red",
    "warning": "orange",
    "info": "green",
    "debug": "text",
}
_COLOURED = {"{{outcome}}", "{{status}}", "{{state}}", "{{level}}"}

PROMETHEUS = models.DataSourceRef(type_val="prometheus", uid="$datasource")
LOKI = models.DataSourceRef(type_val="loki", uid="$loki")


@dataclass(frozen=True)
class Query:
    """One query and the name of what it gives.

    Attributes:
        expr: PromQL, or LogQL in a panel of kind ``logs`` or with ``loki`` set.
        legend: Grafana's legend format.
        exemplars: show the traces that Prometheus keeps beside the samples.
        loki: the query is LogQL.
    """

    expr: str
    legend: str = "__auto"
    exemplars: bool = False
    loki: bool = False


@dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes:
        stacked: lines stand on each other.
        low: least value that is shown, and ``high`` the largest.
        steps: thresholds as (from, colour); lines are drawn at them.
        words: what values are called, with colours.
        body: of a text.
        height: in Grafana's grid; None: that of its kind.
        many: the legend is a column on the right, for as many series as agents.
    """

    title: str
    queries: tuple[Query, ...] = ()
    kind: Kind = "lines"
    unit: str = "short"
    about: str = ""
    width: int = 8
    stacked: bool = False
    low: float | None = None
    high: float | None = None
    steps: tuple[tuple[float | None, str], ...] = ()
    words: dict[str, tuple[str, str]] = field(default_factory=dict)
    body: str = ""
    height: int | None = None
    many: bool = False


@dataclass(frozen=True)
class Variable:
    """A variable filled from label values, of which several can be chosen.

    ``query`` is ``label_values(...)``, or with ``loki`` the name of a label. It starts with
    ``everything``, else with the first value.
    """

    name: str
    query: str
    label: str
    everything: bool = True
    loki: bool = False


@dataclass(frozen=True)
class Board:
    """One dashboard: ``rows`` are (title, panels)."""

    uid: str
    title: str
    about: str
    rows: tuple[tuple[str, tuple[Panel, ...]], ...]
    variables: tuple[Variable, ...] = ()
    with_loki: bool = False


def lines(title: str, *queries: Query, **options: Any) -> Panel:
    """Return a time series panel."""
    return Panel(title, queries, "lines", **options)


def number(title: str, expr: str, **options: Any) -> Panel:
    """Return a panel with one large number."""
    options.setdefault("width", 4)
    return Panel(title, (Query(expr),), "stat", **options)


def render(board: Board) -> str:
    """Return the dashboard's JSON, ending with a newline, the same for the same board."""
    built = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .description(board.about)
        .tags([TAG])
        .editable()
        .refresh("30s")
        .time("now-1h", "now")
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .link(
            dashboard.DashboardLink("fleetmon")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(as_dropdown=True)
            .include_vars(include_vars=True)
            .keep_time(keep_time=True)
        )
        .with_variable(_datasource("datasource", "prometheus", "Metrics"))
        .annotation(_alerts())
    )
    if board.with_loki:
        built = built.with_variable(_datasource("loki", "loki", "Logs"))
    for variable in board.variables:
        built = built.with_variable(_variable(variable))
    for title, panels in board.rows:
        built = built.with_row(dashboard.Row(title))
        for panel in panels:
            built = built.with_panel(_panel(panel))
    told = json.loads(JSONEncoder().encode(built.build()))
    for at, panel in enumerate(told["panels"], start=1):
        panel["id"] = at  # links to a panel name it
    for shown in (*told["links"], *told["annotations"]["list"]):
        shown.pop("placement", None)  # the builder would put them into a menu
    for shown in told["annotations"]["list"]:
        shown["titleFormat"] = "{{alertname}}"
        shown["textFormat"] = "{{job}} {{instance}} {{agent_id}}"
    return json.dumps(told, sort_keys=True, indent=2, ensure_ascii=False) + "\n"


def _datasource(name: str, kind: str, label: str) -> Any:
    return dashboard.DatasourceVariable(name).type(kind).label(label)


def _variable(variable: Variable) -> Any:
    built = (
        dashboard.QueryVariable(variable.name)
        .label(variable.label)
        .datasource(LOKI if variable.loki else PROMETHEUS)
        .query(
            {"label": variable.query, "refId": variable.name, "stream": "", "type": 1}
            if variable.loki
            else variable.query
        )
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(multi=True)
    )
    if variable.everything:
        built = (
            built.include_all(include_all=True)
            # Loki refuses a query whose matchers could all be empty
            .all_value(".+" if variable.loki else ".*")
            .current(models.VariableOption(text="All", value="$__all", selected=True))
        )
    return built


def _alerts() -> Any:
    return (
        dashboard.AnnotationQuery()
        .name("Alerts that fire")
        .datasource(PROMETHEUS)
        .enable(enable=True)
        .icon_color("red")
        .expr('ALERTS{alertstate="firing", severity="critical"}')
    )


def _target(query: Query, panel: Panel) -> Any:
    if panel.kind == "logs" or query.loki:
        return loki.Dataquery().expr(query.expr).legend_format(query.legend).datasource(LOKI)
    target = prometheus.Dataquery().expr(query.expr).legend_format(query.legend)
    target = target.datasource(PROMETHEUS)
    if panel.kind in {"table", "gauge"}:
        return target.instant().format("table" if panel.kind == "table" else "time_series")
    return target.exemplar(exemplar=True) if query.exemplars else target.range()


def _panel(panel: Panel) -> Any:
    height = panel.height or _HEIGHTS.get(panel.kind, 8)
    built = _builder(panel).title(panel.title).height(height).span(panel.width)
    if panel.about:
        built = built.description(panel.about)
    if panel.kind == "text":
        return built
    loki_panel = panel.kind == "logs" or any(q.loki for q in panel.queries)
    built = built.datasource(LOKI if loki_panel else PROMETHEUS)
    for letter, query in zip(ascii_uppercase, panel.queries, strict=False):
        built = built.with_target(_target(query, panel).ref_id(letter))
    if panel.kind == "logs":
        return built
    built = built.unit(panel.unit)
    if panel.low is not None:
        built = built.min(panel.low)
    if panel.high is not None:
        built = built.max(panel.high)
    # Grafana's own default turns red at 80, whatever is shown
    steps = [
        models.Threshold(value=at, color=colour) for at, colour in panel.steps or ((None, "blue"),)
    ]
    built = built.thresholds(
        dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)
    )
    if panel.steps and panel.kind in {"lines", "bars"}:
        built = built.thresholds_style(
            common.GraphThresholdsStyleConfig().mode(common_models.GraphThresholdsStyleMode.DASHED)
        )
    if any(query.legend in _COLOURED for query in panel.queries):
        for name, colour in _MEANING.items():
            fixed = {"mode": "fixed", "fixedColor": colour}
            value = models.DynamicConfigValue(id_val="color", value=fixed)
            built = built.override_by_name(name, [value])
    if panel.words:
        options = {
            value: models.ValueMappingResult(text=word, color=colour, index=at)
            for at, (value, (word, colour)) in enumerate(panel.words.items())
        }
        built = built.mappings([models.ValueMap(options=options)])
    return built


def _builder(panel: Panel) -> Any:
    match panel.kind:
        case "lines" | "bars":
            built = (
                timeseries.Panel()
                .line_width(1)
                .fill_opacity(70 if panel.kind == "bars" else 10)
                .show_points(common_models.VisibilityMode.NEVER)
                .legend(_legend(panel))
                .tooltip(
                    common.VizTooltipOptions()
                    .mode(common_models.TooltipDisplayMode.MULTI)
                    .sort(common_models.SortOrder.DESCENDING)
                )
            )
            if panel.kind == "bars":
                built = built.draw_style(common_models.GraphDrawStyle.BARS)
            if panel.stacked:
                built = built.stacking(
                    common.StackingConfig().mode(common_models.StackingMode.NORMAL)
                )
            return built
        case "stat":
            return stat.Panel().reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        case "table":
            # the labels are what is told
            hidden = {"excludeByName": {"Time": True, "Value": True}}
            return table.Panel().with_transformation(
                models.DataTransformerConfig(id_val="organize", options=hidden)
            )
        case "timeline":
            return statetimeline.Panel().show_value(common_models.VisibilityMode.NEVER)
        case "gauge":
            return (
                bargauge.Panel()
                .orientation(common_models.VizOrientation.HORIZONTAL)
                .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
            )
        case "logs":
            built = logs.Panel().show_time(show_time=True).wrap_log_message(wrap_log_message=True)
            # the link to the trace is among them
            return built.enable_log_details(enable_log_details=True)
        case "text":
            return text.Panel().content(panel.body)


def _legend(panel: Panel) -> Any:
    where = common_models.LegendPlacement
    return (
        common.VizLegendOptions()
        .display_mode(common_models.LegendDisplayMode.TABLE)
        .placement(where.RIGHT if panel.many else where.BOTTOM)
        .show_legend(show_legend=True)
        .calcs(["lastNotNull", "max"])
    )
