"""Dashboards of the platform: objectives, alerts, logs, the tracing pipeline, Prometheus itself."""

from __future__ import annotations

from panels import Board, Panel, Query, Variable, lines, number

from boards.fleet import JOB

_F = 'job=~"$job"'
_BAD = 'outcome=~"failed|timed_out|dead_lettered"'
_OBJECTIVE = 0.99  # of tasks; the budget is the rest


def _ratio(window: str) -> str:
    done = "agents_tasks_completed_total"
    return f"sum(rate({done}{{{_F}, {_BAD}}}[{window}])) / sum(rate({done}{{{_F}}}[{window}]))"


def _burn(window: str) -> str:
    return f"({_ratio(window)}) / {1 - _OBJECTIVE:.2g}"


SLO = Board(
    "fleetmon-slo",
    "SLO / Error budget",
    "Objective: 99 of 100 tasks succeed. How fast the budget of 30 days is being spent.",
    (
        (
            "Now",
            (
                number(
                    "Succeeded in the last hour",
                    f"1 - ({_ratio('1h')})",
                    unit="percentunit",
                    width=8,
                    steps=((None, "red"), (_OBJECTIVE, "green")),
                ),
                number(
                    "Burn rate, one hour",
                    _burn("1h"),
                    width=8,
                    steps=((None, "green"), (1, "yellow"), (14.4, "red")),
                    about="1 spends the whole budget in 30 days, 14.4 a fiftieth of it in an hour.",
                ),
                number(
                    "Budget of 30 days left",
                    f"1 - {_burn('30d')}",
                    unit="percentunit",
                    width=8,
                    steps=((None, "red"), (0.25, "yellow"), (0.5, "green")),
                ),
            ),
        ),
        (
            "Burn rates, as the alerts see them",
            (
                lines(
                    "Page: 14.4 (5m and 1h)",
                    Query(_burn("5m"), "5m"),
                    Query(_burn("1h"), "1h"),
                    steps=((None, "green"), (14.4, "red")),
                    width=12,
                ),
                lines(
                    "Page: 6 (30m and 6h)",
                    Query(_burn("30m"), "30m"),
                    Query(_burn("6h"), "6h"),
                    steps=((None, "green"), (6, "red")),
                    width=12,
                ),
                lines(
                    "Ticket: 3 (2h and 1d)",
                    Query(_burn("2h"), "2h"),
                    Query(_burn("1d"), "1d"),
                    steps=((None, "green"), (3, "red")),
                    width=12,
                ),
                lines(
                    "Ticket: 1 (6h and 3d)",
                    Query(_burn("6h"), "6h"),
                    Query(_burn("3d"), "3d"),
                    steps=((None, "green"), (1, "red")),
                    width=12,
                ),
            ),
        ),
    ),
    (JOB,),
)

ALERTS = Board(
    "fleetmon-alerts",
    "Alerts",
    "What fires, what was sent where, and whether sending works.",
    (
        (
            "Now",
            (
                number(
                    "Firing",
                    'count(ALERTS{alertstate="firing", severity!="none"}) or vector(0)',
                    width=6,
                ),
                number(
                    "Critical",
                    'count(ALERTS{alertstate="firing", severity="critical"}) or vector(0)',
                    width=6,
                    steps=((None, "green"), (1, "red")),
                ),
                number(
                    "Watchdog",
                    'count(ALERTS{alertname="Watchdog", alertstate="firing"})',
                    width=6,
                    about="Fires always: its absence elsewhere is the alarm.",
                ),
                number("Alerts held by Alertmanager", "sum(alertmanager_alerts)", width=6),
            ),
        ),
        (
            "What",
            (
                Panel(
                    "Firing and pending",
                    (Query("count by (alertname, severity, alertstate, agent_id, job) (ALERTS)"),),
                    "table",
                    width=24,
                ),
            ),
        ),
        (
            "Delivery",
            (
                lines(
                    "Notifications a second",
                    Query(
                        "sum by (integration) (rate(alertmanager_notifications_total[$__rate_interval]))",
                        "{{integration}}",
                    ),
                    unit="ops",
                ),
                lines(
                    "Failed notifications a second",
                    Query(
                        "sum by (integration) (rate(alertmanager_notifications_failed_total[$__rate_interval]))",
                        "{{integration}}",
                    ),
                    unit="ops",
                    steps=((None, "green"), (0.001, "red")),
                ),
                lines(
                    "Latency of notifications, p95",
                    Query(
                        "histogram_quantile(0.95, sum by (le, integration)"
                        " (rate(alertmanager_notification_latency_seconds_bucket[$__rate_interval])))",
                        "{{integration}}",
                    ),
                    unit="s",
                ),
            ),
        ),
    ),
)

_STREAM = '{namespace=~"$namespace", app=~"$app"}'

LOGS = Board(
    "fleetmon-logs",
    "Logs",
    "The fleet's JSON lines. A trace id in a line leads to its trace, a span leads back here.",
    (
        (
            "Rate",
            (
                lines(
                    "Lines a second, by level",
                    Query(
                        f"sum by (level) (rate({_STREAM} | json | __error__=`` [$__auto]))",
                        "{{level}}",
                        loki=True,
                    ),
                    stacked=True,
                    width=12,
                ),
                lines(
                    "Errors a second, by agent",
                    Query(
                        f"sum by (agent_id) (rate({_STREAM} | json | level=`error` [$__auto]))",
                        "{{agent_id}}",
                        loki=True,
                    ),
                    width=12,
                ),
            ),
        ),
        (
            "Lines",
            (
                Panel(
                    "Lines",
                    (Query(f"{_STREAM} | json | line_format `{{{{.message}}}}`"),),
                    "logs",
                    width=24,
                ),
            ),
        ),
    ),
    (
        Variable("namespace", "namespace", "Namespace", loki=True),
        Variable("app", "app", "App", loki=True),
    ),
    with_loki=True,
)

TRACING = Board(
    "fleetmon-tracing",
    "Tracing pipeline",
    "From the agents through the Collector to Jaeger: is anything lost on the way?",
    (
        (
            "Collector",
            (
                lines(
                    "Spans in, a second",
                    Query(
                        "sum by (transport) (rate(otelcol_receiver_accepted_spans_total[$__rate_interval]))",
                        "accepted {{transport}}",
                    ),
                    Query(
                        "sum by (transport) (rate(otelcol_receiver_refused_spans_total[$__rate_interval]))",
                        "refused {{transport}}",
                    ),
                    unit="ops",
                ),
                lines(
                    "Spans out, a second",
                    Query(
                        "sum by (exporter) (rate(otelcol_exporter_sent_spans_total[$__rate_interval]))",
                        "sent {{exporter}}",
                    ),
                    unit="ops",
                ),
                lines(
                    "Queue",
                    Query("sum by (exporter) (otelcol_exporter_queue_size)", "{{exporter}}"),
                    Query(
                        "max by (exporter) (otelcol_exporter_queue_capacity)", "room: {{exporter}}"
                    ),
                ),
            ),
        ),
        (
            "Spans as metrics",
            (
                lines(
                    "Calls a second",
                    Query(
                        "sum by (service_name, span_name) (rate(traces_span_metrics_calls_total[$__rate_interval]))",
                        "{{service_name}} {{span_name}}",
                    ),
                    unit="ops",
                    width=12,
                ),
                lines(
                    "p95",
                    Query(
                        "histogram_quantile(0.95, sum by (le, service_name)"
                        " (rate(traces_span_metrics_duration_seconds_bucket[$__rate_interval])))",
                        "{{service_name}}",
                    ),
                    unit="s",
                    width=12,
                ),
            ),
        ),
        (
            "Itself",
            (
                lines(
                    "Memory",
                    Query("max by (instance) (otelcol_process_memory_rss_bytes)", "{{instance}}"),
                    unit="bytes",
                    width=12,
                ),
                lines(
                    "CPU",
                    Query(
                        "sum by (instance) (rate(otelcol_process_cpu_seconds_total[$__rate_interval]))",
                        "{{instance}}",
                    ),
                    unit="percentunit",
                    width=12,
                ),
            ),
        ),
    ),
)

PROMETHEUS = Board(
    "fleetmon-prometheus",
    "Prometheus itself",
    "Are all targets scraped, are rules in time, and how large does the store grow?",
    (
        (
            "Scrapes",
            (
                Panel(
                    "Targets",
                    (Query("min by (job, instance) (up)", "{{job}} {{instance}}"),),
                    "timeline",
                    words={"0": ("down", "red"), "1": ("up", "green")},
                    width=12,
                ),
                lines(
                    "Duration of scrapes",
                    Query("max by (job) (scrape_duration_seconds)", "{{job}}"),
                    unit="s",
                    width=6,
                ),
                lines(
                    "Samples in a scrape",
                    Query("sum by (job) (scrape_samples_scraped)", "{{job}}"),
                    width=6,
                ),
            ),
        ),
        (
            "Store",
            (
                lines("Series in memory", Query("prometheus_tsdb_head_series", "series")),
                lines(
                    "Samples a second",
                    Query(
                        "rate(prometheus_tsdb_head_samples_appended_total[$__rate_interval])",
                        "{{type}}",
                    ),
                ),
                lines(
                    "Disk",
                    Query("prometheus_tsdb_storage_blocks_bytes", "blocks"),
                    Query("prometheus_tsdb_wal_storage_size_bytes", "write-ahead log"),
                    unit="bytes",
                ),
            ),
        ),
        (
            "Rules",
            (
                lines(
                    "Evaluation, share of its interval",
                    Query(
                        "max by (rule_group) (prometheus_rule_group_last_duration_seconds"
                        " / prometheus_rule_group_interval_seconds)",
                        "{{rule_group}}",
                    ),
                    unit="percentunit",
                ),
                lines(
                    "Failed evaluations and lost alerts",
                    Query(
                        "sum(rate(prometheus_rule_evaluation_failures_total[$__rate_interval]))",
                        "evaluations",
                    ),
                    Query(
                        "sum(rate(prometheus_notifications_dropped_total[$__rate_interval]))",
                        "alerts",
                    ),
                    unit="ops",
                ),
                lines(
                    "Memory",
                    Query('process_resident_memory_bytes{job="prometheus"}', "{{instance}}"),
                    unit="bytes",
                ),
            ),
        ),
    ),
)

BOARDS = (SLO, ALERTS, LOGS, TRACING, PROMETHEUS)
